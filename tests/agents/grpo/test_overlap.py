"""One step of overlap: the next batch is generated while this one is learned from."""

from __future__ import annotations

import copy
import threading
from dataclasses import replace

import pytest
import torch

from agents import GRPO, Callback, GRPOAgent, GRPOConfig, load_policy
from agents.engines import StaticCacheEngine
from agents.objectives import PRESETS, PolicyGradient
from agents.rollout import Completion, Rollout
from agents.tracking.completions_file import CompletionsWriter
from tests.learned import weights_learned

ARITHMETIC = "llm_envs/Arithmetic-v0"
SMALL = GRPOConfig(prompts_per_update=4, group_size=4, max_completion_tokens=24, max_staleness=1)


class OtherProcess:
    """An engine with weights of its own, as a server has them.

    Attributes:
        version: How often it was given weights.
        used: Of each call of `generate`, the version it used and whether it came from the main thread.
    """

    exact_logprobs = False
    has_own_weights = True
    generates_elsewhere = True

    def __init__(self, policy) -> None:
        self._policy = copy.deepcopy(policy)
        self._engine = StaticCacheEngine(self._policy)
        self.version = -1
        self.used: list[tuple[int, bool]] = []
        self.before = lambda: None

    def generate(self, prompt_ids, group_size, sampling, seed):
        self.used.append((self.version, threading.current_thread() is threading.main_thread()))
        self.before()
        return self._engine.generate(prompt_ids, group_size, sampling, seed)

    def sync_weights(self, policy) -> None:
        self._policy.model.load_state_dict(policy.model.state_dict())
        self.version += 1


class Recorder(Callback):
    def __init__(self, stop_after=None) -> None:
        self.records = []
        self._stop_after = stop_after

    def on_update(self, record):
        self.records.append(record)
        return False if len(self.records) == self._stop_after else None


def agent_with(engine=OtherProcess, config=SMALL, **arguments) -> GRPOAgent:
    policy = load_policy("builtin/tiny", device="cpu")
    return GRPOAgent(policy, ARITHMETIC, config=config, engine=engine(policy), **arguments)


def weights(agent) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in agent.policy.model.parameters()])


def test_a_batch_is_drawn_by_weights_of_one_update_ago():
    agent = agent_with()
    agent.learn(16 * 5)
    # the first batch is the present policy's; each other one began with the update of the batch before it
    assert agent.engine.used == [(0, True), (0, False), (1, False), (2, False), (3, False)]
    assert agent.engine.version == 5  # given away after the last update as well


def test_without_it_every_batch_is_the_present_policys():
    agent = agent_with(config=replace(SMALL, max_staleness=0))
    agent.learn(16 * 3)
    assert agent.engine.used == [(0, True), (1, True), (2, True)]


def test_generating_and_learning_happen_at_the_same_time():
    """Each of the two waits for the other to have begun."""
    agent = agent_with()
    generating, learning = threading.Event(), threading.Event()
    optimize = agent._optimize

    def before() -> None:
        if threading.current_thread() is not threading.main_thread():
            generating.set()
            assert learning.wait(60)

    def optimize_meanwhile(*arguments):
        learning.set()
        assert generating.wait(60)
        return optimize(*arguments)

    agent.engine.before = before
    agent._optimize = optimize_meanwhile
    agent.learn(32)
    assert agent.num_updates == 2


def test_equal_seeds_repeat_a_run():
    agents = [agent_with(), agent_with()]
    for agent in agents:
        weights_learned(agent, 48)
    assert torch.equal(weights(agents[0]), weights(agents[1]))


@pytest.mark.parametrize("refills", [0, 1])
def test_a_run_goes_on_from_its_checkpoint_with_the_batch_in_flight(tmp_path, refills):
    """The weights that drew it are gone by then: the batch itself is saved."""
    config = replace(SMALL, max_refills=refills)
    straight, recorder = agent_with(config=config), Recorder()
    straight.learn(64, [recorder, CompletionsWriter(tmp_path / "straight")])
    stopped = agent_with(config=config)
    stopped.learn(64, [Recorder(stop_after=2), CompletionsWriter(tmp_path / "stopped")])
    stopped.save(tmp_path / "checkpoint")
    used = len(stopped.engine.used)
    policy = load_policy("builtin/tiny", device="cpu")
    resumed, rest = GRPOAgent.load(tmp_path / "checkpoint", engine=OtherProcess(policy)), Recorder()
    weights_learned(resumed, 64, [rest, CompletionsWriter(tmp_path / "stopped")])
    assert torch.equal(weights(straight), weights(resumed))
    assert [record.rollouts for record in rest.records] == [record.rollouts for record in recorder.records[2:]]
    assert used + len(resumed.engine.used) == len(straight.engine.used)  # nothing was drawn twice
    files = [(tmp_path / name / "completions.jsonl").read_text() for name in ("straight", "stopped")]
    assert files[0] == files[1]


