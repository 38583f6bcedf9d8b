"""`StaticCacheEngine`: decoding of packed tokens with a cache that stays where it is."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from agents.engines.completions import GrowingCompletions
from agents.engines.decode_steps import Capture, DecodeSteps, cuda_graph
from agents.engines.prompt_cache import SharedPromptCache, without_gaps
from agents.engines.rollout_engine import GenerativePolicy, check_request
from agents.engines.sampling import draw_uniforms
from agents.rollout import Completion, SamplingParams

# with fewer tokens to come, capturing a step, which takes about three steps' time, costs more than it saves
_CAPTURE_FROM = 16


class StaticCacheEngine:
    """Generates with the modules of the policy's model: its weights are always the current ones.

    On a GPU steps are captured in CUDA graphs (`agents.engines.decode_steps`), anew whenever the number of slots has
    halved or the cache has grown. Slots whose completion ends before that are computed and ignored.

    Args:
        policy: Whose model generates.
        max_rows: How many completions are decoded side by side at most, a bound on memory; more prompts are taken in
            turns.
        capture: What makes a step repeatable; by default a CUDA graph on a GPU, and nothing elsewhere. None: nothing.

    Raises:
        ValueError: The policy's model cannot compute packed tokens, or `max_rows` is not positive.
    """

    def __init__(
        self, policy: GenerativePolicy, max_rows: int = 1024, capture: Capture | Literal["auto"] | None = "auto"
    ) -> None:
        if max_rows < 1:
            raise ValueError(f"max_rows must be at least 1, got {max_rows}")
        self._max_rows = max_rows
        if capture == "auto":
            capture = cuda_graph if policy.device.type == "cuda" else None
        self._capture = capture
        self.sync_weights(policy)

    @property
    def exact_logprobs(self) -> bool:
        """Whether the policy computes in float32; with less, an update rounds differently than a rollout."""
        return self._policy.computes_in_float32

    def sync_weights(self, policy: GenerativePolicy) -> None:
        """Use this policy's model from now on."""
        if policy.packed_model is None:
            raise ValueError(
                f"{type(policy.model).__name__} cannot compute packed tokens (its policy has logged why); "
                "use CachedEngine, which runs any model with a key-value cache"
            )
        self._policy = policy
        self._model = policy.packed_model

    @torch.no_grad()
    def generate(
        self, prompt_ids: list[list[int]], group_size: int, sampling: SamplingParams, seed: int
    ) -> list[list[Completion]]:
        """Draw `group_size` completions for each prompt; see `RolloutEngine.generate` for the arguments.

        Raises:
            ValueError: There are no prompts, an empty prompt, or `group_size` is not positive.
        """
        check_request(prompt_ids, group_size)
        at_once = max(1, self._max_rows // group_size)
        uniforms = draw_uniforms(len(prompt_ids) * group_size, sampling, seed, self._policy.device)
        groups: list[list[Completion]] = []
        # one autocast for all steps: it casts each weight once, not once a step
        with self._policy.autocast():
            for start in range(0, len(prompt_ids), at_once):
                rows = slice(start * group_size, (start + at_once) * group_size)
                part = None if uniforms is None else uniforms[rows]
                groups += self._generate(prompt_ids[start : start + at_once], group_size, sampling, part)
        return groups

    def _generate(
        self,
        prompt_ids: list[list[int]],
        group_size: int,
        sampling: SamplingParams,
        uniforms: Tensor | None,
    ) -> list[list[Completion]]:
        n = len(prompt_ids) * group_size
        rows = GrowingCompletions(n, sampling, self._policy.end_token_ids, self._policy.decode)
        cache = SharedPromptCache(
            self._model, prompt_ids, group_size, sampling.max_completion_tokens, self._policy.device
        )
        logits = self._model.logits(cache.prefill()).float().repeat_interleave(group_size, dim=0)
        positions = torch.tensor([len(prompt) for prompt in prompt_ids], device=logits.device)
        # what is captured must be worth it
        capture = self._capture if sampling.max_completion_tokens >= _CAPTURE_FROM else None
        steps = DecodeSteps(
            self._model, cache, sampling, uniforms, logits, positions.repeat_interleave(group_size), capture=capture
        )
        active = list(range(n))  # the slot of each live completion
        while True:
            ids, logprobs = steps.ids.tolist(), steps.logprobs.tolist()
            kept = rows.append([ids[slot] for slot in active], [logprobs[slot] for slot in active])
            if not kept:
                break
            if len(kept) < len(active):
                place = {active[row]: row for row in kept}
                active = list(place)
                if steps.capture is None or 2 * len(active) <= len(steps):
                    order = without_gaps(active)
                    steps.keep(order)
                    active = list(range(len(order)))
                else:
                    order = active
                rows.keep([place[slot] for slot in order])
            steps.advance()
        if capture is not None and steps.capture is None:
            self._capture = None  # it does not work here, and the log has the reason
        return rows.groups(group_size)
