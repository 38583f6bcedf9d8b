"""Gradients of packed tokens under PyTorch's engines for several devices; `test_composition.py` runs it.

Two processes of gloo take half of the groups each. Their gradients, averaged by the engine, must be those of one
process.
"""

from __future__ import annotations

import sys

import families
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from agents.forward import TokenLogprobs, packed_model_of


def loss_of(module, batch):
    """A sum with weights that depend on the tokens."""
    return (module(batch, 1.0) * batch.completion_mask * torch.sin(batch.completion_ids.double())).sum()


def main(tied: bool) -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.set_num_threads(1)
    mesh = init_device_mesh("cpu", (2,))
    batch = families.make_batch([9, 4, 12, 6], [[5, 1, 8], [3, 2, 8], [4, 7, 6], [3, 2, 9]])
    part = batch.select_groups(torch.tensor([2 * rank, 2 * rank + 1]))

    def scorer(checkpointing=False):
        model = families.make_model("llama", tie_word_embeddings=tied)
        if checkpointing:
            model.gradient_checkpointing_enable()
        return TokenLogprobs(model, packed_model_of(model))

    alone = scorer()
    loss_of(alone, batch).backward()
    expected = {name: parameter.grad / 2 for name, parameter in alone.named_parameters()}
    replicated = DistributedDataParallel(scorer())
    loss_of(replicated, part).backward()
    check(expected, ((name.removeprefix("module."), p.grad) for name, p in replicated.named_parameters()))
    for checkpointing in (False, True):
        sharded = scorer(checkpointing)
        for layer in sharded.model.model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(sharded, mesh=mesh)
        loss_of(sharded, part).backward()
        check(expected, ((name, p.grad.full_tensor()) for name, p in sharded.named_parameters()))


def check(expected, found) -> None:
    """Raise where a gradient is not the expected one, or is missing."""
    found = dict(found)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(
            gradient, expected[name], rtol=1e-6, atol=1e-9, msg=lambda text, name=name: name + text
        )


if __name__ == "__main__":
    main(sys.argv[1] == "tied")
    print("equal")
