"""A reward model: a sequence classifier that scores a prompt with its completion.

For what no program can check. A policy finds what such a model likes and not what it was meant to like, so let it stand
beside a verdict (`rewards.compose`) where there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rewards.base import Outcome, RewardResult, check_lengths


class ModelReward:
    """The single logit of a transformers sequence classifier; the reference is not used.

    With a chat template the classifier reads a user's turn and an assistant's, otherwise a pair of texts. The model is
    loaded when it is first asked, and not pickled: each process that scores loads its own.

    Args:
        model: A local folder or the name of a model on the Hugging Face hub.
        device: Where it computes, such as "cpu" or "cuda".
        batch_size: Pairs that are scored at once.
        max_tokens: Longer inputs lose their beginning; None: the most that the model can attend to.

    Raises:
        ValueError: `batch_size` or `max_tokens` is not positive.
    """

    def __init__(
        self, model: str | Path, *, device: str = "cpu", batch_size: int = 16, max_tokens: int | None = None
    ) -> None:
        if batch_size < 1 or (max_tokens is not None and max_tokens < 1):
            raise ValueError(f"batch_size and max_tokens must be at least 1, got {batch_size} and {max_tokens}")
        self.model = str(model)
        self.device = device
        self.batch_size = batch_size
        self.max_tokens = max_tokens
        self._loaded: tuple[Any, Any] | None = None

    def __repr__(self) -> str:
        return f"ModelReward({self.model!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_loaded": None}

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], references: Sequence[Any]
    ) -> list[RewardResult]:
        """Score each completion; the references are not looked at.

        Raises:
            ImportError: torch or transformers is missing.
            ValueError: The three sequences differ in length, the model cannot be loaded, or it has not exactly one
                logit.
        """
        check_lengths(prompts, completions, references)
        model, tokenizer = self._load()
        rows = [_ids(tokenizer, prompt, completion) for prompt, completion in zip(prompts, completions, strict=True)]
        limit = self.max_tokens or getattr(model.config, "max_position_embeddings", None)
        rows = [(row if limit is None else row[-limit:]) or [model.config.pad_token_id] for row in rows]
        scores: list[float] = []
        for start in range(0, len(rows), self.batch_size):
            scores += self._scores(model, rows[start : start + self.batch_size])
        return [RewardResult(value, Outcome.SCORED) for value in scores]

    def _scores(self, model: Any, rows: list[list[int]]) -> list[float]:
        import torch

        pad = model.config.pad_token_id
        longest = max(map(len, rows))
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows], device=self.device)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=self.device)
        with torch.no_grad():
            return model(input_ids=ids, attention_mask=mask).logits[:, 0].float().tolist()

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            try:
                from transformers import AutoModelForSequenceClassification, AutoTokenizer
            except ImportError as error:
                raise ImportError("a reward model needs torch and transformers: pip install llm-envs") from error
            try:
                tokenizer = AutoTokenizer.from_pretrained(self.model)
                model = AutoModelForSequenceClassification.from_pretrained(self.model)
            except (OSError, ValueError) as error:
                raise ValueError(f"cannot load a sequence classifier from {self.model!r}: {error}") from error
            if model.config.num_labels != 1:
                raise ValueError(
                    f"{self.model} has {model.config.num_labels} labels; a reward model has one logit, its score"
                )
            if model.config.pad_token_id is None:
                model.config.pad_token_id = _padding_id(tokenizer)
            self._loaded = model.to(self.device).eval(), tokenizer
        return self._loaded


def _ids(tokenizer: Any, prompt: str, completion: str) -> list[int]:
    if tokenizer.chat_template is None:
        return list(tokenizer(prompt, completion)["input_ids"])
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _padding_id(tokenizer: Any) -> int:
    """What fills up shorter rows; the score is that of the last token that is another one."""
    for name in ("pad_token_id", "unk_token_id", "eos_token_id"):
        if getattr(tokenizer, name) is not None:
            return int(getattr(tokenizer, name))
    raise ValueError("neither model nor tokenizer has a padding token; set the tokenizer's pad_token and save it")
