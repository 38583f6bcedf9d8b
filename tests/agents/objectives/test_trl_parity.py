"""Losses, gradients and advantages against TRL's own code, on the same random float64 tensors.

TRL's `_compute_loss` is called unbound on a stub: `self` is a namespace with the numbers that the method reads, and its
`_get_per_token_logps_and_entropies` hands back our log-probabilities instead of asking a model. Nothing of the loss is
replaced. Needs the extra `parity` (`pip install -e '.[parity]'`).
"""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from agents.objectives import CISPO, DAPO, GRPO, GSPO, LUSPO, RLOO, SAPO, VESPO, DrGRPO, PolicyGradient
from agents.objectives.ops import leave_one_out_advantages, sampler_weights, soft_overlong_penalty

pytest.importorskip("trl", reason="TRL is not installed; it comes with the extra 'parity'")
pytest.importorskip("datasets", reason="TRL's trainers import datasets; it comes with the extra 'parity'")
pytest.importorskip("pandas", reason="TRL's trainers import pandas; it comes with the extra 'parity'")

from trl.rewards import get_soft_overlong_punishment
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer


def load(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


presets = load("test_presets")


def stub(logprobs, **fields):
    """What `_compute_loss` reads of a trainer, on one process without gradient accumulation."""
    one_process = SimpleNamespace(
        num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x, sync_gradients=True
    )
    arguments = {
        "delta": None, "use_bias_correction_kl": False, "sapo_temperature_pos": 1.0, "sapo_temperature_neg": 1.05,
        "steps_per_generation": 1, "vespo_k_pos": 2.0, "vespo_lambda_pos": 3.0, "vespo_k_neg": 3.0,
        "vespo_lambda_neg": 2.0,
    }  # fmt: skip
    numbers = {
        "loss_type": "grpo", "importance_sampling_level": "token", "beta": 0.0, "epsilon_low": 0.2,
        "epsilon_high": 0.2, "max_completion_length": 10, "use_vllm": False,
        "vllm_importance_sampling_correction": True,
    }  # fmt: skip
    for name, value in fields.items():
        (arguments if name in arguments else numbers)[name] = value
    return SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs, torch.zeros_like(logprobs), None),
        args=SimpleNamespace(**arguments),
        accelerator=one_process,
        model=SimpleNamespace(training=True),
        _metrics={"train": defaultdict(list)},
        current_gradient_accumulation_steps=1,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        aux_loss_enabled=False,
        get_gamma_weights=GRPOTrainer.get_gamma_weights,
        _entropy_bonus_enabled=False,
        use_adaptive_entropy=False,
        **numbers,
    )


def inputs(batch, **more):
    zeros = torch.nan_to_num
    return {
        "prompt_ids": batch.prompt_ids.repeat_interleave(batch.group_size, 0),
        "prompt_mask": batch.prompt_mask.repeat_interleave(batch.group_size, 0),
        "completion_ids": batch.completion_ids,
        "completion_mask": batch.completion_mask,
        "advantages": batch.advantages.flatten(),
        "old_per_token_logps": zeros(batch.old_logprobs),
        "ref_per_token_logps": zeros(batch.ref_logprobs),
        "num_items_in_batch": batch.completion_mask.sum(),
        **more,
    }


def compare(objective, trainer, fields, more=None, tolerance=1e-12):
    for seed in range(3):
        batch, logprobs = presets.make_batch(objective, seed=seed)
        theirs_in = logprobs.detach().nan_to_num().requires_grad_(True)
        ours, _ = objective.loss(batch, logprobs)
        extra = {} if more is None else more(batch)
        theirs = trainer._compute_loss(stub(theirs_in, **fields), None, inputs(batch, **extra))
        assert ours.item() == pytest.approx(theirs.item(), rel=tolerance, abs=tolerance)
        gradient = torch.autograd.grad(ours, logprobs)[0]
        assert torch.allclose(gradient, torch.autograd.grad(theirs, theirs_in)[0], rtol=tolerance, atol=tolerance)
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    ("objective", "fields"),
    [
        (GRPO(kl_coef=0.0), {}),
        (GRPO(), {"beta": 0.04}),
        (GRPO(kl_coef=0.3, kl_unbiased=True), {"beta": 0.3, "use_bias_correction_kl": True}),
        (GRPO(kl_coef=0.0, dual_clip=1.4), {"delta": 1.4}),
        (DrGRPO(), {"loss_type": "dr_grpo"}),
        (DrGRPO(constant_length=100), {"loss_type": "dr_grpo", "max_completion_length": 100}),
        (DAPO(), {"loss_type": "dapo", "epsilon_high": 0.28}),
        (PolicyGradient(aggregation="token_mean"), {"loss_type": "bnpo"}),  # one micro-batch: the same as dapo
        (GSPO(), {"importance_sampling_level": "sequence", "epsilon_low": 3e-4, "epsilon_high": 4e-4}),
        (CISPO(), {"loss_type": "cispo", "epsilon_high": 5.0}),
        (
            LUSPO(),
            {
                "loss_type": "luspo",
                "importance_sampling_level": "sequence",
                "epsilon_low": 2e-3,
                "epsilon_high": 2.5e-3,
            },
        ),
        (VESPO(k_pos=1.5, k_neg=2.5), {"loss_type": "vespo", "vespo_k_pos": 1.5, "vespo_k_neg": 2.5}),
    ],
    ids=repr,
)
def test_losses_and_gradients_are_trls(objective, fields):
    compare(objective, GRPOTrainer, fields)


def test_sapo_is_trls_up_to_the_float32_temperature():
    # TRL's `torch.where(advantages > 0, 1.0, 1.05)` is float32, so its 1.05 is off by 5e-8
    compare(SAPO(), GRPOTrainer, {"loss_type": "sapo"}, tolerance=1e-6)
    exact = {"sapo_temperature_pos": 0.75, "sapo_temperature_neg": 1.25, "loss_type": "sapo"}  # exact in float32
    compare(SAPO(tau_pos=0.75, tau_neg=1.25), GRPOTrainer, exact)


def test_rloo_is_trls():
    def old(batch):
        return {"old_logps": (batch.old_logprobs.nan_to_num() * batch.completion_mask).sum(1)}

    compare(RLOO(), RLOOTrainer, {}, old)


def test_importance_weights_of_the_sampler_act_as_in_trl():
    def weights(batch):
        old, sampler = batch.old_logprobs.nan_to_num(), batch.sampler_logprobs.nan_to_num()
        return {"importance_sampling_ratio": sampler_weights(old, sampler, batch.action_mask, "token", 1.1, False)}

    objective = GRPO(sampler_correction="token_truncate", sampler_cap=1.1)
    compare(objective, GRPOTrainer, {"beta": 0.04, "use_vllm": True}, weights)


def test_the_soft_overlong_penalty_is_trls():
    lengths = list(range(1, 14))
    theirs = get_soft_overlong_punishment(max_completion_len=10, soft_punish_cache=4)(
        completion_ids=[[0] * length for length in lengths], prompts=[], completions=[]
    )
    assert soft_overlong_penalty(torch.tensor(lengths), 10, 4).tolist() == pytest.approx(theirs)


def test_leave_one_out_is_trls_formula():
    """TRL computes it inside `_generate_and_score_completions`, which cannot be called; these are its lines."""
    rewards = torch.rand(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    baselines = (rewards.sum(dim=1, keepdim=True) - rewards) / (4 - 1)
    assert torch.allclose(leave_one_out_advantages(rewards), rewards - baselines)
