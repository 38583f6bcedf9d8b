from __future__ import annotations

import pytest
import torch

from agents.engines import CachedEngine
from agents.engines.cached import sample
from agents.rollout import GroupBatch, Rollout, SamplingParams

PROMPTS = ["What is 1 + 1?", "What is 2 + 2 * 6 - 8 * (4 + 4)? End with \\boxed{answer}.", "Hi"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("max_rows", [1, 3, 1024])
def test_greedy_equals_transformers_generate(micro_policy, max_rows):
    """The slow, plain twin, one prompt at a time and without padding."""
    prompt_ids = micro_policy.encode_prompts(PROMPTS)
    engine = CachedEngine(micro_policy, max_rows=max_rows)
    groups = engine.generate(prompt_ids, 1, SamplingParams(12, temperature=0), generator())
    for ids, [completion] in zip(prompt_ids, groups, strict=True):
        plain = micro_policy.model.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False)[0, len(ids) :]
        assert completion.ids == plain.tolist()


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_reported_logprobs_are_those_of_the_policy(micro_policy, temperature):
    """Sampler and trainer agree although one has a cache, no padding after the end, and rows that leave the batch."""
    prompt_ids = micro_policy.encode_prompts(PROMPTS)
    groups = CachedEngine(micro_policy).generate(prompt_ids, 4, SamplingParams(20, temperature), generator())
    rollouts = [
        Rollout(0, "", ids, completion, "", 0.0, "wrong", None, None)
        for ids, group in zip(prompt_ids, groups, strict=True)
        for completion in group
    ]
    batch = GroupBatch.from_rollouts(rollouts, 4, micro_policy.pad_token_id)
    scored = micro_policy.logprobs(batch, temperature or 1.0)
    mask = batch.completion_mask.bool()
    assert torch.allclose(scored[mask], batch.sampler_logprobs[mask], atol=2e-5)
    assert len({tuple(c.ids) for c in groups[0]}) == (1 if temperature == 0 else 4)


def test_completions_end_with_the_end_token_and_nothing_after_it(micro_policy):
    end = micro_policy.tokenizer.eos_token_id
    prompt_ids = micro_policy.encode_prompts(PROMPTS)
    with torch.no_grad():  # make the end token likely
        micro_policy.model.lm_head.weight[end] = micro_policy.model.lm_head.weight.mean(0)
    groups = CachedEngine(micro_policy).generate(prompt_ids, 64, SamplingParams(200), generator())
    completions = [completion for group in groups for completion in group]
    lengths = {len(completion.ids) for completion in completions}
    assert len(lengths) > 20
    for completion in completions:
        assert end not in completion.ids[:-1]
        assert completion.truncated == (completion.ids[-1] != end)
        assert len(completion.ids) == len(completion.logprobs) <= 200
        assert not completion.truncated or len(completion.ids) == 200


def test_rows_that_end_leave_the_batch(micro_policy):
    end = micro_policy.tokenizer.eos_token_id
    with torch.no_grad():
        micro_policy.model.lm_head.weight[end] = micro_policy.model.lm_head.weight.mean(0)
    sizes = []
    forward = micro_policy.model.forward

    def counting(input_ids, **kwargs):
        sizes.append(len(input_ids))
        return forward(input_ids=input_ids, **kwargs)

    micro_policy.model.forward = counting
    CachedEngine(micro_policy).generate(micro_policy.encode_prompts(PROMPTS), 32, SamplingParams(100), generator())
    assert sizes[0] == 3  # each prompt once
    assert sizes[1:] == sorted(sizes[1:], reverse=True)
    assert sizes[-1] < sizes[1]


def test_a_completion_that_ends_at_the_limit_is_not_truncated(micro_policy):
    micro_policy.model.generation_config.eos_token_id = list(range(len(micro_policy.tokenizer)))  # any token ends
    [[completion]] = CachedEngine(micro_policy).generate([[1, 2]], 1, SamplingParams(1), generator())
    assert len(completion.ids) == 1
    assert not completion.truncated


def test_equal_seeds_repeat_and_others_do_not(micro_policy):
    engine = CachedEngine(micro_policy)
    ids = micro_policy.encode_prompts(PROMPTS)
    first = engine.generate(ids, 2, SamplingParams(10), generator(1))
    assert engine.generate(ids, 2, SamplingParams(10), generator(1)) == first
    assert engine.generate(ids, 2, SamplingParams(10), generator(2)) != first


def test_samples_follow_the_distribution():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]]).repeat(200_000, 1)
    for temperature in (0.5, 1.0, 2.0):
        ids, logprobs = sample(logits, temperature, generator())
        expected = torch.softmax(logits[0] / temperature, 0)
        seen = torch.bincount(ids, minlength=4) / len(ids)
        assert torch.allclose(seen, expected, atol=0.005)  # four standard errors
        assert torch.allclose(logprobs.exp(), expected[ids], atol=1e-6)


def test_greedy_touches_no_randomness():
    g = generator()
    before = g.get_state()
    ids, logprobs = sample(torch.tensor([[0.0, 3.0]]), 0.0, g)
    assert ids.tolist() == [1]
    assert logprobs.item() == pytest.approx(torch.log_softmax(torch.tensor([0.0, 3.0]), 0)[1].item())
    assert torch.equal(g.get_state(), before)


@pytest.mark.parametrize(("prompts", "group_size"), [([], 1), ([[]], 1), ([[1]], 0)])
def test_empty_input_is_refused(micro_policy, prompts, group_size):
    with pytest.raises(ValueError, match="at least"):
        CachedEngine(micro_policy).generate(prompts, group_size, SamplingParams(1), generator())


def test_max_rows_must_be_positive(micro_policy):
    with pytest.raises(ValueError, match="max_rows"):
        CachedEngine(micro_policy, max_rows=0)
