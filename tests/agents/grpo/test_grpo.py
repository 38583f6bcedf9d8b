from __future__ import annotations

import json
import math
import os
import shutil
import signal
from dataclasses import replace

import gymnasium
import pytest
import torch

from agents import GRPO, Callback, GRPOAgent, GRPOConfig, load_policy
from agents.checkpoint import CheckpointError
from agents.envs import env_state
from agents.grpo.agent import scheduled_learning_rate
from agents.objectives import DAPO, PRESETS, DrGRPO, PolicyGradient
from agents.policies import LanguageModelPolicy
from agents.rollout import Completion, GroupBatch, Rollout
from llm_envs.curriculum import register_curriculum
from tests.learned import weights_learned

ARITHMETIC = "llm_envs/Arithmetic-v0"
SMALL = GRPOConfig(prompts_per_update=4, group_size=4, max_completion_tokens=24)


def weights(agent: GRPOAgent) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in agent.policy.model.parameters()])


class Recorder(Callback):
    def __init__(self, stop_after: int | None = None) -> None:
        self.records, self.events, self.stop_after = [], [], stop_after

    def on_training_start(self, update, total_updates):
        self.events.append(("start", update, total_updates))

    def on_update(self, record):
        self.records.append(record)
        return None if self.stop_after is None else record.update < self.stop_after

    def on_training_end(self):
        self.events.append(("end",))


def small_agent(**kwargs) -> GRPOAgent:
    return GRPOAgent("builtin/tiny", ARITHMETIC, **{"config": SMALL, "device": "cpu", **kwargs})


def test_learn_counts_calls_and_reports():
    recorder = Recorder()
    agent = small_agent()
    before = weights(agent).clone()
    assert agent.learn(40, recorder) is agent  # 40 episodes are rounded up to three updates of 16
    assert (agent.num_updates, agent.num_episodes) == (3, 48)
    assert recorder.events == [("start", 0, 3), ("end",)]
    assert [record.episodes for record in recorder.records] == [16, 32, 48]
    metrics = recorder.records[-1].metrics
    assert {"reward", "accuracy", "kl", "entropy", "loss", "grad_norm", "tokens_per_second"} <= set(metrics)
    assert sum(value for name, value in metrics.items() if name.startswith("outcome/")) == pytest.approx(1)
    rollouts = recorder.records[-1].rollouts
    assert metrics["reward"] == pytest.approx(sum(rollout.reward for rollout in rollouts) / 16)
    assert not torch.equal(weights(agent), before)


def test_learning_counts_over_life_and_a_callback_can_stop_it():
    agent = small_agent()
    agent.learn(10_000, Recorder(stop_after=2))
    assert agent.num_updates == 2
    with pytest.warns(UserWarning, match="learned from 32 episodes"):
        agent.learn(32)
    assert agent.num_updates == 2
    agent.learn(48, [Recorder(), Recorder()])
    assert agent.num_updates == 3


def test_equal_seeds_repeat_a_run_and_others_do_not():
    first, second, third = small_agent(seed=1), small_agent(seed=1), small_agent(seed=2)
    for agent in (first, second, third):
        weights_learned(agent, 48)
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(third))


def test_predicting_does_not_disturb_training():
    first, second = small_agent(), small_agent()
    first.learn(32)
    second.learn(16)
    second.predict(["What is 1 + 1?"] * 3)
    weights_learned(second, 32)
    assert torch.equal(weights(first), weights(second))


@pytest.mark.parametrize("kl_coef", [0.0, 0.04])
def test_micro_batches_do_not_change_the_update(kl_coef):
    agents = [
        small_agent(config=replace(SMALL, micro_batch_size=size), objective=GRPO(kl_coef=kl_coef)) for size in (256, 4)
    ]
    for agent in agents:
        weights_learned(agent, 16)
    # the first steps of AdamW are sign-like: rounding moves single weights by more than it moves gradients
    assert torch.allclose(weights(agents[0]), weights(agents[1]), atol=1e-5)


def test_without_kl_there_is_no_reference():
    assert small_agent(objective=GRPO(kl_coef=0)).policy.reference is None
    assert small_agent().policy.reference is not None


