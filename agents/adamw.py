"""AdamW that takes less memory: bfloat16 parameters with float32 masters, and moments of 8 bits.

A bfloat16 number is the upper half of a float32 number. So a parameter keeps its own 16 bits, rounded, and the
optimizer keeps the other 16: together they are a float32 master, and no bit of an update is lost. That is 4 bytes for
each number, as much as float32 alone, and the model computes with 2 of them.

Moments of 8 bits are bitsandbytes' (arXiv:2110.02861): blocks of 256 numbers share a scale. Parameters of less than
4,096 numbers keep float32 moments, as there.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim.adamw import adamw

from agents.grpo.config import GRPOConfig

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8
# of bitsandbytes' blockwise kernels
_BLOCK = 256
_MIN_QUANTIZED = 4096
# numbers that are stepped at a time: what a step needs beside weights, gradients and state does not grow with a layer
_CHUNK = 2**24


def make_adamw(parameters: Iterable[Tensor], config: GRPOConfig) -> torch.optim.Optimizer:
    """AdamW for parameters of one data type: PyTorch's own, or the one that takes less memory where that is needed.

    Args:
        parameters: float32, or bfloat16, which get float32 masters.
        config: Its learning rate, its weight decay, and its `optimizer`: `"adamw"` has float32 moments, `"adamw8bit"`
            those of bitsandbytes.

    Raises:
        ImportError: bitsandbytes is missing.
        ValueError: 8-bit moments of parameters that are sharded.
    """
    parameters = list(parameters)
    name, learning_rate, weight_decay = config.optimizer, config.learning_rate, config.weight_decay
    if name == "adamw" and not any(parameter.dtype == torch.bfloat16 for parameter in parameters):
        on_known_device = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
        return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=on_known_device)
    if name == "adamw8bit":
        if importlib.util.find_spec("bitsandbytes") is None:
            raise ImportError(
                "optimizer='adamw8bit' needs the package bitsandbytes: pip install 'llm-envs[bitsandbytes]'"
            )
        if any(isinstance(parameter, DTensor) for parameter in parameters):
            raise ValueError(
                "optimizer='adamw8bit' cannot have sharded parameters: use parallel='ddp', or optimizer='adamw', whose "
                "moments fsdp2 shards"
            )
    return CompactAdamW(parameters, learning_rate, weight_decay, quantized=name == "adamw8bit")


def total_norm(gradients: list[Tensor]) -> Tensor:
    """The Euclidean norm of all gradients together, in float32 also of bfloat16 gradients."""
    if not any(gradient.dtype == torch.bfloat16 for gradient in gradients):
        return torch.nn.utils.get_total_norm(gradients)
    norms = [torch.linalg.vector_norm(gradient, dtype=torch.float32) for gradient in gradients]
    return torch.linalg.vector_norm(torch.stack(norms))


class CompactAdamW(torch.optim.Optimizer):
    """AdamW (arXiv:1711.05101) with float32 masters of bfloat16 parameters, and with moments of 8 bits if asked for.

    With float32 moments the masters are, bit for bit, what `torch.optim.AdamW(fused=True)` makes of float32 parameters
    with the same gradients.

    Args:
        parameters: float32 or bfloat16, contiguous.
        learning_rate: The step size; `param_groups` has it as `lr`.
        weight_decay: Decoupled.
        quantized: Whether moments have 8 bits.
    """

    def __init__(
        self, parameters: Iterable[Tensor], learning_rate: float, weight_decay: float, *, quantized: bool
    ) -> None:
        super().__init__(parameters, {"lr": learning_rate, "weight_decay": weight_decay})
        self._quantized = quantized

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take a step; a parameter without a gradient stays."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, group["lr"], group["weight_decay"])

    def _step(self, parameter: Tensor, learning_rate: float, weight_decay: float) -> None:
        state = self.state[parameter]
        if not state:
            state.update(self._first_state(parameter))
        state["step"] += 1
        tensors = {name: _flat(value) for name, value in state.items() if name != "step"}
        weight, gradient = _flat(parameter), _flat(parameter.grad)  # type: ignore[arg-type]
        for start in range(0, len(weight), _CHUNK):
            part = slice(start, start + _CHUNK)
            of_blocks = slice(start // _BLOCK, (start + _CHUNK) // _BLOCK)
            chunk = {name: value[of_blocks if name.startswith("absmax") else part] for name, value in tensors.items()}
            master = joined(weight[part], chunk["remainder"]) if "remainder" in chunk else weight[part]
            change = _quantized_step if "state1" in chunk else _float_step
            change(master, gradient[part].float(), chunk, state["step"], learning_rate, weight_decay)
            if "remainder" in chunk:
                split(master, weight[part], chunk["remainder"])

    def _first_state(self, parameter: Tensor) -> dict[str, Tensor]:
        """Zeros: of the moments, and of what bfloat16 leaves out."""
        state: dict[str, Tensor] = {"step": torch.zeros((), dtype=torch.float32)}
        if parameter.dtype == torch.bfloat16:
            state["remainder"] = torch.zeros_like(parameter, dtype=torch.int16)
        if not self._quantized or parameter.numel() < _MIN_QUANTIZED:
            return state | {
                name: torch.zeros_like(parameter, dtype=torch.float32) for name in ("exp_avg", "exp_avg_sq")
            }
        blocks = -(-parameter.numel() // _BLOCK)
        for name in ("state1", "state2"):
            state[name] = torch.zeros_like(parameter, dtype=torch.uint8)
            state[f"absmax{name[-1]}"] = torch.zeros(blocks, dtype=torch.float32, device=parameter.device)
        return state


def split(master: Tensor, weight: Tensor, remainder: Tensor) -> None:
    """Write a float32 tensor into a bfloat16 one, rounded to the nearest, and what is left of its bits (int16)."""
    bits = master.view(torch.int32)
    upper = (bits + 2**15) >> 16
    remainder.copy_(bits - (upper << 16))
    weight.copy_(upper.to(torch.int16).view(torch.bfloat16))


def joined(weight: Tensor, remainder: Tensor) -> Tensor:
    """The float32 tensor that `split` took apart."""
    return ((weight.view(torch.int16).to(torch.int32) << 16) + remainder).view(torch.float32)


def _flat(tensor: Tensor) -> Tensor:
    """One dimension; of a sharded tensor, what this process has."""
    local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return local.detach().view(-1)


def _float_step(
    master: Tensor, gradient: Tensor, state: dict[str, Tensor], step: Tensor, learning_rate: float, weight_decay: float
) -> None:
    adamw(
        [master],
        [gradient],
        [state["exp_avg"]],
        [state["exp_avg_sq"]],
        [],
        [(step - 1).to(master.device)],  # it counts by itself
        fused=master.device.type in ("cpu", "cuda"),
        amsgrad=False,
        beta1=_BETAS[0],
        beta2=_BETAS[1],
        lr=learning_rate,
        weight_decay=weight_decay,
        eps=_EPSILON,
        maximize=False,
    )


def _quantized_step(
    master: Tensor, gradient: Tensor, state: dict[str, Tensor], step: Tensor, learning_rate: float, weight_decay: float
) -> None:
    from bitsandbytes import functional

    signed, unsigned = (_code(is_signed, master.device) for is_signed in (True, False))
    functional.optimizer_update_8bit_blockwise(
        "adam",  # its weight decay is decoupled
        gradient,
        master,
        state["state1"],
        state["state2"],
        *_BETAS,
        0.0,
        0.0,
        _EPSILON,
        int(step),
        learning_rate,
        signed,
        unsigned,
        state["absmax1"],
        state["absmax2"],
        weight_decay,
    )


_codes: dict[tuple[bool, torch.device], Tensor] = {}


def _code(is_signed: bool, device: torch.device) -> Tensor:
    """The 256 numbers that 8 bits stand for, bitsandbytes' dynamic map."""
    from bitsandbytes import functional

    if (is_signed, device) not in _codes:
        _codes[is_signed, device] = functional.create_dynamic_map(signed=is_signed).to(device)
    return _codes[is_signed, device]
