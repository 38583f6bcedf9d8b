"""How much of an optimizer step is computed at a time, and less of it where memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from agents.distributed import Ranks
from agents.grpo.config import GRPOConfig
from agents.rollout import GroupBatch

_log = logging.getLogger(__name__)


class UpdateOutOfMemory(RuntimeError):
    """The memory of the device does not suffice for an update."""


class MicroBatches:
    """Parts of whole groups, by completions or by tokens.

    Where a pass runs out of memory, what was being computed begins again with half as much at a time, for the rest of
    the run. The gradient is that of the whole step either way, with bfloat16 weights up to the rounding of its sums.

    Args:
        config: Its `micro_batch_tokens` or `micro_batch_size`.
        ranks: The processes. Of several, none can halve alone, because the others would wait for it in the middle of a
            pass: there it is an error.
        is_padded: Whether the model computes padded rows, each with its own copy of the prompt.

    Attributes:
        halvings: How often memory has run out.
    """

    def __init__(self, config: GRPOConfig, ranks: Ranks, *, is_padded: bool) -> None:
        self._config = config
        self._ranks = ranks
        self._is_padded = is_padded
        self.halvings = 0
        self._new_halvings = 0

    def take_halvings(self) -> int:
        """How often memory has run out since the last call."""
        taken, self._new_halvings = self._new_halvings, 0
        return taken

    def within(self, compute: Callable[[list[Tensor | None]], None], batch: GroupBatch, groups: Tensor) -> None:
        """Compute something of groups in micro-batches, from the beginning each time that memory runs out.

        Args:
            compute: Takes the parts, see `Ranks.micro_batches`, and forgets what an earlier call has left.
            batch: What the groups are of.
            groups: (K,) indices.

        Raises:
            UpdateOutOfMemory: It does not suffice for one group, or this is one of several processes.
        """
        parts = self._parts(batch, groups)
        while True:
            failed: str | None = None
            try:
                compute(parts)
            except torch.OutOfMemoryError as error:
                failed = str(error)  # the error itself holds the tensors of the pass
            if failed is None:
                return
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            parts = self._halved(parts, failed, batch, groups)

    def _halved(
        self, parts: list[Tensor | None], reason: str, batch: GroupBatch, groups: Tensor
    ) -> list[Tensor | None]:
        largest = max(len(part) for part in parts if part is not None)
        size = self._config.group_size
        if self._ranks.size > 1:
            raise UpdateOutOfMemory(
                f"one of {self._ranks.size} processes ran out of memory with {largest} groups of {size} completions at "
                f"a time, and none can take less alone: the others wait for it. {self._remedies} ({reason})"
            )
        if largest == 1:
            raise UpdateOutOfMemory(
                f"there is too little memory to compute one group of {size} completions. {self._remedies} ({reason})"
            )
        smaller = parts
        while len(smaller) == len(parts):  # they may have been smaller than the limit
            self.halvings += 1
            smaller = self._parts(batch, groups)
        self._new_halvings += 1
        _log.warning(
            "out of memory with up to %d completions at a time: going on with %s, and the same gradient up to rounding",
            largest * size,
            self._setting,
        )
        return smaller

    @property
    def _limit(self) -> int:
        """Completions' groups or tokens that a part may have."""
        config = self._config
        whole = config.micro_batch_tokens or max(1, config.micro_batch_size // config.group_size)
        return max(1, whole >> self.halvings)

    @property
    def _setting(self) -> str:
        if self._config.micro_batch_tokens is None:
            return f"micro_batch_size {self._limit * self._config.group_size}"
        return f"micro_batch_tokens {self._limit}"

    @property
    def _remedies(self) -> str:
        name = "micro_batch_size" if self._config.micro_batch_tokens is None else "micro_batch_tokens"
        return (
            f"Lower {name}, group_size or max_completion_tokens; or take less memory: gradient_checkpointing, "
            "weights_dtype='bfloat16', optimizer='adamw8bit', adapters (lora_rank), load_in='4bit'."
        )

    def _parts(self, batch: GroupBatch, groups: Tensor) -> list[Tensor | None]:
        prompts = batch.prompt_mask.sum(1)[groups]
        completions = batch.completion_mask.sum(1).view(batch.rewards.shape)[groups]
        tokens = (prompts + completions.sum(1)).tolist()
        limit = self._limit
        if self._config.micro_batch_tokens is None:
            return self._ranks.micro_batches(groups, tokens, lambda part: len(part) <= limit)
        if not self._is_padded:
            return self._ranks.micro_batches(groups, tokens, lambda part: sum(tokens[i] for i in part) <= limit)
        lengths = list(zip(prompts.tolist(), completions.amax(1).tolist(), strict=True))

        def fits(part: Sequence[int]) -> bool:
            row = max(lengths[i][0] for i in part) + max(lengths[i][1] for i in part)
            return len(part) * self._config.group_size * row <= limit

        return self._ranks.micro_batches(groups, tokens, fits)
