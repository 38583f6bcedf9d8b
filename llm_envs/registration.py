"""`register_task`: a sampler function and a reward become a Gymnasium environment id."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeVar

import gymnasium

from llm_envs.env import CompletionEnv
from llm_envs.stream import ProblemStream, Sampler
from llm_envs.turns import Reply, check_turns
from llm_envs.vector_env import CompletionVectorEnv
from rewards.base import Reward

S = TypeVar("S", bound=Sampler)
ENV_ARGUMENTS = {"split": "train", "prompt_template": None, "render_mode": None}
"""What every task takes beside its sampler's own arguments, with the defaults."""
CHECKED_PROBLEMS = 5
"""How many problems the short audit of `register_task(check=True)` attacks."""


@dataclass(frozen=True)
class Task:
    """A sampler and a reward under an id; calling it makes the environment (it is the spec's entry point)."""

    id: str
    sampler: Sampler
    reward: Reward
    reply: Reply | None = field(default=None, kw_only=True)
    max_turns: int = field(default=1, kw_only=True)

    metadata: ClassVar[dict[str, Any]] = CompletionEnv.metadata  # gymnasium.make looks up the render modes here

    def __call__(self, render_mode: str | None = None, **kwargs: Any) -> CompletionEnv:
        """Make the environment; `kwargs` are the sampler's, and `split` and `prompt_template`."""
        return CompletionEnv(self.problems(**kwargs), self.reward, render_mode, self.reply, self.max_turns)

    def make_vector(self, num_envs: int, render_mode: str | None = None, **kwargs: Any) -> CompletionVectorEnv:
        """Make the vector environment."""
        problems = self.problems(**kwargs)
        return CompletionVectorEnv(problems, self.reward, num_envs, render_mode, self.reply, self.max_turns)

    def problems(self, split: str = "train", prompt_template: str | None = None, **kwargs: Any) -> ProblemStream:
        """The stream of this task's problems.

        Raises:
            TypeError: The sampler has no argument of that name.
        """
        self.check_arguments(kwargs)
        return ProblemStream(functools.partial(self.sampler, **kwargs), self.reward, split, prompt_template)

    def check_arguments(self, kwargs: Mapping[str, Any]) -> None:
        """Refuse arguments that the sampler does not have.

        Raises:
            TypeError: It has no argument of that name.
        """
        accepted = self.sampler_arguments
        for name in kwargs:
            if name not in accepted:
                known = ", ".join(argument_text(*argument) for argument in (accepted | ENV_ARGUMENTS).items())
                raise TypeError(f"{self.id} has no argument {name!r}; it takes {known}")

    @property
    def module(self) -> str:
        """The module that registers the task: whoever imports it can make the environment."""
        return self.sampler.__module__

    @property
    def sampler_arguments(self) -> dict[str, Any]:
        """The keyword arguments of the sampler with their defaults (`inspect.Parameter.empty` where there is none)."""
        parameters = list(inspect.signature(self.sampler).parameters.values())[1:]
        return {parameter.name: parameter.default for parameter in parameters}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # gymnasium.make copies the spec deeply; a task is immutable and its reward may hold processes


def argument_text(name: str, default: Any) -> str:
    """An argument and its default as they are written; the name alone where there is no default."""
    return name if default is inspect.Parameter.empty else f"{name}={default!r}"


def register_task(
    id: str, *, reward: Reward, check: bool = False, reply: Reply | None = None, max_turns: int = 1
) -> Callable[[S], S]:
    r"""Register the decorated sampler as a Gymnasium environment.

    The sampler gets a `numpy.random.Generator` and returns a `Problem`. Its keyword arguments become those of
    `gymnasium.make(id, ...)` and `gymnasium.make_vec(id, ...)`, beside `split`, `prompt_template` and `render_mode`.

    >>> from llm_envs import Problem, register_task
    >>> from rewards.math import MathReward
    >>> @register_task("doc/Doubling-v0", reward=MathReward())
    ... def doubling(rng, high: int = 100):
    ...     n = int(rng.integers(high))
    ...     return Problem(f"What is 2 * {n}?", reference=str(2 * n), solution=f"\\boxed{{{2 * n}}}")
    >>> env = gymnasium.make("doc/Doubling-v0", high=50)
    >>> prompt, info = env.reset(seed=0)

    Args:
        id: Namespace, name and version, as in `"demo/Doubling-v0"`.
        reward: Scores the completions. One object serves all environments of the task.
        check: Whether a short version of `llm_envs.audit.audit_task` attacks the reward at once, with the sampler's
            default arguments. It takes about a tenth of a second where the reward is quick.
        reply: Makes it a task of several turns: what the environment says to a completion, see `llm_envs.turns.Reply`.
        max_turns: The most completions in an episode, at least 2 with a `reply`.

    Returns:
        The decorator; it returns the sampler unchanged.

    Raises:
        TypeError: `reward` or `reply` cannot be called.
        ValueError: `max_turns` does not fit.
        gymnasium.error.Error: The id is malformed.
        llm_envs.audit.AuditFailed: With `check`: the reward does not hold, and the id is not registered.
    """
    if not callable(reward):
        raise TypeError(f"reward must be callable, got {type(reward).__name__}")
    check_turns(reply, max_turns)

    def decorate(sampler: S) -> S:
        task = Task(id, sampler, reward, reply=reply, max_turns=max_turns)
        gymnasium.register(id, entry_point=task, vector_entry_point=task.make_vector)  # type: ignore[arg-type]
        if check:
            check_registered(id)
        return sampler

    return decorate


def check_registered(id: str) -> None:
    """Audit a task that was just registered, and forget it where that fails.

    Raises:
        llm_envs.audit.AuditFailed: Its reward does not hold.
    """
    from llm_envs.audit import AuditFailed, audit_task  # the audit needs this module

    try:
        report = audit_task(id, problems=CHECKED_PROBLEMS)
        if not report.passed:
            raise AuditFailed(str(report))
    except BaseException:
        del gymnasium.registry[id]
        raise