def test_nothing_is_in_flight_after_the_last_update(tmp_path):
    agent = agent_with()
    agent.learn(32)
    assert agent._ahead is None
    agent.learn(64)  # the first batch of these is the present policy's
    assert agent.engine.used == [(0, True), (0, False), (2, True), (2, False)]


def test_callbacks_find_the_engine_at_rest_with_the_newest_weights():
    seen = []

    class Asks(Callback):
        def on_update(self, record):
            agent = self.agent
            seen.append(agent.predict("What is 3 + 4?", deterministic=True))
            assert agent.engine.version == agent.num_updates
            assert threading.active_count() == threads
            own = agent.policy.model.state_dict()
            for name, tensor in agent.engine._policy.model.state_dict().items():
                assert torch.equal(tensor, own[name])

    asked, plain = agent_with(), agent_with()
    threads = threading.active_count()
    asked.learn(48, Asks())
    plain.learn(48)
    assert len(seen) == 3
    assert torch.equal(weights(asked), weights(plain))


def test_an_error_of_the_rollout_ends_the_update():
    agent = agent_with()
    calls = []

    def before() -> None:
        calls.append(None)
        if len(calls) == 3:
            raise ConnectionError("the server is gone")

    agent.engine.before = before
    recorder = Recorder()
    with pytest.raises(ConnectionError, match="the server is gone"):
        agent.learn(64, recorder)
    assert len(recorder.records) == 1
    assert agent.in_update


def test_objectives_that_do_not_correct_are_refused():
    config = GRPOConfig(max_staleness=1)
    agent = GRPOAgent("builtin/tiny", "llm_envs/Arithmetic-v0", config=config, objective=PRESETS["rejection"]())
    with pytest.raises(ValueError, match="objective rejection has no sampler_correction"):
        agent.learn(256)


def test_engines_of_this_process_are_refused():
    with pytest.raises(ValueError, match=r"needs an engine that generates in another process.*not StaticCacheEngine"):
        agent_with(engine=StaticCacheEngine)
    agent = GRPOAgent("builtin/tiny", ARITHMETIC, config=SMALL, device="cpu")  # an engine may follow
    with pytest.raises(ValueError, match="needs an engine"):
        agent.learn(32)


@pytest.mark.parametrize("restriction", [{"top_k": 5}, {"top_p": 0.9}])
def test_a_restricted_sampler_is_refused(restriction):
    with pytest.raises(ValueError, match="max_staleness=1 weighs tokens"):
        replace(SMALL, **restriction)


@pytest.mark.parametrize("value", [2, -1, 0.5, "1"])
def test_other_values_are_refused(value):
    with pytest.raises(ValueError, match="max_staleness must be one of 0, 1"):
        GRPOConfig(max_staleness=value)


def test_weights_of_tokens_undo_the_step_that_the_sampler_has_not_seen():
    """Old log-probabilities are the present policy's; the weight of a token is what it says against what drew it."""
    records = {}
    for correction in ("auto", "none"):
        agent, recorder = agent_with(objective=PolicyGradient(sampler_correction=correction)), Recorder()
        agent.config = replace(agent.config, learning_rate=3e-3, warmup_updates=0)
        agent.learn(48, recorder)
        records[correction] = [record.metrics for record in recorder.records]
    first, second = records["auto"][:2]
    assert first["sampler_log_ratio_max"] < 1e-4  # nothing has changed since it was drawn
    assert second["sampler_log_ratio_max"] > 0.1
    assert second["sampler_effective_share"] < 0.999
    assert second["sampler_weight"] != pytest.approx(1, abs=1e-4)
    assert "sampler_weight" not in records["none"][1]
    assert second["clip_fraction"] < 1  # clipping is around the present policy


def test_a_batch_survives_json():
    agent = agent_with()
    rollout = Rollout(
        7, "p", [1, 2], Completion([3, 4], [-0.1, -1e-17], True), "t", 0.5, "correct", "a", {"k": (1, [2])},
        (True, False), 2, {"m": 0.1},
    )  # fmt: skip
    batch = agent._collect()
    batch = type(batch)([*batch.sampled, *[rollout] * 4], [4, 0], 4)
    assert type(batch).from_json(batch.to_json(), 4) == batch
    assert batch.rollouts == [rollout] * 4 + batch.sampled[:4]


@pytest.mark.learning
def test_it_learns():
    config = GRPOConfig(prompts_per_update=16, group_size=8, max_staleness=1, max_completion_tokens=48)
    agent, recorder = agent_with(config=config, objective=GRPO()), Recorder()
    agent.learn(16 * 8 * 16, recorder)
    rewards = [record.metrics["reward"] for record in recorder.records]
    assert sum(rewards[-3:]) / 3 - sum(rewards[:2]) / 2 > 0.2
