"""The forward pass of every update and rollout: transformers' own modules, with attention for packed tokens."""

from agents.forward.packed_model import PackedModel, TokenLogprobs
from agents.forward.support import UnsupportedModel, packed_model_of

__all__ = ["PackedModel", "TokenLogprobs", "UnsupportedModel", "packed_model_of"]
