"""Wrong values of configs and of agents' arguments, each refused at once and by name."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from agents import (
    DAPO,
    GRPO,
    EvaluationReport,
    GRPOAgent,
    GRPOConfig,
    SamplingParams,
    SB3Config,
    WeightedLikelihood,
    evaluate,
    load_agent,
    load_policy,
)
from agents.engines import CachedEngine
from agents.objectives import PRESETS
from agents.tracking import MetricsWriter, read_metrics

ARITHMETIC = "llm_envs/Arithmetic-v0"


@pytest.mark.parametrize(
    ("config", "field", "value", "message"),
    [
        (GRPOConfig, "group_size", 8.0, "group_size must be an integer, got 8.0"),
        (GRPOConfig, "group_size", True, "group_size must be an integer, got True"),
        (GRPOConfig, "group_size", "8", "group_size must be an integer, got '8'"),
        (GRPOConfig, "group_size", None, "group_size must be an integer"),
        (GRPOConfig, "group_size", 1, "group_size must be at least 2, got 1"),
        (GRPOConfig, "epochs", 0, "epochs must be at least 1, got 0"),
        (GRPOConfig, "learning_rate", "1e-5", "learning_rate must be a number, got '1e-5'"),
        (GRPOConfig, "learning_rate", math.nan, "learning_rate must be finite"),
        (GRPOConfig, "max_grad_norm", math.inf, "max_grad_norm must be finite"),
        (GRPOConfig, "learning_rate", 0.0, "learning_rate must be positive"),
        (GRPOConfig, "weight_decay", -1.0, "weight_decay must not be negative"),
        (GRPOConfig, "lr_schedule", "cosin", "lr_schedule must be one of 'constant', 'linear', 'cosine'; got 'cosin'"),
        (GRPOConfig, "mask_truncated", 1, "mask_truncated must be of type bool"),
        (GRPOConfig, "top_k", 2.0, "top_k must be an integer"),
        (GRPOConfig, "stop", "abc", "stop must be of type tuple"),
        (GRPOConfig, "stop", ["a"], "stop must be of type tuple"),
        (GRPOConfig, "stop", (1,), "stop must be a tuple of texts, got"),
        (SB3Config, "num_envs", 2.5, "num_envs must be an integer"),
        (SB3Config, "algorithm_kwargs", 3, "algorithm_kwargs must be of type Mapping"),
        (SB3Config, "kl_coef", -0.1, "kl_coef must not be negative"),
        (SamplingParams, "max_completion_tokens", 3.0, "max_completion_tokens must be an integer"),
        (SamplingParams, "temperature", "warm", "temperature must be a number"),
        (GRPO, "kl_coef", "0.1", "kl_coef must be a number"),
        (GRPO, "advantage", "grouped", "advantage must be one of 'group'"),
        (DAPO, "clip_high", math.inf, "clip_high must be finite"),
        (GRPO, "clip_range", 1, "clip_range must be between 0 and 1"),
        (WeightedLikelihood, "keep", 1.5, "keep must be an integer"),
        (WeightedLikelihood, "weights", "soft", "weights must be one of"),
    ],
)
def test_a_field_is_refused_with_its_name_and_value(config, field, value, message):
    with pytest.raises((TypeError, ValueError), match=message.replace("(", r"\(")):
        config(**{field: value})


def test_numbers_of_numpy_become_pythons():
    config = GRPOConfig(group_size=np.int64(4), learning_rate=np.float32(0.5), top_k=np.int32(3), temperature=1)
    assert [type(config.group_size), type(config.learning_rate), type(config.top_k)] == [int, float, int]
    assert (config.group_size, config.learning_rate, config.top_k, config.temperature) == (4, 0.5, 3, 1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"config": {}}, TypeError, "config must be a GRPOConfig, got {}"),
        ({"config": SB3Config()}, TypeError, "config must be a GRPOConfig"),
        ({"objective": "dapoo"}, ValueError, "there is no objective 'dapoo'; there are grpo"),
        ({"objective": GRPOConfig()}, TypeError, "objective must be an objective"),
        ({"objective": {}}, TypeError, "objective must be an objective"),
        ({"objective": DAPO}, TypeError, "objective must be an objective"),
        ({"engine": "vllm"}, TypeError, "engine must be a RolloutEngine"),
        ({"engine": CachedEngine}, TypeError, "engine must be a RolloutEngine"),
        ({"policy": None}, TypeError, "policy must be a name"),
        ({"env": None}, TypeError, "expected an environment id"),
        ({"precision": "fp16"}, ValueError, "precision must be one of 'auto', 'float32', 'bfloat16'; got 'fp16'"),
        ({"seed": -1}, ValueError, "seed must not be negative"),
        ({"seed": 1.5}, TypeError, "seed must be an integer"),
    ],
)
def test_an_agents_arguments_are_checked_before_anything_is_loaded(monkeypatch, options, error, message):
    monkeypatch.setattr("agents.base_agent.load_policy", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(error, match=message):
        GRPOAgent(**{"policy": "builtin/tiny", "env": ARITHMETIC, **options})


def test_a_loaded_policy_keeps_its_precision(micro_policy):
    with pytest.raises(ValueError, match="loaded with precision 'float32'; it cannot be 'bfloat16'"):
        GRPOAgent(micro_policy, ARITHMETIC, precision="bfloat16")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"precision": "fp16"}, ValueError, "precision must be one of"),
        ({"lora_rank": 1.5}, TypeError, "lora_rank must be an integer, got 1.5"),
        ({"lora_rank": 0}, ValueError, "lora_rank must be at least 1, got 0"),
    ],
)
def test_a_policys_arguments_are_checked_before_it_is_loaded(monkeypatch, options, error, message):
    monkeypatch.setattr("agents.policies.loading.load_model", lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(error, match=message):
        load_policy("builtin/tiny", **options)


@pytest.mark.parametrize("name", PRESETS)
def test_an_objective_may_be_given_by_name(name, micro_policy):
    config = GRPOConfig(prompts_per_update=2, group_size=2)
    assert GRPOAgent(micro_policy, ARITHMETIC, objective=name, config=config).objective == PRESETS[name]()


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((None,), {}, TypeError, "agent must be of type Agent or LanguageModelPolicy or str or Path, got None"),
        ((3, ARITHMETIC), {}, TypeError, "agent must be of type"),
        (("builtin/tiny",), {}, ValueError, "pass the environment"),
        (("builtin/tiny", ARITHMETIC), {"problems": 2.5}, TypeError, "problems must be an integer, got 2.5"),
        (("builtin/tiny", ARITHMETIC), {"problems": "5"}, TypeError, "problems must be an integer"),
        (("builtin/tiny", ARITHMETIC), {"problems": 0}, ValueError, "must be at least 1"),
        (("builtin/tiny", ARITHMETIC), {"samples": True}, TypeError, "samples must be an integer"),
        (("builtin/tiny", ARITHMETIC), {"seed": None}, TypeError, "seed must be an integer"),
        (("builtin/tiny", ARITHMETIC), {"split": 1}, TypeError, "split must be of type str"),
        (
            ("builtin/tiny", ARITHMETIC),
            {"max_tokens": 3},
            TypeError,
            "'max_tokens'; did you mean max_completion_tokens",
        ),
        (("builtin/tiny", ARITHMETIC), {"temprature": 1}, TypeError, "did you mean temperature"),
        (("builtin/tiny", ARITHMETIC), {"stop": [1]}, TypeError, "stop must be a tuple of texts"),
    ],
)
def test_the_arguments_of_evaluate_are_checked_before_anything_is_loaded(
    monkeypatch, arguments, options, error, message
):
    monkeypatch.setattr("agents.evaluation.held_out.load_policy", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(error, match=message):
        evaluate(*arguments, **options)


@pytest.mark.parametrize("device", [None, 0, "tpu", torch.device("cpu")])
def test_a_device_is_a_text(device):
    with pytest.raises((TypeError, ValueError), match="'auto', 'cpu' or 'cuda'"):
        GRPOAgent("builtin/tiny", ARITHMETIC, device=device)


def test_learn_counts_episodes_in_integers_and_paths_may_be_texts(micro_policy, tmp_path):
    config = GRPOConfig(prompts_per_update=2, group_size=2, max_completion_tokens=4)
    agent = GRPOAgent(micro_policy, ARITHMETIC, config=config)
    for wrong in ("10", 2.5, None, [4]):
        with pytest.raises(TypeError, match="total_episodes must be an integer"):
            agent.learn(wrong)
    with pytest.raises(TypeError, match="run_dir must be of type str or Path"):
        agent.learn(4, run_dir=3)
    agent.learn(np.int64(4), MetricsWriter(str(tmp_path)))
    assert len(read_metrics(str(tmp_path))) == 1
    report = evaluate(agent, problems=2, samples=1)
    report.save(str(tmp_path / "report.json"))
    assert str(EvaluationReport.load(str(tmp_path / "report.json"))) == str(report)
    with pytest.raises(TypeError, match="path must be of type str or Path"):
        load_agent(3)
