"""The options of `llm-envs train`: agents by name, files, runs that are gone on with, callbacks."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import fields
from types import SimpleNamespace
from typing import get_type_hints

import pytest
import torch
import yaml
from safetensors.torch import load_file

from agents import load_policy
from agents.cli.agent_options import A2COptions, PPOOptions, make_agent, option_groups
from agents.cli.app import run
from agents.cli.callbacks import load_callback
from agents.cli.common import UsageError, parse_env_args, use_threads
from agents.cli.options import leaves
from agents.cli.train import Train, read_options
from agents.factory import AGENT_NAMES, load_agent
from agents.json_values import as_json
from agents.objectives import PRESETS
from agents.sb3.config import SB3Config
from agents.tracking import Callback
from agents.tracking.run_config import run_config

SMALL = [
    "--prompts-per-update", "4", "--group-size", "4", "--max-completion-tokens", "24", "--device", "cpu",
    "--eval-problems", "5", "--eval-samples", "2",
]  # fmt: skip


def write(tmp_path, content, name="options.yaml"):
    file = tmp_path / name
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


# -- agents ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", AGENT_NAMES)
def test_an_agent_has_the_options_of_its_own_classes_and_their_defaults(agent):
    options = read_options([agent])
    for name, group in option_groups(agent).items():
        assert getattr(options, name) == group
    assert options.train == Train(agent=agent)
    if agent in PRESETS:
        assert options.objective == PRESETS[agent]()


@pytest.mark.parametrize("agent", AGENT_NAMES)
@pytest.mark.parametrize("width", [80, 120])
def test_the_help_of_an_agent_has_its_options_alone(agent, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    assert run(["train", agent, "--help"]) == 0
    out = capsys.readouterr().out
    own = [field.name for group in option_groups(agent).values() for field in fields(group)]
    for name in own:
        shown = re.search(rf"--{name.replace('_', '-')}[ ,]", out) is not None
        # the name of an agent decides its weights: another value is refused
        assert shown == (name not in ("algorithm_kwargs", "weights")), name
    assert not re.search(r"default:\s*(None)?\)", out.replace("│", "")), "an option without a value shows a default"
    assert "--eval-problems" not in out
    assert ("--clip-range" in out) == ("clip_range" in own)
    assert "llm-envs train --help" in out


def test_options_of_stable_baselines3_are_arguments_of_its_algorithms():
    import inspect

    import stable_baselines3

    for options, algorithm in ((PPOOptions, stable_baselines3.PPO), (A2COptions, stable_baselines3.A2C)):
        assert set(get_type_hints(options)) <= set(inspect.signature(algorithm).parameters)


def test_an_agent_is_made_with_its_options(micro_policy):
    options = read_options(["ppo-token", "--vf-coef", "0.3", "--num-envs", "8", "--n-steps", "32"])
    agent = make_agent(
        "ppo-token",
        micro_policy,
        "llm_envs/Arithmetic-v0",
        {"config": options.config, "algorithm": options.algorithm},
        1,
    )
    assert (agent.view, agent.seed, agent.envs.num_envs, agent.n_steps) == ("token", 1, 8, 32)
    assert agent.algorithm.vf_coef == 0.3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ppp"], "there is no agent 'ppp'; did you mean ppo?"),
        (["abacus"], "there is no agent 'abacus'; there are grpo, dr-grpo"),
        (["--agent", "ppo"], "llm-envs train ppo ..."),
        (["--agent=ppo", "--view", "token"], "llm-envs train ppo-token ..."),
        (["--objective", "dapo", "--clip-high", "0.3"], "llm-envs train dapo ..."),
        (["--agent", "grpo", "--objective", "rloo"], "llm-envs train rloo ..."),
        (["--seed", "1", "ppo"], "the agent comes before its options: llm-envs train ppo ..."),
        (["weighted-rank", "--weights", "softmax"], "part of the agent's name, weighted-rank"),
        (["--callback", "os"], "a callback is named with its module"),
        (["--callback", "no_such_module:C"], "--callback no_such_module:C: No module named 'no_such_module'"),
        (["--callback", "os:nothing"], "has no attribute 'nothing'"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_a_mistake_in_the_words_is_explained(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["train", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.endswith("For all options, run llm-envs train --help\n")
    assert error.count("\n") <= 3
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message", "help_of"),
    [
        (["--grup-size", "4"], "--group-size INT", "train"),
        (["dapo", "--group-size", "four"], "invalid literal for int() with base 10: 'four'", "train dapo"),
        (["--threads", "many"], "invalid literal for int() with base 10: 'many'", "train"),
        (["--examples", "a", "b", "c"], "expected pairs of texts, got 3 texts", "train"),
        (["--run-dir"], "--run-dir", "train"),
        (["--config"], "--config", "train"),
    ],
)
def test_the_parser_names_the_option_and_the_help(words, message, help_of, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["train", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert f"llm-envs {help_of} --help" in error
    assert error.count("\n") <= 12


# -- files -----------------------------------------------------------------------------------------------------------


def test_a_file_gives_options_and_what_is_typed_wins(tmp_path):
    file = write(
        tmp_path,
        """
        agent: dapo
        env: llm_envs/Arithmetic-v0
        env_args: {operands: 2, answer_format: unstated}
        learning-rate: 1e-5
        group_size: 4
        clip_high: null
        mask_truncated: true
        stop: ["--", "- x"]
        lora_rank: 8
        run_dir: somewhere
        callback: my_module:One
        system_prompt: |
          --- Think.
          Then answer.
        examples: [["What is 1 + 1?", "2"], ["- 2", "-2"]]
        """,
    )
    options = read_options(["--config", str(file), "--group-size", "6", "--no-mask-truncated", "--seed", "3"])
    assert options.train.agent == "dapo"
    assert options.train.env_args == ("operands=2", "answer_format='unstated'")
    assert (options.train.lora_rank, options.train.seed, str(options.train.run_dir)) == (8, 3, "somewhere")
    assert options.train.callback == ("my_module:One",)
    assert options.train.chat.system_prompt == "--- Think.\nThen answer.\n"
    assert options.train.chat.examples == (("What is 1 + 1?", "2"), ("- 2", "-2"))
    assert (options.config.learning_rate, options.config.group_size, options.config.mask_truncated) == (1e-5, 6, False)
    assert options.config.stop == ("--", "- x")
    assert options.objective == PRESETS["dapo"](clip_high=None)
    assert read_options(["rloo", "--config", str(write(tmp_path, {"agent": "dapo"}))]).train.agent == "rloo"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"lerning_rate": 1e-5},
            "'lerning_rate', which is no option of llm-envs train grpo; did you mean learning_rate",
        ),
        ({"agent": "ppo", "group_size": 4}, "'group_size', which is no option of llm-envs train ppo"),
        ({"config": {"learning_rat": 1}}, "did you mean learning_rate"),
        ({"confg": {"learning_rate": 1}}, "'confg', which is no option of llm-envs train grpo; did you mean"),
        ({"resume": True}, "'resume', which is no option"),
        ({"config": "other.yaml"}, "'config', which is no option"),
        ({"seed": 1, "config": {"seed": 2}}, "has 'seed' twice: by itself and in 'config'"),
        ({"group_size": "four"}, "--group-size: invalid literal for int() with base 10: 'four'"),
        ({"group_size": 8.5}, "--group-size: invalid literal"),
        ({"group_size": True}, "--group-size: invalid literal"),
        ({"group_size": None}, "--group-size: invalid literal"),
        ({"learning_rate": [1]}, "--learning-rate: could not convert string to float"),
        ({"mask_truncated": "perhaps"}, "invalid choice 'perhaps' for argument '--mask-truncated'"),
        ({"lr_schedule": "square"}, "invalid choice 'square' for argument '--lr-schedule'"),
        ({"stop": 5}, "--stop: Value 5"),
        ({"examples": ["a"]}, "--examples: Value"),
        ({"group_size": 1}, "group_size must be at least 2"),
        ({"eval_problems": 0}, "eval_problems must be at least 1"),
        ({"agent": "ppp"}, "did you mean ppo?"),
        ([1, 2], "must hold names of options and their values"),
        ("", "must hold names of options and their values"),
        ("seed: [", "cannot be read"),
        ("!!python/object/apply:os.system ['exit 3']", "cannot be read"),
    ],
)
def test_a_mistake_in_a_file_is_explained(content, message, tmp_path, capsys):
    file = write(tmp_path, content)
    assert run(["train", "--config", str(file)]) == 2
    error = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert message in error
    assert "--help" in error
    assert str(file) in error
    assert "Traceback" not in error


def test_the_record_of_a_run_repeats_it(tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    typed = ["dapo", *SMALL, "--env-args", "operands=2", "--stop", "--kl-coef", "0.01", "--total-episodes", "16"]
    assert run(["train", *typed, "--run-dir", str(first)]) == 0
    config = str(first / "config.json")
    read = read_options(["--config", config, "--run-dir", str(first)])
    asked = read_options([*typed, "--run-dir", str(first)])
    given = leaves(asked)
    assert leaves(read) == {**given, "config": read.train.config}
    record = json.loads((first / "config.json").read_text())
    told = json.loads(json.dumps(run_config(load_agent(first / "checkpoint"))))
    assert told == {name: record[name] for name in told}
    assert read.train.config != asked.train.config
    assert run(["train", "--config", config, "--run-dir", str(second)]) == 0
    metrics = [[json.loads(line) for line in (folder / "metrics.jsonl").open()] for folder in (first, second)]
    for row in (*metrics[0], *metrics[1]):
        for name in ("seconds_rollout", "seconds_update", "tokens_per_second"):
            del row[name]
    assert metrics[0] == metrics[1]
    assert read_options(["--config", config, "--seed", "1"]).train.seed == 1
    as_yaml = write(tmp_path, yaml.safe_dump(json.loads((first / "config.json").read_text())))
    again = read_options(["--config", str(as_yaml), "--run-dir", str(first)])
    assert leaves(again) == {**given, "config": again.train.config}


@pytest.mark.parametrize("agent", AGENT_NAMES)
def test_every_agent_is_read_back_from_its_record(agent, tmp_path):
    groups = {name: leaves(group) for name, group in option_groups(agent).items()}
    groups["config"].pop("algorithm_kwargs", None)
    file = write(tmp_path, {"agent": agent, **groups, "ran_on": {"threads": 1}}, "config.json")
    options = read_options(["--config", str(file)])
    assert {name: getattr(options, name) for name in groups} == option_groups(agent)


VERSION_0_1 = {
    "env": "llm_envs/Arithmetic-v0", "env_args": {"operands": 2}, "policy": "builtin/tiny", "total_episodes": 64,
    "seed": 2, "run_dir": "runs/old", "resume": False, "device": "cpu", "threads": 1, "eval_problems": 20,
    "chat": {"system_prompt": "Think.", "examples": []}, "ran_on": {"device": "cpu"},
}  # fmt: skip


def test_the_record_of_a_run_of_version_0_1_is_read(tmp_path):
    grpo = {
        **VERSION_0_1,
        "agent": "grpo",
        "objective": "weighted-rank",
        "config": {"group_size": 4, "stop": ["x"]},
        "objective_options": {"weights": "rank", "alpha": 1.0, "kl_coef": 0.1},
        "sb3": {"view": None, "num_envs": None, "vf_coef": None},
    }
    ppo = {
        **VERSION_0_1,
        "agent": "ppo",
        "sb3": {"view": "token", "num_envs": 8, "kl_coef": 0.1, "algorithm_kwargs": {"vf_coef": 0.3}},
    }
    options = read_options(["--config", str(write(tmp_path, grpo, "grpo.json"))])
    assert (options.train.agent, options.train.seed, options.train.run_dir) == ("weighted-rank", 2, None)
    assert options.train.env_args == ("operands=2",)
    assert (options.config.group_size, options.config.stop, options.objective.kl_coef) == (4, ("x",), 0.1)
    options = read_options(["--config", str(write(tmp_path, ppo, "ppo.json"))])
    assert options.train.agent == "ppo-token"
    assert (options.config.num_envs, options.config.kl_coef, options.algorithm.vf_coef) == (8, 0.1, 0.3)


# -- going on with a run ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run of two updates, with one thread and two operands."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    words = [*SMALL, "--env-args", "operands=2", "--threads", "1", "--total-episodes", "32"]
    assert run(["train", *words, "--run-dir", str(folder)]) == 0
    return folder


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", "1"], "with --seed 0, and not 1"),
        (["--group-size", "8"], "with --group-size 4, and not 8"),  # the default, but not the run's
        (["--env-args", "operands=3"], "with --env-args {'operands': 2}, and not {'operands': 3}"),
        (["--policy", "smollm2"], "with --policy builtin/tiny, and not smollm2"),
        (["--clip-high", "0.3"], "with --clip-high None, and not 0.3"),
        (["--lora-rank", "2"], "with --lora-rank None, and not 2"),
        (["--config", "other.yaml"], "leave --config out"),
        (["--system-prompt", "Think."], "with --system-prompt None, and not Think."),
    ],
)
def test_an_option_that_is_not_the_runs_is_refused(words, message, finished, capsys):
    assert run(["train", "--resume", "--run-dir", str(finished), *words]) == 2
    assert message in capsys.readouterr().err


def test_another_agent_than_the_runs_is_refused(finished, capsys):
    assert run(["train", "dapo", "--resume", "--run-dir", str(finished)]) == 2
    assert "with the agent grpo, and not dapo" in capsys.readouterr().err


def test_a_resumed_run_has_all_settings_of_the_run(finished):
    started = read_options(["--config", str(finished / "config.json"), "--run-dir", str(finished)])
    typed = ["--group-size", "4", "--env-args", "operands=2", "--total-episodes", "48"]
    resumed = read_options(["--resume", "--run-dir", str(finished), *typed])
    own = {"resume": True, "config": None, "total_episodes": 48}
    assert leaves(resumed)["config"] is None
    assert leaves(resumed) == {**leaves(started), **own}


@pytest.mark.parametrize(
    ("environment", "typed", "expected"),
    [(None, None, 2), ("3", None, 3), ("3,2", None, 3), ("3", 5, 5), (None, 5, 5), ("", None, 2), ("all", None, 2)],
)
def test_threads_are_those_asked_for_or_of_openmp(environment, typed, expected, micro_policy, monkeypatch):
    monkeypatch.setattr("agents.hardware.recommended_threads", lambda parameters: 2)
    numbers: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", numbers.append)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if environment is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", environment)
    assert use_threads(typed, micro_policy) == expected
    assert numbers == [expected]


@pytest.mark.parametrize("chosen_by", ["--threads", "OMP_NUM_THREADS"])
def test_a_resumed_run_keeps_its_threads_and_ends_with_the_same_weights(
    chosen_by, tmp_path, monkeypatch, capsys, stopped_after_two_updates
):
    """The number is recorded, so that neither this machine nor its environment chooses another for the rest."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    words = [*SMALL, "--total-episodes", "48", "--checkpoint-every", "1"]
    if chosen_by == "--threads":
        words += ["--threads", "1"]
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("agents.hardware.recommended_threads", lambda parameters: 2)
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert run(["train", *words, "--run-dir", str(straight)]) == 0
    with stopped_after_two_updates():
        assert run(["train", *words, "--run-dir", str(stopped)]) == 0
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(2)
    assert run(["train", "--resume", "--run-dir", str(stopped)]) == 0
    assert torch.get_num_threads() == 1
    weights = [load_file(folder / "checkpoint" / "policy" / "model.safetensors") for folder in (straight, stopped)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    begun = load_policy("builtin/tiny").model.state_dict()
    assert any(not torch.equal(begun[name], tensor) for name, tensor in weights[0].items())
    assert "will end with other weights" not in capsys.readouterr().out


def test_other_threads_are_allowed_and_named(finished, capsys):
    assert run(["train", "--resume", "--run-dir", str(finished), "--threads", "2"]) == 0
    assert "started with --threads 1: with 2" in " ".join(capsys.readouterr().out.split())


# -- callbacks -------------------------------------------------------------------------------------------------------

MODULE = """
from agents import Callback

class Counter(Callback):
    def __init__(self):
        self.updates = []
    def on_update(self, record):
        self.updates.append(record.update)
        with open("updates.txt", "a") as file:
            file.write(f"{record.update} ")
    def on_evaluation(self, report, stage):
        with open("evaluations.txt", "a") as file:
            file.write(f"{stage} {self.agent.num_updates} {self.run_dir} {type(report).__name__}\\n")

class WithArguments(Callback):
    def __init__(self, folder):
        pass

counter = Counter()

def function(record):
    pass

number = 5
"""


@pytest.fixture
def my_module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_callbacks.py").write_text(MODULE)
    yield "my_callbacks"
    sys.modules.pop("my_callbacks", None)


def test_a_callback_is_a_class_an_instance_or_a_function(my_module):
    assert isinstance(load_callback("my_callbacks:Counter"), Callback)
    assert load_callback("my_callbacks.counter") is sys.modules["my_callbacks"].counter
    assert load_callback("my_callbacks:function")(SimpleNamespace()) is None
    for name, message in (
        ("number", "expected a Callback or a function, got 5"),
        ("WithArguments", "without arguments"),
    ):
        with pytest.raises(UsageError, match=message):
            load_callback(f"my_callbacks:{name}")


def test_train_calls_the_callbacks_that_it_is_given(my_module, tmp_path):
    words = [*SMALL, "--total-episodes", "32", "--run-dir", "run", "--callback", "my_callbacks:Counter"]
    assert run(["train", *words, "my_callbacks.counter"]) == 0
    assert (tmp_path / "updates.txt").read_text() == "1 1 2 2 "
    reports = ["before 0 run EvaluationReport"] * 2 + ["after 2 run EvaluationReport"] * 2
    assert (tmp_path / "evaluations.txt").read_text().splitlines() == reports
    assert json.loads((tmp_path / "run" / "config.json").read_text())["callback"] == [
        "my_callbacks:Counter",
        "my_callbacks.counter",
    ]


# -- what is refused, and what comes back as it was ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ppo", "--n-epochs", "0"], "n_epochs must be at least 1"),
        (["ppo", "--batch-size", "1"], "batch_size must be at least 2"),
        (["ppo", "--clip-range", "0"], "clip_range must be positive"),
        (["ppo", "--target-kl", "-1"], "target_kl must be positive"),
        (["a2c", "--gae-lambda", "1.5"], "gae_lambda must be at most 1"),
        (["a2c", "--vf-coef", "-1"], "vf_coef must not be negative"),
        (["grpo", "--reward-deadline", "0"], "reward_deadline must be positive"),
        (["grpo", "--env", "llm_envs/GuessNumber-v0", "--overlong-buffer", "8"], "has several turns, up to 14"),
        (["dapo", "--env", "llm_envs/GuessNumber-v0", "--overlong-buffer", "8"], "overlong_buffer is for episodes"),
        (["ppo", "--env", "llm_envs/GuessNumber-v0"], "has several turns, up to 14: use a GRPOAgent"),
        (["ppo-token", "--env", "llm_envs/GuessNumber-v0"], "has several turns, up to 14: use a GRPOAgent"),
        (["a2c", "--env", "llm_envs/CodeRepair-v0"], ": use a GRPOAgent"),
    ],
)
def test_what_cannot_be_learned_is_refused_before_anything_is_written(words, message, tmp_path, capsys):
    assert run(["train", *words, "--device", "cpu", "--run-dir", str(tmp_path / "run")]) == 2
    error = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("config", [{"n_epochs": 0}, {"batch_size": 0}])
