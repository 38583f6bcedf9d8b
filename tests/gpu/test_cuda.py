from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from agents import GRPO, GRPOAgent, GRPOConfig, evaluate, load_policy
from agents.cli.app import run
from agents.engines import CachedEngine, StaticCacheEngine, default_engine
from agents.evaluation.estimates import paired_difference
from agents.policies import LanguageModelPolicy
from agents.rollout import GroupBatch, Rollout, SamplingParams

ARITHMETIC = "llm_envs/Arithmetic-v0"
FAMILIES = [
    ("llama", {}),
    ("mistral", {"sliding_window": 24}),
    ("gemma3_text", {"head_dim": 8, "sliding_window": 20, "query_pre_attn_scalar": 8}),
]
PROMPTS = ["What is 1 + 1? End with \\boxed{answer}.", "What is 2 + 2 * (6 - 8)? End with \\boxed{answer}."]


def generate(policy, sampling, group_size=4, make_engine=default_engine):
    ids = policy.encode_prompts(PROMPTS)
    groups = make_engine(policy).generate(ids, group_size, sampling, seed=0)
    rollouts = [
        Rollout(0, prompt, prompt_ids, completion, "", float(i % 2), "", None, None)
        for prompt, prompt_ids, group in zip(PROMPTS, ids, groups, strict=True)
        for i, completion in enumerate(group)
    ]
    return GroupBatch.from_rollouts(rollouts, group_size, policy.pad_token_id, policy.device)


def on_cpu(batch: GroupBatch) -> GroupBatch:
    tensors = {name: getattr(batch, name) for name in batch.__slots__}
    return replace(batch, **{name: t.cpu() for name, t in tensors.items() if isinstance(t, torch.Tensor)})


def test_auto_means_cuda_and_bfloat16():
    agent = GRPOAgent("builtin/tiny", ARITHMETIC)
    assert agent.policy.device.type == "cuda"
    assert agent.policy.precision == "bfloat16"
    assert {parameter.dtype for parameter in agent.policy.model.parameters()} == {torch.float32}


def test_greedy_decoding_is_the_same_on_both_devices():
    sampling = SamplingParams(32, temperature=0)
    batches = [
        generate(load_policy("builtin/tiny", device=device, precision="float32"), sampling, group_size=1)
        for device in ("cpu", "cuda")
    ]
    assert torch.equal(batches[0].completion_ids, batches[1].completion_ids.cpu())


