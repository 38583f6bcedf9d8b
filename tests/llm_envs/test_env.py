from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.error import NameNotFound, ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit, TransformReward

from llm_envs import Problem, register_task
from llm_envs.task import task_of
from rewards import InvalidReference, Outcome, RewardResult
from rewards.math import MathReward

ALL = [
    spec.id
    for spec in gymnasium.registry.values()
    # reasoning-gym's families have tests of their own, and what tests register need not be solvable
    if task_of(spec) is not None and not spec.id.startswith(("reasoning_gym/", "test/"))
]
DATA = Path(__file__).parent / "data"
# what a task needs to be made; the others have defaults for everything
NEEDS = {
    "llm_envs/CodeTests-v0": {"path": str(DATA / "code_tests.jsonl")},
    "llm_envs/GSM8K-v0": {"path": str(DATA / "gsm8k_format")},
    "llm_envs/MATH-v0": {"path": str(DATA / "math_format")},
    "llm_envs/HumanEval-v0": {"path": str(DATA / "human_eval_format.jsonl")},
}
ARITHMETIC = "llm_envs/Arithmetic-v0"
SYNC = {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": AutoresetMode.DISABLED}}
ASYNC = {"vectorization_mode": "async", "vector_kwargs": {"autoreset_mode": AutoresetMode.DISABLED}}


def make(env_id, **kwargs):
    return gymnasium.make(env_id, **NEEDS.get(env_id, {}), **kwargs)


@pytest.fixture
def registered():
    """Register tasks under throw-away ids and forget them afterwards."""
    before = set(gymnasium.registry)
    yield
    for new in set(gymnasium.registry) - before:
        del gymnasium.registry[new]


def test_there_are_tasks():
    assert ARITHMETIC in ALL


@pytest.mark.parametrize("env_id", ALL)
@pytest.mark.parametrize("render_mode", [None, "ansi", "human"])
def test_gymnasiums_checker_has_no_complaint(env_id, render_mode):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(env_id, render_mode=render_mode).unwrapped)


@pytest.mark.parametrize("env_id", ALL)
@pytest.mark.parametrize("split", ["train", "test"])
def test_solutions_earn_the_full_reward(env_id, split):
    env = make(env_id, split=split)
    for seed in range(50):
        env.reset(seed=seed)
        problem = env.unwrapped.problem
        assert problem.split == split
        assert env.step(problem.solution)[1] == 1.0


@pytest.mark.parametrize("env_id", ALL)
def test_equal_seeds_give_equal_streams_and_others_differ(env_id):
    def stream(seed):
        env = make(env_id)
        return [env.reset(seed=seed)[0]] + [env.reset()[0] for _ in range(20)]

    assert stream(3) == stream(3)
    assert stream(3) != stream(4)
    # neighbouring seeds are separate streams, not the same one shifted
    assert stream(3)[1:] != stream(4)[:-1]


@pytest.mark.parametrize("env_id", ALL)
def test_splits_never_share_a_prompt(env_id):
    prompts = {}
    for split in ("train", "test"):
        env = make(env_id, split=split)
        prompts[split] = {env.reset(seed=seed)[0] for seed in range(250)}
    assert not prompts["train"] & prompts["test"]


def test_a_small_problem_space_does_not_leak():
    kwargs = {"operands": 2, "operators": "+"}  # 81 problems in all
    seen = {}
    for split in ("train", "test"):
        env = gymnasium.make(ARITHMETIC, split=split, **kwargs)
        seen[split] = {env.reset(seed=seed)[0] for seed in range(2000)}
    assert not seen["train"] & seen["test"]
    assert len(seen["train"] | seen["test"]) == 81
    assert 5 <= len(seen["test"]) <= 30


