"""The estimate of memory against what is counted in a real forward pass."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig

from agents import GRPOAgent, GRPOConfig
from agents.cli import memory as command
from agents.cli.app import run as main
from agents.memory import CannotEstimate, Workload, estimate_memory, estimate_of_run, peak_memory
from agents.policies import PolicyNotFound, load_policy
from agents.rollout import Completion, GroupBatch, Rollout


def kept_bytes(policy, work: Workload) -> int:
    """What the policy's own forward pass keeps for the backward pass, its weights aside."""
    completion = Completion([7] * work.completion_tokens, [0.0] * work.completion_tokens, truncated=True)
    rollout = Rollout(0, "", [5] * work.prompt_tokens, completion, "", 0.0, "", None, None)
    count = work.prompts * work.group_size
    batch = GroupBatch.from_rollouts([rollout] * count, work.group_size, 0)
    weights = {parameter.untyped_storage().data_ptr() for parameter in policy.model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        policy.logprobs(batch)
    return sum(t.untyped_storage().nbytes() for pointer, t in kept.items() if pointer not in weights)


def test_activations_are_those_of_a_real_pass():
    work = Workload(policy="builtin/tiny", precision="float32", prompts=4, prompt_tokens=20, completion_tokens=40)
    found = kept_bytes(load_policy("builtin/tiny"), work)
    assert estimate_memory(work).update["activations"] == pytest.approx(found, rel=0.3)


def test_parameters_and_what_comes_of_them():
    estimate = estimate_memory(Workload(policy="builtin/tiny", precision="float32"))
    parameters = sum(p.numel() for p in load_policy("builtin/tiny").model.parameters())
    assert estimate.parameters == estimate.trained == parameters
    assert estimate.always == {
        "weights": 4 * parameters,
        "moments of AdamW": 8 * parameters,
        "reference": 4 * parameters,
    }
    assert estimate.update["gradients"] == 4 * parameters
    assert estimate.peak == sum(estimate.always.values()) + sum(estimate.update.values())


def test_an_agent_takes_what_its_work_takes():
    config = GRPOConfig(prompts_per_update=8, group_size=4, max_completion_tokens=24, micro_batch_size=16)
    agent = GRPOAgent("builtin/tiny", "llm_envs/Arithmetic-v0", config=config)
    sizes = {"prompts": 8, "group_size": 4, "completion_tokens": 24, "micro_batch_size": 16, "prompt_tokens": 20}
    assert estimate_of_run(agent, 20) == estimate_memory(Workload(precision="float32", **sizes))


@pytest.mark.parametrize("family", ["opt", "mixtral"])
def test_some_models_need_real_numbers(family):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 64}
    with pytest.raises(CannotEstimate, match=f"what {family} keeps"):
        estimate_memory(Workload(), AutoConfig.for_model(family, **sizes))


def test_a_run_goes_on_without_an_estimate(tmp_path, monkeypatch, capsys):
    def cannot(*_):
        raise CannotEstimate("what it keeps cannot be counted")

    monkeypatch.setattr("agents.cli.training_run.estimate_of_run", cannot)
    small = ["--prompts-per-update", "2", "--group-size", "2", "--eval-problems", "2", "--eval-samples", "1"]
    words = ["train", *small, "--total-episodes", "4", "--threads", "1", "--run-dir", str(tmp_path / "run")]
    assert main(words) == 0
    assert "Memory: no estimate, what it keeps cannot be counted" in capsys.readouterr().out
    assert not (tmp_path / "run" / "memory.json").exists()


@pytest.mark.parametrize("options", [{"load_in": "4bit", "lora_rank": 2}, {"weights_dtype": "bfloat16"}])
def test_what_cannot_be_sharded_is_not_estimated(options):
    with pytest.raises(ValueError, match="parallel='fsdp2' shards float32 weights"):
        Workload(parallel="fsdp2", devices=2, **options)


def test_a_process_has_held_what_it_holds():
    block = torch.zeros(2**24)  # 64 MiB
    assert peak_memory(torch.device("cpu")) >= 2**26
    assert block.sum() == 0


def test_shards_adapters_and_checkpointing():
    pytest.importorskip("peft")
    whole = estimate_memory(Workload(policy="builtin/tiny"))
    shards = estimate_memory(Workload(policy="builtin/tiny", parallel="fsdp2", devices=4))
    assert shards.always["weights"] == whole.always["weights"] // 4
    assert shards.rollout["keys and values"] == whole.rollout["keys and values"] // 4
    assert "gathered weights" in shards.rollout
    lora = estimate_memory(Workload(policy="builtin/tiny", lora_rank=4))
    trained = sum(p.numel() for _, p in load_policy("builtin/tiny", lora_rank=4).trainable_parameters())
    assert lora.trained == trained
    assert "reference" not in lora.always
    checkpointed = estimate_memory(Workload(policy="builtin/tiny", gradient_checkpointing=True))
    assert checkpointed.update["activations"] < whole.update["activations"] / 2


def test_a_model_that_is_not_there():
    with pytest.raises(PolicyNotFound):
        estimate_memory(Workload(policy="./nothing"))
    with pytest.raises(ValueError, match="devices"):
        Workload(devices=0)


def test_the_command(capsys):
    command.run(["--policy", "builtin/tiny", "--devices", "2", "--parallel", "fsdp2"])
    out = capsys.readouterr().out
    assert "each of 2 devices (fsdp2), in GiB" in out
    assert "keys and values" in out


def test_narrow_weights_moments_and_a_base_of_4_bits():
    usual = estimate_memory(Workload(policy="builtin/tiny"))
    narrow = estimate_memory(Workload(policy="builtin/tiny", weights_dtype="bfloat16", optimizer="adamw8bit"))
    count = usual.parameters
    assert narrow.always == {
        "weights": 2 * count,
        "moments of AdamW": 2 * count,
        "what bfloat16 leaves out": 2 * count,
        "reference": 2 * count,
    }
    assert narrow.update["gradients"] == 2 * count
    assert "weights in bfloat16" not in narrow.update
    bases = [estimate_memory(Workload(policy="builtin/tiny", lora_rank=4, load_in=name)) for name in (None, "4bit")]
    assert bases[1].always["weights"] < 0.6 * bases[0].always["weights"]
    assert bases[1].trained == bases[0].trained


def test_micro_batches_of_few_tokens_keep_less():
    usual, few = (estimate_memory(Workload(policy="builtin/tiny", micro_batch_tokens=n)) for n in (None, 1_200))
    assert few.update["activations"] < usual.update["activations"] / 10
    one_group = estimate_memory(Workload(policy="builtin/tiny", micro_batch_tokens=1))
    assert 0 < one_group.update["activations"] < few.update["activations"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"load_in": "4bit"}, "give lora_rank too"),
        ({"weights_dtype": "bfloat16", "precision": "float32"}, "computes in bfloat16"),
        ({"micro_batch_tokens": 0}, "micro_batch_tokens must be at least 1"),
    ],
)
def test_what_no_run_could_have_is_not_estimated(options, message):
    with pytest.raises(ValueError, match=message):
        Workload(**options)
