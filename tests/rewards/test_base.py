"""The reward protocol."""

import dataclasses

import numpy as np
import pytest

from rewards.base import InvalidReference, Outcome, Reward, RewardResult, check_reference


def constant(prompts, completions, references):
    return [RewardResult(1.0, Outcome.CORRECT) for _ in completions]


class Picky:
    def __call__(self, prompts, completions, references):
        return constant(prompts, completions, references)

    def check_reference(self, reference):
        if reference != "good":
            raise InvalidReference("bad")


def test_a_plain_function_is_a_reward():
    assert isinstance(constant, Reward)
    check_reference(constant, object())


def test_check_reference_asks_a_reward_that_can_tell():
    check_reference(Picky(), "good")
    with pytest.raises(InvalidReference):
        check_reference(Picky(), "other")


def test_results_do_not_share_metrics():
    assert RewardResult(0.0, Outcome.WRONG).metrics is not RewardResult(0.0, Outcome.WRONG).metrics


def test_an_outcome_is_its_name_in_logs():
    assert f"{Outcome.TOO_LARGE}" == "too_large"


@pytest.mark.parametrize(
    "reward", [1, 1.0, True, np.float32(1), np.float64(1), np.int64(1), np.array(1.0), np.array([1.0])]
)
def test_a_reward_is_any_number_and_becomes_a_float(reward):
    result = RewardResult(reward, "correct", metrics={"passed": np.float32(0.5), "all": 1})
    assert (type(result.reward), result.reward, result.outcome) == (float, 1.0, Outcome.CORRECT)
    assert isinstance(result.outcome, Outcome)
    assert dict(result.metrics) == {"passed": 0.5, "all": 1.0}
    assert dataclasses.replace(result, reward=0.0).outcome is Outcome.CORRECT


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((None, Outcome.CORRECT), TypeError, "the reward must be a number, such as 1.0, got None"),
        (("1.0", Outcome.CORRECT), TypeError, "must be a number, such as 1.0, got '1.0'"),
        (([1.0], Outcome.CORRECT), TypeError, "must be a number"),
        ((b"1", Outcome.CORRECT), TypeError, "must be a number"),
        ((1 + 1j, Outcome.CORRECT), TypeError, "must be a number"),
        ((np.array([1.0, 0.0]), Outcome.CORRECT), TypeError, "must be a number"),
        ((np.array(["1.0"]), Outcome.CORRECT), TypeError, "must be a number"),
        ((Outcome.CORRECT, 1.0), TypeError, "must be a number"),
        ((float("nan"), Outcome.WRONG), ValueError, "must be finite, got nan"),
        ((float("-inf"), Outcome.WRONG), ValueError, "must be finite, got -inf"),
        ((10**400, Outcome.WRONG), ValueError, "must be finite"),
        ((1.0, "superb"), ValueError, r"there is no outcome 'superb' \(there are correct, wrong"),
        ((1.0, "Correct"), ValueError, "there is no outcome 'Correct'; did you mean Outcome.CORRECT?"),
        ((1.0, "no-answer"), ValueError, "did you mean Outcome.NO_ANSWER?"),
        ((1.0, None), ValueError, "there is no outcome None"),
        ((1.0, True), ValueError, "there is no outcome True"),
        ((1.0, ["correct"]), ValueError, "there is no outcome"),
        ((1.0, Outcome.CORRECT, 5), TypeError, "answer must be a text or None, got 5"),
        ((1.0, Outcome.CORRECT, None, {"passed": None}), TypeError, "the metric 'passed' must be a number"),
        ((1.0, Outcome.CORRECT, None, {"passed": "all"}), TypeError, "the metric 'passed' must be a number"),
        ((1.0, Outcome.CORRECT, None, {1: 1.0}), TypeError, "the name of a metric must be a text"),
        ((1.0, Outcome.CORRECT, None, [("passed", 1)]), TypeError, "metrics must be a mapping"),
    ],
)
def test_what_is_no_verdict_is_refused_where_it_is_made(arguments, error, message):
    with pytest.raises(error, match=message):
        RewardResult(*arguments)
