"""The data types of a policy: of its weights, and of its computation."""

from __future__ import annotations

from typing import Any, Literal

import torch

from agents.validation import checked

Precision = Literal["auto", "float32", "bfloat16"]
WeightsDtype = Literal["float32", "bfloat16"]


def convert(model: Any, weights_dtype: WeightsDtype) -> Any:
    """The model itself, whose parameters get their data type: those that are trained, or those below adapters.

    Frozen weights that are not float32 stay as they were loaded unless bfloat16 is asked for; quantised ones always do.
    """
    dtype = torch.bfloat16 if weights_dtype == "bfloat16" else torch.float32
    has_adapters = hasattr(model, "disable_adapter")
    for parameter in model.parameters():
        if has_adapters and parameter.requires_grad:
            parameter.data = parameter.data.float()
        elif parameter.is_floating_point() and (parameter.requires_grad or (has_adapters and dtype == torch.bfloat16)):
            parameter.data = parameter.data.to(dtype).contiguous()
    return model


def resolve_precision(
    precision: Precision, device: torch.device, weights_dtype: WeightsDtype = "float32"
) -> Literal["float32", "bfloat16"]:
    """What `"auto"` means on a device; of bfloat16 weights, bfloat16 on every one.

    Raises:
        ValueError: The precision is none of those that there are, or bfloat16 weights were to be computed with in
            float32.
    """
    checked("precision", precision, Precision)
    checked("weights_dtype", weights_dtype, WeightsDtype)
    if weights_dtype == "bfloat16":
        if precision == "float32":
            raise ValueError(
                "weights_dtype='bfloat16' computes in bfloat16, got precision='float32': leave the precision out, or "
                "use weights_dtype='float32'"
            )
        return "bfloat16"
    if precision != "auto":
        return precision
    # older GPUs emulate it, slower than float32
    has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if has_bfloat16 else "float32"
