"""Weights in bfloat16, moments of 8 bits: what an agent learns with them, and that it goes on as it stopped."""

from __future__ import annotations

import pytest
import torch

from agents import GRPO, GRPOAgent, GRPOConfig, SB3Agent, load_agent, load_policy
from agents.adamw import joined
from agents.policies import LanguageModelPolicy
from tests.learned import weights_learned

ARITHMETIC = "llm_envs/Arithmetic-v0"
SMALL = {"prompts_per_update": 4, "group_size": 4, "max_completion_tokens": 24, "learning_rate": 1e-4}


def agent_of(policy, *, objective=None, **config) -> GRPOAgent:
    return GRPOAgent(policy, ARITHMETIC, objective=objective, config=GRPOConfig(**SMALL | config), device="cpu")


def state_of(agent) -> dict[str, torch.Tensor]:
    weights = {name: parameter.detach() for name, parameter in agent.policy.model.named_parameters()}
    moments = {
        f"{name}|{entry}": torch.as_tensor(value)
        for name, parameter in agent._parameters.items()
        for entry, value in agent.optimizer.state[parameter].items()
    }
    return weights | moments


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert [name for name, tensor in first.items() if not torch.equal(tensor, second[name])] == []


def test_all_weights_and_gradients_are_bfloat16_and_the_moments_are_not():
    agent = agent_of(load_policy("builtin/tiny", weights_dtype="bfloat16"), objective=GRPO(kl_coef=0.05))
    assert agent.policy.precision == "bfloat16"
    agent.learn(16)
    parameters = list(agent.policy.model.parameters())
    assert {parameter.dtype for parameter in parameters} == {torch.bfloat16}
    assert {parameter.grad.dtype for parameter in parameters} == {torch.bfloat16}
    assert {parameter.dtype for parameter in agent.policy.reference.parameters()} == {torch.bfloat16}
    state = agent.optimizer.state[parameters[0]]
    assert {name: value.dtype for name, value in state.items()} == {
        "step": torch.float32,
        "remainder": torch.int16,
        "exp_avg": torch.float32,
        "exp_avg_sq": torch.float32,
    }
    assert state["remainder"].any()
    assert not agent.engine.exact_logprobs


@pytest.mark.parametrize(
    ("options", "optimizer"),
    [
        ({"weights_dtype": "bfloat16"}, "adamw"),
        ({"weights_dtype": "bfloat16"}, "adamw8bit"),
        ({}, "adamw8bit"),
        ({"weights_dtype": "bfloat16", "lora_rank": 2}, "adamw"),
    ],
)
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, options, optimizer):
    def make():
        return agent_of(load_policy("builtin/tiny", **options), objective=GRPO(kl_coef=0.05), optimizer=optimizer)

    without_stop = make().learn(48)
    stopped = make().learn(16)
    stopped.save(tmp_path / "agent")
    resumed = load_agent(tmp_path / "agent", device="cpu")
    assert_equal(state_of(resumed), state_of(stopped))
    weights_learned(resumed, 48)
    assert_equal(state_of(resumed), state_of(without_stop))


def test_the_saved_folder_is_an_ordinary_model_in_bfloat16(tmp_path):
    from transformers import AutoModelForCausalLM

    agent = agent_of(load_policy("builtin/tiny", weights_dtype="bfloat16")).learn(16)
    agent.save(tmp_path / "agent")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "agent" / "policy", dtype="auto")
    own = dict(agent.policy.model.named_parameters())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert all(torch.equal(own[name], parameter) for name, parameter in model.named_parameters())
    load_policy(tmp_path / "agent" / "policy")


def test_masters_move_where_steps_are_too_small_for_bfloat16():
    agent = agent_of(load_policy("builtin/tiny", weights_dtype="bfloat16"), learning_rate=1e-7, warmup_updates=0)
    before = {name: parameter.detach().clone() for name, parameter in agent._parameters.items()}
    agent.learn(16)
    moved = unmoved = 0
    for name, parameter in agent._parameters.items():
        master = joined(parameter.data, agent.optimizer.state[parameter]["remainder"])
        moved += int((master != before[name].float()).sum())
        unmoved += int((parameter.data == before[name]).sum())
    total = sum(parameter.numel() for parameter in agent._parameters.values())
    assert moved > 0.2 * total
    assert unmoved > 0.99 * total


def test_below_adapters_the_model_is_bfloat16_and_the_adapters_float32():
    policy = load_policy("builtin/tiny", weights_dtype="bfloat16", lora_rank=2)
    dtypes = {(parameter.requires_grad, parameter.dtype) for parameter in policy.model.parameters()}
    assert dtypes == {(True, torch.float32), (False, torch.bfloat16)}
    agent = agent_of(policy).learn(16)
    assert type(agent.optimizer) is torch.optim.AdamW  # no masters are needed
    engine_ids = policy.encode_prompts(["2 + 2"])
    assert agent.engine.generate(engine_ids, 2, agent.sampling, 0)


