from __future__ import annotations

import importlib.util
import subprocess
import sys

import gymnasium
import numpy as np
import pytest

from llm_envs.audit import audit_task
from llm_envs.reasoning_gym import FAMILIES, ReasoningGymReward
from llm_envs.reasoning_gym.families import _Sampler
from llm_envs.reasoning_gym.reward import answer_of
from llm_envs.task import find_task
from rewards import InvalidReference, Outcome

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None, reason="it comes with the extra 'reasoning-gym'"
)
REWARD = ReasoningGymReward()


def reference(family, answer="42", **metadata):
    return {"family": family, "config": (), "entry": {"question": "?", "answer": answer, "metadata": metadata}}


def outcome(answer, expected):
    return REWARD(["?"], [f"<answer>{answer}</answer>"], [expected])[0].outcome


COUNTDOWN = reference("countdown", "5 * 4 / 2", numbers=[2, 5, 4], target=10)
PUZZLE = reference("puzzle24", "(10 - 8 / 4) * 3", numbers=[10, 8, 4, 3])
KNAVES = reference("knights_knaves", "Ann is a knave, and Bo is a knight.")
QUEENS = reference("n_queens", "_ Q", valid_answers=["_ Q", "Q _"])


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ("5 * 4 / 2", COUNTDOWN, True),
        ("4 / 2 * 5", COUNTDOWN, True),
        ("2.5 * 4", COUNTDOWN, False),
        ("10", COUNTDOWN, False),
        ("5 * 2", COUNTDOWN, False),
        ("2**5", reference("countdown", "32", numbers=[2, 5], target=32), False),
        ("__import__('os').getpid()", COUNTDOWN, False),
        ("3 * (10 - 8 / 4)", PUZZLE, True),
        ("6 * 4 * 1 * 1", PUZZLE, False),
        ("10 + 10 + 2 + 2", PUZZLE, False),
        ("Q _", QUEENS, True),
        ("[['_', 'Q']]", QUEENS, False),
        ("abc", reference("string_insertion", "abc"), True),
        ("['a', 'b', 'c']", reference("string_insertion", "abc"), False),
        ("__import__('os')._exit(0)", reference("spiral_matrix", "1 2 3"), False),
        ("1 2 3", reference("spiral_matrix", "1 2 3"), True),
        ("x**2 + C", reference("simple_integration", "x**2 + C"), True),
        ("__import__('os')", reference("simple_integration", "x**2 + C"), False),
        ("x.__class__", reference("polynomial_multiplication", "x**2"), False),
        ("9**9**9", reference("polynomial_multiplication", "x**2"), False),
        ("9**9999", reference("polynomial_multiplication", "x**2"), False),
        ("lambda: 1", reference("intermediate_integration", "x**2 + C"), False),
        ("42", reference("gcd"), True),
        ("0", reference("coin_flip", "0.0222"), False),
        ("nan", reference("complex_arithmetic", "3 + 4i"), False),
        ("1/3 or 2/5", reference("fraction_simplification", "1/3"), False),
        ("x = x", reference("game_of_life_halting", "False"), False),
        ("90 or 61", reference("gsm_symbolic", "90"), False),
        ("-90", reference("gsm_symbolic", "90"), False),
        (
            "qq Ann is a knave, and Bo is a knight qq",
            reference("knights_knaves", "Ann is a knave, and Bo is a knight."),
            False,
        ),
        ("so it is wrong", reference("letter_jumble", "so it is"), False),
        ("x" * 6000, reference("gcd"), False),
    ],
)
def test_what_is_judged_without_the_package(answer, expected, right):
    assert (outcome(answer, expected) is Outcome.CORRECT) is right


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("<answer>4</answer>", "4"),
        ("4", None),
        ("<answer> 1 2\n3 4 </answer>.", "1 2\n3 4"),
        ("<answer>3</answer> no, <answer>4.</answer>", "4."),
        ("<think><answer>4</answer></think>", None),
        ("<think>so</think><answer>4</answer>", "4"),
        ("<think><answer>4</answer>", None),
        ("<answer></answer>", None),
        ("<answer>4", None),
        ("</answer>4<answer>", None),
    ],
)
def test_where_the_answer_is(completion, answer):
    assert answer_of(completion) == answer


