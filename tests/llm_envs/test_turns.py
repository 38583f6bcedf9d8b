"""Environments of several turns."""

from __future__ import annotations

import gymnasium
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

from llm_envs import Problem, register_task
from llm_envs.audit import audit_task
from llm_envs.curriculum import register_curriculum
from llm_envs.export import to_trl
from llm_envs.task import find_task
from llm_envs.tasks.guess_number import WIDTHS, guesses
from rewards.math import MathReward

GAMES = ("llm_envs/GuessNumber-v0", "llm_envs/CodeRepair-v0")


@pytest.fixture
def counting():
    """Two more numbers are asked for, but who answers 0 is done."""

    @register_task(
        "test/Counting-v0",
        reward=MathReward(),
        reply=lambda problem, completions, result: None if result.answer == "0" else f"and {len(completions) + 1}?",
        max_turns=3,
    )
    def sampler(rng):
        n = int(rng.integers(10**6))
        return Problem(f"What is {n}?", str(n), solution=str(n))

    yield "test/Counting-v0"
    del gymnasium.registry["test/Counting-v0"]


@pytest.mark.parametrize("task", GAMES)
def test_gymnasiums_checker_has_no_complaint(task):
    check_env(gymnasium.make(task, render_mode="ansi").unwrapped, skip_render_check=True)


def test_an_episode_ends_with_the_reply_that_is_none_or_with_the_last_turn(counting):
    env = gymnasium.make(counting, render_mode="ansi")
    prompt, _ = env.reset(seed=1)
    right = env.unwrapped.problem.solution
    message, reward, terminated, truncated, info = env.step(right)
    assert (message, reward, terminated, truncated) == ("and 2?", 0.0, False, False)
    assert (info["outcome"], info["answer"]) == ("correct", right)
    assert "reference" not in info  # not before the end
    assert env.step("1")[0] == "and 3?"
    message, reward, terminated, truncated, info = env.step(right)
    assert (message, reward, terminated, truncated) == ("", 1.0, True, False)
    assert info["reference"] == right
    lines = env.render().splitlines()
    assert lines[:4] == [f"prompt: {prompt}", f"completion: {right}", "reply: and 2?", "completion: 1"]
    with pytest.raises(ResetNeeded):
        env.unwrapped.step("1")
    env.reset()
    assert env.step("0")[2]


def test_a_vector_environment_scores_those_that_go_on_in_one_call(counting):
    envs = gymnasium.make_vec(counting, num_envs=3)
    singles = [gymnasium.make(counting) for _ in range(3)]
    prompts, _ = envs.reset(seed=[1, 2, 2])
    assert list(prompts) == [env.reset(seed=seed)[0] for env, seed in zip(singles, (1, 2, 2), strict=True)]
    right = [problem.solution for problem in envs.unwrapped.problems]
    messages, rewards, terminated, _, infos = envs.step([right[0], "0", right[2]])
    assert messages == ("and 2?", "", "and 2?")
    assert rewards.tolist() == [0, 0, 0]
    assert terminated.tolist() == [False, True, False]
    assert infos["_reference"].tolist() == [False, True, False]
    with pytest.raises(ResetNeeded, match=r"\[1\]"):
        envs.step(["1", "1", "1"])
    with pytest.raises(TypeError, match="NoneType"):
        envs.step([None, None, "1"])
    messages, _, terminated, _, infos = envs.step(["0", None, "1"])
    assert messages == ("", "", "and 3?")
    assert terminated.tolist() == [True, True, False]
    assert infos["_outcome"].tolist() == [True, False, True]
    _, rewards, terminated, _, _ = envs.step([None, None, right[2]])
    assert rewards.tolist() == [0, 0, 1]
    assert terminated.all()
    with pytest.raises(ResetNeeded, match="all environments"):
        envs.step([None, None, None])
    prompts, _ = envs.reset(seed=[5, 5, 5])
    assert len(set(prompts)) == 1


def test_what_cannot_be_a_task_of_several_turns():
    for arguments in ({"max_turns": 2}, {"reply": lambda *_: None}, {"reply": lambda *_: None, "max_turns": 1}):
        with pytest.raises(ValueError, match="max_turns"):
            register_task("test/Wrong-v0", reward=MathReward(), **arguments)
    with pytest.raises(TypeError, match="reply must be callable"):
        register_task("test/Wrong-v0", reward=MathReward(), reply="yes", max_turns=2)


