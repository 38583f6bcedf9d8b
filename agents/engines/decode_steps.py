"""`DecodeSteps`: the completions that are being decoded side by side, and the step that gives each its next token.

The step works in place on tensors that stay where they are, and reads no size that changes from step to step, so that a
CUDA graph can hold it: the kernels of a whole step, started at once. Without a graph every step of a model of a hundred
million parameters or a billion takes the same time on a GPU, that of starting its kernels one by one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from agents.engines.prompt_cache import SharedPromptCache
from agents.engines.sampling import sample
from agents.forward import PackedModel
from agents.rollout import SamplingParams

_log = logging.getLogger(__name__)

Capture = Callable[[Callable[[], None]], Callable[[], None]]
"""Takes a step, may run it, and returns something that repeats it."""

# of the log-probabilities of a captured step, against the same step without a graph
_TOLERANCE = 1e-2


class DecodeSteps:
    """The newest token of each slot, and what the next one is drawn with.

    Args:
        model: What decodes.
        cache: Its keys and values, with the prompts computed.
        sampling: How to draw.
        uniforms: (slots, max_completion_tokens), see `agents.engines.sampling`; None for greedy decoding.
        logits: (slots, V) of the first tokens.
        positions: (slots,) of the first tokens.
        capture: Makes a step repeatable; None: each step runs from Python.

    Attributes:
        ids: (slots,) the newest tokens.
        logprobs: (slots,) their log-probabilities in nats.
        capture: See above; None once a captured step was seen to differ.
    """

    def __init__(
        self,
        model: PackedModel,
        cache: SharedPromptCache,
        sampling: SamplingParams,
        uniforms: Tensor | None,
        logits: Tensor,
        positions: Tensor,
        capture: Capture | None,
    ) -> None:
        self._model = model
        self._cache = cache
        self._sampling = sampling
        self._uniforms = uniforms
        self._positions = positions.clone()
        self.capture = capture
        self._replay: Callable[[], None] | None = None
        self._drawn = torch.zeros(1, dtype=torch.long, device=logits.device)  # tokens of each slot
        self.ids, self.logprobs = self._draw(logits)
        self._drawn += 1

    def __len__(self) -> int:
        return len(self.ids)

    def advance(self) -> None:
        """Give each slot its next token."""
        has_moved = self._cache.reserve()
        if self.capture is None:
            self._step(None)
        elif self._replay is None or has_moved:
            self._replay = None  # what was captured goes before its successor comes: both hold memory
            self._replay = self._captured(self.capture)
        else:
            self._replay()

    def keep(self, slots: list[int]) -> None:
        """Let the slots be these, in this order."""
        self._cache.keep(slots)
        index = torch.tensor(slots, device=self.ids.device)
        self.ids, self.logprobs, self._positions = self.ids[index], self.logprobs[index], self._positions[index]
        self._uniforms = None if self._uniforms is None else self._uniforms[index]
        self._replay = None

    def _draw(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        uniforms = None if self._uniforms is None else self._uniforms.index_select(1, self._drawn).squeeze(1)
        return sample(logits, self._sampling, uniforms)

    def _step(self, column: Tensor | None) -> None:
        hidden = self._cache.step(self.ids, self._positions, column)
        ids, logprobs = self._draw(self._model.logits(hidden).float())
        self.ids.copy_(ids)
        self.logprobs.copy_(logprobs)
        self._positions += 1
        self._drawn += 1

    def _captured(self, capture: Capture) -> Callable[[], None] | None:
        """Take this step by a captured one, which is returned; without it where it does not do the same."""
        state = (self.ids, self.logprobs, self._positions, self._drawn)
        before = [tensor.clone() for tensor in state]

        def step() -> None:
            self._step(self._drawn - 1)

        def restore() -> None:
            for tensor, value in zip(state, before, strict=True):
                tensor.copy_(value)

        step()  # as it is written; the first run of a kernel may also allocate, which a graph cannot
        expected = self.ids.clone(), self.logprobs.clone()
        restore()
        try:
            replay = capture(step)
        except RuntimeError as error:
            # where a step fails, ending its capture fails after it and says no more than that
            reason = f"it could not be captured ({error.__context__ or error})"
        else:
            restore()
            replay()
            equal = self.ids == expected[0]
            # two tokens of all but equal probability may change places by rounding
            if equal.float().mean() >= 0.5 and torch.allclose(
                self.logprobs[equal], expected[1][equal], atol=_TOLERANCE
            ):
                return replay
            reason = "what was captured computes something else"
        _log.warning("CUDA graphs are not used for decoding: %s; rollouts are slower without them", reason)
        self.capture = None
        restore()
        self._step(None)
        return None


def cuda_graph(step: Callable[[], None]) -> Callable[[], None]:
    """Capture a step whose kernels have run before; calling the result runs them again on the same memory."""
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph):
            step()
    finally:
        torch.cuda.set_stream(stream)  # where capturing failed, torch.cuda.graph does not leave its own
    return graph.replay