def test_kl_holds_the_policy_near_the_reference():
    config = replace(SMALL, learning_rate=1e-3, warmup_updates=0)
    drift = {}
    for kl_coef in (0.01, 10.0):
        recorder = Recorder()
        small_agent(config=config, objective=GRPO(kl_coef=kl_coef)).learn(16 * 6, recorder)
        drift[kl_coef] = recorder.records[-1].metrics["kl"]
    assert drift[10.0] < 0.5 * drift[0.01]


def test_the_kl_coefficient_adapts_to_a_target_and_a_run_resumes_with_it(tmp_path):
    config = replace(SMALL, kl_target=1e-9, kl_gain=1.0, warmup_updates=0)
    recorder = Recorder()
    whole = small_agent(config=config).learn(16 * 4, recorder)
    used = [record.metrics["kl_coef"] for record in recorder.records]
    assert used == pytest.approx([0.04 * 1.2**i for i in range(4)])
    assert whole.objective.kl_coef == pytest.approx(0.04 * 1.2**4)
    small_agent(config=config).learn(16 * 4, Recorder(stop_after=2)).save(tmp_path / "half")
    resumed = GRPOAgent.load(tmp_path / "half", device="cpu")
    weights_learned(resumed, 16 * 4)
    assert resumed.objective == whole.objective
    assert torch.equal(weights(resumed), weights(whole))
    falling = small_agent(config=replace(config, kl_target=100.0)).learn(16)
    assert falling.objective.kl_coef == pytest.approx(0.04 * 0.8)


def test_a_kl_target_needs_a_kl_penalty():
    with pytest.raises(ValueError, match="kl_target"):
        small_agent(config=replace(SMALL, kl_target=0.1), objective=GRPO(kl_coef=0.0))


class Fixed:
    """An engine that always writes the same group: one right habit and three wrong ones."""

    exact_logprobs = True

    def __init__(self, policy, texts):
        self.policy, self.texts = policy, texts

    def generate(self, prompt_ids, group_size, sampling, seed):
        end = self.policy.tokenizer.eos_token_id
        ids = [[*self.policy.tokenizer(text, add_special_tokens=False)["input_ids"], end] for text in self.texts]
        out = []
        for prompt in prompt_ids:
            group = []
            for completion in ids:
                unscored = Completion(completion, [0.0] * len(completion), False)
                rollout = Rollout(0, "", prompt, unscored, "", 0.0, "", None, None)
                batch = GroupBatch.from_rollouts([rollout], 1, self.policy.pad_token_id)
                with torch.no_grad():
                    logprobs = self.policy.logprobs(batch)[0].tolist()
                group.append(Completion(completion, logprobs, False))
            out.append(group)
        return out

    def sync_weights(self, policy):
        pass


@pytest.fixture
def always_seven():
    from llm_envs import Problem, register_task
    from rewards.math import MathReward

    @register_task("test/Seven-v0", reward=MathReward())
    def seven(rng):
        return Problem(f"Problem {rng.integers(10**6)}: say 7.", reference="7")

    yield "test/Seven-v0"
    del gymnasium.registry["test/Seven-v0"]


def test_an_update_makes_the_right_completion_likelier_and_wrong_ones_rarer(always_seven):
    policy = load_policy("builtin/tiny")
    texts = ["\\boxed{7}", "\\boxed{8}", "seven", "\\boxed{9}"]
    engine = Fixed(policy, texts)
    # these texts are far from what the policy would write; with larger steps, pushing such wrong ones down drags the
    # right one along, which sampling from the policy itself does not do
    config = replace(SMALL, warmup_updates=0, learning_rate=3e-5)
    agent = GRPOAgent(policy, always_seven, engine=engine, config=config, objective=GRPO(kl_coef=0))
    prompt = policy.encode_prompts(["Problem 3: say 7."])
    before = [sum(completion.logprobs) for completion in engine.generate(prompt, 4, None, None)[0]]
    agent.learn(16 * 3)
    after = [sum(completion.logprobs) for completion in engine.generate(prompt, 4, None, None)[0]]
    assert after[0] > before[0] + 0.5
    for wrong in (1, 2, 3):
        assert after[0] - after[wrong] > before[0] - before[wrong] + 0.5


def test_groups_of_equal_rewards_change_nothing_without_kl(always_seven):
    policy = load_policy("builtin/tiny")
    recorder = Recorder()
    agent = GRPOAgent(
        policy, always_seven, engine=Fixed(policy, ["\\boxed{7}"] * 4), config=SMALL, objective=GRPO(kl_coef=0)
    )
    before = weights(agent).clone()
    agent.learn(16, recorder)
    assert torch.equal(weights(agent), before)
    assert recorder.records[0].metrics["informative_groups"] == 0.0


