"""The reward protocol."""

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
