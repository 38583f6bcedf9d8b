"""Folders of adapters as policies: peft's own, and those of a run."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace

import pytest
import torch

from agents import GRPOAgent, GRPOConfig, evaluate, load_policy
from agents.cli.app import run
from agents.policies import PolicyNotFound, loading
from agents.policies.loading import load_model
from tests.learned import weights_learned

peft = pytest.importorskip("peft")
CONFIG = GRPOConfig(prompts_per_update=4, group_size=4, max_completion_tokens=12, learning_rate=1e-2, warmup_updates=0)
ARITHMETIC = "llm_envs/Arithmetic-v0"


def trained(rank=4):
    """A policy whose adapters do something."""
    policy = load_policy("builtin/tiny", lora_rank=rank)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, parameter in policy.trainable_parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return policy


@torch.no_grad()
def logits(policy):
    ids = torch.tensor(policy.encode_prompts(["What is 2 + 3?"]))
    return policy.model(ids).logits


@pytest.fixture
def adapters(tmp_path):
    policy = trained()
    policy.save(tmp_path / "adapters")
    return tmp_path / "adapters", policy


def edit(folder, **changes):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_the_adapters_and_their_model_are_loaded(adapters):
    folder, policy = adapters
    again = load_policy(folder)
    assert torch.equal(logits(again), logits(policy))
    assert not torch.allclose(logits(again), logits(load_policy("builtin/tiny")), atol=1e-2)
    assert [name for name, _ in again.trainable_parameters()] == [name for name, _ in policy.trainable_parameters()]
    assert all("lora_" in name for name, _ in again.trainable_parameters())


def test_a_folder_that_peft_alone_wrote(tmp_path):
    """No tokenizer in it, other layers, another rank."""
    base = load_policy("builtin/tiny")
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    model = peft.get_peft_model(base.model, config)
    model.save_pretrained(tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()
    again = load_policy(tmp_path)
    ids = torch.tensor(again.encode_prompts(["What is 2 + 3?"]))
    with torch.no_grad():
        assert torch.allclose(logits(again), model(ids).logits, atol=1e-6)


def test_a_runs_own_policy_folder_and_training_on_from_it(tmp_path):
    config = replace(CONFIG, max_completion_tokens=24, learning_rate=1e-3)
    agent = GRPOAgent(load_policy("builtin/tiny", lora_rank=4), ARITHMETIC, config=config, device="cpu")
    weights_learned(agent, 32)
    agent.save(tmp_path / "checkpoint")
    folder = tmp_path / "checkpoint" / "policy"
    policy = load_policy(folder)
    assert torch.equal(logits(policy), logits(agent.policy))
    assert evaluate(policy, ARITHMETIC, problems=4, samples=2).problems == 4
    further = GRPOAgent(policy, ARITHMETIC, config=config, device="cpu")
    weights_learned(further, 16)
    further.save(tmp_path / "further")
    reloaded = GRPOAgent.load(tmp_path / "further", device="cpu")
    assert torch.equal(logits(reloaded.policy), logits(further.policy))
    assert torch.equal(logits(load_policy(tmp_path / "further" / "policy")), logits(further.policy))


def test_it_finds_its_model_from_another_machine(tmp_path):
    """The adapters remember a path that is gone; the run's record knows the name."""
    agent = GRPOAgent(trained(), ARITHMETIC, config=CONFIG, device="cpu")
    agent.save(tmp_path / "checkpoint")
    folder = tmp_path / "checkpoint" / "policy"
    edit(folder, base_model_name_or_path="/nowhere/tiny")
    assert torch.equal(logits(load_policy(folder)), logits(agent.policy))


def test_bfloat16_rounds_only_what_is_frozen(adapters):
    policy = load_policy(adapters[0], precision="bfloat16")
    dtypes = {parameter.requires_grad: parameter.dtype for parameter in policy.model.parameters()}
    assert dtypes == {True: torch.float32, False: torch.bfloat16}


@pytest.mark.parametrize("base", ["/nowhere/model", "./gone", "builtin/huge"])
def test_a_model_that_is_missing_is_named(adapters, base):
    edit(adapters[0], base_model_name_or_path=base)
    with pytest.raises(
        PolicyNotFound, match=rf"belong to the model '{base}', which is missing.*base_model_name_or_path"
    ):
        load_policy(adapters[0])


def test_adapters_without_the_name_of_a_model(adapters):
    edit(adapters[0], base_model_name_or_path=None)
    with pytest.raises(PolicyNotFound, match="do not say which model they belong to"):
        load_policy(adapters[0])


