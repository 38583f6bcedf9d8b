r"""Gymnasium wrappers that change a prompt: templates, system prompts, worked examples.

They move no problem between training and evaluation, as the split is decided before them, and they are part of an
environment's spec, so that agents and `evaluate` make the same one again. A wrapped environment is scored one
completion at a time; where only a template is needed, the argument `prompt_template` of every task keeps the batched
reward.
"""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.utils import RecordConstructorArgs

from llm_envs.env import CompletionEnv
from llm_envs.stream import ProblemStream
from llm_envs.task import task_of

_PLACEHOLDER = "{prompt}"


class PromptTemplate(gymnasium.ObservationWrapper[str, str, str], RecordConstructorArgs):
    """Puts a text around every prompt.

    Args:
        env: The environment.
        template: A text with exactly one `{prompt}`.

    Raises:
        ValueError: The template has not exactly one placeholder.
    """

    def __init__(self, env: gymnasium.Env[str, str], template: str) -> None:
        RecordConstructorArgs.__init__(self, template=template)
        gymnasium.ObservationWrapper.__init__(self, env)
        if template.count(_PLACEHOLDER) != 1:
            raise ValueError(f"template must contain {_PLACEHOLDER} exactly once, got {template!r}")
        self._before, self._after = template.split(_PLACEHOLDER)

    def observation(self, observation: str) -> str:
        """The prompt in the template; the empty text at the end of an episode stays empty."""
        return f"{self._before}{observation}{self._after}" if observation else observation


class SystemPrompt(PromptTemplate):
    """Puts instructions and an empty line before every prompt.

    An observation is one text. For chat models whose template has a place for it, `agents.policies.ChatFormat` puts a
    system prompt there instead.

    Args:
        env: The environment.
        text: The instructions.

    Raises:
        ValueError: The text is empty, or contains `{prompt}`.
    """

    def __init__(self, env: gymnasium.Env[str, str], text: str) -> None:
        if not text.strip():
            raise ValueError("text must not be empty")
        super().__init__(env, f"{text}\n\n{_PLACEHOLDER}")
        self._saved_kwargs = {"text": text}  # what the spec passes to this class


class FewShot(gymnasium.Wrapper[str, str, str, str], RecordConstructorArgs):
    """Puts solved problems of the training split before every prompt, the same ones in the same order.

    They are drawn once, with solutions, and never include the problem that is asked: where it is one of them, a further
    one takes its place.

    Args:
        env: An environment of a registered task whose problems have solutions.
        examples: How many.
        seed: Names them.

    Raises:
        TypeError: The environment is not one of a registered task.
        ValueError: `examples` is less than 1, or the task's problems have no solutions, or too few are different.
    """

    def __init__(self, env: gymnasium.Env[str, str], examples: int = 2, seed: int = 0) -> None:
        RecordConstructorArgs.__init__(self, examples=examples, seed=seed)
        gymnasium.Wrapper.__init__(self, env)
        if examples < 1:
            raise ValueError(f"examples must be at least 1, got {examples}")
        self._count = examples
        self._shown = _solved(_training_stream(env), examples + 1, seed)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start an episode; the prompt follows the examples."""
        prompt, info = self.env.reset(seed=seed, options=options)
        asked = self.unwrapped.problem if isinstance(self.unwrapped, CompletionEnv) else None
        others = [shown for shown in self._shown if asked is None or shown[0] != asked.prompt][: self._count]
        return "\n\n".join([*(f"{question}\n{solution}" for question, solution in others), prompt]), info


def _training_stream(env: gymnasium.Env[str, str]) -> ProblemStream:
    spec = env.unwrapped.spec
    task = task_of(spec)
    if spec is None or task is None:
        raise TypeError("worked examples are drawn from a task of register_task; this environment has none")
    kwargs = {name: value for name, value in spec.kwargs.items() if name not in ("split", "render_mode")}
    return task.problems(split="train", **kwargs)


def _solved(stream: ProblemStream, count: int, seed: int) -> list[tuple[str, str]]:
    """Different problems with their solutions."""
    found: dict[str, str] = {}
    for index in range(20 * count):
        problem = stream.draw(seed, index)
        if problem.solution is None:
            raise ValueError("the task's problems have no solution to show")
        found.setdefault(problem.prompt, problem.solution)
        if len(found) == count:
            return list(found.items())
    raise ValueError(f"the task has fewer than {count} different problems")