def test_a_gradient_that_is_not_finite_stops_before_it_harms():
    agent = small_agent()

    class Broken(GRPO):
        def loss(self, batch, logprobs):
            loss, figures = super().loss(batch, logprobs)
            return loss * float("nan"), figures

    agent.objective = Broken()
    before = weights(agent).clone()
    with pytest.raises(FloatingPointError, match="update 1"):
        agent.learn(16)
    assert torch.equal(weights(agent), before)


def test_ctrl_c_finishes_the_update_and_raises():
    class Interrupting(Recorder):
        def on_update(self, record):
            super().on_update(record)
            if record.update == 2:
                os.kill(os.getpid(), signal.SIGINT)

    recorder = Interrupting()
    agent = small_agent()
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        agent.learn(10_000, recorder)
    assert agent.num_updates == 2
    assert recorder.events[-1] == ("end",)
    assert signal.getsignal(signal.SIGINT) is handler


def test_predict_takes_one_prompt_or_several():
    agent = small_agent()
    prompt = "What is 2 + 2? End with \\boxed{answer}."
    one = agent.predict(prompt, deterministic=True)
    assert isinstance(one, str)
    assert agent.predict([prompt, prompt], deterministic=True) == [one, one]
    assert agent.predict([]) == []
    sampled = agent.predict([prompt] * 20)
    assert len(set(sampled)) > 1


# -- objectives, and DAPO's options of the agent ---------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_every_objective_trains_saves_and_resumes(tmp_path, name):
    recorder = Recorder()
    objective = PRESETS[name](kl_coef=0.03) if name == "dapo" else PRESETS[name]()
    straight = small_agent(objective=objective, seed=3)
    before = weights(straight).clone()
    straight.learn(32, recorder)
    assert not torch.equal(weights(straight), before)
    assert all(math.isfinite(value) for record in recorder.records for value in record.metrics.values())
    assert (straight.policy.reference is not None) == objective.needs_reference
    first = small_agent(objective=objective, seed=3)
    first.learn(32, Recorder(stop_after=1))
    first.save(tmp_path / "agent")
    resumed = GRPOAgent.load(tmp_path / "agent", device="cpu")
    assert resumed.objective == objective
    assert torch.equal(weights_learned(resumed, 32), weights(straight))


@pytest.mark.parametrize("name", ["dr-grpo", "reinforce++", "rloo", "rejection"])
def test_micro_batches_do_not_change_the_update_of_other_objectives(name):
    agents = [small_agent(config=replace(SMALL, micro_batch_size=size), objective=PRESETS[name]()) for size in (256, 4)]
    for agent in agents:
        agent.learn(16)
    # where a gradient is nearly zero, AdamW's first steps make rounding a change of sign: single weights may differ
    difference = (weights(agents[0]) - weights(agents[1])).abs()
    assert difference.gt(1e-5).float().mean() < 1e-5
    assert difference.max() < 1e-4


def scripted(agent, rounds):
    """Make the agent sample groups with these rewards, one round after the other."""
    sample, rounds = agent._sample, iter(rounds)

    def next_round():
        rewards = [reward for group in next(rounds) for reward in group]
        return [replace(rollout, reward=float(reward)) for rollout, reward in zip(sample(), rewards, strict=True)]

    agent._sample = next_round


FLAT, MIXED = [0, 0, 0, 0], [1, 0, 0, 0]


def test_dynamic_sampling_refills_until_every_group_is_informative():
    recorder = Recorder()
    agent = small_agent(config=replace(SMALL, max_refills=5))
    scripted(agent, [[FLAT, MIXED, FLAT, FLAT], [FLAT] * 4, [MIXED] * 4])
    batch = agent._collect()
    rollouts, sampled = batch.rollouts, batch.sampled
    assert (len(rollouts), len(sampled)) == (16, 48)
    assert [rollout.reward for rollout in rollouts] == MIXED * 4
    for i in range(0, 16, 4):
        assert len({rollout.seed for rollout in rollouts[i : i + 4]}) == 1
    agent = small_agent(config=replace(SMALL, max_refills=5))
    scripted(agent, [[FLAT] * 4, [MIXED] * 4])
    agent.learn(16, recorder)
    assert agent.num_episodes == 16
    metrics = recorder.records[0].metrics
    assert metrics["groups_sampled"] == 8
    assert metrics["informative_groups"] == 0.5  # of all that were sampled: the figures do not flatter the policy
    assert metrics["reward"] == pytest.approx(0.125)


