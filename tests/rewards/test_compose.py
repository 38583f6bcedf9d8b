"""Rewards made of others."""

from __future__ import annotations

import pickle

import gymnasium
import pytest

from agents import Callback, GRPOAgent, GRPOConfig, SB3Agent, SB3Config
from llm_envs import Problem, register_task
from llm_envs.audit import audit_task
from rewards.base import InvalidReference, Outcome, RewardResult, score
from rewards.compose import ComposedReward, Term
from rewards.exact import ExactTextReward
from rewards.math import MathReward
from rewards.shaping import LengthReward, TagsReward


def rewards_of(reward, *completions, reference="4"):
    return [
        r.reward for r in reward(["What is 2 + 2?"] * len(completions), completions, [reference] * len(completions))
    ]


RIGHT = "<think>2 and 2</think><answer>4</answer>"
WRONG = "<think>2 and 2</think><answer>5</answer>"


def test_a_bonus_stands_beside_correct_answers_alone():
    reward = ComposedReward(MathReward(), {"tags": Term(TagsReward(), 0.25)})
    assert rewards_of(reward, RIGHT, WRONG, "\\boxed{4}", "") == [1.25, 0.0, 1.0, 0.0]


def test_a_term_that_always_counts_is_paid_for_nothing():
    reward = ComposedReward(MathReward(), {"tags": Term(TagsReward(), 0.25, "always")})
    assert rewards_of(reward, RIGHT, WRONG, "\\boxed{4}", "") == [1.25, 0.25, 1.0, 0.0]


def test_penalties_and_several_terms():
    reward = ComposedReward(MathReward(), {"tags": TagsReward(), "length": Term(LengthReward(10, 20), 0.5)})
    assert rewards_of(reward, RIGHT, "\\boxed{4}", "\\boxed{4}" + 6 * " ") == [1.5, 1.0, 0.75]
    reward = ComposedReward(MathReward(), {"tags": Term(TagsReward(), -1, "always")})
    assert rewards_of(reward, RIGHT, WRONG) == [0.0, -1.0]


def test_the_verdict_keeps_its_outcome_and_the_parts_are_figures():
    reward = ComposedReward(MathReward(), {"tags": Term(TagsReward(), 0.25)})
    right, wrong = reward(["", ""], [RIGHT, WRONG], ["4", "4"])
    assert (right.outcome, right.answer, wrong.outcome) == (Outcome.CORRECT, "4", Outcome.WRONG)
    assert right.metrics == {"verdict": 1.0, "tags": 1.0}
    assert wrong.metrics == {"verdict": 0.0}  # the term was not asked


def test_terms_are_asked_in_one_call_about_what_they_count_for():
    batches = []

    def term(prompts, completions, references):
        batches.append(list(zip(prompts, completions, references, strict=True)))
        return [RewardResult(1.0, Outcome.SCORED) for _ in completions]

    reward = ComposedReward(MathReward(), {"term": term})
    found = reward(["a", "b", "c"], ["\\boxed{1}", "\\boxed{9}", "\\boxed{3}"], ["1", "2", "3"])
    assert [result.reward for result in found] == [2.0, 0.0, 2.0]
    assert batches == [[("a", "\\boxed{1}", "1"), ("c", "\\boxed{3}", "3")]]
    reward(["a"], ["\\boxed{2}"], ["1"])
    assert len(batches) == 1


def test_compositions_nest():
    inner = ComposedReward(MathReward(), {"tags": TagsReward()})
    outer = ComposedReward(inner, {"length": LengthReward(10, 20)})
    assert rewards_of(outer, RIGHT, "\\boxed{4}") == [1.0, 1.0]


def test_references_are_checked_by_every_part():
    reward = ComposedReward(MathReward(), {"exact": ExactTextReward(), "tags": TagsReward()})
    reward.check_reference("4")
    for bad in (None, "", object()):
        with pytest.raises(InvalidReference):
            reward.check_reference(bad)


@pytest.mark.parametrize("name", ["verdict", "a b", "", "1st"])
def test_names_that_are_none_are_refused(name):
    with pytest.raises(ValueError, match="cannot be called"):
        ComposedReward(MathReward(), {name: TagsReward()})


def test_weights_and_conditions_are_checked():
    with pytest.raises(ValueError, match="finite"):
        Term(TagsReward(), float("nan"))
    with pytest.raises(ValueError, match="'correct' or 'always'"):
        Term(TagsReward(), 1.0, "sometimes")


def test_it_can_be_pickled_and_asks_what_the_verdict_asks():
    reward = ComposedReward(MathReward(), {"tags": Term(TagsReward(), 0.25)})
    copy = pickle.loads(pickle.dumps(reward))  # noqa: S301 (our own)
    assert rewards_of(copy, RIGHT) == [1.25]
    assert copy.instruction == MathReward().instruction
    assert "TagsReward" in repr(copy)


