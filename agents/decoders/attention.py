"""PyTorch's attention by those of its kernels that need no plan for a new shape."""

from __future__ import annotations

import contextlib

from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

# cuDNN's, which PyTorch prefers on Hopper GPUs, are planned anew for every shape, by its sources, and the shapes here
# change with the lengths of every batch; what that costs was not measured
_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, *, enable_gqa: bool = False
) -> Tensor:
    """`torch.nn.functional.scaled_dot_product_attention`.

    Args:
        query: (N, Hq, L, D).
        key: (N, Hkv, S, D).
        value: (N, Hkv, S, D).
        mask: Broadcastable to (N, Hq, L, S), true where a query sees a key; None: L is S, and each sees those before it
            and its own.
        scale: What the products of queries and keys are multiplied by.
        enable_gqa: Whether Hkv may be less than Hq.

    Returns:
        (N, Hq, L, D).
    """
    kernels = contextlib.nullcontext() if query.device.type == "cpu" else sdpa_kernel(_KERNELS)
    with kernels:
        return scaled_dot_product_attention(
            query, key, value, mask, is_causal=mask is None, scale=scale, enable_gqa=enable_gqa
        )
