"""Llama-like decoders by their own modules: what rollout and update compute with, faster than transformers' forward."""

from agents.decoders.llama import LlamaLikeDecoder, UnsupportedModel, decoder_of

__all__ = ["LlamaLikeDecoder", "UnsupportedModel", "decoder_of"]