def test_arguments_of_an_algorithm_are_checked_in_python_too(config):
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        SB3Config(algorithm_kwargs=config)


def test_an_objective_in_a_file_is_an_agents_name(tmp_path, capsys):
    assert run(["train", "--config", str(write(tmp_path, "objective: dapo"))]) == 2
    assert "the objective is part of the agent's name; write agent: dapo" in capsys.readouterr().err


def test_an_unknown_option_names_the_help_of_the_agent_that_is_meant(capsys):
    assert run(["train", "--clip-hihg", "3"]) == 2
    assert "The options of the agent grpo: llm-envs train grpo --help" in capsys.readouterr().err


def test_the_record_of_another_run_imports_no_callback(tmp_path, capsys):
    record = {"agent": "grpo", "callback": ["strange_module:Callback"], "ran_on": {"threads": 1}}
    file = str(write(tmp_path, record, "config.json"))
    assert read_options(["--config", file]).train.callback == ()
    assert "not taken over; to use them: --callback strange_module:Callback" in capsys.readouterr().err
    assert read_options(["--config", file, "--callback", "mine:One"]).train.callback == ("mine:One",)
    assert read_options(["--resume", "--run-dir", str(tmp_path)]).train.callback == ("strange_module:Callback",)


@pytest.mark.parametrize("value", ["(1, 2)", "[(1,), [2]]", "{'a': (1, 2)}", "{1: 2}", "b'x'", "(1,)", "'text'", "[1]"])
def test_tuples_among_the_arguments_survive_the_record(value, tmp_path):
    pairs = (f"sizes={value}", "n=3")
    file = write(tmp_path, {"agent": "grpo", "env_args": as_json(parse_env_args(pairs))}, "config.json")
    read = read_options(["--config", str(file)]).train.env_args
    assert repr(parse_env_args(read)) == repr(parse_env_args(pairs))


def test_a_resumed_run_has_the_device_that_was_chosen(finished, tmp_path):
    record = json.loads((finished / "config.json").read_text())
    assert record["ran_on"]["device"] == "cpu"
    record |= {"device": "auto", "ran_on": record["ran_on"] | {"device": "cuda"}}
    write(tmp_path, record, "config.json")
    assert read_options(["--resume", "--run-dir", str(tmp_path)]).train.device == "cuda"
    assert read_options(["--resume", "--run-dir", str(tmp_path), "--device", "cpu"]).train.device == "cpu"