def test_dynamic_sampling_is_bounded():
    agent = small_agent(config=replace(SMALL, max_refills=2))
    scripted(agent, [[FLAT] * 4, [FLAT, FLAT, FLAT, MIXED], [FLAT] * 4])
    batch = agent._collect()
    rollouts, sampled = batch.rollouts, batch.sampled
    assert len(sampled) == 48
    assert [rollout.reward for rollout in rollouts] == MIXED + FLAT * 3


def test_figures_are_means_over_the_steps_that_were_taken_and_the_tokens_that_were_computed():
    figures = {}
    for minibatches in (1, 4):
        recorder = Recorder()
        config = replace(SMALL, epochs=1, minibatches=minibatches, learning_rate=1e-12)
        agent = small_agent(config=config, objective=DAPO(sampler_correction="token_truncate"))
        scripted(agent, [[FLAT, MIXED, FLAT, FLAT]])
        agent.learn(16, recorder)
        figures[minibatches] = recorder.records[0].metrics
        assert figures[minibatches]["optimizer_steps"] == 1
        assert figures[minibatches]["sampler_weight"] == pytest.approx(1, abs=1e-4)
    # the one step of one minibatch divides by the tokens of all four groups, that of four by those of its own
    assert figures[4]["grad_norm"] > 2 * figures[1]["grad_norm"]


def test_the_divergence_of_groups_that_are_left_out_does_not_count_as_none():
    divergences = []
    for rewards in ([MIXED] * 4, [MIXED, [1] * 4, [1] * 4, [1] * 4]):
        recorder = Recorder()
        # a penalty that float32 does not see beside a reward of 1
        objective = PolicyGradient(kl_coef=1e-12, kl_in="reward")
        agent = small_agent(config=replace(SMALL, epochs=1, minibatches=1), objective=objective)
        agent.policy.reference.lm_head.weight.data += 0.05 * torch.randn(512, 128, generator=torch.manual_seed(0))
        scripted(agent, [rewards])
        agent.learn(16, recorder)
        divergences.append(recorder.records[0].metrics["kl"])
    assert divergences[1] > 0.5 * divergences[0] > 0


def test_an_update_of_truncated_completions_alone_changes_nothing():
    recorder = Recorder()
    config = replace(SMALL, mask_truncated=True, max_completion_tokens=1, kl_target=0.01)
    agent = small_agent(config=config)
    agent.learn(16, recorder)
    metrics = recorder.records[0].metrics
    assert metrics["truncated"] == 1
    assert metrics["optimizer_steps"] == 0
    assert "kl" not in metrics
    assert agent.objective.kl_coef == metrics["kl_coef"]  # no divergence was seen


def test_truncated_completions_stay_out_of_the_loss():
    agent = small_agent(config=replace(SMALL, mask_truncated=True), objective=DAPO())
    rollouts = agent._sample()
    rollouts[5] = replace(rollouts[5], completion=replace(rollouts[5].completion, truncated=True))
    batch = agent._make_batch(rollouts)
    for i, rollout in enumerate(rollouts):
        assert batch.action_mask[i].sum() == (0 if rollout.completion.truncated else len(rollout.completion.ids))
    assert batch.total_tokens == batch.action_mask.sum() < batch.completion_mask.sum()
    assert batch.total_sequences == 16
    part = batch.select_groups(torch.tensor([1, 2]))
    assert part.total_tokens == part.action_mask.sum()


def test_long_completions_lose_reward_in_what_is_learned_from_alone():
    agent = small_agent(config=replace(SMALL, overlong_buffer=20), objective=DrGRPO())
    rollouts = agent._sample()
    batch = agent._make_batch(rollouts)
    for rollout, reward in zip(rollouts, batch.rewards.flatten().tolist(), strict=True):
        over = max(0, len(rollout.completion.ids) - 4)
        assert reward == pytest.approx(rollout.reward - over / 20)
    recorder = Recorder()
    agent.learn(16, recorder)
    record = recorder.records[0]
    assert record.metrics["reward"] == pytest.approx(sum(rollout.reward for rollout in record.rollouts) / 16)