def test_weights_that_are_missing_broken_or_of_another_model(adapters, random_policy, tmp_path):
    folder, _ = adapters
    other = tmp_path / "other"
    random_policy("llama").save(other)
    edit(folder, base_model_name_or_path=str(other))
    with pytest.raises(PolicyNotFound, match="not of the model"):
        load_policy(folder)
    edit(folder, base_model_name_or_path="builtin/tiny")
    (folder / "adapter_model.safetensors").write_bytes(b"broken")
    with pytest.raises(PolicyNotFound, match="missing, broken"):
        load_policy(folder)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(PolicyNotFound, match="missing, broken"):
        load_policy(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"peft_type": "NO_SUCH"}', "{}"])
def test_a_config_that_cannot_be_read(adapters, text):
    (adapters[0] / "adapter_config.json").write_text(text)
    with pytest.raises(PolicyNotFound):
        load_policy(adapters[0])


def test_prompt_tuning_is_no_adapter_of_layers(tmp_path):
    base = load_policy("builtin/tiny")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    peft.get_peft_model(base.model, config).save_pretrained(tmp_path)
    with pytest.raises(PolicyNotFound, match="virtual tokens"):
        load_policy(tmp_path)


def test_further_adapters_are_refused(adapters):
    with pytest.raises(ValueError, match=r"has adapters already.*lora_rank=8"):
        load_policy(adapters[0], lora_rank=8)


def test_without_peft_the_package_is_named(adapters, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else find(name))
    with pytest.raises(ImportError, match=r"llm-envs\[lora\]"):
        load_policy(adapters[0])


def test_a_models_config_beside_them_changes_nothing(adapters):
    folder, policy = adapters
    load_policy("builtin/tiny").model.config.save_pretrained(folder)
    assert torch.equal(logits(load_policy(folder)), logits(policy))


def test_adapters_that_transformers_would_freeze_into_the_model_are_refused(adapters):
    """What a name on the hub that has adapters comes to: there is no folder to look into before."""
    with pytest.raises(PolicyNotFound, match="fetch it into a folder"):
        load_model(adapters[0], torch.float32)


def test_the_command_line_takes_it(adapters, capsys, tmp_path):
    arguments = ["--problems", "4", "--samples", "2", "--env", ARITHMETIC]
    assert run(["evaluate", str(adapters[0]), *arguments]) == 0
    assert "4 problems" in capsys.readouterr().out
    edit(adapters[0], base_model_name_or_path="/nowhere/model")
    assert run(["evaluate", str(adapters[0]), *arguments]) == 2
    assert "belong to the model '/nowhere/model'" in capsys.readouterr().err


def test_adapters_are_named_on_the_hub(adapters, monkeypatch):
    folder, _ = adapters
    asked = []
    monkeypatch.setattr(loading, "find_adapter_config_file", lambda name: str(folder / "adapter_config.json"))
    monkeypatch.setattr(loading, "cached_file", lambda name, file, **options: asked.append((name, file)))
    policy = load_policy("user/adapter")
    assert ("user/adapter", "adapter_model.safetensors") in asked
    assert policy.has_adapters
    assert torch.equal(logits(policy), logits(load_policy(folder)))


def test_adapters_on_the_hub_that_cannot_be_fetched_are_said_to_be_so(monkeypatch):
    def gone(name, file, **options):
        raise OSError("no network")

    monkeypatch.setattr(loading, "find_adapter_config_file", lambda name: "adapter_config.json")
    monkeypatch.setattr(loading, "cached_file", gone)
    with pytest.raises(PolicyNotFound, match=r"adapters 'user/adapter' on the hub cannot be fetched: no network"):
        load_policy("user/adapter")


@pytest.mark.parametrize("name", ["builtin/tiny", "./somewhere", "a/b/c", "/nowhere", "x.gguf"])
def test_names_that_are_none_of_the_hub_are_not_looked_up(name, monkeypatch):
    monkeypatch.setattr(loading, "find_adapter_config_file", lambda name: pytest.fail("asked the hub"))
    assert loading._adapters_of_hub(name) is None


@pytest.mark.parametrize(
    ("files", "advice"),
    [
        ([], "The folder is empty"),
        (["notes.txt"], r"has no config.json and no weights .* and no tokenizer"),
        (["config.json", "tokenizer.json"], r"has no weights \(model.safetensors\)"),
        (["model.Q4.gguf"], "has a .gguf file: name it"),
        (["checkpoint/policy/config.json", "metrics.jsonl"], "The model of this run is in .*checkpoint/policy"),
        (["policy/config.json", "agent.json"], "The model of this run is in .*policy"),
    ],
)
def test_a_folder_without_a_model_is_told_what_it_lacks(files, advice, tmp_path):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    with pytest.raises(PolicyNotFound, match=advice):
        load_policy(tmp_path)
