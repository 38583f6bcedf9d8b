from __future__ import annotations

import json

import gymnasium
import pytest

from agents.envs import env_spec, make_envs
from llm_envs import Problem, register_task
from llm_envs.curriculum import Curriculum, register_curriculum
from llm_envs.task import find_task
from llm_envs.wrappers import FewShot, PromptTemplate, SystemPrompt
from rewards.math import MathReward

ARITHMETIC = "llm_envs/Arithmetic-v0"


@pytest.fixture(autouse=True)
def forgotten():
    """Tasks of these tests are forgotten afterwards."""
    before = set(gymnasium.registry)
    yield
    for new in set(gymnasium.registry) - before:
        del gymnasium.registry[new]


def plain(seed, **kwargs):
    return gymnasium.make(ARITHMETIC, **kwargs).reset(seed=seed)[0]


def test_a_template():
    env = PromptTemplate(gymnasium.make(ARITHMETIC), "Q: {prompt}\nA:")
    assert env.reset(seed=3)[0] == f"Q: {plain(3)}\nA:"
    observation, reward, terminated, _, _ = env.step(env.unwrapped.problem.solution)
    assert (observation, reward, terminated) == ("", 1.0, True)
    with pytest.raises(ValueError, match="exactly once"):
        PromptTemplate(gymnasium.make(ARITHMETIC), "Q:")


def test_a_system_prompt():
    env = SystemPrompt(gymnasium.make(ARITHMETIC), "You are a calculator.")
    assert env.reset(seed=3)[0] == f"You are a calculator.\n\n{plain(3)}"
    for text in ("", "{prompt}"):
        with pytest.raises(ValueError, match=r"empty|exactly once"):
            SystemPrompt(gymnasium.make(ARITHMETIC), text)


def test_examples_are_solved_problems_of_the_training_split():
    env = FewShot(gymnasium.make(ARITHMETIC, operands=2, split="test"), examples=3, seed=1)
    first, second = env.reset(seed=0)[0], env.reset(seed=1)[0]
    shown = first.removesuffix(plain(0, operands=2, split="test"))
    assert shown == second.removesuffix(plain(1, operands=2, split="test"))
    assert shown.count("What is") == 3
    assert shown.count("\\boxed{answer}") == 3
    stream = find_task(ARITHMETIC)[0].problems(operands=2)
    drawn = [stream.draw(1, index) for index in range(3)]
    assert shown == "".join(f"{problem.prompt}\n{problem.solution}\n\n" for problem in drawn)
    others = [FewShot(gymnasium.make(ARITHMETIC), seed=seed).reset(seed=0)[0] for seed in (0, 2)]
    assert others[0] != others[1]


def test_the_problem_that_is_asked_is_never_among_the_examples():
    @register_task("test/Few-v0", reward=MathReward())
    def task(rng):
        n = int(rng.integers(6))
        return Problem(f"What is {n} + 1?", reference=str(n + 1), solution=str(n + 1))

    env = FewShot(gymnasium.make("test/Few-v0"), examples=2)
    for seed in range(30):
        prompt = env.reset(seed=seed)[0]
        assert prompt.count(env.unwrapped.problem.prompt) == 1
        assert prompt.count("What is") == 3
    with pytest.raises(ValueError, match="fewer than 21"):
        FewShot(gymnasium.make("test/Few-v0"), examples=20)
    with pytest.raises(ValueError, match="at least 1"):
        FewShot(gymnasium.make("test/Few-v0"), examples=0)


def test_examples_need_a_task_with_solutions():
    @register_task("test/NoSolution-v0", reward=MathReward())
    def task(rng):
        return Problem(f"What is {rng.integers(1000)}?", reference="1")

    with pytest.raises(ValueError, match="no solution"):
        FewShot(gymnasium.make("test/NoSolution-v0"))
    with pytest.raises(TypeError, match="register_task"):
        FewShot(gymnasium.make("CartPole-v1"))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda env: PromptTemplate(env, "Q: {prompt}"),
        lambda env: SystemPrompt(env, "Be brief."),
        lambda env: FewShot(env, examples=2, seed=5),
        lambda env: SystemPrompt(FewShot(env), "Be brief."),
    ],
)
def test_agents_make_the_same_environment_again(wrap):
    env = wrap(gymnasium.make(ARITHMETIC, operands=2))
    envs = make_envs(env_spec(env), 3)
    prompts, _ = envs.reset(seed=[4, 4, 5])
    assert prompts[0] == prompts[1] == env.reset(seed=4)[0]
    assert prompts[2] == env.reset(seed=5)[0]


# --- curriculum -------------------------------------------------------------------------------------------------------


