"""The gradient of a step in the weights: fast form and our loss against transformers' forward pass and TRL's loss."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from agents.objectives import GRPO

pytest.importorskip("trl", reason="TRL is not installed; it comes with the extra 'parity'")
pytest.importorskip("datasets", reason="TRL's trainers import datasets; it comes with the extra 'parity'")
pytest.importorskip("pandas", reason="TRL's trainers import pandas; it comes with the extra 'parity'")

from trl.trainer.grpo_trainer import GRPOTrainer


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HERE = Path(__file__).parent
shared_prefix = load(HERE / "test_shared_prefix.py")
parity = load(HERE.parent / "objectives" / "test_trl_parity.py")


@pytest.mark.parametrize("name", ["llama, tied", "qwen2", "qwen3", "mistral", "gemma"])
def test_the_gradient_of_a_step_is_trls(random_policy, name):
    """KL penalty, ratios away from 1, and clipping on both sides."""
    fast, twin = shared_prefix.pair(random_policy, name)
    batch = shared_prefix.make_batch(fast.model.config.vocab_size)
    noise = torch.randn(2, *batch.completion_ids.shape, generator=torch.Generator().manual_seed(4)).double() * 0.3
    with torch.no_grad():
        scored = twin.logprobs(batch)
    batch = replace(
        batch,
        advantages=torch.tensor([[1.0, -0.5, -0.5], [0.7, 0.7, -1.4], [-1.0, 0.2, 0.8]], dtype=torch.float64),
        old_logprobs=(scored + noise[0]) * batch.completion_mask,
        ref_logprobs=(scored + noise[1]) * batch.completion_mask,
    )
    logprobs = fast.logprobs(batch)
    loss, figures = GRPO(kl_coef=0.04).loss(batch, logprobs)
    loss.backward()
    ratio, advantages = (logprobs - batch.old_logprobs).detach().exp(), batch.advantages.flatten()[:, None]
    mask = batch.completion_mask.bool()
    assert (mask & ratio.gt(1.2) & advantages.gt(0)).any()
    assert (mask & ratio.lt(0.8) & advantages.lt(0)).any()
    assert figures["clip_fraction"] > 0.05
    theirs = parity.stub(twin.logprobs(batch), beta=0.04)
    expected = GRPOTrainer._compute_loss(theirs, None, parity.inputs(batch))
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    gradients = [torch.cat([p.grad.flatten() for _, p in policy.trainable_parameters()]) for policy in (fast, twin)]
    assert ((gradients[0] - gradients[1]).norm() / gradients[1].norm()).item() < 1e-9