# -- saving and resuming ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kl_coef", [0.0, 0.04])
def test_a_resumed_run_is_the_run_that_was_not_interrupted(tmp_path, kl_coef):
    objective = GRPO(kl_coef=kl_coef)
    straight = small_agent(objective=objective, seed=3).learn(64)
    first = small_agent(objective=objective, seed=3)
    first.learn(64, Recorder(stop_after=2))
    first.predict(["What is 1 + 1?"])
    first.save(tmp_path / "agent")
    first.learn(64)
    resumed = GRPOAgent.load(tmp_path / "agent", device="cpu")
    assert (resumed.num_updates, resumed.config, resumed.objective) == (2, SMALL, objective)
    # the learning rate depends on the total, which is the same; so do the problems, the noise and AdamW's moments
    assert torch.equal(weights_learned(resumed, 64), weights(straight))
    # as did the separate stream of predict
    assert resumed.predict(["What is 1 + 1?"] * 8) == first.predict(["What is 1 + 1?"] * 8)


def test_saving_overwrites_and_leaves_no_debris(tmp_path):
    agent = small_agent()
    agent.save(tmp_path / "agent")
    agent.learn(16)
    agent.save(tmp_path / "agent")
    assert [path.name for path in tmp_path.iterdir()] == ["agent"]
    assert GRPOAgent.load(tmp_path / "agent", device="cpu").num_updates == 1
    loaded = load_policy(tmp_path / "agent" / "policy")
    assert torch.equal(torch.cat([p.flatten() for p in loaded.model.parameters()]), weights(agent))
    files = {path.name for path in (tmp_path / "agent").rglob("*") if path.is_file()}
    assert not {name for name in files if name.endswith((".bin", ".pt", ".pkl", ".pth"))}


@pytest.mark.parametrize(("left", "updates"), [((".old", ".new"), 1), ((".old",), 0)])
def test_a_save_that_was_killed_between_its_renames_loses_nothing(tmp_path, left, updates):
    agent = small_agent()
    agent.save(tmp_path / "saved.old")
    agent.learn(16)
    agent.save(tmp_path / "saved.new")
    for name in {".old", ".new"} - set(left):
        shutil.rmtree(tmp_path / f"saved{name}")
    assert GRPOAgent.load(tmp_path / "saved", device="cpu").num_updates == updates


@pytest.fixture
def climb():
    levels = [{"operands": 2, "operators": operators} for operators in ("+", "+-", "+-*")]
    register_curriculum("test/Climb-v0", "llm_envs/Arithmetic-v0", levels, threshold=0.1, window=16)
    yield "test/Climb-v0"
    del gymnasium.registry["test/Climb-v0"]


def test_a_curriculum_goes_on_where_the_run_stopped(climb, tmp_path):
    def agent():
        return GRPOAgent("builtin/tiny", climb, config=SMALL, seed=0, device="cpu")

    straight = agent().learn(64)
    first = agent().learn(32)
    stands = env_state(first.envs)
    assert stands["level"] > 0
    first.save(tmp_path / "agent")
    resumed = GRPOAgent.load(tmp_path / "agent", device="cpu")
    assert env_state(resumed.envs) == stands
    weights_learned(resumed, 64)
    assert env_state(resumed.envs) == env_state(straight.envs)
    assert torch.equal(weights(resumed), weights(straight))


def test_a_save_that_was_killed_while_writing_leaves_the_old_one(tmp_path):
    agent = small_agent()
    agent.save(tmp_path / "saved")
    (tmp_path / "saved.new").mkdir()
    assert GRPOAgent.load(tmp_path / "saved", device="cpu").num_updates == 0
    agent.learn(16).save(tmp_path / "saved")
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    assert GRPOAgent.load(tmp_path / "saved", device="cpu").num_updates == 1