def test_the_level_rises_when_enough_of_the_latest_are_right():
    curriculum = Curriculum(3, threshold=0.75, window=4)
    curriculum.record([True, True, True])
    assert curriculum.level == 0  # not enough yet
    curriculum.record([False])
    assert curriculum.level == 1
    curriculum.record([True] * 3)
    assert curriculum.level == 1  # what was answered on the level before does not count
    curriculum.record([False, False, True, False])
    assert curriculum.level == 1
    curriculum.record([True] * 4)
    assert curriculum.level == 2
    curriculum.record([True] * 100)
    assert curriculum.level == 2


@pytest.mark.parametrize(
    "arguments", [{"levels": 0}, {"threshold": 0}, {"threshold": 1.5}, {"window": 0}, {"level": 3}, {"level": -1}]
)
def test_arguments_out_of_range(arguments):
    with pytest.raises(ValueError, match="must be"):
        Curriculum(**{"levels": 3, **arguments})


def sums(window=8):
    register_curriculum("test/Sums-v0", ARITHMETIC, [{"operands": n} for n in (2, 3, 5)], window=window)
    return "test/Sums-v0"


def operands(prompt):
    return sum(character in "+-*/" for character in prompt.partition("?")[0].replace("(-", "(")) + 1


def test_where_a_curriculum_stands_is_saved_and_restored():
    envs = gymnasium.make_vec(sums(), num_envs=4)
    for _ in range(3):
        envs.reset(seed=[7, 7, 8, 8])
        envs.step([problem.solution for problem in envs.unwrapped.problems])
    state = json.loads(json.dumps(envs.unwrapped.state_dict()))
    assert state == {"level": 1, "latest": [1, 1, 1, 1]}
    other = gymnasium.make("test/Sums-v0")
    other.unwrapped.load_state_dict(state)
    assert operands(other.reset(seed=0)[0]) == 3
    for wrong in ({}, {"level": 7, "latest": []}, {"level": 0}):
        with pytest.raises(ValueError, match="no state of a curriculum"):
            other.unwrapped.load_state_dict(wrong)
    plain = gymnasium.make(ARITHMETIC).unwrapped
    assert plain.state_dict() == {}
    plain.load_state_dict({})
    with pytest.raises(ValueError, match="keeps no state"):
        plain.load_state_dict(state)


def test_a_vector_environment_climbs_together():
    envs = gymnasium.make_vec(sums(), num_envs=8)
    for level, count in ((0, 2), (1, 3), (2, 5), (2, 5)):
        prompts, _ = envs.reset(seed=[7, 7, 7, 7, 8, 8, 8, 8])
        assert len(set(prompts)) == 2
        assert all(operands(prompt) == count for prompt in prompts)
        _, rewards, _, _, infos = envs.step([problem.solution for problem in envs.unwrapped.problems])
        assert rewards.tolist() == [1.0] * 8
        assert infos["metrics"]["curriculum_level"].tolist() == [float(level)] * 8
    fresh = gymnasium.make_vec("test/Sums-v0", num_envs=2)
    assert operands(fresh.reset(seed=0)[0][0]) == 2  # a curriculum of its own


def test_wrong_answers_keep_the_level():
    env = gymnasium.make(sums(window=2))
    for seed in range(10):
        assert operands(env.reset(seed=seed)[0]) == 2
        env.step("no idea")
    env = gymnasium.make("test/Sums-v0", start=1)
    assert operands(env.reset(seed=0)[0]) == 3


def test_held_out_problems_come_from_all_levels_whatever_was_answered():
    env = gymnasium.make(sums(window=1), split="test")
    before = [env.reset(seed=seed)[0] for seed in range(60)]
    assert {operands(prompt) for prompt in before} == {2, 3, 5}
    for seed in range(5):
        env.reset(seed=seed)
        env.step(env.unwrapped.problem.solution)
    assert before == [env.reset(seed=seed)[0] for seed in range(60)]


@pytest.mark.parametrize(
    ("task", "levels", "error", "message"),
    [
        ("CartPole-v1", [{}], TypeError, "register_task"),
        (ARITHMETIC, [], ValueError, "must be one of 0 levels"),
        (ARITHMETIC, [{"operands": 2}, {"operands": 99}], ValueError, "operands must be"),
        (ARITHMETIC, [{"operand": 2}], TypeError, "no argument 'operand'"),
        (ARITHMETIC, [{"split": "test"}], TypeError, "split"),
    ],
)
def test_curricula_that_cannot_work(task, levels, error, message):
    with pytest.raises(error, match=message):
        register_curriculum("test/Bad-v0", task, levels)
    with pytest.raises(TypeError, match="no argument 'operands'"):
        gymnasium.make(sums(), operands=2)
