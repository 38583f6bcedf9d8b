"""`SB3Agent` learns, reports, saves and resumes as `GRPOAgent` does."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DQN

from agents import GRPOAgent, SB3Agent, SB3Config, evaluate, load_agent, load_policy
from agents.checkpoint import CheckpointError
from agents.cli.evaluate import run_checkpoint
from llm_envs.curriculum import register_curriculum

ARITHMETIC = "llm_envs/Arithmetic-v0"


def weights(agent):
    return torch.cat([p.detach().flatten() for p in agent.algorithm.policy.parameters()])


def test_learn_counts_calls_and_reports(small_agent, recorder):
    seen = recorder()
    agent = small_agent()
    before = weights(agent).clone()
    assert agent.learn(40, seen) is agent  # rounded up to three updates of 16
    assert (agent.num_updates, agent.num_episodes) == (3, 48)
    assert [(r.update, r.total_updates, r.episodes) for r in seen.records] == [(1, 3, 16), (2, 3, 32), (3, 3, 48)]
    record = seen.records[-1]
    expected = {"reward", "accuracy", "entropy", "loss", "value_loss", "policy_loss", "clip_fraction", "learning_rate"}
    assert expected <= set(record.metrics)
    assert "kl" not in record.metrics
    assert record.metrics["reward"] == pytest.approx(sum(r.reward for r in record.rollouts) / 16)
    assert record.metrics["entropy"] > 0
    assert not torch.equal(weights(agent), before)
    with pytest.warns(UserWarning, match="learned from 48 episodes"):
        agent.learn(48)


def test_equal_seeds_repeat_a_run_and_global_randomness_is_left_alone(small_agent):
    runs = []
    for seed in (1, 1, 2):
        agent = small_agent(seed=seed)
        np.random.seed(3)  # noqa: NPY002 (the global generator, which stable-baselines3 draws from, is what is tested)
        torch.manual_seed(3)
        runs.append(weights(agent.learn(32)))
        assert np.random.rand() == np.random.RandomState(3).rand()  # noqa: NPY002
        assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(3))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_problems_are_drawn_from_the_stream_that_grpo_draws_from(small_agent, recorder):
    seen = recorder()
    small_agent(seed=5).learn(16, seen)
    stream = np.random.default_rng(np.random.SeedSequence(5).spawn(3)[0])
    stream.integers(2**32, size=2)  # for minibatches
    assert [r.seed for r in seen.records[0].rollouts] == stream.integers(2**63, size=16).tolist()


@pytest.mark.parametrize("kl_coef", [0.0, 0.1])
def test_a_resumed_run_is_the_run_that_was_not_interrupted(tmp_path, small_agent, recorder, kl_coef):
    straight = small_agent(seed=3, kl_coef=kl_coef).learn(48)
    first = small_agent(seed=3, kl_coef=kl_coef)
    first.learn(48, recorder(stop_after=2))
    first.predict(["What is 1 + 1?"])
    first.save(tmp_path / "agent")
    first.learn(48)
    resumed = SB3Agent.load(tmp_path / "agent", device="cpu")
    assert (resumed.num_updates, resumed.num_episodes, resumed.config) == (2, 32, first.config)
    resumed.learn(48)
    assert torch.equal(weights(resumed), weights(straight))
    assert resumed.predict(["What is 1 + 1?"] * 8) == first.predict(["What is 1 + 1?"] * 8)


def test_a_curriculum_in_both_views(tmp_path):
    levels = [{"operands": operands} for operands in (2, 3, 4)]
    register_curriculum("test/Steps-v0", ARITHMETIC, levels, threshold=0.1, window=16)
    config = SB3Config(num_envs=16, max_completion_tokens=24, max_prompt_tokens=64)
    agent = SB3Agent("builtin/tiny", "test/Steps-v0", config=config, device="cpu").learn(32)
    stands = agent.envs.state()["env_state"]
    assert stands["level"] > 0
    agent.save(tmp_path / "agent")
    resumed = SB3Agent.load(tmp_path / "agent", device="cpu")
    assert resumed.envs.state()["env_state"] == stands
    assert torch.equal(weights(resumed.learn(64)), weights(agent.learn(64)))
    with pytest.raises(ValueError, match="view='completion'"):
        SB3Agent("builtin/tiny", "test/Steps-v0", view="token", config=config, device="cpu")


def test_a_checkpoint_is_safetensors_and_any_tool_loads_the_model(tmp_path, small_agent):
    agent = small_agent().learn(16)
    agent.save(tmp_path / "agent")
    kinds = {path.suffix for path in (tmp_path / "agent").rglob("*") if path.is_file()}
    assert kinds <= {".safetensors", ".json", ".jinja"}
    loaded = load_policy(tmp_path / "agent" / "policy")
    for mine, saved in zip(agent.policy.model.parameters(), loaded.model.parameters(), strict=True):
        assert torch.equal(mine, saved)
    back = load_agent(tmp_path / "agent", device="cpu")
    assert isinstance(back, SB3Agent)
    assert torch.equal(weights(back), weights(agent))
    assert run_checkpoint(tmp_path) is None
    assert run_checkpoint(tmp_path / "agent") == tmp_path / "agent"


def test_another_algorithm_comes_back_as_itself(tmp_path, small_agent):
    small_agent(algorithm=A2C).save(tmp_path / "agent")
    assert type(SB3Agent.load(tmp_path / "agent", device="cpu").algorithm) is A2C


def test_agents_of_other_kinds_are_told_apart(tmp_path, small_agent):
    small_agent().save(tmp_path / "ppo")
    GRPOAgent("builtin/tiny", ARITHMETIC, device="cpu").save(tmp_path / "grpo")
    assert isinstance(load_agent(tmp_path / "grpo", device="cpu"), GRPOAgent)
    with pytest.raises(CheckpointError, match="load_agent"):
        GRPOAgent.load(tmp_path / "ppo")
    with pytest.raises(CheckpointError, match="load_agent"):
        SB3Agent.load(tmp_path / "grpo")


def test_a_checkpoint_imports_no_foreign_module(tmp_path, small_agent):
    small_agent().save(tmp_path / "agent")
    file = tmp_path / "agent" / "agent.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"algorithm": "os.system"}))
    with pytest.raises(CheckpointError, match="pass algorithm"):
        SB3Agent.load(tmp_path / "agent", device="cpu")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("view", "n_steps"), [("completion", 1), ("token", 24)])
def test_adapters_alone_are_trained(small_agent, view, n_steps, precision):
    policy = load_policy("builtin/tiny", lora_rank=4, precision=precision)
    agent = small_agent(policy, view=view, num_envs=8, n_steps=n_steps, kl_coef=0.1, algorithm_kwargs={"n_epochs": 1})
    frozen = {name: p.clone() for name, p in policy.model.named_parameters() if not p.requires_grad}
    adapters = torch.cat([p.detach().flatten().clone() for _, p in policy.trainable_parameters()])
    agent.learn(9)
    assert policy.reference is None
    assert all(torch.equal(p, frozen[name]) for name, p in policy.model.named_parameters() if name in frozen)
    assert not torch.equal(torch.cat([p.detach().flatten() for _, p in policy.trainable_parameters()]), adapters)


def test_evaluation_takes_it_like_any_agent(small_agent):
    agent = small_agent()
    report = evaluate(agent, problems=20, samples=2, max_completion_tokens=24)
    plain = evaluate("builtin/tiny", ARITHMETIC, problems=20, samples=2, max_completion_tokens=24)
    assert report.as_json() == plain.as_json()


def test_what_cannot_work_is_refused():
    with pytest.raises(TypeError, match="on-policy"):
        SB3Agent("builtin/tiny", ARITHMETIC, DQN)
    with pytest.raises(ValueError, match="view must be"):
        SB3Agent("builtin/tiny", ARITHMETIC, view="sentence")
    with pytest.raises(ValueError, match="must not have gamma"):
        SB3Config(algorithm_kwargs={"gamma": 0.9})
    with pytest.raises(ValueError, match="max_prompt_tokens=8; raise it"):
        SB3Agent("builtin/tiny", ARITHMETIC, config=SB3Config(max_prompt_tokens=8)).learn(1)
    for field, value in [("num_envs", 0), ("n_steps", 0), ("learning_rate", 0.0), ("kl_coef", -1.0)]:
        with pytest.raises(ValueError, match=field):
            SB3Config(**{field: value})


def test_a_loss_that_is_not_finite_stops_the_run(small_agent):
    agent = small_agent()
    with torch.no_grad():
        agent.algorithm.policy.value_net.bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="update 1"):
        agent.learn(16)
