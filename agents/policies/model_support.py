"""Which models a policy can compute with, and how."""

from __future__ import annotations

import logging
from typing import Any

from agents.forward import PackedModel, UnsupportedModel, packed_model_of

_log = logging.getLogger(__name__)


def refuse_several_devices(model: Any) -> None:
    """Refuse a model whose layers `device_map` has put on several devices: a policy computes on one.

    Raises:
        ValueError: The model is on more than one.
    """
    if len(parts := set(map(str, getattr(model, "hf_device_map", {}).values()))) > 1:
        raise ValueError(
            f"the model was loaded with device_map onto {', '.join(sorted(parts))}, and a policy is on one device: "
            "load it without device_map; torchrun with parallel='fsdp2' shards one that does not fit"
        )


def packed_or_none(model: Any, name: str) -> PackedModel | None:
    """The model for packed tokens, or None where its architecture cannot take them; the log says why."""
    try:
        return packed_model_of(model)
    except UnsupportedModel as reason:
        _log.warning("%s is computed in padded batches, which is slower: %s", name or "model", reason)
        return None