def test_engines_agree_on_cuda():
    """The same random numbers: the same tokens, but where rounding decides between two."""
    policy = load_policy("builtin/tiny", device="cuda", precision="float32")
    fast, plain = (generate(policy, SamplingParams(32), 16, engine) for engine in (default_engine, CachedEngine))
    equal = sum(
        torch.equal(a[m.bool()], b[n.bool()])
        for a, m, b, n in zip(
            fast.completion_ids, fast.completion_mask, plain.completion_ids, plain.completion_mask, strict=True
        )
        if m.sum() == n.sum()
    )
    assert equal >= 30  # of 32
    mask = fast.completion_mask.bool()
    assert torch.allclose(policy.logprobs(fast)[mask], fast.sampler_logprobs[mask], atol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("vocabulary", [None, 50_000])
@pytest.mark.parametrize("sampling", [SamplingParams(100), SamplingParams(100, 0.7, top_k=200, top_p=0.9)], ids=str)
def test_cuda_graphs_do_the_same(caplog, random_policy, precision, vocabulary, sampling):
    """Steps from a graph against steps kernel by kernel, over halvings of the slots and growth of the cache.

    Large vocabularies are sorted by other kernels.
    """
    on_cpu = random_policy("llama", **({} if vocabulary is None else {"vocab_size": vocabulary}))
    policy = LanguageModelPolicy(on_cpu.model, on_cpu.tokenizer, device="cuda", precision=precision)
    policy.model.generation_config.eos_token_id = list(range(0, policy.model.config.vocab_size, 40))
    captured, plain = (
        generate(policy, sampling, 64, lambda policy, capture=capture: StaticCacheEngine(policy, capture=capture))
        for capture in ("auto", None)
    )
    assert not caplog.records  # it was captured
    lengths = captured.completion_mask.sum(1)
    assert lengths.unique().numel() > 10
    assert lengths.max() > 66  # the cache has grown
    equal = sum(
        torch.equal(a[m.bool()], b[n.bool()])
        for a, m, b, n in zip(
            captured.completion_ids, captured.completion_mask, plain.completion_ids, plain.completion_mask, strict=True
        )
        if m.sum() == n.sum()
    )
    assert equal >= (120 if precision == "float32" else 64)  # of 128


def test_logprobs_loss_and_gradients_agree_with_the_cpu():
    cuda, cpu = (load_policy("builtin/tiny", device=device, precision="float32") for device in ("cuda", "cpu"))
    batch = generate(cuda, SamplingParams(32))
    objective = GRPO()
    results = {}
    for name, policy, b in (("cuda", cuda, batch), ("cpu", cpu, on_cpu(batch))):
        b = replace(b, advantages=objective.advantages(b.rewards), ref_logprobs=policy.logprobs(b).detach() - 0.1)
        logprobs = policy.logprobs(b)
        loss, _ = objective.loss(b, logprobs)
        loss.backward()
        gradient = torch.cat([p.grad.flatten().cpu() for _, p in policy.trainable_parameters()])
        mask = b.completion_mask.bool()
        results[name] = (logprobs.detach()[mask].cpu(), loss.item(), gradient)
    assert torch.allclose(results["cuda"][0], results["cpu"][0], atol=1e-4)
    assert torch.allclose(batch.sampler_logprobs[batch.completion_mask.bool()].cpu(), results["cpu"][0], atol=1e-4)
    assert results["cuda"][1] == pytest.approx(results["cpu"][1], rel=1e-3)
    difference = (results["cuda"][2] - results["cpu"][2]).norm() / results["cpu"][2].norm()
    assert difference < 1e-3


def test_bfloat16_scores_near_float32():
    batch = generate(load_policy("builtin/tiny", device="cuda", precision="float32"), SamplingParams(32))
    exact = load_policy("builtin/tiny", device="cuda", precision="float32").logprobs(batch)
    rounded = load_policy("builtin/tiny", device="cuda", precision="bfloat16").logprobs(batch)
    mask = batch.completion_mask.bool()
    assert rounded.dtype == torch.float32
    assert (rounded - exact)[mask].abs().mean() < 0.05
    assert (rounded - exact)[mask].abs().max() > 0  # it really ran in bfloat16


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_reference_may_stay_on_the_cpu(precision):
    config = GRPOConfig(prompts_per_update=4, group_size=4, max_completion_tokens=24)
    elsewhere, beside = (
        GRPOAgent(
            load_policy("builtin/tiny", device="cuda", precision=precision),
            ARITHMETIC,
            config=replace(config, reference_device=place),
            objective=GRPO(kl_coef=0.5),
        )
        for place in ("cpu", "policy")
    )
    assert {parameter.device.type for parameter in elsewhere.policy.reference.parameters()} == {"cpu"}
    batch = generate(beside.policy, SamplingParams(24))
    mask = batch.completion_mask.bool()
    found, expected = (agent.policy.reference_logprobs(batch)[mask] for agent in (elsewhere, beside))
    assert found.device.type == "cuda"
    assert (found - expected).abs().mean() < (1e-5 if precision == "float32" else 0.05)
    elsewhere.learn(32)
    assert elsewhere.num_updates == 2


@pytest.mark.parametrize("devices", [("cuda", "cuda"), ("cuda", "cpu"), ("cpu", "cuda")])
def test_a_checkpoint_goes_on_on_either_device(tmp_path, devices):
    config = GRPOConfig(prompts_per_update=4, group_size=4, max_completion_tokens=24)
    first, second = devices
    GRPOAgent("builtin/tiny", ARITHMETIC, config=config, device=first).learn(32).save(tmp_path / "agent")
    resumed = GRPOAgent.load(tmp_path / "agent", device=second).learn(48)
    assert resumed.num_updates == 3
    assert resumed.policy.device.type == second


@pytest.mark.parametrize(("architecture", "extra"), FAMILIES)
def test_families_sample_what_they_score(caplog, random_policy, architecture, extra):
    on_cpu = random_policy(architecture, **extra)
    policy = LanguageModelPolicy(on_cpu.model, on_cpu.tokenizer, device="cuda", precision="float32")
    batch = generate(policy, SamplingParams(40))
    mask = batch.completion_mask.bool()
    assert torch.allclose(policy.logprobs(batch)[mask], batch.sampler_logprobs[mask], atol=1e-4)
    assert not caplog.records


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_adapters_sample_what_they_score(caplog, precision):
    pytest.importorskip("peft")
    policy = load_policy("builtin/tiny", device="cuda", precision=precision, lora_rank=4)
    assert policy.packed_model is not None
    with torch.no_grad():
        for name, parameter in policy.trainable_parameters():
            if "lora_B" in name:
                parameter.add_(0.02)
    batch = generate(policy, SamplingParams(40))
    mask = batch.completion_mask.bool()
    error = (policy.logprobs(batch).detach() - batch.sampler_logprobs)[mask].abs()
    assert error.max() < (1e-4 if precision == "float32" else 0.5)
    assert error.mean() < (1e-5 if precision == "float32" else 0.05)
    assert not caplog.records


@pytest.mark.parametrize("rank", [None, 4])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_agent_learns_and_is_evaluated(tmp_path, precision, rank):
    """With a reference and in micro-batches, over a checkpoint."""
    if rank is not None:
        pytest.importorskip("peft")
    policy = load_policy("builtin/tiny", device="cuda", precision=precision, lora_rank=rank)
    config = GRPOConfig(prompts_per_update=2, group_size=4, epochs=1, micro_batch_size=4, max_completion_tokens=20)
    agent = GRPOAgent(policy, ARITHMETIC, objective=GRPO(kl_coef=0.1), config=config).learn(8)
    before = [parameter.detach().clone() for _, parameter in policy.trainable_parameters()]
    agent.save(tmp_path / "agent")
    resumed = GRPOAgent.load(tmp_path / "agent", device="cuda").learn(24)  # one update may have nothing to learn from
    after = [parameter for _, parameter in resumed.policy.trainable_parameters()]
    assert not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert evaluate(resumed, problems=2, samples=2).problems == 2


@pytest.mark.learning
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_main_job(precision):
    agent = GRPOAgent("builtin/tiny", ARITHMETIC, seed=0, device="cuda", precision=precision)
    before = evaluate(agent, problems=300)
    agent.learn(11_520)
    after = evaluate(agent, problems=300)
    gain = paired_difference(before.sampled_accuracy_by_problem(), after.sampled_accuracy_by_problem())
    assert gain.value > 0.40
    assert after.pass_at_k[1].value > 0.82
    assert after.greedy.value > 0.90


@pytest.mark.learning
def test_the_command_line_runs_on_cuda(tmp_path, capsys):
    assert run(["train", "--total-episodes", "1024", "--run-dir", str(tmp_path / "run"), "--device", "cuda"]) == 0
    out = capsys.readouterr().out
    assert "cuda" in out
    assert "Held-out accuracy" in out