def test_the_answer_format_moves_no_problem_between_splits():
    expressions = {}
    for split, answer_format in (("train", "boxed"), ("test", "hashes"), ("test", "unstated")):
        env = gymnasium.make(ARITHMETIC, split=split, answer_format=answer_format)
        prompts = [env.reset(seed=seed)[0] for seed in range(500)]
        expressions[split, answer_format] = {prompt.partition("?")[0] for prompt in prompts}
    assert not expressions["train", "boxed"] & expressions["test", "hashes"]
    assert expressions["test", "hashes"] & expressions["test", "unstated"]


def test_the_split_is_a_stable_property_of_what_is_asked():
    problems = [Problem(f"What is {n}?", reference=n) for n in range(5000)]
    held_out = [problem.split == "test" for problem in problems]
    assert 0.17 < np.mean(held_out) < 0.23
    # these must never change: models and results depend on them
    assert [int(h) for h in held_out[:12]] == [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]
    assert Problem("other words", 1, key="What is 3?").split == problems[3].split
    assert Problem("\ud800", 1).split in ("train", "test")


def test_an_episode_is_one_completion():
    env = gymnasium.make(ARITHMETIC)
    prompt, info = env.reset(seed=0)
    assert "reference" not in info
    reference = env.unwrapped.problem.reference
    observation, reward, terminated, truncated, info = env.step(f"It is \\boxed{{{reference}}}")
    assert (observation, reward, terminated, truncated) == ("", 1.0, True, False)
    assert info == {"outcome": "correct", "answer": reference, "reference": reference}
    assert prompt.startswith("What is ")


@pytest.mark.parametrize(
    ("completion", "outcome"),
    [
        ("", "no_answer"),
        ("the answer is 3 or so", "unparsed"),
        ("\\boxed{}", "no_answer"),
        ("\\boxed{10**9}", "wrong"),
        ("\x00\ud800", "no_answer"),
    ],
)
def test_what_is_not_right_earns_nothing(completion, outcome):
    env = gymnasium.make(ARITHMETIC)
    env.reset(seed=0)
    _, reward, _, _, info = env.step(completion)
    assert (reward, info["outcome"]) == (0.0, outcome)


def test_the_echoed_question_is_not_an_answer():
    env = gymnasium.make(ARITHMETIC)
    for seed in range(20):
        prompt, _ = env.reset(seed=seed)
        expression = prompt.removeprefix("What is ").partition("?")[0]
        for completion in (prompt, expression, f"\\boxed{{{expression}}}", f"#### {expression}"):
            env.reset(seed=seed)
            assert env.step(completion)[1] == 0.0


def test_order_of_calls_is_enforced():
    env = gymnasium.make(ARITHMETIC).unwrapped
    with pytest.raises(ResetNeeded):
        env.step("")
    with pytest.raises(ResetNeeded):
        _ = env.problem
    env.reset(seed=0)
    env.step("")
    with pytest.raises(ResetNeeded):
        env.step("")
    env.reset()
    with pytest.raises(TypeError, match="int"):
        env.step(3)


def test_rendering(capsys):
    env = gymnasium.make(ARITHMETIC, render_mode="ansi")
    prompt, _ = env.reset(seed=0)
    assert env.render() == f"prompt: {prompt}"
    env.step("\\boxed{0}")
    assert "completion: \\boxed{0}" in env.render()
    human = gymnasium.make(ARITHMETIC, render_mode="human")
    human.reset(seed=0)
    human.step("\ud800 \\boxed{0}")
    printed = capsys.readouterr().out
    assert printed.count(prompt) == 1
    assert "\\ud800 \\boxed{0}" in printed


