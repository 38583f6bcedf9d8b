"""The token view: the fast ways beside the plain ones, and what stable-baselines3 computes with them."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from agents import GRPOAgent, GRPOConfig, SB3Agent, load_policy
from agents.rollout import Completion, GroupBatch, Rollout
from agents.sb3 import TokenVecEnv
from agents.sb3.prefixes import PrefixCache, hidden_of_prefixes, last_hidden
from agents.sb3.token_rows import as_lists
from llm_envs.wrappers import TokenLevel
from llm_envs.wrappers.tokens import as_row
from tests.agents.sb3.test_completion_view import Keep

ARITHMETIC = "llm_envs/Arithmetic-v0"


@pytest.fixture
def token_agent(small_agent):
    def make(policy="builtin/tiny", algorithm=PPO, **config):
        config = {"num_envs": 6, "n_steps": 24, **config}
        if algorithm is PPO:
            config = {"algorithm_kwargs": {"batch_size": 72, "n_epochs": 1}, **config}
        return small_agent(policy, algorithm, "token", **config)

    return make


def test_a_log_probability_of_a_token_is_the_language_models(token_agent, random_policy):
    policy = random_policy("llama")
    agent = token_agent(policy, temperature=0.7)
    prompt, completion = list(range(20, 31)), list(range(40, 52))
    rows = np.stack([as_row(prompt + completion[:t], 88) for t in range(12)])
    network = agent.algorithm.policy
    network.set_training_mode(True)
    values, logprobs, entropy = network.evaluate_actions(torch.as_tensor(rows), torch.tensor(completion))
    rollout = Rollout(0, "", prompt, Completion(completion, [0.0] * 12, True), "", 0, "", None, None)
    batch = GroupBatch.from_rollouts([rollout], 1, policy.pad_token_id)
    assert torch.allclose(logprobs, policy.logprobs(batch, 0.7)[0], atol=1e-4)
    assert values.shape == (12, 1)
    assert (entropy > 0).all()


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "mistral"])
def test_prefixes_of_an_episode_are_computed_together_and_agree(random_policy, architecture):
    policy = random_policy(architecture)
    rng = np.random.default_rng(0)
    episodes = [rng.integers(0, 500, size).tolist() for size in (9, 14, 14)]
    episodes.append([*episodes[0][:5], 7, 8])  # begins like another one
    rows = [episode[: rng.integers(1, len(episode) + 1)] for episode in episodes for _ in range(6)]
    rows += [episodes[1], episodes[1]]
    shuffled = torch.as_tensor(np.stack([as_row(rows[i], 20) for i in rng.permutation(len(rows))]))
    fast = hidden_of_prefixes(policy, policy.model, shuffled)
    assert torch.allclose(fast, last_hidden(policy, policy.model, shuffled), atol=1e-5)
    fast.square().sum().backward()
    gradient = policy.model.get_input_embeddings().weight.grad.clone()
    policy.model.zero_grad()
    last_hidden(policy, policy.model, shuffled).square().sum().backward()
    expected = policy.model.get_input_embeddings().weight.grad
    # norms of small random hidden states enlarge float32's rounding, more on some CPUs than on others
    assert (gradient - expected).norm() < 1e-4 * expected.norm()


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "mistral"])
def test_the_cache_agrees_with_the_plain_way_as_episodes_end_and_begin(random_policy, architecture):
    policy = random_policy(architecture)
    rng = np.random.default_rng(1)
    prompts = [rng.integers(0, 500, rng.integers(2, 12)).tolist() for _ in range(5)]
    rows, cache = [list(p) for p in prompts], PrefixCache(policy)
    for step in range(40):
        batch = torch.as_tensor(np.stack([as_row(row, 40) for row in rows]))
        assert torch.allclose(
            cache.last_hidden(policy.model, batch), last_hidden(policy, policy.model, batch), atol=1e-4
        ), step
        for i, row in enumerate(rows):
            ended = len(row) == 40 or rng.random() < 0.1 or (step == 20 and i < 4) or step == 30
            rows[i] = list(prompts[rng.integers(5)]) if ended else [*row, int(rng.integers(0, 500))]


def test_the_cache_does_not_outlive_the_weights(random_policy):
    policy = random_policy("llama")
    cache = PrefixCache(policy)
    rows = torch.as_tensor(np.stack([as_row([5, 6, 7], 9), as_row([8], 9)]))
    longer = torch.as_tensor(np.stack([as_row([5, 6, 7, 1], 9), as_row([8, 2], 9)]))
    cache.last_hidden(policy.model, rows)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(1.1)
    assert torch.allclose(cache.last_hidden(policy.model, longer), last_hidden(policy, policy.model, longer), atol=1e-4)
    for parameter in policy.model.parameters():
        parameter.data = parameter.data * 1.1  # as TRPO's line search does
    assert torch.allclose(cache.last_hidden(policy.model, longer), last_hidden(policy, policy.model, longer), atol=1e-4)


def test_a_step_of_the_cache_computes_one_token_of_each_row(random_policy):
    policy = random_policy("llama")
    cache, widths = PrefixCache(policy), []
    policy.model.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    for length in (5, 6, 7, 7):
        cache.last_hidden(policy.model, torch.as_tensor(np.stack([as_row(list(range(length)), 9)] * 3)))
    assert widths == [(3, 5), (3, 1), (3, 1)]


def test_the_vector_environment_is_many_single_ones():
    policy = load_policy("builtin/tiny")
    many = TokenVecEnv(
        gymnasium.spec(ARITHMETIC), 4, policy, np.random.default_rng(7), max_completion_tokens=12, max_prompt_tokens=64
    )
    seeds = np.random.default_rng(7)
    slow = DummyVecEnv([lambda: TokenLevel(gymnasium.make(ARITHMETIC), policy.tokenizer, 12, max_prompt_tokens=64)] * 4)
    slow._seeds = seeds.integers(2**63, size=4).tolist()
    assert np.array_equal(many.reset(), slow.reset())
    rng, ended = np.random.default_rng(0), 0
    for _ in range(40):
        actions = rng.integers(0, 30, 4)  # 1 ends a completion
        observations, rewards, dones, infos = many.step(actions)
        slow_observations, slow_rewards, slow_dones, slow_infos = slow.step(actions)
        assert rewards.tolist() == slow_rewards.tolist()
        assert dones.tolist() == slow_dones.tolist()
        new = iter(seeds.integers(2**63, size=int(dones.sum())).tolist())
        for i in np.flatnonzero(dones):
            ended += 1
            assert np.array_equal(infos[i]["terminal_observation"], slow_infos[i]["terminal_observation"])
            assert infos[i]["completion"] == slow_infos[i]["completion"]
            assert not infos[i].get("TimeLimit.truncated")
            slow_observations[i] = slow.envs[i].reset(seed=next(new))[0]  # DummyVecEnv goes on in its own streams
        assert np.array_equal(observations, slow_observations)
    assert ended > 8
    assert len(many.take_finished()) == ended


def test_advantages_are_generalized_advantage_estimates(token_agent):
    agent = token_agent(algorithm_kwargs={"batch_size": 144, "n_epochs": 1, "gae_lambda": 0.8, "vf_coef": 0.3})
    torch.nn.init.normal_(agent.algorithm.policy.value_net.weight, std=0.05)

    class KeepAll(Keep):
        def _on_rollout_end(self):
            buffer = self.model.rollout_buffer
            names = ("rewards", "values", "advantages", "returns", "episode_starts", "log_probs")
            self.kept = {name: getattr(buffer, name).astype(np.float64) for name in names}
            self.dones = self.locals["dones"].copy()
            self.next_values = self.locals["values"].flatten().double().numpy()

    keep = KeepAll()
    agent.algorithm.learn(144, keep)
    kept = keep.kept
    assert kept["rewards"].any()
    for env in range(6):
        # the definition, as a sum over what follows within the episode (Schulman et al. 2016, eq. 16)
        values = [*kept["values"][:, env], keep.next_values[env]]
        over = [*kept["episode_starts"][1:, env].astype(bool), bool(keep.dones[env])]
        for t in range(24):
            expected, weight = 0.0, 1.0
            for u in range(t, 24):
                after = 0.0 if over[u] else values[u + 1]
                expected += weight * (kept["rewards"][u, env] + after - values[u])
                if over[u]:
                    break
                weight *= 0.8
            assert kept["advantages"][t, env] == pytest.approx(expected, abs=1e-4)
    metrics = agent.algorithm.logger.name_to_value
    assert metrics["train/value_loss"] == pytest.approx(((kept["returns"] - kept["values"]) ** 2).mean(), rel=1e-3)
    assert metrics["train/policy_gradient_loss"] == pytest.approx(0, abs=1e-4)


def test_greedy_predict_is_greedy_generation(token_agent):
    agent = token_agent()
    prompts = [f"What is {a} + 2 * {a}? End with \\boxed{{answer}}." for a in range(4)]
    config = GRPOConfig(max_completion_tokens=24)
    expected = GRPOAgent("builtin/tiny", ARITHMETIC, config=config, device="cpu").predict(prompts, deterministic=True)
    assert agent.predict(prompts, deterministic=True) == expected
    written = [list(ids) for ids in agent.policy.encode_prompts(prompts)]
    starts, going = [len(ids) for ids in written], list(range(4))
    for _ in range(24):
        rows = np.stack([as_row(ids, 88) for ids in written])
        tokens, _ = agent.algorithm.predict(rows, deterministic=True)  # stable-baselines3's own
        for i in list(going):
            written[i].append(int(tokens[i]))
            if written[i][-1] in agent.policy.end_token_ids:
                going.remove(i)
    texts = [agent.policy.decode(ids[start:]) for ids, start in zip(written, starts, strict=True)]
    assert texts == expected


@pytest.mark.parametrize("kl_coef", [0.0, 0.1])
def test_a_resumed_run_is_the_run_that_was_not_interrupted(tmp_path, token_agent, recorder, kl_coef):
    straight = token_agent(kl_coef=kl_coef)
    straight.learn(20)
    assert straight.num_updates >= 3
    first = token_agent(kl_coef=kl_coef)
    first.learn(20, recorder(stop_after=2))
    assert any(first.envs.state()["written"])  # in the middle of episodes
    first.save(tmp_path / "agent")
    resumed = SB3Agent.load(tmp_path / "agent", device="cpu").learn(20)
    assert resumed.num_episodes == straight.num_episodes
    for mine, theirs in zip(resumed.algorithm.policy.parameters(), straight.algorithm.policy.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_kl_shaping_takes_each_tokens_log_ratio_off_its_reward(token_agent):
    agent = token_agent(kl_coef=0.5)
    with torch.no_grad():
        for parameter in agent.policy.model.parameters():  # away from the reference
            parameter.mul_(1.02)
    keep = Keep()
    agent.algorithm.learn(144, keep)  # Keep has the first step of each episode
    for row, action, reward, logprob in zip(
        as_lists(keep.kept["observations"]), keep.kept["actions"], keep.kept["rewards"], keep.kept["log_probs"],
        strict=True,
    ):  # fmt: skip
        token = Rollout(0, "", row, Completion([int(action)], [0.0], True), "", 0, "", None, None)
        batch = GroupBatch.from_rollouts([token], 1, agent.policy.pad_token_id)
        expected = -0.5 * (logprob - agent.policy.reference_logprobs(batch).item())
        assert reward == pytest.approx(expected.item(), abs=1e-3)


def test_a2c_and_an_update_without_an_ended_episode(token_agent, recorder):
    seen = recorder()
    agent = token_agent(algorithm=A2C, n_steps=3).learn(1, seen)
    assert type(agent.algorithm) is A2C
    assert agent.num_updates == 1
    assert agent.num_episodes >= 1
    assert seen.records[0].metrics["completion_tokens"] > 3


def test_trpo_of_sb3_contrib(tmp_path, token_agent, micro_policy):
    sb3_contrib = pytest.importorskip("sb3_contrib")
    kwargs = {"n_critic_updates": 1, "batch_size": 32, "cg_max_steps": 5}
    agent = token_agent(micro_policy, algorithm=sb3_contrib.TRPO, num_envs=4, n_steps=24, algorithm_kwargs=kwargs)
    torch.nn.init.normal_(agent.algorithm.policy.value_net.weight)  # a random policy is never right: advantages of 0
    before = agent.policy.model.get_input_embeddings().weight.clone()
    agent.learn(1)
    metrics = agent.algorithm.logger.name_to_value
    assert metrics["train/is_line_search_success"] == 1
    assert 0 < metrics["train/kl_divergence_loss"] < agent.algorithm.target_kl
    assert not torch.equal(before, agent.policy.model.get_input_embeddings().weight)
    agent.save(tmp_path / "agent")
    assert type(SB3Agent.load(tmp_path / "agent", device="cpu").algorithm) is sb3_contrib.TRPO


def test_a_model_that_caps_its_logits_is_refused(token_agent, random_policy):
    policy = random_policy("gemma2", final_logit_softcapping=0.5, head_dim=8)
    with pytest.raises(NotImplementedError, match="caps its logits"):
        token_agent(policy)
