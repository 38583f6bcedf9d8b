"""The protocol of an objective."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from agents.rollout import GroupBatch


class Objective(Protocol):
    """Turns rewards into advantages, and log-probabilities into a loss; holds numbers only, never a model."""

    @property
    def needs_reference(self) -> bool:
        """Whether `loss` reads `batch.ref_logprobs`; where it does not, no reference model is kept or evaluated."""
        ...

    @property
    def ignores_zero_advantages(self) -> bool:
        """Whether a group whose advantages are all zero adds nothing to the loss, so that it need not be computed."""
        ...

    @property
    def shapes_rewards(self) -> bool:
        """Whether `shape_rewards` changes anything; it then reads `batch.old_logprobs`."""
        ...

    def shape_rewards(self, batch: GroupBatch) -> Tensor:
        """The (P, G) rewards that advantages are computed from: `batch.rewards`, or less a KL penalty."""
        ...

    def advantages(self, rewards: Tensor) -> Tensor:
        """(P, G) rewards to (P, G) advantages; called with a whole batch, before it is split into minibatches."""
        ...

    def loss(self, batch: GroupBatch, logprobs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of (part of) an optimizer step.

        Args:
            batch: The groups; `total_sequences` and `total_tokens` are the divisors of the whole step, so that the
                losses of its parts add up to the loss of the whole.
            logprobs: (N, T) log-probabilities of the completion tokens under the policy, with gradient.

        Returns:
            A scalar to call `backward` on, and detached figures, which add up over the parts of a step in the same way.
        """
        ...
