"""Llama-like decoders by their own modules: what rollout and update compute with, faster than transformers' forward."""

from agents.decoders.llama import LlamaLikeDecoder
from agents.decoders.support import FAMILIES, UnsupportedModel, decoder_of

__all__ = ["FAMILIES", "LlamaLikeDecoder", "UnsupportedModel", "decoder_of"]
