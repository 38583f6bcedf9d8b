"""`register_task`: a sampler function and a reward become a Gymnasium environment id."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from llm_envs.stream import Sampler
from llm_envs.task import Task, calling_module, registered
from llm_envs.turns import Reply, check_turns
from rewards.base import Reward

S = TypeVar("S", bound=Sampler)
CHECKED_PROBLEMS = 5
"""How many problems the short audit of `register_task(check=True)` attacks."""


def register_task(
    id: str,
    *,
    reward: Reward,
    check: bool = False,
    reply: Reply | None = None,
    max_turns: int = 1,
    metric: str | None = None,
) -> Callable[[S], S]:
    r"""Register the decorated sampler as a Gymnasium environment.

    The sampler gets a `numpy.random.Generator` and returns a `Problem`. Its keyword arguments become those of
    `gymnasium.make(id, ...)` and `gymnasium.make_vec(id, ...)`, beside `split`, `prompt_template` and `render_mode`.

    >>> import gymnasium
    >>> from llm_envs import Problem, register_task
    >>> from rewards import MathReward
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
        metric: The figure that tables and curves show in place of the accuracy: a name among `RewardResult.metrics` (a
            result without it counts 0), or `"reward"`, the mean reward. By default they show the accuracy, and where a
            reward knows no right and wrong (`Outcome.SCORED`), the mean reward.

    Returns:
        The decorator; it returns the sampler unchanged.

    Raises:
        TypeError: `reward` or `reply` cannot be called, or `metric` is no name.
        ValueError: `max_turns` does not fit.
        gymnasium.error.Error: The id is malformed.
        llm_envs.audit.AuditFailed: With `check`: the reward does not hold. The id is what it was before: that of an
            earlier task, or not registered.
    """
    if not callable(reward):
        raise TypeError(f"reward must be callable, got {type(reward).__name__}")
    check_turns(reply, max_turns)
    module = calling_module()

    def decorate(sampler: S) -> S:
        register(Task(id, sampler, reward, module, reply=reply, max_turns=max_turns, metric=metric), check=check)
        return sampler

    return decorate


def register(task: Task, *, check: bool = False) -> None:
    """Register a task; with `check`, audit it at once and take it back where its reward does not hold.

    Raises:
        gymnasium.error.Error: The id is malformed.
        llm_envs.audit.AuditFailed: With `check`: the reward does not hold. The id is what it was before.
    """
    with registered(task):
        if not check:
            return
        from llm_envs.audit import AuditFailed, audit_task  # most programs never need it

        report = audit_task(task.id, problems=CHECKED_PROBLEMS)
        if not report.passed:
            raise AuditFailed(str(report))