@pytest.mark.parametrize(("prompt", "paid"), [("Q<|assistant|><think>\n", [0, 1]), ("Start with <think>", [1, 1])])
def test_a_prompt_may_have_opened_the_reasoning(prompt, paid):
    completions = ["maybe <answer>1 2</answer>, hm", "hm</think><answer>1 2</answer>"]
    results = REWARD([prompt] * 2, completions, [reference("spiral_matrix", "1 2")] * 2)
    assert [result.reward for result in results] == paid


def test_mistakes():
    with pytest.raises(ValueError, match="deadline"):
        ReasoningGymReward(deadline=0)
    with pytest.raises(InvalidReference, match="'family'"):
        REWARD(["?"], ["<answer>4</answer>"], ["4"])
    with pytest.raises(ValueError, match="equally many"):
        REWARD(["?"], [], [])


def test_importing_ours_does_not_import_theirs():
    code = "import sys, llm_envs; print('reasoning_gym' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "llm_envs.reasoning_gym.upstream_score", raising=False)
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(ModuleNotFoundError, match=r"llm-envs\[reasoning-gym\]"):
        _Sampler("gcd")(np.random.default_rng(0))


@needs_package
def test_every_family_of_the_package_is_a_task():
    from reasoning_gym.factory import DATASETS

    assert set(FAMILIES) == set(DATASETS) - {"composite"}
    assert {f"reasoning_gym/{family}-v0" for family in FAMILIES} <= set(gymnasium.registry)


@needs_package
@pytest.mark.parametrize("family", ["gcd", "acre", "list_functions", "word_ladder", "spell_backward"])
def test_problems_are_a_function_of_the_seed(family):
    stream = find_task(f"reasoning_gym/{family}-v0")[0].problems()
    first = [stream.draw(seed) for seed in range(5)]
    again = [stream.draw(seed) for seed in reversed(range(5))][::-1]
    assert [p.prompt for p in first] == [p.prompt for p in again]
    assert len({p.prompt for p in first}) > 1
    assert all(
        result.reward == 1.0 for result in REWARD([""] * 5, [p.solution for p in first], [p.reference for p in first])
    )


@needs_package
def test_drawing_leaves_no_files_and_prints_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    stream = find_task("reasoning_gym/codeio-v0")[0].problems()
    for seed in range(300):  # of these, one writes a file, and some print
        stream.draw(seed)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


@needs_package
def test_partial_scores_of_the_package_are_nothing():
    stream = find_task("reasoning_gym/gcd-v0")[0].problems()
    problem = stream.draw(0)
    answer = problem.reference["entry"]["answer"]
    from llm_envs.reasoning_gym.upstream_score import score

    assert 0 < score("gcd", (), problem.reference["entry"], f"{answer}.") < 1
    assert outcome(f"{answer}.", problem.reference) is Outcome.WRONG
    assert outcome(answer, problem.reference) is Outcome.CORRECT


@needs_package
def test_the_configuration_is_the_packages_own():
    env = gymnasium.make("reasoning_gym/gcd-v0", config={"min_numbers": 5, "max_numbers": 5})
    env.reset(seed=0)
    assert env.unwrapped.problem.reference["entry"]["metadata"]["difficulty"]["num_terms"] == (5, 5)
    with pytest.raises(ValueError, match="refuses"):
        gymnasium.make("reasoning_gym/gcd-v0", config={"min_numbers": 1})


@needs_package
@pytest.mark.parametrize("family", ["gcd", "n_queens", "spiral_matrix", "simple_integration"])
def test_the_strict_reward_passes_the_audit(family):
    report = audit_task(f"reasoning_gym/{family}-v0", problems=2)
    assert report.passed, str(report)
