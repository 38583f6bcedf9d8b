"""Completions as they grow, and what ends them: an end token, a stop string, the token limit."""

from __future__ import annotations

from collections.abc import Callable

from agents.rollout import Completion, SamplingParams

# tokens before those that a stop string can reach over: some decoders treat the first token of a text differently
_MARGIN = 4


class GrowingCompletions:
    """N completions; rows that have not ended are live.

    Args:
        rows: N.
        sampling: Says the limit and the stop strings.
        end_tokens: Token ids that end a completion.
        decode: Turns token ids into text (`GenerativePolicy.decode`).
    """

    def __init__(
        self,
        rows: int,
        sampling: SamplingParams,
        end_tokens: frozenset[int],
        decode: Callable[..., str],
    ) -> None:
        self._ids: list[list[int]] = [[] for _ in range(rows)]
        self._logprobs: list[list[float]] = [[] for _ in range(rows)]
        self._truncated = [True] * rows
        self._limit = sampling.max_completion_tokens
        self._stop = sampling.stop
        self._end_tokens = end_tokens
        self._decode = decode
        # a token is one byte at least
        self._tail = max((len(text.encode()) for text in sampling.stop), default=0) + _MARGIN
        self.live = list(range(rows))
        """Which completion each slot of the decoding batch has."""

    def append(self, ids: list[int], logprobs: list[float]) -> list[int]:
        """Add a token to each live row, in the order of `live`; returns the slots that go on.

        The caller says which order they take with `keep`.
        """
        kept = []
        for slot, (row, token, logprob) in enumerate(zip(self.live, ids, logprobs, strict=True)):
            tokens = self._ids[row]
            tokens.append(token)
            self._logprobs[row].append(logprob)
            if token in self._end_tokens or (self._stop and self._stops(tokens)):
                self._truncated[row] = False
            elif len(tokens) < self._limit:
                kept.append(slot)
        return kept

    def keep(self, slots: list[int]) -> None:
        """Let these slots be the live ones, in this order."""
        self.live = [self.live[slot] for slot in slots]

    def groups(self, group_size: int) -> list[list[Completion]]:
        """The completions, `group_size` a list."""
        rows = zip(self._ids, self._logprobs, self._truncated, strict=True)
        completions = [Completion(*row) for row in rows]
        return [completions[i : i + group_size] for i in range(0, len(completions), group_size)]

    def _stops(self, tokens: list[int]) -> bool:
        text = self._decode(tokens[-self._tail :], with_all_special_tokens=True)
        return any(stop in text for stop in self._stop)
