"""The recipe of `builtin/tiny`: build the tokenizer, warm-start the model, measure it, write the folder.

    python -m tools.tiny_model --seed 0 --out tiny

It runs on one thread of the CPU, and the same seed gives the same weights on the same machine and version of torch.
From the first step every batch mixes rows of packed facts (`7*8=56`, loss on the answers alone) with rows of chat (loss
on the completion alone).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from agents.evaluation.held_out import EvaluationReport, evaluate
from agents.policies.language_model import LanguageModelPolicy
from tools.tiny_model import corpus
from tools.tiny_model.card import CARD
from tools.tiny_model.tokenizer import CONTEXT_LENGTH, build_tokenizer

IGNORED = -100  # the label that transformers leaves out of the loss
Row = tuple[list[int], list[int]]  # token ids and labels


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights."""

    seed: int = 0
    """Seed of the initial weights and of the corpus."""
    steps: int = 3200
    """Optimizer steps of the warm start."""
    batch_size: int = 32
    """Rows in a batch."""
    fact_share: float = 0.4375
    """Share of the rows that are packed facts; the others are demonstrations."""
    facts_per_row: int = 6
    """Facts packed into one row."""
    learning_rate: float = 3e-3
    """Peak learning rate of AdamW: 5 % of the steps up to it, then a cosine down to nothing."""
    weight_decay: float = 0.01
    """Weight decay of AdamW."""
    hidden_size: int = 128
    """Width of the model."""
    layers: int = 3
    """Transformer layers."""
    heads: int = 4
    """Attention heads."""
    intermediate_size: int = 384
    """Width of the feed-forward layers."""


def build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The model with its initial weights, drawn from the recipe's seed."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    return model


def prompt_ids(tokenizer: PreTrainedTokenizerFast, prompts: list[str]) -> list[list[int]]:
    """Each prompt as the user's turn, up to where the assistant starts."""
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    ids: list[list[int]] = tokenizer.apply_chat_template(chats, add_generation_prompt=True, return_dict=False)
    return ids


def chat_rows(tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator, count: int) -> list[Row]:
    """Demonstrations, with the loss on the completion and the token that ends it."""
    demonstrations = [corpus.demonstration(rng) for _ in range(count)]
    prompts = prompt_ids(tokenizer, [prompt for prompt, _ in demonstrations])
    completions = tokenizer([completion + tokenizer.eos_token for _, completion in demonstrations])["input_ids"]
    return [(p + c, [IGNORED] * len(p) + c) for p, c in zip(prompts, completions, strict=True)]


def fact_rows(tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator, count: int, per_row: int) -> list[Row]:
    """Lines of facts, with the loss on the answers."""
    facts = [corpus.fact(rng) for _ in range(count * per_row)]
    questions = tokenizer([question for question, _ in facts])["input_ids"]
    answers = tokenizer([answer + "\n" for _, answer in facts])["input_ids"]
    rows: list[Row] = []
    for start in range(0, len(facts), per_row):
        ids: list[int] = []
        labels: list[int] = []
        for q, a in zip(questions[start : start + per_row], answers[start : start + per_row], strict=True):
            ids += q + a
            labels += [IGNORED] * len(q) + a
        rows.append((ids, labels))
    return rows


def draw_batch(
    recipe: Recipe, tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels, both (rows, longest row); padding is on the right, where no token attends to it."""
    facts = round(recipe.fact_share * recipe.batch_size)
    rows = fact_rows(tokenizer, rng, facts, recipe.facts_per_row)
    rows += chat_rows(tokenizer, rng, recipe.batch_size - facts)
    width = max(len(ids) for ids, _ in rows)
    ids = [ids + [tokenizer.pad_token_id] * (width - len(ids)) for ids, _ in rows]
    labels = [labels + [IGNORED] * (width - len(labels)) for _, labels in rows]
    return torch.tensor(ids), torch.tensor(labels)


def warm_start(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, progress: bool = False) -> LlamaForCausalLM:
    """Train a new model on the corpus; returns it in evaluation mode."""
    model = build_model(recipe, tokenizer).train()
    rng = np.random.default_rng(recipe.seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=recipe.weight_decay
    )
    warm_up = max(1, recipe.steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm_up, 0.5 * (1 + math.cos(math.pi * step / recipe.steps)))
    )
    for _ in track(range(recipe.steps), description="warm start", disable=not progress):
        ids, labels = draw_batch(recipe, tokenizer, rng)
        # logits are needed there alone, and they are where a small model's time goes
        answered = labels[:, 1:] != IGNORED
        hidden = model.model(input_ids=ids).last_hidden_state[:, :-1][answered]
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden), labels[:, 1:][answered])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model.eval()


@dataclass(frozen=True)
class Command(Recipe):
    """Rebuild `builtin/tiny`."""

    out: Path = Path("tiny")
    """Folder to write the model, the tokenizer and the model card to."""
    problems: int = 500
    """Held-out problems of the final measurement."""
    samples: int = 8
    """Completions sampled for each of them."""


def card(recipe: Recipe, model: LlamaForCausalLM, measured: EvaluationReport) -> str:
    """The model card: `CARD` with the recipe and the measurement filled in."""
    changed = [f.name for f in fields(Recipe) if f.name == "seed" or getattr(recipe, f.name) != f.default]
    solved = measured.sampled_accuracy_by_problem()
    total = len(measured.sampled_rollouts)
    return CARD.format(
        parameters=model.num_parameters(),
        arguments=" ".join(f"--{name.replace('_', '-')} {getattr(recipe, name)}" for name in changed),
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        torch_version=torch.__version__,
        problems=measured.problems,
        samples=measured.samples,
        sampled=measured.pass_at_k[1].as_percent(),
        greedy=measured.greedy.as_percent(),
        best_of=measured.pass_at_k[measured.samples].as_percent(),
        informative=float(((solved > 0) & (solved < 1)).mean()),
        outcomes=", ".join(f"{outcome} {count / total:.1%}" for outcome, count in measured.outcomes.items()),
    )


def main(command: Command) -> EvaluationReport:
    """Run the recipe, write the folder and print the measurement."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    tokenizer = build_tokenizer()
    started = time.perf_counter()
    model = warm_start(command, tokenizer, progress=True)
    print(f"warm start: {(time.perf_counter() - started) / 60:.1f} minutes")
    measured = evaluate(
        LanguageModelPolicy(model, tokenizer, name=str(command.out)),
        "llm_envs/Arithmetic-v0",
        problems=command.problems,
        samples=command.samples,
    )
    model.save_pretrained(command.out)
    tokenizer.save_pretrained(command.out)
    (command.out / "README.md").write_text(card(command, model, measured), encoding="utf-8")
    print(measured)
    return measured
