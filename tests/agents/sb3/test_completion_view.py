"""The completion view: what stable-baselines3 computes, beside independent recomputations."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

from agents import GRPOAgent, GRPOConfig, load_policy
from agents.rollout import Completion, GroupBatch, Rollout
from agents.sb3 import CompletionVecEnv
from agents.sb3.token_rows import as_lists, completion_mask, left_padded
from llm_envs.wrappers import TokenCompletion
from llm_envs.wrappers.tokens import through_first_end

ARITHMETIC = "llm_envs/Arithmetic-v0"


def random_rows(rng, n, length):
    rows = np.full((n, length), -1)
    for row in rows:
        size = rng.integers(1, length + 1)
        row[:size] = rng.integers(0, 500, size)
    return torch.as_tensor(rows)


def test_rows_become_left_padded_batches():
    rows = torch.tensor([[5, 6, -1, -1], [0, 8, 9, -1]])  # 0 is the padding token, and here a token like others
    ids, mask = left_padded(rows, 0)
    assert ids.tolist() == [[0, 5, 6], [0, 8, 9]]
    assert mask.tolist() == [[0, 1, 1], [1, 1, 1]]
    assert as_lists(rows) == [[5, 6], [0, 8, 9]]


def test_masks_go_through_the_first_end_token():
    actions = torch.tensor([[4, 1, 4, 1], [1, 1, 1, 1], [4, 4, 4, 4], [4, 4, 4, 2]])
    mask = completion_mask(actions, torch.tensor([1, 2]))
    assert mask.tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]


def test_log_probabilities_are_those_of_the_language_model(small_agent, random_policy):
    policy = random_policy("llama")
    agent = small_agent(policy, temperature=0.7)
    rng = np.random.default_rng(0)
    prompts = random_rows(rng, 6, 64)
    actions = torch.as_tensor(rng.integers(0, 500, (6, 24)))
    actions[1, 5] = actions[2, 0] = actions[3, 23] = policy.tokenizer.eos_token_id
    _, logprobs, entropy = agent.algorithm.policy.evaluate_actions(prompts, actions.float())
    assert entropy is None
    for i in range(6):
        ids = through_first_end(actions[i].tolist(), policy.end_token_ids)
        rollout = Rollout(0, "", as_lists(prompts)[i], Completion(ids, [0.0] * len(ids), False), "", 0, "", None, None)
        batch = GroupBatch.from_rollouts([rollout], 1, policy.pad_token_id)
        assert logprobs[i].item() == pytest.approx(policy.logprobs(batch, 0.7).sum().item(), abs=1e-4)


def test_what_stands_behind_the_end_token_changes_nothing(small_agent):
    agent = small_agent()
    prompts = random_rows(np.random.default_rng(0), 2, 64)
    actions = torch.randint(2, 500, (2, 24))
    actions[:, 7] = agent.policy.tokenizer.eos_token_id
    others = actions.clone()
    others[:, 8:] = torch.randint(2, 500, (2, 16))
    evaluate = agent.algorithm.policy.evaluate_actions
    assert torch.equal(evaluate(prompts, actions)[1], evaluate(prompts, others)[1])


def test_the_value_reads_the_prompt_alone_and_both_ways_agree(small_agent):
    agent = small_agent()
    network = agent.algorithm.policy
    torch.nn.init.normal_(network.value_net.weight)
    prompts = random_rows(np.random.default_rng(0), 5, 64)
    actions = torch.randint(2, 500, (5, 24))
    values = network.evaluate_actions(prompts, actions)[0]
    assert values.shape == (5, 1)
    assert torch.allclose(values, network.predict_values(prompts), atol=1e-4)
    assert torch.allclose(values, network.value_net(network.extract_features(prompts)), atol=1e-4)  # ids cast to float
    hidden = agent.policy.model(torch.tensor(as_lists(prompts)[:1]), output_hidden_states=True).hidden_states[-1]
    assert torch.allclose(values[0], network.value_net(hidden[0, -1]), atol=1e-4)


def test_the_algorithm_is_stable_baselines3s_and_its_network_the_language_model(small_agent):
    agent = small_agent()
    assert type(agent.algorithm) is PPO
    network = agent.algorithm.policy
    assert network.features_extractor.model is agent.policy.model
    assert network.action_net is agent.policy.model.get_output_embeddings()
    trained = {id(p) for group in network.optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in [*agent.policy.model.parameters(), *network.value_net.parameters()]}
    assert agent.algorithm.gamma == 1.0


def test_greedy_predict_is_greedy_generation(small_agent):
    agent = small_agent()
    prompts = [f"What is {a} + 2 * {a}? End with \\boxed{{answer}}." for a in range(6)]
    config = GRPOConfig(max_completion_tokens=24)
    expected = GRPOAgent("builtin/tiny", ARITHMETIC, config=config, device="cpu").predict(prompts, deterministic=True)
    assert agent.predict(prompts, deterministic=True) == expected
    assert agent.predict(prompts[0], deterministic=True) == expected[0]
    rows = np.full((6, 64), -1)
    for row, ids in zip(rows, agent.policy.encode_prompts(prompts), strict=True):
        row[: len(ids)] = ids
    actions, _ = agent.algorithm.predict(rows, deterministic=True)  # stable-baselines3's own
    ends = agent.policy.end_token_ids
    texts = [agent.policy.decode(through_first_end(action, ends)) for action in actions]
    assert texts == expected


class Keep(BaseCallback):
    """Keeps what one update collected, and the policy that collected it."""

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        buffer = self.model.rollout_buffer
        names = ("observations", "actions", "rewards", "values", "log_probs", "advantages", "returns")
        self.kept = {name: torch.as_tensor(getattr(buffer, name)[0].copy()) for name in names}


def test_advantages_and_losses_agree_with_a_recomputation(small_agent):
    """One minibatch, so that the one optimizer step starts from the policy that sampled."""
    agent = small_agent(algorithm_kwargs={"batch_size": 16, "n_epochs": 1, "vf_coef": 0.25})
    torch.nn.init.normal_(agent.algorithm.policy.value_net.weight, std=0.02)
    keep = Keep()
    agent.algorithm.learn(16, keep)
    kept = {name: value.double() for name, value in keep.kept.items()}
    assert len(set(kept["rewards"].tolist())) == 2
    # an episode of one step: its return is its reward, whatever lambda, and nothing follows it
    assert torch.allclose(kept["returns"], kept["rewards"], atol=1e-6)
    assert torch.allclose(kept["advantages"], kept["rewards"] - kept["values"], atol=1e-6)
    metrics = agent.algorithm.logger.name_to_value
    squares = (kept["values"] - kept["rewards"]) ** 2
    assert metrics["train/value_loss"] == pytest.approx(squares.mean().item(), rel=1e-4)
    assert metrics["train/policy_gradient_loss"] == pytest.approx(0, abs=1e-5)  # the ratio is 1, advantages are centred
    assert metrics["train/loss"] == pytest.approx(0.25 * metrics["train/value_loss"], abs=1e-5)


def test_the_clipped_loss_agrees_with_a_recomputation(small_agent):
    """A second epoch, whose ratio is not 1; figures of an update are means over both."""
    agent = small_agent(
        algorithm_kwargs={"batch_size": 16, "n_epochs": 2, "clip_range": 0.05},
        learning_rate=1e-3,
    )
    keep, seen = Keep(), []
    network = agent.algorithm.policy
    evaluate = network.evaluate_actions

    def watched(observations, actions):
        out = evaluate(observations, actions)
        seen.append((actions.long(), *(x.detach().double().flatten() for x in out[:2])))
        return out

    network.evaluate_actions = watched
    agent._learning_rate = 1e-3
    agent.algorithm.learn(16, keep)
    old = {tuple(a.tolist()): i for i, a in enumerate(keep.kept["actions"])}
    assert len(old) == 16
    losses, value_losses = [], []
    for actions, values, logprobs in seen:
        rows = [old[tuple(a.tolist())] for a in actions]
        ratio = (logprobs - keep.kept["log_probs"][rows].double()).exp()
        a = (keep.kept["rewards"] - keep.kept["values"])[rows].double()
        a = (a - a.mean()) / (a.std() + 1e-8)
        terms = [min(r * x, min(max(r, 0.95), 1.05) * x) for r, x in zip(ratio.tolist(), a.tolist(), strict=True)]
        losses.append(-sum(terms) / 16)
        value_losses.append(((keep.kept["rewards"][rows] - values) ** 2).mean().item())
    metrics = agent.algorithm.logger.name_to_value
    assert abs(losses[0]) < 1e-5 < abs(losses[1])
    assert metrics["train/policy_gradient_loss"] == pytest.approx(np.mean(losses), abs=1e-5)
    assert metrics["train/value_loss"] == pytest.approx(np.mean(value_losses), rel=1e-4)


def test_a_completion_that_was_cut_does_not_bootstrap(small_agent):
    agent = small_agent(max_completion_tokens=3)  # too short for any answer
    torch.nn.init.constant_(agent.algorithm.policy.value_net.bias, 5.0)
    keep = Keep()
    agent.algorithm.learn(16, keep)
    assert all(rollout.completion.truncated for rollout in agent.envs.take_finished())
    assert torch.equal(keep.kept["rewards"], torch.zeros(16))
    assert torch.allclose(keep.kept["returns"], torch.zeros(16), atol=1e-5)


def test_the_vector_environment_is_many_single_ones():
    policy = load_policy("builtin/tiny")
    spec = gymnasium.spec(ARITHMETIC)
    limits = {"max_completion_tokens": 48, "max_prompt_tokens": 64}
    many = CompletionVecEnv(spec, 5, policy, np.random.default_rng(7), **limits)
    first = np.random.default_rng(7).integers(2**63, size=5).tolist()
    single = DummyVecEnv(
        [lambda: TokenCompletion(gymnasium.make(ARITHMETIC), policy.tokenizer, 48, max_prompt_tokens=64)] * 5
    )
    single._seeds = first  # the seeds of the next reset; DummyVecEnv.seed would count up from one
    assert np.array_equal(many.reset(), single.reset())
    actions = np.random.default_rng(1).integers(2, 500, (5, 48))
    for i, env in enumerate(single.envs[:3]):
        solution = policy.tokenizer(env.unwrapped.problem.solution, add_special_tokens=False)["input_ids"]
        actions[i, : len(solution) + 1] = [*solution, policy.tokenizer.eos_token_id]
    (_, rewards, dones, infos), (_, slow_rewards, slow_dones, slow_infos) = many.step(actions), single.step(actions)
    assert rewards.tolist() == slow_rewards.tolist()
    assert rewards.tolist() == [1, 1, 1, 0, 0]
    assert dones.all()
    assert slow_dones.all()
    for info, slow in zip(infos, slow_infos, strict=True):
        assert np.array_equal(info["terminal_observation"], slow["terminal_observation"])
        assert [info[k] for k in ("outcome", "completion")] == [slow[k] for k in ("outcome", "completion")]
        assert not info.get("TimeLimit.truncated")
    rollouts = many.take_finished()
    assert [r.text for r in rollouts] == [info["completion"] for info in infos]
    assert many.take_finished() == []


def test_kl_shaping_takes_the_log_ratio_off_the_reward(small_agent):
    agent = small_agent(kl_coef=0.5, algorithm_kwargs={"batch_size": 16, "n_epochs": 1})
    keep = Keep()
    with torch.no_grad():
        for parameter in agent.policy.model.parameters():  # away from the reference
            parameter.mul_(1.02)
    agent.algorithm.learn(16, keep)
    rollouts = agent.envs.take_finished()
    log_ratio = []
    for rollout in rollouts:
        ids = rollout.completion.ids
        scored = Rollout(0, "", rollout.prompt_ids, Completion(ids, [0.0] * len(ids), False), "", 0, "", None, None)
        batch = GroupBatch.from_rollouts([scored], 1, agent.policy.pad_token_id)
        log_ratio.append((keep.kept["log_probs"][len(log_ratio)] - agent.policy.reference_logprobs(batch).sum()).item())
    expected = [rollout.reward - 0.5 * ratio for rollout, ratio in zip(rollouts, log_ratio, strict=True)]
    assert keep.kept["rewards"].tolist() == pytest.approx(expected, abs=1e-3)
    assert max(map(abs, log_ratio)) > 0.01


def test_the_distribution_over_completions_is_not_available(small_agent):
    with pytest.raises(NotImplementedError, match="view='token'"):
        small_agent().algorithm.policy.get_distribution(torch.zeros(1, 64))


def test_a2c_takes_one_step_of_the_policy_gradient(small_agent, recorder):
    seen = recorder()
    agent = small_agent(algorithm=A2C).learn(32, seen)
    assert type(agent.algorithm) is A2C
    assert agent.num_updates == 2
    assert {"policy_loss", "value_loss", "entropy", "accuracy"} <= set(seen.records[0].metrics)