def test_the_environments_arguments_are_saved(tmp_path):
    env = gymnasium.make(ARITHMETIC, operands=2, operators="+")
    GRPOAgent("builtin/tiny", env, config=SMALL, device="cpu").save(tmp_path / "agent")
    loaded = GRPOAgent.load(tmp_path / "agent", device="cpu")
    assert loaded.env_spec.kwargs["operands"] == 2
    assert loaded.envs.reset(seed=0)[0][0].count("+") == 1
    other = GRPOAgent.load(tmp_path / "agent", ARITHMETIC, device="cpu")
    assert "operands" not in other.env_spec.kwargs


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_adapters_are_saved_and_resume(tmp_path, precision):
    pytest.importorskip("peft")

    def agent():
        policy = load_policy("builtin/tiny", lora_rank=4, precision=precision)
        return GRPOAgent(policy, ARITHMETIC, config=SMALL)

    straight = agent().learn(48)
    first = agent()
    first.learn(48, Recorder(stop_after=2))
    first.save(tmp_path / "agent")
    assert not (tmp_path / "agent" / "reference").exists()
    resumed = GRPOAgent.load(tmp_path / "agent", device="cpu")
    assert torch.equal(weights_learned(resumed, 48), weights(straight))


@pytest.mark.parametrize("damage", ["missing", "not json", "version", "optimizer", "objective"])
def test_a_damaged_checkpoint_is_refused_with_a_reason(tmp_path, damage):
    path = tmp_path / "agent"
    small_agent().learn(16).save(path)
    file = path / "agent.json"
    record = json.loads(file.read_text())
    if damage == "missing":
        file.unlink()
    elif damage == "not json":
        file.write_text("{")
    elif damage == "version":
        file.write_text(json.dumps(record | {"format": 99}))
    elif damage == "optimizer":
        (path / "optimizer.safetensors").write_bytes(b"short")
    else:
        file.write_text(json.dumps(record | {"objective": {"name": "Mine"}}))
        (path / "checksums.json").unlink()
    with pytest.raises(CheckpointError):
        GRPOAgent.load(path, device="cpu")
    if damage == "objective":
        assert GRPOAgent.load(path, objective=GRPO(), device="cpu").num_updates == 1


# -- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field",
    [
        {"prompts_per_update": 0}, {"group_size": 0}, {"group_size": 1}, {"epochs": 0}, {"minibatches": 33},
        {"learning_rate": 0}, {"temperature": 0}, {"max_grad_norm": 0}, {"warmup_updates": -1}, {"weight_decay": -1},
        {"final_lr_fraction": 2}, {"lr_schedule": "step"}, {"max_completion_tokens": 0}, {"micro_batch_size": 0},
        {"max_refills": -1}, {"overlong_buffer": -1}, {"overlong_buffer": 65},
        {"kl_target": 0.0}, {"kl_gain": 0.0}, {"kl_gain": 2.0},
        {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}, {"stop": "text"}, {"stop": ("",)}, {"stop": ["text"]},
    ],
)  # fmt: skip
def test_bad_config_is_refused(field):
    with pytest.raises((TypeError, ValueError), match=next(iter(field))):
        GRPOConfig(**field)


def test_wrong_environment_and_prompt_too_long_are_errors():
    with pytest.raises(gymnasium.error.NameNotFound):
        GRPOAgent("builtin/tiny", "llm_envs/Nothing-v0")
    agent = small_agent(config=replace(SMALL, max_completion_tokens=100_000))
    with pytest.raises(ValueError, match="can attend to"):
        agent.learn(16)
    with pytest.raises(ValueError, match="device"):
        small_agent(device="cuda" if not torch.cuda.is_available() else "nonsense")


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1 / 3, 2 / 3, 1, 1, 1, 1]),
        ("linear", [1 / 3, 2 / 3, 1, 0.7, 0.4, 0.1]),
        ("cosine", [1 / 3, 2 / 3, 1, 0.775, 0.325, 0.1]),
    ],
)
def test_learning_rate_schedules(schedule, expected):
    config = GRPOConfig(learning_rate=1.0, warmup_updates=2, lr_schedule=schedule)
    assert [scheduled_learning_rate(i, 6, config) for i in range(6)] == pytest.approx(expected)


