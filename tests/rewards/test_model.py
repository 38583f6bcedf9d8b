"""A sequence classifier as reward: a small random one, made here."""

from __future__ import annotations

import pickle

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from agents.policies.builtin import TINY_PATH
from rewards.base import Outcome
from rewards.compose import ComposedReward, Term
from rewards.math import MathReward
from rewards.model import ModelReward

PROMPTS = ["What is 2 + 2?", "What is 12 * 34 - 5?", "", "What is 7?"]
COMPLETIONS = ["4", "I think that it is 403, but I am not sure at all.", "", "7"]


def make_classifier(folder, labels=1, chat=True, pad=True):
    tokenizer = AutoTokenizer.from_pretrained(TINY_PATH)
    if not chat:
        tokenizer.chat_template = None
    config = AutoConfig.for_model(
        "llama",
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        num_labels=labels,
        pad_token_id=tokenizer.pad_token_id if pad else None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(config)
    model.score.weight.data.mul_(100)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model.eval(), tokenizer


@pytest.mark.parametrize("chat", [True, False])
def test_it_is_the_logit_of_each_pair_alone(tmp_path, chat):
    model, tokenizer = make_classifier(tmp_path, chat=chat)
    found = ModelReward(tmp_path, batch_size=3)(PROMPTS, COMPLETIONS, [None] * 4)
    assert {result.outcome for result in found} == {Outcome.SCORED}
    for prompt, completion, result in zip(PROMPTS, COMPLETIONS, found, strict=True):
        if chat:
            turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]
            text = tokenizer.apply_chat_template(turns, tokenize=False)
        else:
            text = prompt + completion
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        if ids.numel() == 0:
            continue
        with torch.no_grad():
            expected = model(input_ids=ids).logits.item()
        assert result.reward == pytest.approx(expected, abs=1e-4)
    assert len({round(result.reward, 3) for result in found}) == 4


def test_long_texts_lose_their_beginning(tmp_path):
    make_classifier(tmp_path)
    reward = ModelReward(tmp_path, max_tokens=16)
    long = "1 + " * 500
    ended = [result.reward for result in reward([long, "x" + long], ["5", "5"], ["", ""])]
    assert ended[0] == pytest.approx(ended[1], abs=1e-5)
    [whole] = ModelReward(tmp_path)(["2 + " * 500], ["5"], [""])  # no longer than the model's context
    assert whole.reward == whole.reward


def test_it_is_loaded_when_it_is_asked_and_not_pickled(tmp_path):
    reward = ModelReward(tmp_path / "later")
    make_classifier(tmp_path / "later")
    [first] = reward(["a"], ["b"], [None])
    data = pickle.dumps(reward)
    assert len(data) < 1000
    [again] = pickle.loads(data)(["a"], ["b"], [None])  # noqa: S301 (our own)
    assert again == first
    assert "later" in repr(reward)


def test_without_a_padding_token_another_one_is_taken(tmp_path):
    make_classifier(tmp_path, pad=False)
    together = ModelReward(tmp_path)(PROMPTS, COMPLETIONS, [None] * 4)
    alone = [ModelReward(tmp_path)([p], [c], [None])[0] for p, c in zip(PROMPTS, COMPLETIONS, strict=True)]
    for one, other in zip(together, alone, strict=True):
        assert one.reward == pytest.approx(other.reward, abs=1e-4)


def test_it_stands_beside_a_verdict(tmp_path):
    make_classifier(tmp_path)
    reward = ComposedReward(MathReward(), {"style": Term(ModelReward(tmp_path), 0.1)})
    right, wrong = reward(["What is 2 + 2?"] * 2, ["\\boxed{4}", "\\boxed{5}"], ["4", "4"])
    assert right.reward == pytest.approx(1 + 0.1 * right.metrics["style"])
    assert wrong.reward == 0


def test_what_is_no_reward_model_is_refused(tmp_path):
    make_classifier(tmp_path, labels=2)
    with pytest.raises(ValueError, match="has 2 labels"):
        ModelReward(tmp_path)(["a"], ["b"], [None])
    with pytest.raises(ValueError, match="cannot load a sequence classifier from"):
        ModelReward(tmp_path / "none")(["a"], ["b"], [None])
    with pytest.raises(ValueError, match="at least 1"):
        ModelReward(tmp_path, batch_size=0)
