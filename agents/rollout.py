"""What passes between engines, policies, objectives and agents: completions, rollouts and padded batches.

Shapes: `P` prompts, `G` completions per prompt, `N = P * G` rollouts (prompt-major), `Tp` prompt tokens, `T` completion
tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from agents.validation import check_at_least, check_fraction, check_types


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How completions are drawn.

    Attributes:
        max_completion_tokens: A completion is cut (truncated) at this length, the end token included.
        temperature: Logits are divided by it; 0 takes the most probable token (greedy decoding).
        top_k: Only the k most probable tokens may be drawn; None for all.
        top_p: Only the most probable tokens may be drawn, as many as have this probability together; 1 for all.
        stop: A completion ends when its text contains one of these; the token that completed it is part of it.

    Raises:
        TypeError: A field has a value of another type, such as a text for `stop`.
        ValueError: A field is out of range.
    """

    max_completion_tokens: int = 64
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least(self, 1, "max_completion_tokens", "top_k")
        check_at_least(self, 0, "temperature")
        check_fraction(self, "top_p")
        if not all(self.stop):
            raise ValueError(f"stop must be a tuple of texts that are not empty, got {self.stop!r}")


@dataclass(frozen=True, slots=True)
class Completion:
    """What an engine generates.

    Attributes:
        ids: Token ids, up to and including the end token where there is one.
        logprobs: Log-probability of each token under the distribution it was drawn from (temperature, top-k and top-p
            applied), in nats; for greedy decoding, under the model's own distribution.
        truncated: Whether the token limit cut it before an end token or a stop string; in a rollout of several turns,
            whether it cut one of them.
    """

    ids: list[int]
    logprobs: list[float]
    truncated: bool


@dataclass(frozen=True, slots=True)
class Rollout:
    """One finished episode.

    Attributes:
        seed: The environment seed that gave the prompt.
        prompt: The observation.
        prompt_ids: The prompt as the model saw it, chat template included.
        completion: The tokens.
        text: The action: the completion as text, without the token that ended it; where the prompt ends with an opened
            `<think>`, that mark stands in front.
        reward: The environment's reward.
        outcome: `info["outcome"]`, or "" where the environment gives none.
        answer: `info["answer"]`, what the reward read as the answer.
        reference: `info["reference"]`.
        action_mask: Of each token of `completion`, whether the model wrote it; None where it wrote all. In an episode
            of several turns the environment's messages stand between what the model wrote, and `text` has all of it.
        turns: How many completions the episode had.
        metrics: `info["metrics"]`, further figures of the reward.
    """

    seed: int
    prompt: str
    prompt_ids: list[int]
    completion: Completion
    text: str
    reward: float
    outcome: str
    answer: str | None
    reference: Any
    action_mask: tuple[bool, ...] | None = None
    turns: int = 1
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def num_tokens(self) -> int:
        """How many tokens the model wrote."""
        return len(self.completion.ids) if self.action_mask is None else sum(self.action_mask)

    @property
    def correct(self) -> bool:
        """Whether the outcome is "correct"; where the environment gives no outcome, whether the reward reaches 1."""
        return self.outcome == "correct" if self.outcome else self.reward >= 1


