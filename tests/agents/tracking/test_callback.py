from __future__ import annotations

import json

import numpy as np
import pytest

from agents import Callback, GRPOAgent, GRPOConfig, SB3Agent
from agents.cli.train import read_options
from agents.objectives import DAPO
from agents.sb3.config import SB3Config
from agents.tracking import MetricsWriter, UpdateRecord, deliver_evaluation
from agents.tracking.callback import CallbackList, as_callback
from tests.agents.tracking.records import record

ARITHMETIC = "llm_envs/Arithmetic-v0"


def test_a_list_calls_all_and_stops_if_one_says_so():
    calls = []

    class Named(Callback):
        def __init__(self, name, answer=None):
            self.name, self.answer = name, answer

        def on_training_start(self, update, total_updates):
            calls.append(("start", self.name))

        def on_update(self, record):
            calls.append(("update", self.name))
            return self.answer

        def on_training_end(self):
            calls.append(("end", self.name))

    callbacks = CallbackList([Named("a", False), Named("b")])
    callbacks.on_training_start(0, 1)
    assert callbacks.on_update(record(1)) is False
    callbacks.on_training_end()
    assert calls == [(event, name) for event in ("start", "update", "end") for name in "ab"]
    assert CallbackList([Named("a"), Named("b", True)]).on_update(record(1)) is True


class Watcher(Callback):
    """Keeps what it is told, and what it knows of its run at that time."""

    def __init__(self):
        self.heard = []

    def _hear(self, event):
        self.heard.append((event, self.agent, dict(self.run_config), self.run_dir))

    def on_training_start(self, update, total_updates):
        self._hear(("start", update, total_updates))

    def on_update(self, record):
        self._hear(("update", record.update))

    def on_training_end(self):
        self._hear(("end",))

    def on_evaluation(self, report, stage):
        self._hear((report, stage))


@pytest.fixture(scope="module")
def agent():
    config = GRPOConfig(prompts_per_update=2, group_size=2, max_completion_tokens=4)
    return GRPOAgent("builtin/tiny", ARITHMETIC, objective=DAPO(), config=config, seed=3, device="cpu")


def learn(agent, updates, *arguments, **options):
    return agent.learn(agent.num_episodes + 4 * updates, *arguments, **options)


@pytest.mark.parametrize("in_a_list", [False, True])
def test_a_callback_knows_the_agent_and_the_run_from_the_start(agent, in_a_list, tmp_path):
    watcher = Watcher()
    assert (watcher.agent, dict(watcher.run_config), watcher.run_dir) == (None, {}, None)
    begun = agent.num_updates
    learn(agent, 1, [MetricsWriter(tmp_path), watcher] if in_a_list else watcher, run_dir=str(tmp_path))
    events, agents, configs, folders = zip(*watcher.heard, strict=True)
    assert events == (("start", begun, begun + 1), ("update", begun + 1), ("end",))
    assert set(map(id, agents)) == {id(agent)}
    assert folders == (tmp_path,) * 3
    config = json.loads(json.dumps(configs[0]))
    assert config["config"]["max_completion_tokens"] == 4
    assert (config["agent"], config["objective"]["clip_high"], config["seed"]) == ("dapo", 0.28, 3)
    assert (config["env"], config["env_args"], config["policy"]) == (ARITHMETIC, {}, agent.policy.name)
    learn(agent, 1, watcher)
    assert watcher.run_dir is None


def test_the_run_of_an_sb3_agent_names_its_algorithm():
    watcher = Watcher()
    config = SB3Config(num_envs=2, max_completion_tokens=4, algorithm_kwargs={"vf_coef": 0.2})
    agent = SB3Agent("builtin/tiny", ARITHMETIC, config=config, device="cpu")
    agent.learn(2, watcher)
    assert (watcher.run_config["agent"], watcher.run_config["algorithm"]) == ("ppo", {"vf_coef": 0.2})
    assert watcher.run_config["config"]["num_envs"] == 2
    assert "algorithm_kwargs" not in watcher.run_config["config"]


def test_a_run_in_python_says_what_the_command_line_reads(agent, tmp_path):
    watcher = Watcher()
    learn(agent, 1, watcher)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(watcher.run_config))
    read = read_options(["--config", str(file)])
    assert (read.config, read.objective) == (agent.config, agent.objective)
    assert (read.train.env, read.train.env_args, read.train.policy) == (ARITHMETIC, (), agent.policy.name)
    assert (read.train.agent, read.train.seed, read.train.chat) == ("dapo", 3, agent.policy.chat)


def test_a_plain_function_is_a_callback(agent):
    records = []
    learn(agent, 2, records.append)
    assert [type(one) for one in records] == [UpdateRecord] * 2
    watcher = Watcher()
    learn(agent, 2, [records.append, watcher])
    assert len(records) == 4
    assert [event[0] for event, *_ in watcher.heard] == ["start", "update", "update", "end"]


@pytest.mark.parametrize("answer", [False, np.False_])
@pytest.mark.parametrize("in_a_list", [False, True])
def test_false_ends_training(agent, answer, in_a_list):
    def stop(record):
        return answer

    begun = agent.num_updates
    learn(agent, 3, [stop, Watcher()] if in_a_list else stop)
    assert agent.num_updates == begun + 1


def test_an_error_in_a_callback_is_raised_after_training_has_ended(agent):
    def fail(record):
        raise RuntimeError("no space left")

    watcher = Watcher()
    with pytest.raises(RuntimeError, match="no space left"):
        learn(agent, 2, [fail, watcher])
    assert [event[0] for event, *_ in watcher.heard] == ["start", "end"]
    assert not agent.in_update


def test_a_callback_that_fails_at_the_end_keeps_no_other_from_ending(agent):
    class FailsAtTheEnd(Callback):
        def on_training_end(self):
            raise RuntimeError("no connection")

    first, last = Watcher(), Watcher()
    with pytest.raises(RuntimeError, match="no connection"):
        learn(agent, 1, [first, FailsAtTheEnd(), last])
    assert [watcher.heard[-1][0] for watcher in (first, last)] == [("end",)] * 2


def test_evaluations_are_delivered_with_the_agent_and_the_run(agent, tmp_path):
    watcher, report = Watcher(), object()
    deliver_evaluation([print, watcher], agent, report, "before", tmp_path)
    [((heard, stage), of_agent, config, folder)] = watcher.heard
    assert (heard, stage, of_agent, folder) == (report, "before", agent, tmp_path)
    assert config["agent"] == "dapo"


@pytest.mark.parametrize("wrong", [3, "print", [print, None], Callback, [Watcher]])
def test_what_is_no_callback_is_refused(wrong):
    with pytest.raises(TypeError, match="expected a"):
        as_callback(wrong)


def test_callbacks_that_have_started_are_ended_where_another_cannot_start(agent):
    class CannotStart(Callback):
        def on_training_start(self, update, total_updates):
            raise RuntimeError("no connection")

    first, last = Watcher(), Watcher()
    with pytest.raises(RuntimeError, match="no connection"):
        learn(agent, 1, [first, CannotStart(), last])
    assert [event[0] for event, *_ in first.heard] == ["start", "end"]
    assert last.heard == []


def test_an_evaluation_reaches_all_where_one_of_them_fails(agent):
    class Fails(Callback):
        def on_evaluation(self, report, stage):
            raise RuntimeError("no connection")

    first, last = Watcher(), Watcher()
    with pytest.raises(RuntimeError, match="no connection"):
        deliver_evaluation([first, Fails(), last], agent, object(), "after")
    assert [len(watcher.heard) for watcher in (first, last)] == [1, 1]
