"""Types of a task's arguments, from Python and from the command line."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium
import numpy as np
import pytest

from agents.cli.app import run
from llm_envs import Problem, register_curriculum, register_task
from llm_envs.arguments import check_types, fits
from rewards.math import MathReward


class Colour(StrEnum):
    RED = "red"


FITTING = [
    (3, int),
    (np.int64(3), int),
    (3, float),
    (np.float32(0.5), float),
    ("a", str),
    (Path("a"), str),
    ("a", Path),
    (None, int | None),
    (True, bool),
    ("x", Literal["x", 1]),
    ((1, 2), tuple[int, ...]),
    ([1, 2], tuple[int, ...]),
    ([1, "a"], tuple[int, str]),
    (["a"], list[str]),
    (("a", "b"), Sequence[str]),
    ({"a": 1}, Mapping[str, int]),
    ({"a": [1]}, dict[str, list[int]]),
    (3, Annotated[int, "positive"]),
    ("red", Colour),
    (Colour.RED, Colour),
    (print, Any),
    (3, "a text that is no type"),
    ([1, 2], list),
]
NOT_FITTING = [
    ("abc", int),
    (2.5, int),
    (True, int),
    (None, int),
    ("0.5", float),
    (3, str),
    (1, bool),
    ("y", Literal["x", 1]),
    (True, Literal[1]),
    ("abc", tuple[str, ...]),
    ("abc", Sequence[str]),
    ([1, "a"], tuple[int, ...]),
    ((1,), tuple[int, str]),
    (["a"], list[int]),
    ({"a": "b"}, Mapping[str, int]),
    ([("a", 1)], Mapping[str, int]),
    ("abc", int | None),
    ("abc", Annotated[int, "positive"]),
    ("blue", Colour),
]


@pytest.mark.parametrize(("value", "hint"), FITTING, ids=str)
def test_what_fits(value, hint):
    assert fits(value, hint)


@pytest.mark.parametrize(("value", "hint"), NOT_FITTING, ids=str)
def test_what_does_not_fit(value, hint):
    assert not fits(value, hint)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"operands": "abc"}, TypeError, r"Arithmetic-v0: operands must be int, got 'abc' \(str\)"),
        ({"operands": 2.5}, TypeError, "operands must be int, got 2.5"),
        ({"operands": None}, TypeError, "operands must be int, got None"),
        ({"operands": [2]}, TypeError, r"operands must be int, got \[2\]"),
        ({"operators": 5}, TypeError, "operators must be str, got 5"),
        ({"max_value": "big"}, TypeError, r"max_value must be int \| None, got 'big'"),
        ({"answer_format": "xml"}, ValueError, "answer_format must be one of 'boxed', 'hashes', 'unstated', got 'xml'"),
        ({"prompt_template": 5}, TypeError, "prompt_template must be a text, got 5"),
        ({"split": 5}, ValueError, "split must be one of"),
    ],
)
def test_wrong_arguments_from_python(arguments, error, message):
    for make in (gymnasium.make, functools.partial(gymnasium.make_vec, num_envs=2)):
        with pytest.raises(error, match=message):
            make("llm_envs/Arithmetic-v0", **arguments)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["operands=abc"], "operands must be int, got 'abc'"),
        (["operands=2", "operands=3"], "operands= is given twice"),
        (["operands=2", "digits=1", "operands=2"], "operands= is given twice"),
        (["max_value=x"], "max_value must be int | None, got 'x'"),
        (["operators=1"], "operators must be str, got 1"),
        (["level=2"], "has no argument 'level'"),
    ],
)
def test_wrong_arguments_on_the_command_line(pairs, message, capsys):
    for command in (["train", "--total-episodes", "1"], ["evaluate", "builtin/tiny"], ["play"]):
        env = ["llm_envs/Arithmetic-v0"] if command == ["play"] else ["--env", "llm_envs/Arithmetic-v0"]
        assert run([*command, *env, "--env-args", *pairs]) == 2
        assert message in capsys.readouterr().err


@pytest.fixture
def forgotten():
    """Tasks of these tests are forgotten afterwards."""
    before = set(gymnasium.registry)
    yield
    for new in set(gymnasium.registry) - before:
        del gymnasium.registry[new]


def test_arguments_without_annotations_are_judged_by_their_defaults(forgotten):
    @register_task("test/Bare-v0", reward=MathReward())
    def bare(rng, high=100, name="n", flag=False, anything=None):
        return Problem(f"What is {name} {int(rng.integers(high or 50))}?", "1")

    gymnasium.make("test/Bare-v0", high=7.0, name="m", flag=True, anything=[1])
    gymnasium.make("test/Bare-v0", high=None)
    for arguments in ({"high": "7"}, {"name": 3}, {"flag": "yes"}):
        with pytest.raises(TypeError, match=f"{next(iter(arguments))} must be .*, got"):
            gymnasium.make("test/Bare-v0", **arguments)


def test_partials_objects_and_curricula(forgotten):
    class Sampler:
        def __call__(self, rng, high: int = 100) -> Problem:
            return Problem(f"What is {int(rng.integers(high))}?", "1")

    register_task("test/Object-v0", reward=MathReward())(Sampler())
    register_task("test/Partial-v0", reward=MathReward())(functools.partial(Sampler().__call__, high=1000))
    register_curriculum("test/Climb-v0", "test/Object-v0", [{"high": 100}, {"high": 1000}])
    for env_id, name in (("test/Object-v0", "high"), ("test/Partial-v0", "high"), ("test/Climb-v0", "start")):
        gymnasium.make(env_id, **{name: 1 if name == "start" else 500})
        with pytest.raises(TypeError, match=f"{env_id}: {name} must be int, got 'abc'"):
            gymnasium.make(env_id, **{name: "abc"})
    with pytest.raises(TypeError, match="high must be int, got 'abc'"):
        register_curriculum("test/Bad-v0", "test/Object-v0", [{"high": "abc"}])


def test_annotations_that_cannot_be_looked_up_allow_anything():
    def sampler(rng, high: Nowhere = 3):  # noqa: F821
        """A name that only a type checker would import."""

    check_types("test/Any-v0", sampler, {"high": "abc"})
