"""What a callback is: an object that is told of a run while it goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.rollout import Rollout


@dataclass(frozen=True, slots=True)
class UpdateRecord:
    """What happened in one update.

    Attributes:
        update: Number of this update in the agent's life, from 1.
        total_updates: Number at which this call of `learn` ends.
        episodes: Episodes learned from in the agent's life, those of this update included.
        metrics: Figures by name, see docs/metrics.md.
        rollouts: The episodes of this update, groups next to each other.
        warnings: What is wrong with the run, by kind (see `agents.tracking.training_warnings`), each kind only once.
    """

    update: int
    total_updates: int
    episodes: int
    metrics: Mapping[str, float]
    rollouts: Sequence[Rollout]
    warnings: Mapping[str, str] = field(default_factory=dict)


class Callback:
    """Base class of what is told of a run while it goes on; override the methods that are needed.

    An error in a callback ends training and reaches the caller of `learn`.

    Attributes:
        agent: The agent that learns (an `agents.Agent`); None until `learn` starts.
        run_config: What the run is made of, in the form of `config.json` (docs/runs.md); empty until `learn` starts.
        run_dir: The run folder; None where the run has none, which is usual in Python.
    """

    agent: Any = None
    run_config: Mapping[str, Any] = MappingProxyType({})
    run_dir: Path | None = None

    def attach(self, agent: Any, run_config: Mapping[str, Any], run_dir: Path | None = None) -> None:
        """Set `agent`, `run_config` and `run_dir`.

        `learn` calls this before `on_training_start`, and `deliver_evaluation` before `on_evaluation`, so it may be
        called several times in one run.
        """
        self.agent, self.run_config, self.run_dir = agent, run_config, run_dir

    def on_training_start(self, update: int, total_updates: int) -> None:
        """Called once, before the first update; `update` is how many the agent has behind it."""

    def on_update(self, record: UpdateRecord) -> bool | None:
        """Called after each update; returning False ends training."""

    def on_training_end(self) -> None:
        """Called once at the end, also after Ctrl-C or an error."""

    def on_evaluation(self, report: Any, stage: str) -> None:
        """Called with the report of an evaluation around training.

        Args:
            report: An `agents.EvaluationReport`.
            stage: `"before"` or `"after"` training. The first comes before `on_training_start`, the second after
                `on_training_end`.
        """


UpdateFunction = Callable[[UpdateRecord], bool | None]
"""A function that is called after each update, as `Callback.on_update` is."""

AnyCallback = Callback | UpdateFunction
"""What is accepted where a callback is: a `Callback`, or a plain function of the record of an update."""


class FunctionCallback(Callback):
    """A plain function as a callback.

    Args:
        function: Called with the record of each update; returning False ends training.
    """

    def __init__(self, function: UpdateFunction) -> None:
        self._function = function

    def on_update(self, record: UpdateRecord) -> bool | None:
        """Call the function."""
        return self._function(record)


class CallbackList(Callback):
    """Several callbacks as one, called in order; training goes on only if none of them ends it."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = list(callbacks)

    def attach(self, agent: Any, run_config: Mapping[str, Any], run_dir: Path | None = None) -> None:
        """Attach all."""
        super().attach(agent, run_config, run_dir)
        for callback in self._callbacks:
            callback.attach(agent, run_config, run_dir)

    def on_training_start(self, update: int, total_updates: int) -> None:
        """Call all; where one of them fails, those that had started are ended."""
        with contextlib.ExitStack() as started:
            for callback in self._callbacks:
                callback.on_training_start(update, total_updates)
                started.callback(callback.on_training_end)
            started.pop_all()

    def on_update(self, record: UpdateRecord) -> bool:
        """Call all, then say whether to go on."""
        answers = [callback.on_update(record) for callback in self._callbacks]
        return not any(map(ends_training, answers))

    def on_training_end(self) -> None:
        """Call all, also where one of them fails; the last error is then raised, with the earlier ones as context."""
        with contextlib.ExitStack() as stack:
            for callback in reversed(self._callbacks):  # the stack calls the last one first
                stack.callback(callback.on_training_end)

    def on_evaluation(self, report: Any, stage: str) -> None:
        """Call all, also where one of them fails; the last error is then raised, with the earlier ones as context."""
        with contextlib.ExitStack() as stack:
            for callback in reversed(self._callbacks):
                stack.callback(callback.on_evaluation, report, stage)


def ends_training(answer: bool | None) -> bool:
    """Whether an answer of `on_update` ends training; NumPy's False, which comparing metrics may give, does too."""
    return answer is not None and not answer


def as_callback(callback: AnyCallback | Sequence[AnyCallback] | None) -> Callback:
    """Turn what `learn` accepts into one callback.

    Args:
        callback: A callback, a function of an update's record, a sequence of both kinds, or None.

    Raises:
        TypeError: It is something else, such as a callback's class instead of an instance.
    """
    if callback is None:
        return Callback()
    if isinstance(callback, Sequence):
        return CallbackList([_one_callback(one) for one in callback])
    return _one_callback(callback)


def _one_callback(callback: AnyCallback) -> Callback:
    if isinstance(callback, Callback):
        return callback
    if isinstance(callback, type):
        raise TypeError(f"expected a callback, got the class {callback.__name__}; pass an instance of it")
    if callable(callback):
        return FunctionCallback(callback)
    raise TypeError(f"expected a Callback, a function of an UpdateRecord, or a list of these, got {callback!r}")
