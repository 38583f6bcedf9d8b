"""`Task`: a sampler and a reward under an id, and the table in which a Gymnasium spec finds its task.

The entry point of a task's spec is a text, so that a spec can be written as JSON, printed and sent to another process.
The text is `"llm_envs.task:make ID MODULE"`. Gymnasium imports this module and asks it for the attribute behind the
colon, which `__getattr__` answers with the task; where the task is not registered yet, as in a new process, it imports
MODULE, which registers it. A spec's `kwargs` therefore hold the user's own arguments and nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium
from gymnasium.envs.registration import EnvSpec

from llm_envs.arguments import check_types
from llm_envs.env import CompletionEnv
from llm_envs.stream import ProblemStream, Sampler
from llm_envs.turns import Reply
from llm_envs.vector_env import CompletionVectorEnv
from rewards.base import Reward

ENV_ARGUMENTS = {"split": "train", "prompt_template": None, "render_mode": None}
"""What every task takes beside its sampler's own arguments, with the defaults."""
_ENTRY_POINT = f"{__name__}:make "
_VECTOR_ENTRY_POINT = f"{__name__}:make_vec "
_tasks: dict[str, Task] = {}


@dataclass(frozen=True)
class Task:
    """A sampler and a reward under an id; calling it makes the environment.

    Attributes:
        id: Namespace, name and version, as in `"demo/Doubling-v0"`.
        sampler: Called with a `numpy.random.Generator` and the task's arguments; returns a `Problem`.
        reward: Scores the completions. One object serves all environments of the task.
        module: The module that registers the task: whoever imports it can make the environment. It need not be the
            one that defines the sampler.
        reply: What the environment says between two completions, for a task of several turns.
        max_turns: The most completions in an episode.
        metric: The figure that says how the task goes: a name among the results' `metrics`, `"reward"` or
            `"accuracy"`. None: the accuracy, or the mean reward where the reward knows no right and wrong.
    """

    id: str
    sampler: Sampler
    reward: Reward
    module: str
    reply: Reply | None = field(default=None, kw_only=True)
    max_turns: int = field(default=1, kw_only=True)
    metric: str | None = field(default=None, kw_only=True)

    metadata: ClassVar[dict[str, Any]] = CompletionEnv.metadata  # gymnasium.make looks up the render modes here

    def __post_init__(self) -> None:
        if self.metric is not None and (not isinstance(self.metric, str) or not self.metric):
            raise TypeError(f"metric must be the name of a figure, such as 'reward', or None, got {self.metric!r}")

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
            TypeError: The sampler has no argument of that name, or one of another type.
        """
        self.check_arguments(kwargs)
        return ProblemStream(functools.partial(self.sampler, **kwargs), self.reward, split, prompt_template)

    def check_arguments(self, kwargs: Mapping[str, Any]) -> None:
        """Refuse arguments that the sampler does not have, or has with another type.

        Raises:
            TypeError: It has no argument of that name, or one of another type.
            ValueError: One is not among the values that the sampler's signature lists.
        """
        accepted = self.sampler_arguments
        for name in kwargs:
            if name not in accepted:
                known = ", ".join(argument_text(*argument) for argument in (accepted | ENV_ARGUMENTS).items())
                raise TypeError(f"{self.id} has no argument {name!r}; it takes {known}")
        check_types(self.id, self._takes_arguments, kwargs)

    @property
    def _takes_arguments(self) -> Callable[..., Any]:
        """The function whose keyword arguments are the task's."""
        return self.sampler

    @property
    def sampler_arguments(self) -> dict[str, Any]:
        """The keyword arguments of the sampler with their defaults (`inspect.Parameter.empty` where there is none)."""
        parameters = list(inspect.signature(self.sampler).parameters.values())[1:]
        return {parameter.name: parameter.default for parameter in parameters}


def argument_text(name: str, default: Any) -> str:
    """An argument and its default in the form of a call, such as `high=100`; the name alone where it has no default."""
    return name if default is inspect.Parameter.empty else f"{name}={default!r}"


def calling_module() -> str:
    """The name of the module that calls the function which calls this one."""
    return str(sys._getframe(2).f_globals.get("__name__", "__main__"))


def add_task(task: Task) -> None:
    """Register a task with Gymnasium, in place of an earlier one of the same id.

    Raises:
        gymnasium.error.Error: The id is malformed.
    """
    name = f"{task.id} {task.module}"
    gymnasium.register(task.id, entry_point=f"{_ENTRY_POINT}{name}", vector_entry_point=f"{_VECTOR_ENTRY_POINT}{name}")
    _tasks[task.id] = task


def remove_task(id: str) -> None:
    """Undo `add_task`."""
    del gymnasium.registry[id], _tasks[id]


@contextlib.contextmanager
def registered(task: Task) -> Iterator[None]:
    """Register a task; where the body fails, the id is again what it was before: an earlier environment, or unknown.

    Raises:
        gymnasium.error.Error: The id is malformed.
    """
    tables: tuple[dict[str, Any], ...] = (gymnasium.registry, _tasks)
    before = [table.get(task.id) for table in tables]
    add_task(task)
    try:
        yield
    except BaseException:
        for table, entry in zip(tables, before, strict=True):
            if entry is None:
                del table[task.id]
            else:
                table[task.id] = entry
        raise


def task_of(spec: EnvSpec | None) -> Task | None:
    """The task that a spec stands for, or None where its environment is not one of `register_task`.

    Raises:
        ImportError: The module that registers the task cannot be imported.
        gymnasium.error.NameNotFound: That module does not register it.
    """
    entry_point = None if spec is None else spec.entry_point
    if not isinstance(entry_point, str) or not entry_point.startswith(_ENTRY_POINT):
        return None
    return _load_task(entry_point.removeprefix(_ENTRY_POINT))


def find_task(id: str, kwargs: Mapping[str, Any] | None = None) -> tuple[Task, dict[str, Any]]:
    """The task of an id, and its arguments.

    Args:
        id: The id. As in `gymnasium.make`, it may name the module that registers the task.
        kwargs: Arguments that override those of the id's spec.

    Returns:
        The task, and the spec's arguments with `kwargs` over them.

    Raises:
        gymnasium.error.Error: There is no such id.
        ModuleNotFoundError: The module that an id names, or one that it needs, cannot be found.
        TypeError: The id is no task of `register_task`.
    """
    module, _, name = id.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"the module {module!r}, which should register {name!r}, cannot be imported: {error}; "
                "run in the folder of its file, or put that folder on PYTHONPATH",
                name=error.name,
            ) from error
    spec = gymnasium.spec(name)
    task = task_of(spec)
    if task is None:
        raise TypeError(f"{name} was not registered with register_task: its reward and problems cannot be reached")
    return task, {**spec.kwargs, **(kwargs or {})}


def _load_task(name: str) -> Task:
    id, _, module = name.partition(" ")
    if id not in _tasks:
        importlib.import_module(module)
    if id not in _tasks:
        raise gymnasium.error.NameNotFound(
            f"the module {module!r} does not register the task {id!r}; call register_task at the module's top level"
        )
    return _tasks[id]


if not TYPE_CHECKING:  # or a type checker would take every name of this module for granted

    def __getattr__(name: str) -> Any:
        function, _, task = name.partition(" ")
        if function == "make" and task:
            return _load_task(task)
        if function == "make_vec" and task:
            return _load_task(task).make_vector
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