@dataclass(frozen=True, slots=True)
class GroupBatch:
    """A padded batch of whole groups: prompts once, left-padded; completions right-padded.

    Attributes:
        prompt_ids: (P, Tp) token ids.
        prompt_mask: (P, Tp), 1 on real tokens.
        completion_ids: (N, T): everything after the prompt.
        completion_mask: (N, T), 1 on real tokens, the end token included.
        action_mask: (N, T), 1 where the model wrote the token.
        sampler_logprobs: (N, T), what the engine reported.
        old_logprobs: (N, T), of the policy that the update starts from.
        ref_logprobs: (N, T) of the frozen reference, or None where the objective needs none.
        rewards: (P, G).
        advantages: (P, G), zeros until the objective has computed them.
        total_sequences: Sequences in the optimizer step that this batch is part of, the divisor of sequence means.
            Larger than N where groups were left out or the step is accumulated from several batches.
        total_tokens: Action tokens in that optimizer step, the divisor of token means.
        token_limit: The most tokens a completion could have, where that is known.
        sampler_is_exact: Whether `sampler_logprobs` are the policy's own up to the rounding of float32.
    """

    prompt_ids: Tensor
    prompt_mask: Tensor
    completion_ids: Tensor
    completion_mask: Tensor
    action_mask: Tensor
    sampler_logprobs: Tensor
    old_logprobs: Tensor
    ref_logprobs: Tensor | None
    rewards: Tensor
    advantages: Tensor
    total_sequences: int
    total_tokens: int
    token_limit: int | None = None
    sampler_is_exact: bool = True

    def to(self, device: torch.device) -> Self:
        """The same batch on a device; itself where it is there already."""
        if self.prompt_ids.device == device:
            return self
        tensors: dict[str, Any] = {}
        for entry in fields(self):
            if torch.is_tensor(value := getattr(self, entry.name)):
                tensors[entry.name] = value.to(device)
        return replace(self, **tensors)

    @classmethod
    def from_rollouts(
        cls, rollouts: Sequence[Rollout], group_size: int, pad_token_id: int, device: torch.device | str = "cpu"
    ) -> Self:
        """Pad rollouts once and move them to the device once.

        Args:
            rollouts: N rollouts, the G of one prompt next to each other.
            group_size: G.
            pad_token_id: What padding is filled with; masks, never this id, say what padding is.
            device: Where the tensors go.

        Raises:
            ValueError: There are no rollouts, an incomplete group, or a group with different prompts.
        """
        n = len(rollouts)
        if n == 0 or n % group_size != 0:
            raise ValueError(f"expected whole groups of {group_size} rollouts, got {n} rollouts")
        first_of_group = rollouts[::group_size]
        for i, rollout in enumerate(rollouts):
            if rollout.prompt_ids != first_of_group[i // group_size].prompt_ids:
                raise ValueError(f"rollout {i} does not have the prompt of its group")
        prompts = [torch.tensor(rollout.prompt_ids) for rollout in first_of_group]
        completions = [torch.tensor(rollout.completion.ids) for rollout in rollouts]
        logprobs = [torch.tensor(rollout.completion.logprobs, dtype=torch.float32) for rollout in rollouts]
        prompt_ids = _pad(prompts, pad_token_id, side="left").to(device)
        prompt_mask = _pad([torch.ones_like(ids) for ids in prompts], 0, side="left").to(device)
        completion_ids = _pad(completions, pad_token_id, side="right").to(device)
        completion_mask = _pad([torch.ones_like(ids) for ids in completions], 0, side="right").to(device)
        action_mask = completion_mask.clone()
        for row, rollout in enumerate(rollouts):
            if rollout.action_mask is not None:
                written = torch.tensor(rollout.action_mask, dtype=action_mask.dtype, device=device)
                action_mask[row, : len(written)] = written
        sampler_logprobs = _pad(logprobs, 0.0, side="right").to(device)
        rewards = torch.tensor([rollout.reward for rollout in rollouts], dtype=torch.float32, device=device)
        rewards = rewards.view(-1, group_size)
        return cls(
            prompt_ids=prompt_ids,
            prompt_mask=prompt_mask,
            completion_ids=completion_ids,
            completion_mask=completion_mask,
            action_mask=action_mask,
            sampler_logprobs=sampler_logprobs,
            old_logprobs=sampler_logprobs,
            ref_logprobs=None,
            rewards=rewards,
            advantages=torch.zeros_like(rewards),
            total_sequences=n,
            total_tokens=sum(rollout.num_tokens for rollout in rollouts),
        )

    @property
    def group_size(self) -> int:
        """G."""
        return self.rewards.shape[1]

    def rows_of(self, groups: Tensor) -> Tensor:
        """(K * G,) indices of the completions of the prompts (K,), in order."""
        return (groups[:, None] * self.group_size + torch.arange(self.group_size, device=groups.device)).flatten()

    def select_groups(self, groups: Tensor, *, of_step: GroupBatch | None = None) -> GroupBatch:
        """The batch of some prompts with all their completions.

        Args:
            groups: (K,) indices into the prompts.
            of_step: The batch of the whole optimizer step, whose totals the part keeps as its divisors; None makes
                the part an optimizer step of its own.
        """
        rows = self.rows_of(groups)
        completion_mask = self.completion_mask[rows]
        action_mask = self.action_mask[rows]
        # columns that are padding in every row of the part cost time and carry nothing
        longest = int(completion_mask.sum(1).max()) if len(rows) else 0
        prompt_mask = self.prompt_mask[groups]
        first = prompt_mask.shape[1] - (int(prompt_mask.sum(1).max()) if len(rows) else 0)
        ref = self.ref_logprobs
        return replace(
            self,
            prompt_ids=self.prompt_ids[groups, first:],
            prompt_mask=prompt_mask[:, first:],
            completion_ids=self.completion_ids[rows, :longest],
            completion_mask=completion_mask[:, :longest],
            action_mask=action_mask[:, :longest],
            sampler_logprobs=self.sampler_logprobs[rows, :longest],
            old_logprobs=self.old_logprobs[rows, :longest],
            ref_logprobs=None if ref is None else ref[rows, :longest],
            rewards=self.rewards[groups],
            advantages=self.advantages[groups],
            total_sequences=len(rows) if of_step is None else of_step.total_sequences,
            total_tokens=int(action_mask.sum()) if of_step is None else of_step.total_tokens,
        )


def position_ids(mask: Tensor) -> Tensor:
    """Positions that count real tokens only, so that left padding does not shift them; (N, T) in, (N, T) out."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)


def _pad(rows: list[Tensor], value: float, side: str) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value, padding_side=side)