def test_a_reply_that_is_no_text():
    @register_task("test/Seven-v0", reward=MathReward(), reply=lambda *_: 7, max_turns=2)
    def sampler(rng):
        return Problem(f"{int(rng.integers(10**6))}", "1")

    env = gymnasium.make("test/Seven-v0")
    env.reset(seed=0)
    with pytest.raises(TypeError, match="a reply must be a text"):
        env.step("1")
    del gymnasium.registry["test/Seven-v0"]


def test_what_has_one_turn_refuses_it(counting):
    with pytest.raises(TypeError, match="several turns"):
        register_curriculum("test/Never-v0", counting, [{}])
    with pytest.raises(TypeError, match="several turns"):
        to_trl(counting)


@pytest.mark.parametrize("level", range(len(WIDTHS)))
def test_halving_the_range_finds_every_number(level):
    env = gymnasium.make("llm_envs/GuessNumber-v0", level=level)
    for seed in range(50):
        prompt, _ = env.reset(seed=seed)
        low, high = _range(prompt)
        assert high - low + 1 == WIDTHS[level]
        for turn in range(guesses(WIDTHS[level])):
            middle = (low + high) // 2
            message, reward, terminated, _, _ = env.step(f"\\boxed{{{middle}}}")
            if terminated:
                break
            assert f"You have {guesses(WIDTHS[level]) - turn - 1} guess" in message
            low, high = (middle + 1, high) if "higher" in message else (low, middle - 1)
        assert (reward, terminated) == (1.0, True)


def _range(prompt):
    words = prompt.replace(".", " ").split()
    return int(words[words.index("from") + 1]), int(words[words.index("to") + 1])


def test_what_is_no_number_costs_a_guess():
    env = gymnasium.make("llm_envs/GuessNumber-v0")
    env.reset(seed=0)
    for text, left in (("seven", 3), ("\\boxed{x}", 2), ("", 1)):
        message, _, terminated, _, _ = env.step(text)
        assert not terminated
        assert message.startswith("That is not a number")
        assert f"You have {left} guess" in message
    assert env.step("\\boxed{1/2}")[2]


def test_an_exercise_is_no_guess():
    env = gymnasium.make("llm_envs/GuessNumber-v0")
    env.reset(seed=0)
    number = int(env.unwrapped.problem.reference)
    message, reward, *_ = env.step(f"\\boxed{{{2 * number}/2}}")  # it is not paid, so "lower" would be a lie
    assert reward == 0
    assert message.startswith("That is not a number")


def test_a_repair_is_told_what_is_wrong():
    env = gymnasium.make("llm_envs/CodeRepair-v0", level=2)
    prompt, _ = env.reset(seed=0)
    code = prompt.partition("```python\n")[2].removesuffix("\n```")
    message, reward, terminated, _, info = env.step(f"```python\n{code}\n```")  # as it was
    assert (reward, terminated, info["outcome"]) == (0.0, False, "wrong")
    assert "hidden tests pass. Write the whole function again." in message
    assert env.step("```python\ndef (:\n```")[0].startswith("That is not valid Python.")
    _, reward, terminated, _, info = env.step(env.unwrapped.problem.solution)
    assert (reward, terminated, info["outcome"]) == (1.0, True, "correct")


@pytest.mark.parametrize("level", range(5))
def test_what_is_to_be_repaired_is_wrong_and_in_the_split_of_its_function(level):
    stream = find_task("llm_envs/CodeRepair-v0")[0].problems(level=level)
    functions = find_task("llm_envs/PythonFunctions-v0")[0].problems(level=level, split="test")
    held_out = {functions.draw(seed).solution for seed in range(20)}
    for seed in range(8):
        problem = stream.draw(seed)
        assert problem.solution not in held_out
        code = problem.prompt.partition("```python\n")[2]
        [result] = find_task("llm_envs/CodeRepair-v0")[0].reward(
            [problem.prompt], [f"```python\n{code}"], [problem.reference]
        )
        assert result.outcome in ("wrong", "crashed", "timeout")


def test_harder_repairs_pass_their_audit(short_limits, monkeypatch):
    # megabytes are tried in the audit of each task, in test_audit.py
    monkeypatch.setattr("llm_envs.audit.consistency.MEGABYTE_SIZES", (2**14,))
    report = audit_task("llm_envs/CodeRepair-v0", problems=2, level=2)
    assert report.passed, str(report)
