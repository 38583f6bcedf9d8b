"""What a checkpoint folder may be, and what is said of one that cannot be read."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from agents import GRPO, GRPOAgent, GRPOConfig, SB3Agent, load_agent, load_policy
from agents.checkpoint import CheckpointError
from agents.envs import env_spec, env_state, importable_id
from agents.objectives import DAPO
from agents.policies import LanguageModelPolicy
from agents.sb3.config import SB3Config
from llm_envs import Problem, register_task
from llm_envs.curriculum import register_curriculum
from llm_envs.wrappers import PromptTemplate
from rewards.base import RewardResult
from rewards.math import MathReward
from tests.learned import weights_learned, weights_of

ARITHMETIC = "llm_envs/Arithmetic-v0"
SMALL = GRPOConfig(prompts_per_update=4, group_size=4, max_completion_tokens=24)


def small_agent(policy="builtin/tiny", env=ARITHMETIC, **kwargs) -> GRPOAgent:
    return GRPOAgent(policy, env, **{"config": SMALL, "device": "cpu", **kwargs})


EVEN = "test/EvenLengths-v0"


def even_lengths(prompts, completions, references):
    """A reward that random text earns in about half of the cases, so that every group has something to teach."""
    return [
        RewardResult(float(len(text) % 2 == 0), "correct" if len(text) % 2 == 0 else "wrong") for text in completions
    ]


@pytest.fixture(autouse=True, scope="module")
def even_lengths_task():
    @register_task(EVEN, reward=even_lengths)
    def sampler(rng, digits: int = 6):
        return Problem(f"Write {rng.integers(10**digits)} letters.", reference="1")

    yield
    del gymnasium.registry[EVEN]


@pytest.fixture
def climb(even_lengths_task):
    levels = [{"digits": digits} for digits in (4, 5, 6)]
    register_curriculum("test/Climb-v0", EVEN, levels, threshold=0.01, window=16)
    yield "test/Climb-v0"
    del gymnasium.registry["test/Climb-v0"]


# -- where ------------------------------------------------------------------------------------------------------------


def test_saving_does_not_delete_what_is_no_checkpoint(tmp_path):
    agent = small_agent()
    (tmp_path / "notes.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(CheckpointError, match="is no checkpoint"):
            agent.save(place)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    agent.save(tmp_path / "empty")
    assert load_agent(tmp_path / "empty", device="cpu").num_updates == 0


def test_a_checkpoint_behind_a_link_or_in_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    agent = small_agent()
    for updates in (0, 1, 2):
        agent.learn(16 * updates) if updates else None
        agent.save(tmp_path / "link")
        assert load_agent(tmp_path / "link", device="cpu").num_updates == updates
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link"]
    monkeypatch.chdir(tmp_path / "disk")
    assert load_agent(".", device="cpu").num_updates == 2


# -- damage -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "agent"
    agent = small_agent().learn(16)
    assert agent.optimizer.state  # a group in its update had something to teach
    agent.save(path)
    return path


def cut(file):
    file.write_bytes(file.read_bytes()[:1000])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "agent.json").write_text("[]"),
        lambda path: (path / "agent.json").write_bytes(b"\xff\xfe"),
        lambda path: (path / "agent.json").write_text('{"format": 1}'),
        lambda path: (path / "agent.json").write_text(
            json.dumps(json.loads((path / "agent.json").read_text()) | {"config": {"unknown": 1}})
        ),
        lambda path: cut(path / "policy" / "model.safetensors"),
        lambda path: (path / "policy" / "model.safetensors").unlink(),
        lambda path: shutil.rmtree(path / "policy"),
        lambda path: shutil.rmtree(path / "reference"),
    ],
    ids=["a list", "no text", "foreign", "other fields", "cut weights", "no weights", "no policy", "no reference"],
)
def test_damage_is_an_error_that_names_the_file(saved, tmp_path, damage):
    path = tmp_path / "agent"
    shutil.copytree(saved, path)
    damage(path)
    with pytest.raises(CheckpointError, match=str(path)):
        load_agent(path, device="cpu")


def test_an_objective_with_a_reference_cannot_replace_one_without(tmp_path):
    small_agent(objective=DAPO()).save(tmp_path / "agent")
    with pytest.raises(CheckpointError, match="reference"):
        GRPOAgent.load(tmp_path / "agent", objective=GRPO(), device="cpu")


# -- the policy -------------------------------------------------------------------------------------------------------


def test_parameters_that_were_frozen_stay_frozen(random_policy, tmp_path):
    policy = random_policy("llama")
    policy.model.model.embed_tokens.requires_grad_(False)
    agent = small_agent(policy, EVEN).learn(32)
    agent.save(tmp_path / "agent")
    loaded = GRPOAgent.load(tmp_path / "agent", device="cpu")
    assert list(loaded._parameters) == list(agent._parameters)
    assert torch.equal(weights_learned(loaded, 48), weights_learned(agent, 48))


@pytest.mark.parametrize(
    ("base", "precision"), [(torch.float32, "bfloat16"), (torch.bfloat16, "float32"), (torch.bfloat16, "bfloat16")]
)
def test_the_model_below_adapters_keeps_its_type(micro_policy, tmp_path, base, precision):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    micro_policy.save(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=base)
    model = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    agent = small_agent(LanguageModelPolicy(model, micro_policy.tokenizer, precision=precision), EVEN).learn(32)
    agent.save(tmp_path / "agent")
    resumed = load_agent(tmp_path / "agent", device="cpu")
    assert torch.equal(weights_learned(resumed, 48), weights_learned(agent, 48))


def test_adapters_find_the_model_they_belong_to(micro_policy, tmp_path):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    def adapted(model):
        config = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
        return LanguageModelPolicy(peft.get_peft_model(model, config), micro_policy.tokenizer)

    micro_policy.save(tmp_path / "base")
    agent = small_agent(adapted(AutoModelForCausalLM.from_pretrained(tmp_path / "base")), EVEN)
    weights_learned(agent, 16)
    agent.save(tmp_path / "agent")
    assert torch.equal(weights_of(load_agent(tmp_path / "agent", device="cpu")), weights_of(agent))
    cut(tmp_path / "agent" / "policy" / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="adapters"):
        load_agent(tmp_path / "agent", device="cpu")
    small_agent(adapted(micro_policy.model)).save(tmp_path / "nameless")
    with pytest.raises(CheckpointError, match="no name"):
        load_agent(tmp_path / "nameless", device="cpu")


# -- the environment --------------------------------------------------------------------------------------------------


def test_seeds_and_arguments_may_be_numbers_of_numpy_and_paths(tmp_path):
    @register_task("test/Numbers-v0", reward=even_lengths)
    def sampler(rng, high: int = 9, path: object = ""):
        return Problem(f"What is {rng.integers(high * 10**6)} + 1, {path}?", reference="1")

    env = gymnasium.make("test/Numbers-v0", high=np.int64(3), path=Path("here"))
    agent = small_agent(env=env, seed=np.int64(7)).learn(16)
    agent.save(tmp_path / "agent")
    loaded = load_agent(tmp_path / "agent", device="cpu")
    assert (loaded.seed, loaded.env_spec.kwargs) == (7, {"high": 3, "path": "here"})
    assert torch.equal(weights_learned(loaded, 32), weights_learned(agent, 32))
    with pytest.raises(TypeError, match=r"policy\.save"):
        small_agent(env=gymnasium.make("test/Numbers-v0", path=frozenset({1}))).save(tmp_path / "set")
    load_agent(tmp_path / "agent", gymnasium.make("test/Numbers-v0", path=frozenset({1})), device="cpu")
    del gymnasium.registry["test/Numbers-v0"]


def test_an_environment_with_wrappers_is_not_silently_one_without(tmp_path):
    env = PromptTemplate(gymnasium.make(EVEN), "Hello. {prompt}")
    agent = small_agent(env=env)
    agent.learn(16).save(tmp_path / "agent")
    with pytest.raises(CheckpointError, match="PromptTemplate"):
        load_agent(tmp_path / "agent", device="cpu")
    resumed = GRPOAgent.load(tmp_path / "agent", env, device="cpu")
    assert torch.equal(weights_learned(resumed, 32), weights_learned(agent, 32))


@pytest.mark.parametrize("kind", ["grpo", "sb3"])
def test_the_same_task_goes_on_and_another_begins_anew(climb, tmp_path, kind):
    def agent():
        if kind == "grpo":
            return small_agent(env=climb)
        return SB3Agent("builtin/tiny", climb, config=SB3Config(num_envs=16, max_completion_tokens=12), device="cpu")

    straight, first = agent().learn(64), agent().learn(32)
    first.save(tmp_path / "agent")
    assert env_state_of(first)["level"] > 0
    resumed = load_agent(tmp_path / "agent", climb, device="cpu")
    assert env_state_of(resumed) == env_state_of(first)
    assert torch.equal(weights_learned(resumed, 64), weights_of(straight))
    other = load_agent(tmp_path / "agent", gymnasium.make(climb, start=0), device="cpu")
    assert env_state_of(other)["level"] == 0
    assert load_agent(tmp_path / "agent", ARITHMETIC, device="cpu").learn(48).num_updates == 3


def env_state_of(agent):
    envs = agent.envs
    return env_state(envs) if isinstance(agent, GRPOAgent) else env_state(envs._vector_env(envs.num_envs))


def test_what_was_written_to_one_task_is_no_beginning_in_another(tmp_path):
    config = SB3Config(num_envs=8, n_steps=10, max_completion_tokens=12)
    agent = SB3Agent("builtin/tiny", ARITHMETIC, view="token", config=config, device="cpu").learn(16)
    assert any(agent.envs._written)
    agent.save(tmp_path / "agent")
    assert SB3Agent.load(tmp_path / "agent", ARITHMETIC, device="cpu").envs._written == agent.envs._written
    other = SB3Agent.load(tmp_path / "agent", "llm_envs/NumberTheory-v0", device="cpu")
    assert not any(other.envs._written)
    assert other.learn(32).num_episodes >= 32


def test_a_curriculum_is_found_by_another_process_where_it_was_registered(climb):
    assert importable_id(env_spec(climb)) == f"{__name__}:{climb}"
    assert importable_id(env_spec(ARITHMETIC)) == ARITHMETIC


def test_a_policy_of_adapters_has_no_frozen_parameters():
    pytest.importorskip("peft")
    assert load_policy("builtin/tiny", lora_rank=2).frozen_parameters == []


# -- bits that have changed -------------------------------------------------------------------------------------------


def flip(file: Path, place: float, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1 << bit
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "place", "bit"),
    [
        ("policy/model.safetensors", 0.5, 0),  # the last bit of a weight
        ("policy/model.safetensors", 1.0, 6),
        ("policy/tokenizer.json", 0.3, 1),
        ("reference/model.safetensors", 0.7, 3),
        ("optimizer.safetensors", 0.9, 0),
        ("optimizer.safetensors", 0.02, 5),
        ("checksums.json", 0.4, 1),
    ],
)
def test_a_bit_that_has_changed_is_found(saved, tmp_path, name, place, bit):
    path = tmp_path / "agent"
    shutil.copytree(saved, path)
    load_agent(path, device="cpu")
    flip(path / name, place, bit)
    with pytest.raises(CheckpointError, match=str(path)):
        load_agent(path, device="cpu")


def test_a_changed_number_of_the_state_is_found(saved, tmp_path):
    path = tmp_path / "agent"
    shutil.copytree(saved, path)
    file = path / "agent.json"
    file.write_text(file.read_text().replace('"num_updates": 1', '"num_updates": 2'))
    with pytest.raises(CheckpointError, match=r"agent\.json is not what was written.*delete checksums\.json"):
        load_agent(path, device="cpu")
    (path / "checksums.json").unlink()  # as the message says
    assert load_agent(path, device="cpu").num_updates == 2


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("part", ["policy", "optimizer"])
def test_weights_that_are_lost_are_neither_saved_nor_loaded(saved, tmp_path, part, value):
    path = tmp_path / "agent"
    shutil.copytree(saved, path)
    agent = load_agent(path, device="cpu")
    name, parameter = next(iter(agent._parameters.items()))
    damaged = parameter.data if part == "policy" else agent.optimizer.state[parameter]["exp_avg"]
    damaged.view(-1)[-1] = value
    with pytest.raises(FloatingPointError, match=f"after update 1, {name}.* is not finite"):
        agent.save(path)
    assert load_agent(path, device="cpu").num_updates == 1
    file = path / {"policy": "policy/model.safetensors", "optimizer": "optimizer.safetensors"}[part]
    tensors = load_file(file)
    next(iter(tensors.values())).view(-1)[0] = value
    save_file(tensors, file, metadata={"format": "pt"})
    (path / "checksums.json").unlink()
    with pytest.raises(CheckpointError, match="is not finite"):
        load_agent(path, device="cpu")


def test_a_policy_that_is_lost_learns_nothing(micro_policy):
    next(micro_policy.model.parameters()).data[0] = math.nan
    with pytest.raises(ValueError, match="is not finite"):
        small_agent(micro_policy)


# -- what comes back as it was ----------------------------------------------------------------------------------------


def test_a_plain_policy_stays_plain(random_policy, tmp_path):
    made = random_policy("llama")
    policy = LanguageModelPolicy(made.model, made.tokenizer, plain=True)
    agent = small_agent(policy, EVEN).learn(16)
    agent.save(tmp_path / "agent")
    loaded = load_agent(tmp_path / "agent", device="cpu")
    assert (loaded.policy.plain, loaded.policy.packed_model) == (True, None)
    assert torch.equal(weights_learned(loaded, 32), weights_learned(agent, 32))


@pytest.mark.parametrize(
    "sizes", [(1, 2), ((1, 2), (3,)), [1, (2, [3])], {"a": (1,), "b": [1]}, (), [()], ("x", None, True, 1.5)]
)
def test_tuples_among_the_arguments_come_back_as_tuples(sizes, tmp_path):
    seen = []

    @register_task("test/Sizes-v0", reward=MathReward())
    def sampler(rng, sizes=()):
        seen.append(sizes)
        return Problem(f"What is {rng.integers(100)}?", reference="1")

    agent = small_agent(env=gymnasium.make("test/Sizes-v0", sizes=sizes))
    agent.learn(16).save(tmp_path / "agent")
    loaded = load_agent(tmp_path / "agent", device="cpu")
    again = load_agent(tmp_path / "agent", gymnasium.make("test/Sizes-v0", sizes=sizes), device="cpu")
    del gymnasium.registry["test/Sizes-v0"]
    for one in (loaded, again):
        assert repr(one.env_spec.kwargs) == repr({"sizes": sizes})
        assert one.num_updates == 1
    assert {repr(one) for one in seen} == {repr(sizes)}


@pytest.mark.parametrize(("written", "by"), [(1, "version 0.1"), (99, "a later version")])
def test_a_checkpoint_of_another_version_says_what_to_do(saved, tmp_path, written, by):
    path = tmp_path / "agent"
    shutil.copytree(saved, path)
    file = path / "agent.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": written}))
    with pytest.raises(CheckpointError, match=f"written by {by} .*--policy {path / 'policy'}, or load_policy"):
        load_agent(path, device="cpu")
    assert load_policy(path / "policy").model is not None
