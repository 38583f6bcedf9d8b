"""What every engine promises, on one small Llama."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from agents.engines import CachedEngine, StaticCacheEngine, default_engine
from agents.engines.prompt_cache import without_gaps
from agents.policies import load_policy
from agents.rollout import GroupBatch, Rollout, SamplingParams

PROMPTS = ["What is 1 + 1?", "What is 2 + 2 * 6 - 8 * (4 + 4)? End with \\boxed{answer}.", "Hi"]


def captured_engine(policy, max_rows=1024, capture=lambda step: step):
    """Steps of constant size, as a CUDA graph holds them, run as they are."""
    return StaticCacheEngine(policy, max_rows, capture)


ENGINES = (CachedEngine, StaticCacheEngine, captured_engine)


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.__name__)
def engine_class(request):
    return request.param


def likely_end(policy):
    """Make the end token likely, so that rows end at many different lengths."""
    end = policy.tokenizer.eos_token_id
    with torch.no_grad():
        policy.model.lm_head.weight[end] = policy.model.lm_head.weight.mean(0)
    return end


@pytest.mark.parametrize("max_rows", [1, 3, 1024])
def test_greedy_equals_transformers_generate(micro_policy, engine_class, max_rows):
    """The slow, plain twin, one prompt at a time and without padding."""
    prompt_ids = micro_policy.encode_prompts(PROMPTS)
    engine = engine_class(micro_policy, max_rows=max_rows)
    groups = engine.generate(prompt_ids, 1, SamplingParams(12, temperature=0), seed=0)
    for ids, [completion] in zip(prompt_ids, groups, strict=True):
        plain = micro_policy.model.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False)[0, len(ids) :]
        assert completion.ids == plain.tolist()


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_reported_logprobs_are_those_of_the_policy(micro_policy, engine_class, temperature):
    """Sampler and trainer agree although one has a cache, no padding after the end, and rows that leave the batch."""
    prompt_ids = micro_policy.encode_prompts(PROMPTS)
    groups = engine_class(micro_policy).generate(prompt_ids, 4, SamplingParams(20, temperature), seed=0)
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


def test_completions_end_with_the_end_token_and_nothing_after_it(micro_policy, engine_class):
    end = likely_end(micro_policy)
    prompt_ids = micro_policy.encode_prompts(PROMPTS)
    groups = engine_class(micro_policy).generate(prompt_ids, 64, SamplingParams(200), seed=0)
    completions = [completion for group in groups for completion in group]
    lengths = {len(completion.ids) for completion in completions}
    assert len(lengths) > 20
    for completion in completions:
        assert end not in completion.ids[:-1]
        assert completion.truncated == (completion.ids[-1] != end)
        assert len(completion.ids) == len(completion.logprobs) <= 200
        assert not completion.truncated or len(completion.ids) == 200


@pytest.mark.parametrize("engine_class", ENGINES[:2])
def test_rows_that_end_leave_the_batch(micro_policy, engine_class):
    likely_end(micro_policy)
    sizes = []
    if engine_class is CachedEngine:
        forward = micro_policy.model.forward
        micro_policy.model.forward = lambda input_ids, **kwargs: (
            sizes.append(len(input_ids)) or forward(input_ids=input_ids, **kwargs)
        )
    else:
        hidden = micro_policy.packed_model.hidden
        micro_policy.packed_model.hidden = lambda ids, *args: sizes.append(len(ids)) or hidden(ids, *args)
    ids = micro_policy.encode_prompts(PROMPTS)
    engine_class(micro_policy).generate(ids, 32, SamplingParams(100), seed=0)
    # each prompt once: as a row, or token by token
    assert sizes[0] == (3 if engine_class is CachedEngine else sum(map(len, ids)))
    assert sizes[1] <= 96
    assert sizes[1:] == sorted(sizes[1:], reverse=True)
    assert sizes[-1] < sizes[1]


def test_a_completion_that_ends_at_the_limit_is_not_truncated(micro_policy, engine_class):
    micro_policy.model.generation_config.eos_token_id = list(range(len(micro_policy.tokenizer)))  # any token ends
    [[completion]] = engine_class(micro_policy).generate([[1, 2]], 1, SamplingParams(1), seed=0)
    assert len(completion.ids) == 1
    assert not completion.truncated


def test_equal_seeds_repeat_and_others_do_not(micro_policy, engine_class):
    engine = engine_class(micro_policy)
    ids = micro_policy.encode_prompts(PROMPTS)
    first = engine.generate(ids, 2, SamplingParams(10), seed=1)
    assert engine.generate(ids, 2, SamplingParams(10), seed=1) == first
    assert engine.generate(ids, 2, SamplingParams(10), seed=2) != first


@pytest.mark.parametrize(("prompts", "group_size"), [([], 1), ([[]], 1), ([[1]], 0)])
def test_empty_input_is_refused(micro_policy, engine_class, prompts, group_size):
    with pytest.raises(ValueError, match="at least"):
        engine_class(micro_policy).generate(prompts, group_size, SamplingParams(1), seed=0)


def test_max_rows_must_be_positive(micro_policy, engine_class):
    with pytest.raises(ValueError, match="max_rows"):
        engine_class(micro_policy, max_rows=0)


# -- the two engines, and what a completion may depend on -------------------------------------------------------------


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(100),
        SamplingParams(40, temperature=0.7, top_k=20),
        SamplingParams(40, top_p=0.8),
        SamplingParams(40, temperature=0),
        SamplingParams(100, stop=("1", "and")),
    ],
    ids=str,
)
def test_engines_write_the_same(micro_policy, sampling):
    """The fast engine and its plain twin, with the same random numbers."""
    likely_end(micro_policy)
    ids = micro_policy.encode_prompts(PROMPTS)
    plain, *others = (engine(micro_policy).generate(ids, 16, sampling, seed=3) for engine in ENGINES)
    for other in others:
        for expected_group, group in zip(plain, other, strict=True):
            for expected, completion in zip(expected_group, group, strict=True):
                assert (completion.ids, completion.truncated) == (expected.ids, expected.truncated)
                assert completion.logprobs == pytest.approx(expected.logprobs, abs=1e-4)


def test_a_completion_depends_on_its_place_alone(micro_policy, engine_class):
    """Not on what stands beside it: neither on other prompts, nor on when they end, nor on how many fit at once."""
    likely_end(micro_policy)
    ids = micro_policy.encode_prompts(PROMPTS)
    other = [[7, 8, 9], ids[1], [5] * 30, [1]]
    sampling = SamplingParams(60)
    group = engine_class(micro_policy).generate(ids, 4, sampling, seed=0)[1]
    among_others = engine_class(micro_policy).generate(other, 4, sampling, seed=0)[1]
    alone = engine_class(micro_policy, max_rows=1).generate(ids, 4, sampling, seed=0)[1]
    for found in (among_others, alone):
        assert [completion.ids for completion in found] == [completion.ids for completion in group]


def test_nothing_touches_the_global_generator(micro_policy, engine_class):
    before = torch.get_rng_state()
    engine_class(micro_policy).generate([[1, 2]], 2, SamplingParams(5), seed=0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_engine_says_whether_its_log_probabilities_are_the_policys(engine_class, precision):
    policy = load_policy("builtin/tiny", precision=precision)
    assert engine_class(policy).exact_logprobs == (precision == "float32")


def test_any_of_several_end_tokens_ends(micro_policy, engine_class):
    ends = [micro_policy.tokenizer.eos_token_id, 17, 42, 100, 200]
    micro_policy.model.generation_config.eos_token_id = ends
    groups = engine_class(micro_policy).generate([[1, 2]], 256, SamplingParams(300), seed=0)
    ended = [completion for completion in groups[0] if not completion.truncated]
    assert {completion.ids[-1] for completion in ended} == set(ends)
    assert not any(set(completion.ids[:-1]) & set(ends) for completion in groups[0])


@pytest.mark.parametrize("stop", [("7",), ("12", "=", "ab")])
def test_stop_strings(micro_policy, engine_class, stop):
    """The first token that completes one is the last; a stop string may be spread over tokens."""
    groups = engine_class(micro_policy).generate([[1, 2]], 64, SamplingParams(100, stop=stop), seed=0)
    decode = micro_policy.decode
    stopped = 0
    for completion in groups[0]:
        stopped += not completion.truncated
        assert not any(text in decode(completion.ids[:-1]) for text in stop)
        if not completion.truncated and completion.ids[-1] not in micro_policy.end_token_ids:
            assert any(text in decode(completion.ids) for text in stop)
    assert stopped > 10


def test_the_cache_grows(micro_policy):
    """More tokens than the space that is made at first, with rows leaving meanwhile."""
    likely_end(micro_policy)
    ids = micro_policy.encode_prompts(["Hi"])
    engine = StaticCacheEngine(micro_policy)
    [group] = engine.generate(ids, 256, SamplingParams(200), seed=0)
    longest = max(group, key=lambda completion: len(completion.ids))
    assert len(longest.ids) > 100
    with torch.no_grad():
        logprobs = micro_policy.model(torch.tensor([ids[0] + longest.ids])).logits[0].log_softmax(-1)
    plain = [logprobs[len(ids[0]) - 1 + t, token].item() for t, token in enumerate(longest.ids)]
    assert longest.logprobs == pytest.approx(plain, abs=1e-4)


def test_a_captured_step_is_repeated_until_slots_halve_or_the_cache_grows(micro_policy):
    """What is captured is called again with nothing but what is in its tensors."""
    likely_end(micro_policy)
    captures, replays, sizes_seen = [], [], []
    hidden = micro_policy.packed_model.hidden
    micro_policy.packed_model.hidden = lambda ids, *args: sizes_seen.append(len(ids)) or hidden(ids, *args)

    def capture(step):
        captures.append(len(sizes_seen))
        return lambda: replays.append(captures[-1]) or step()

    ids = micro_policy.encode_prompts(PROMPTS)
    ends = [micro_policy.tokenizer.eos_token_id, 17, 42, 100, 200]
    micro_policy.model.generation_config.eos_token_id = ends
    groups = captured_engine(micro_policy, capture=capture).generate(ids, 64, SamplingParams(200), seed=0)
    steps = max(len(completion.ids) for group in groups for completion in group) - 1
    assert len(replays) == steps
    assert len(captures) <= 1 + 7 + 3  # 192 slots halve at most 7 times, 200 columns grow at most 3 times
    sizes = sorted(set(sizes_seen[1:]), reverse=True)
    assert len(sizes) >= 3
    assert all(2 * after <= before for before, after in pairwise(sizes))


def _raises(step):
    raise RuntimeError("operation not permitted when stream is capturing")


def _does_nothing(step):
    return lambda: None


@pytest.mark.parametrize(
    ("capture", "reason"), [(_raises, "could not be captured"), (_does_nothing, "computes something else")]
)
def test_a_step_that_cannot_be_captured_runs_as_it_is(micro_policy, caplog, capture, reason):
    likely_end(micro_policy)
    ids = micro_policy.encode_prompts(PROMPTS)
    engine = captured_engine(micro_policy, capture=capture)
    expected = StaticCacheEngine(micro_policy).generate(ids, 16, SamplingParams(40), seed=0)
    for _ in range(2):
        found = engine.generate(ids, 16, SamplingParams(40), seed=0)
        for group, expected_group in zip(found, expected, strict=True):
            assert [completion.ids for completion in group] == [completion.ids for completion in expected_group]
    [record] = caplog.records
    assert reason in record.getMessage()


def test_a_bfloat16_base_under_adapters_is_not_exact(random_policy, engine_class):
    peft = pytest.importorskip("peft")
    made = random_policy("llama")
    config = peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    model = peft.get_peft_model(made.model.to(torch.bfloat16), config)
    policy = type(made)(model, made.tokenizer, precision="float32")
    assert not engine_class(policy).exact_logprobs


@pytest.mark.parametrize("kept", [[], [0], [3], [0, 2, 3, 6, 7], [1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3]])
def test_gaps_are_filled_from_the_end(kept):
    order = without_gaps(kept)
    assert sorted(order) == kept
    moved = [slot for place, slot in enumerate(order) if place != slot]
    assert all(slot >= len(kept) for slot in moved)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("rank", [None, 4])
def test_precisions_and_adapters(precision, rank):
    if rank is not None:
        pytest.importorskip("peft")
    policy = load_policy("builtin/tiny", precision=precision, lora_rank=rank)
    with torch.no_grad():
        for name, parameter in policy.trainable_parameters():
            if "lora_B" in name:
                parameter.add_(0.02)
    ids = policy.encode_prompts(PROMPTS)
    engine = default_engine(policy)
    assert isinstance(engine, StaticCacheEngine)
    groups = engine.generate(ids, 4, SamplingParams(20), seed=0)
    rollouts = [
        Rollout(0, "", prompt, completion, "", 0.0, "", None, None)
        for prompt, group in zip(ids, groups, strict=True)
        for completion in group
    ]
    batch = GroupBatch.from_rollouts(rollouts, 4, policy.pad_token_id)
    mask = batch.completion_mask.bool()
    error = (policy.logprobs(batch).detach() - batch.sampler_logprobs)[mask].abs()
    assert error.max() < (1e-4 if precision == "float32" else 0.5)
    assert error.mean() < (1e-5 if precision == "float32" else 0.05)


def test_a_model_that_cannot_be_packed_gets_the_plain_engine(random_policy):
    policy = random_policy("bloom", n_layer=2, n_head=4)
    assert isinstance(default_engine(policy), CachedEngine)
    with pytest.raises(ValueError, match="BloomForCausalLM cannot compute packed tokens"):
        StaticCacheEngine(policy)