# -- what a completion looks like -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("<think>a</think><answer>b</answer>", 1),
        (" <think>\na</think>\n\n<answer> b </answer>\n", 1),
        ("<think>a < b and <i>c</i></think><answer>b</answer>", 1),
        ("", 0),
        ("<answer>b</answer>", 0),
        ("<answer>b</answer><think>a</think>", 0),
        ("<think>a</think> so <answer>b</answer>", 0),
        ("<think>a</think><answer>b</answer> done", 0),
        ("Well. <think>a</think><answer>b</answer>", 0),
        ("<think> </think><answer>b</answer>", 0),
        ("<think>a</think><answer></answer>", 0),
        ("<think>a<answer>b</answer></think>", 0),
        ("<think>a</think><answer>b</answer><answer>c</answer>", 0),
        ("<think>a</think><think>a</think><answer>b</answer>", 0),
        ("<think>a</think><answer>b", 0),
        ("<think><think>a</think><answer>b</answer>", 0),
        ("<THINK>a</THINK><answer>b</answer>", 0),
        ("<think>" * 200_000, 0),
    ],
)
def test_tags(completion, expected):
    assert rewards_of(TagsReward(), completion) == [expected]


def test_the_first_tag_may_be_opened_by_the_prompt():
    opened = TagsReward(opened=True)
    # A policy may write what its template opened before the text; a second opening tag is one too many.
    rest = "a</think><answer>b</answer>"
    assert rewards_of(opened, rest, f"<think>{rest}", f"<think><think>{rest}", f"<think>\n<think>{rest}") == [
        1,
        1,
        0,
        0,
    ]
    assert TagsReward(("answer",)).instruction == "Write your reply as <answer>...</answer>."


@pytest.mark.parametrize("tags", [(), "think", ("a", "a"), ("<think>",), ("a b",)])
def test_tags_that_are_no_names_are_refused(tags):
    with pytest.raises(ValueError, match="tag"):
        TagsReward(tags)


def test_length():
    found = rewards_of(LengthReward(4, 8), "", "abcd", "abcde", "abcdef", "abcdefgh", "a" * 1000)
    assert found == [0, 0, -0.25, -0.5, -1, -1]
    for free, limit in ((-1, 4), (4, 4), (5, 4)):
        with pytest.raises(ValueError, match="0 <= free < limit"):
            LengthReward(free, limit)


# -- in a task --------------------------------------------------------------------------------------------------------


def register(when):
    reward = ComposedReward(MathReward(), {"tags": Term(TagsReward(("answer",)), 0.5, when)})

    @register_task("test/Composed-v0", reward=reward)
    def doubling(rng):
        n = int(rng.integers(10_000))
        return Problem(f"What is 2 * {n}?", reference=str(2 * n), solution=f"<answer>{2 * n}</answer>")


@pytest.fixture
def task():
    register("correct")
    yield "test/Composed-v0"
    del gymnasium.registry["test/Composed-v0"]


def test_an_audit_tells_a_bonus_from_a_reward_for_nothing(task):
    """That the form costs a right answer something is what the bonus says."""

    def failed():
        return {row.name for row in audit_task(task, problems=4).rows if row.verdict == "fail"}

    assert failed() == {"equivalent spellings"}
    del gymnasium.registry[task]
    register("always")
    assert {"every candidate listed", "two answers", "random text"} <= failed()


@pytest.mark.parametrize("kind", ["GRPO", "PPO"])
def test_an_agents_metrics_have_the_parts(task, kind):
    class Keep(Callback):
        def on_update(self, record):
            self.record = record

    keep = Keep()
    if kind == "GRPO":
        config = GRPOConfig(prompts_per_update=4, group_size=4, max_completion_tokens=24)
        GRPOAgent("builtin/tiny", task, config=config, device="cpu").learn(16, keep)
    else:
        config = SB3Config(num_envs=16, max_completion_tokens=24)
        SB3Agent("builtin/tiny", task, config=config, device="cpu").learn(16, keep)
    metrics, rollouts = keep.record.metrics, keep.record.rollouts
    assert metrics["metric/verdict"] == pytest.approx(metrics["accuracy"])
    asked = [rollout.metrics["tags"] for rollout in rollouts if rollout.correct]
    assert ("metric/tags" in metrics) == bool(asked)
    assert all(("tags" in rollout.metrics) == rollout.correct for rollout in rollouts)


# -- what a reward returns --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        ([RewardResult(1.0, Outcome.CORRECT)], ValueError, "returned 1 results for 2 completions"),
        ([1.0, 0.0], TypeError, r"returned 1\.0 for 'first': it must be a RewardResult"),
        (0.5, TypeError, "returned a float, not a list of RewardResult"),
        (None, TypeError, "returned a NoneType"),
    ],
)
def test_what_is_no_list_of_verdicts_is_an_error_that_names_the_reward(returned, error, message):
    def sloppy(prompts, completions, references):
        return returned

    with pytest.raises(error, match=f"the reward sloppy {message}"):
        score(sloppy, ["p", "p"], ["first", "second"], ["r", "r"])


def test_environments_say_what_a_reward_did_wrong():
    @register_task("test/Sloppy-v0", reward=lambda prompts, completions, references: [1.0 for _ in completions])
    def sampler(rng):
        return Problem(f"What is {rng.integers(1000)}?", reference="x")

    try:
        env = gymnasium.make("test/Sloppy-v0")
        env.reset(seed=0)
        with pytest.raises(TypeError, match="must be a RewardResult"):
            env.step("a")
        envs = gymnasium.make_vec("test/Sloppy-v0", num_envs=2)
        envs.reset(seed=0)
        with pytest.raises(TypeError, match="must be a RewardResult"):
            envs.step(["a", "b"])
    finally:
        del gymnasium.registry["test/Sloppy-v0"]