@pytest.mark.parametrize("restriction", [{"top_k": 3}, {"top_p": 0.5}], ids=str)
def test_what_top_k_and_top_p_leave_out_is_part_of_the_updates_distribution(monkeypatch, restriction):
    agent = small_agent(config=replace(SMALL, **restriction))
    batches = []
    loss = agent.objective.loss
    monkeypatch.setattr(
        GRPO, "loss", lambda self, batch, found: batches.append((batch, found.detach())) or loss(batch, found)
    )
    agent.learn(16)
    batch, found = batches[0]
    mask = batch.completion_mask.bool()
    # the policy has not changed yet: its ratio to the old one is 1, that to the sampler is the share that was left
    assert torch.allclose(batch.old_logprobs[mask], found[mask], atol=1e-5)
    left = (batch.old_logprobs - batch.sampler_logprobs)[mask].exp()
    assert left.max() < 1 + 1e-4
    assert left.min() < 0.98
    if "top_p" in restriction:
        assert left.min() > 0.5 - 1e-4


def test_a_single_step_of_restricted_sampling_needs_no_pass_of_its_own(monkeypatch):
    agent = small_agent(config=replace(SMALL, epochs=1, minibatches=1, micro_batch_size=1024, top_k=5))
    passes = []
    logprobs = agent.policy.logprobs
    monkeypatch.setattr(agent.policy, "logprobs", lambda *args: passes.append(1) or logprobs(*args))
    agent.learn(16)
    assert len(passes) == 1


def test_completions_end_at_stop_strings_and_a_resumed_run_knows_them(tmp_path):
    config = replace(SMALL, max_completion_tokens=40, stop=("boxed{", "+"), top_k=50, top_p=0.95)
    agent = small_agent(config=config)
    recorder = Recorder()
    agent.learn(16, recorder)
    stopped = [rollout for rollout in recorder.records[0].rollouts if rollout.text.endswith(("boxed{", "+"))]
    assert len(stopped) >= 8
    assert not any(rollout.completion.truncated for rollout in stopped)
    assert agent.predict("What is 2 + 3 + 4? End with \\boxed{answer}.", deterministic=True).endswith(("boxed{", "+"))
    agent.save(tmp_path / "agent")
    assert GRPOAgent.load(tmp_path / "agent", device="cpu").config == config


def test_precision_bfloat16_keeps_float32_weights_and_rescores():
    policy = load_policy("builtin/tiny", precision="bfloat16")
    assert isinstance(policy, LanguageModelPolicy)
    agent = GRPOAgent(policy, ARITHMETIC, config=SMALL)
    recorder = Recorder()
    agent.learn(32, recorder)
    assert {p.dtype for p in policy.model.parameters()} == {torch.float32}
    assert all(record.metrics["grad_norm"] > 0 for record in recorder.records)


@pytest.mark.parametrize(("kl_in", "passes"), [("loss", 1), ("reward", 2)])
def test_a_single_bfloat16_step_needs_no_pass_of_its_own_for_the_old_logprobs(monkeypatch, kl_in, passes):
    """They are those of the loss, before its step; a penalty in the reward needs them earlier."""
    policy = load_policy("builtin/tiny", precision="bfloat16")
    config = replace(SMALL, epochs=1, minibatches=1, micro_batch_size=1024)
    agent = GRPOAgent(policy, ARITHMETIC, config=config, objective=GRPO(kl_coef=0.01, kl_in=kl_in))
    seen = []
    logprobs = policy.logprobs
    monkeypatch.setattr(
        policy, "logprobs", lambda batch, temperature: seen.append(batch) or logprobs(batch, temperature)
    )
    losses = []
    loss = agent.objective.loss
    monkeypatch.setattr(GRPO, "loss", lambda self, batch, found: losses.append((batch, found)) or loss(batch, found))
    agent.learn(16)
    assert len(seen) == passes
    [(batch, found)] = losses
    assert found.requires_grad
    assert torch.equal(batch.old_logprobs, found.detach())
    mask = batch.completion_mask.bool()
    assert not torch.equal(batch.old_logprobs[mask], batch.sampler_logprobs[mask])


def test_the_sampler_correction_sees_what_bfloat16_makes_of_the_sampler():
    recorder = Recorder()
    policy = load_policy("builtin/tiny", precision="bfloat16")
    GRPOAgent(policy, ARITHMETIC, config=SMALL, objective=GRPO(sampler_correction="token_truncate")).learn(16, recorder)
    weight = recorder.records[0].metrics["sampler_weight"]
    assert weight == pytest.approx(1, abs=0.05)
    assert weight != 1.0
    small_agent(objective=GRPO(sampler_correction="token_truncate")).learn(16, recorder)
    assert recorder.records[1].metrics["sampler_weight"] == pytest.approx(1, abs=1e-4)