def test_prompt_template_surrounds_the_prompt_and_moves_no_problem():
    plain, wrapped = gymnasium.make(ARITHMETIC), gymnasium.make(ARITHMETIC, prompt_template="Q: {prompt}\nA:")
    for seed in range(20):
        assert wrapped.reset(seed=seed)[0] == f"Q: {plain.reset(seed=seed)[0]}\nA:"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"operand": 3}, "no argument 'operand'; it takes operands=3"),
        ({"split": "dev"}, "'dev'"),
        ({"prompt_template": "nothing"}, "exactly once"),
        ({"operands": 1}, "operands must be between"),
        ({"digits": 0}, "digits must be between"),
        ({"operators": "+%"}, "operators must be"),
        ({"operators": ""}, "operators must be"),
        ({"answer_format": "xml"}, "answer_format must be"),
        ({"digits": 3, "max_value": 0, "operators": "+"}, "no expression"),
        ({"render_mode": "rgb_array"}, "rgb_array"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(kwargs, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gymnasium warns about the render mode before the environment refuses it
        with pytest.raises((TypeError, ValueError), match=message):
            gymnasium.make(ARITHMETIC, **kwargs)


def test_wrong_id_suggests_the_right_one():
    with pytest.raises(NameNotFound, match="Arithmetic"):
        gymnasium.make("llm_envs/Arithmetc-v0")


@pytest.mark.parametrize("mode", [{}, SYNC, ASYNC], ids=["vector_entry_point", "sync", "async"])
def test_all_vectorization_modes_agree(mode):
    envs = gymnasium.make_vec(ARITHMETIC, num_envs=3, **mode)
    single = gymnasium.make(ARITHMETIC)
    for seeds in ([5, 5, 6], None):
        prompts, _ = envs.reset(seed=seeds)
        assert prompts[0] == prompts[1] != prompts[2]
        actions = ["\\boxed{1}", "", "\\boxed{3}"]
        observations, rewards, terminated, truncated, infos = envs.step(actions)
        for i, action in enumerate(actions):
            if seeds is not None:
                prompt, _ = single.reset(seed=seeds[i])
                assert prompt == prompts[i]
                _, reward, _, _, info = single.step(action)
                assert rewards[i] == reward
                assert {key: infos[key][i] for key in info} == info
                assert all(infos[f"_{key}"][i] for key in info)
        assert observations == ("", "", "")
        assert terminated.tolist() == [True] * 3
        assert truncated.tolist() == [False] * 3
    envs.close()


def test_an_int_seed_is_spread_as_gymnasium_does():
    ours = gymnasium.make_vec(ARITHMETIC, num_envs=3)
    theirs = gymnasium.make_vec(ARITHMETIC, num_envs=3, **SYNC)
    assert ours.reset(seed=11)[0] == theirs.reset(seed=11)[0]
    assert ours.metadata["autoreset_mode"] == AutoresetMode.DISABLED


def test_reset_mask_resets_only_what_it_names():
    envs = gymnasium.make_vec(ARITHMETIC, num_envs=3)
    with pytest.raises(ValueError, match=r"never been reset: \[0\]"):
        envs.reset(options={"reset_mask": np.array([False, True, True])})
    first, _ = envs.reset(seed=[1, 2, 3])
    envs.step([""] * 3)
    second, _ = envs.reset(options={"reset_mask": np.array([True, False, False])})
    assert second[0] != first[0]
    assert second[1:] == first[1:]
    with pytest.raises(ResetNeeded, match=r"\[1, 2\]"):
        envs.step([""] * 3)
    with pytest.raises(ValueError, match="reset_mask must be bool"):
        envs.reset(options={"reset_mask": np.ones(3)})


def test_vector_errors():
    envs = gymnasium.make_vec(ARITHMETIC, num_envs=2)
    with pytest.raises(ResetNeeded):
        envs.step(["", ""])
    with pytest.raises(ValueError, match="2 seeds"):
        envs.reset(seed=[1])
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="2 completions"):
        envs.step([""])
    with pytest.raises(TypeError, match="NoneType"):
        envs.step(["", None])
    with pytest.raises(ValueError, match="num_envs"):
        gymnasium.make_vec(ARITHMETIC, num_envs=0)


def test_a_batch_is_one_reward_call(registered):
    calls = []

    def counting(prompts, completions, references):
        calls.append(len(completions))
        return [RewardResult(0.5, Outcome.SCORED, metrics={"length": 1.0}) for _ in completions]

    @register_task("test/Counting-v0", reward=counting)
    def task(rng):
        return Problem(str(rng.integers(10**9)), reference=None)

    envs = gymnasium.make_vec("test/Counting-v0", num_envs=64, render_mode="ansi")
    envs.reset(seed=0)
    _, rewards, _, _, infos = envs.step(["x"] * 64)
    assert calls == [64]
    assert rewards.tolist() == [0.5] * 64
    assert infos["metrics"]["length"].tolist() == [1.0] * 64
    assert "scored" in envs.render()[0]


@pytest.mark.parametrize("env_id", ALL)
def test_stock_wrappers(env_id):
    env = TransformReward(TimeLimit(RecordEpisodeStatistics(make(env_id)), 5), lambda r: r * 2)
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(env.unwrapped.problem.solution)
    assert (reward, terminated, truncated) == (2.0, True, False)
    assert info["episode"]["l"] == 1
    assert info["episode"]["r"] == 1.0


def test_stock_vector_wrapper():
    envs = gymnasium.wrappers.vector.RecordEpisodeStatistics(gymnasium.make_vec(ARITHMETIC, num_envs=2))
    for _ in range(2):
        envs.reset(seed=0)
        solutions = [problem.solution for problem in envs.unwrapped.problems]
        _, _, _, _, infos = envs.step(solutions)
        assert infos["episode"]["r"].tolist() == [1.0, 1.0]
        assert infos["episode"]["l"].tolist() == [1, 1]


def test_register_task_reaches_gymnasium_with_its_arguments(registered):
    @register_task("test/Doubling-v0", reward=MathReward())
    def doubling(rng, high: int = 100):
        n = int(rng.integers(high))
        return Problem(f"What is 2 * {n}?", reference=str(2 * n), solution=f"\\boxed{{{2 * n}}}")

    env = gymnasium.make("test/Doubling-v0", high=50)
    prompts = {env.reset(seed=seed)[0] for seed in range(300)}
    assert 30 < len(prompts) <= 50
    assert doubling(np.random.default_rng(0)).prompt.startswith("What is 2 * ")  # still an ordinary function
    assert gymnasium.make_vec("test/Doubling-v0", num_envs=2, high=3).reset(seed=0)[0][0][-2] in "012"


def test_a_bad_reference_is_refused_when_the_task_is_made(registered):
    @register_task("test/BadReference-v0", reward=MathReward())
    def bad(rng):
        return Problem(f"What? {rng.integers(10**6)}", reference="no number ###")

    with pytest.raises(InvalidReference):
        gymnasium.make("test/BadReference-v0")


def test_a_sampler_that_is_none_is_refused(registered):
    @register_task("test/NoProblem-v0", reward=MathReward())
    def nothing(rng):
        return "a string"

    with pytest.raises(TypeError, match="must return a Problem, got str"):
        gymnasium.make("test/NoProblem-v0")
    with pytest.raises(TypeError, match="reward must be callable"):
        register_task("test/NoReward-v0", reward=3)


def test_a_task_too_small_to_split_says_so(registered):
    @register_task("test/One-v0", reward=MathReward())
    def one(rng):
        return Problem("What is 1 + 1?", reference="2")

    empty = "test" if one(None).split == "train" else "train"
    with pytest.raises(ValueError, match="too few distinct prompts"):
        gymnasium.make("test/One-v0", split=empty)


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code], check=True, capture_output=True, text=True
    ).stdout


def test_import_does_not_load_torch_or_sympy():
    assert run_python("import sys, llm_envs; print('torch' in sys.modules, 'sympy' in sys.modules)") == "False False\n"


def test_gymnasium_imports_the_package_by_itself():
    out = run_python(f"import gymnasium; print(gymnasium.make('llm_envs:{ARITHMETIC}').reset(seed=0)[0])")
    assert out.startswith("What is ")
