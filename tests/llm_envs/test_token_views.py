from __future__ import annotations

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env as gymnasiums_check
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3s_check
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from agents.policies import load_policy
from llm_envs.wrappers import TokenCompletion, TokenLevel
from llm_envs.wrappers.tokens import MAX_EXACT_ID, check_vocab_size

ARITHMETIC = "llm_envs/Arithmetic-v0"
VIEWS = [TokenCompletion, TokenLevel]


@pytest.fixture(scope="module")
def tokenizer():
    return load_policy("builtin/tiny").tokenizer


def view(cls, tokenizer, max_completion_tokens=24, **options):
    env = gymnasium.make(ARITHMETIC, operands=2)
    return cls(env, tokenizer, max_completion_tokens, **{"max_prompt_tokens": 64, **options})


def ids_of(tokenizer, text):
    return [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


@pytest.mark.parametrize("cls", VIEWS)
def test_both_checkers_have_no_complaint(cls, tokenizer):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Gymnasium says so of every wrapper
        warnings.filterwarnings("ignore", message=".*is different from the unwrapped version")
        gymnasiums_check(view(cls, tokenizer), skip_render_check=True)
        sb3s_check(view(cls, tokenizer))


@pytest.mark.parametrize("cls", VIEWS)
def test_stable_baselines3_trains_a_policy_of_its_own_on_them(cls, tokenizer):
    envs = VecMonitor(DummyVecEnv([lambda: view(cls, tokenizer)] * 2))
    algorithm = PPO("MlpPolicy", envs, n_steps=16, batch_size=32, n_epochs=1, seed=0, device="cpu")
    algorithm.learn(64)
    assert len(algorithm.ep_info_buffer) > 0  # episodes ended, and were counted
    actions, _ = algorithm.predict(envs.reset())
    assert all(envs.action_space.contains(action) for action in actions)


@pytest.mark.parametrize("cls", VIEWS)
def test_the_right_answer_is_paid_and_the_prompt_is_the_policys(cls, tokenizer):
    env = view(cls, tokenizer)
    observation, info = env.reset(seed=3)
    expected = load_policy("builtin/tiny").encode_prompts([info["prompt"]])[0]
    assert observation[observation >= 0].tolist() == expected
    solution = ids_of(tokenizer, env.unwrapped.problem.solution)
    if cls is TokenCompletion:
        action = np.array(solution + [5] * (24 - len(solution)))  # what follows the end token means nothing
        observation, reward, terminated, truncated, info = env.step(action)
        assert (observation == -1).all()
    else:
        for n, token in enumerate(solution, start=1):
            observation, reward, terminated, truncated, info = env.step(token)
            assert observation[observation >= 0].tolist() == expected + solution[:n]
            assert terminated == (n == len(solution))
            assert reward == float(terminated)
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert info["outcome"] == "correct"
    assert not info["truncated_by_tokens"]


@pytest.mark.parametrize("cls", VIEWS)
def test_the_token_limit_terminates_and_does_not_truncate(cls, tokenizer):
    env = view(cls, tokenizer, max_completion_tokens=3)
    env.reset(seed=0)
    for action in [np.full(3, 7)] if cls is TokenCompletion else [7, 7, 7]:
        _, _, terminated, truncated, info = env.step(action)
    assert (terminated, truncated) == (True, False)
    assert info["truncated_by_tokens"]
    with pytest.raises(ResetNeeded):
        env.step(action)


def test_a_prompt_that_does_not_fit_is_refused_and_not_cut(tokenizer):
    with pytest.raises(ValueError, match="max_prompt_tokens=4; raise it"):
        view(TokenLevel, tokenizer, max_prompt_tokens=4).reset(seed=0)


@pytest.mark.parametrize("limits", [{"max_completion_tokens": 0}, {"max_prompt_tokens": 0}])
def test_limits_must_be_positive(limits, tokenizer):
    with pytest.raises(ValueError, match="at least 1, got 0"):
        view(TokenLevel, tokenizer, **limits)


def test_another_end_token_and_another_encoding(tokenizer):
    env = view(TokenLevel, tokenizer, end_token_ids={9}, encode=lambda prompt: [4, 5, 6], vocab_size=600)
    observation, _ = env.reset(seed=0)
    assert observation[:4].tolist() == [4, 5, 6, -1]
    assert env.action_space.n == 600
    assert not env.step(tokenizer.eos_token_id)[2]
    assert env.step(9)[2]


def test_ids_that_float32_would_round_are_refused():
    check_vocab_size(MAX_EXACT_ID)
    assert int(np.float32(MAX_EXACT_ID - 1)) == MAX_EXACT_ID - 1
    assert int(np.float32(MAX_EXACT_ID + 1)) != MAX_EXACT_ID + 1
    with pytest.raises(ValueError, match="float32"):
        check_vocab_size(MAX_EXACT_ID + 1)