def test_a_model_of_bfloat16_weights_computes_as_one_of_float32_weights(micro_policy):
    """Packed and padded, up to the rounding of bfloat16."""
    import copy

    narrow = LanguageModelPolicy(copy.deepcopy(micro_policy.model), micro_policy.tokenizer, weights_dtype="bfloat16")
    assert narrow.packed_model is not None
    agents = [agent_of(policy) for policy in (micro_policy, narrow)]
    rollouts = agents[0]._sample()
    exact, found = (agent.policy.logprobs(agents[0]._make_batch(rollouts)) for agent in agents)
    assert found.dtype == torch.float32
    assert (exact - found).abs().max() < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights_dtype": "bfloat16", "precision": "float32"}, "computes in bfloat16"),
        ({"weights_dtype": "float16"}, "weights_dtype must be one of"),
        ({"weights_dtype": None}, "weights_dtype must be one of"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        load_policy("builtin/tiny", **options)


def test_stable_baselines3_has_no_masters():
    with pytest.raises(ValueError, match="float32 masters"):
        SB3Agent(load_policy("builtin/tiny", weights_dtype="bfloat16"), ARITHMETIC)


def test_there_is_no_other_optimizer():
    with pytest.raises(ValueError, match="optimizer must be one of 'adamw', 'adamw8bit'"):
        GRPOConfig(optimizer="sgd")


def test_the_norm_of_bfloat16_gradients_is_that_of_float32():
    from agents.adamw import total_norm

    gradients = [torch.randn(100, generator=torch.Generator().manual_seed(i)).bfloat16() for i in range(50)]
    expected = torch.cat([gradient.double() for gradient in gradients]).norm()
    assert abs(total_norm(gradients).item() - expected) < 1e-5 * expected


# -- adapters ----------------------------------------------------------------------------------------------------------


def adapted(policy) -> set[str]:
    return {
        name.split(".lora_A")[0].rpartition(".")[2] for name, _ in policy.trainable_parameters() if "lora_A" in name
    }


def test_the_scale_and_the_layers_of_adapters():
    policy = load_policy("builtin/tiny", lora_rank=4, lora_alpha=2.0, lora_targets=("q_proj", "v_proj"))
    assert adapted(policy) == {"q_proj", "v_proj"}
    config = policy.model.peft_config["default"]
    assert (config.r, config.lora_alpha) == (4, 2)
    usual = load_policy("builtin/tiny", lora_rank=4)
    assert usual.model.peft_config["default"].lora_alpha == 8
    assert {"q_proj", "o_proj", "up_proj", "down_proj"} <= adapted(usual)
    assert "lm_head" not in adapted(usual)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora_rank": 2, "lora_targets": ("query",)}, "no linear layer 'query'; there are .*q_proj"),
        ({"lora_rank": 2, "lora_targets": ("q_proj", "all-linear")}, "'all-linear' by itself"),
        ({"lora_rank": 2, "lora_targets": ()}, "must be names of layers"),
        ({"lora_rank": 2, "lora_targets": ("",)}, "must be names of layers"),
        ({"lora_rank": 2, "lora_alpha": 0.0}, "lora_alpha must be positive"),
        ({"lora_alpha": 4.0}, "give lora_rank too"),
        ({"lora_targets": ("q_proj",)}, "give lora_rank too"),
        ({"load_in": "4bit"}, "give lora_rank too"),
        ({"lora_rank": 2, "load_in": "8bit"}, "load_in must be one of '4bit'"),
    ],
)
def test_options_of_adapters_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        load_policy("builtin/tiny", **options)


def test_layers_computed_again_give_the_same_gradient_and_stay_so_in_a_checkpoint(tmp_path):
    agents = [agent_of(load_policy("builtin/tiny", gradient_checkpointing=again)) for again in (False, True)]
    for agent in agents:
        agent.learn(32)
        assert agent.optimizer.state
    assert_equal(*map(state_of, agents))
    agents[1].save(tmp_path / "agent")
    loaded = load_agent(tmp_path / "agent", device="cpu").policy
    assert loaded.gradient_checkpointing
    assert loaded.packed_model is not None
    assert loaded.packed_model.has_gradient


# -- a base of 4 bits --------------------------------------------------------------------------------------------------


def four_bits(**options) -> LanguageModelPolicy:
    return load_policy("builtin/tiny", load_in="4bit", lora_rank=2, **options)


def test_adapters_get_the_gradient_that_they_have_above_the_same_numbers_in_float32():
    import bitsandbytes

    narrow, wide = four_bits(), load_policy("builtin/tiny", lora_rank=2)
    linear = {n: m for n, m in narrow.model.named_modules() if isinstance(m, bitsandbytes.nn.Linear4bit)}
    assert len(linear) >= 14
    assert narrow.packed_model is not None
    modules = dict(wide.model.named_modules())
    with torch.no_grad():
        for name, module in linear.items():
            numbers = bitsandbytes.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
            assert not torch.equal(numbers, modules[name].weight)
            modules[name].weight.copy_(numbers)
        for policy in (narrow, wide):  # both factors, or half of the gradients would be zero
            for i, (_, parameter) in enumerate(policy.trainable_parameters()):
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)) * 0.1)
    agent = agent_of(wide)
    batch = agent._make_batch(agent._sample())
    for policy in (narrow, wide):
        (policy.logprobs(batch) * batch.completion_mask).sum().backward()
    found = dict(narrow.trainable_parameters())
    for name, parameter in wide.trainable_parameters():
        assert (found[name].grad - parameter.grad).abs().max() < 1e-4 * parameter.grad.abs().max(), name


@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit"])
def test_a_run_above_4_bits_goes_on_with_the_same_bits(tmp_path, optimizer):
    without_stop, stopped = (agent_of(four_bits(), optimizer=optimizer) for _ in range(2))
    without_stop.learn(48)
    stopped.learn(32).save(tmp_path / "agent")
    resumed = load_agent(tmp_path / "agent", device="cpu")
    assert resumed.policy.load_in == "4bit"
    assert_equal(state_of(resumed), state_of(stopped))
    weights_learned(resumed, 48)
    assert_equal(state_of(resumed), state_of(without_stop))


def test_4_bits_need_a_package_that_is_named(monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "bitsandbytes" else find(name, *rest)
    )
    with pytest.raises(ImportError, match=r"llm-envs\[bitsandbytes\]"):
        four_bits()
