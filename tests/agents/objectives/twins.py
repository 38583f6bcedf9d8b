"""Slow twins of the objectives, from the papers' formulas: plain loops over one completion and one token at a time.

Nothing of agents.objectives is used. Scalars are float64 tensors, so that autograd differentiates the formula itself.
"""

from __future__ import annotations

import math
import statistics

import torch


def rows(batch, logprobs):
    """(index, advantage, [(new, old, sampler, ref) of each token]) of every completion."""
    out = []
    for i in range(len(logprobs)):
        tokens = []
        for t in range(logprobs.shape[1]):
            if batch.action_mask[i, t]:
                ref = None if batch.ref_logprobs is None else batch.ref_logprobs[i, t]
                tokens.append((logprobs[i, t], batch.old_logprobs[i, t], batch.sampler_logprobs[i, t], ref))
        out.append((batch.advantages.flatten()[i].item(), tokens))
    return out


def exp(x):
    return torch.exp(x)


def ppo(ratio, a, low, high):
    """min(ratio A, clip(ratio) A), by cases."""
    if a >= 0:
        return ratio * a if ratio.item() <= 1 + high else torch.tensor((1 + high) * a, dtype=torch.float64)
    return ratio * a if ratio.item() >= 1 - low else torch.tensor((1 - low) * a, dtype=torch.float64)


def k3(new, ref):
    r = exp(ref - new)
    return r - torch.log(r) - 1


def grpo(batch, logprobs, low=0.2, high=0.2, beta=0.04):
    total = 0.0
    for a, tokens in rows(batch, logprobs):
        terms = [ppo(exp(n - o), a, low, high) - (beta * k3(n, ref) if beta else 0) for n, o, _, ref in tokens]
        total = total + sum(terms) / len(terms)
    return -total / len(logprobs)


def dr_grpo(batch, logprobs, length):
    total = 0.0
    for a, tokens in rows(batch, logprobs):
        for n, o, _, _ in tokens:
            total = total + ppo(exp(n - o), a, 0.2, 0.2) / length
    return -total / len(logprobs)


def dapo(batch, logprobs):
    total, count = 0.0, 0
    for a, tokens in rows(batch, logprobs):
        for n, o, _, _ in tokens:
            total = total + ppo(exp(n - o), a, 0.2, 0.28)
            count += 1
    return -total / count


def rloo(batch, logprobs):
    total = 0.0
    for a, tokens in rows(batch, logprobs):
        ratio = exp(sum(n for n, _, _, _ in tokens) - sum(o for _, o, _, _ in tokens))
        total = total + ppo(ratio, a, 0.2, 0.2)
    return -total / len(logprobs)


def reinforce_plus_plus(batch, logprobs, beta=0.01):
    total, count = 0.0, 0
    for a, tokens in rows(batch, logprobs):
        for n, o, _, ref in tokens:
            total = total + ppo(exp(n - o), a, 0.2, 0.2) - beta * (n - ref) ** 2 / 2
            count += 1
    return -total / count


def gspo(batch, logprobs, low=3e-4, high=4e-4):
    total = 0.0
    for a, tokens in rows(batch, logprobs):
        s = exp(sum(n - o for n, o, _, _ in tokens) / len(tokens))
        total = total + ppo(s, a, low, high)
    return -total / len(logprobs)


def cispo(batch, logprobs, cap=5.0):
    total, count = 0.0, 0
    for a, tokens in rows(batch, logprobs):
        for n, o, _, _ in tokens:
            total = total + min(exp(n - o).item(), cap) * a * n
            count += 1
    return -total / count


def sapo(batch, logprobs, tau_pos=1.0, tau_neg=1.05):
    total = 0.0
    for a, tokens in rows(batch, logprobs):
        tau = tau_pos if a > 0 else tau_neg
        gates = [4 / tau / (1 + exp(-tau * (exp(n - o) - 1))) for n, o, _, _ in tokens]
        total = total + a * sum(gates) / len(gates)
    return -total / len(logprobs)


def luspo(batch, logprobs, low=2e-3, high=2.5e-3):
    total = 0.0
    for a, tokens in rows(batch, logprobs):
        s = exp(sum(n - o for n, o, _, _ in tokens) / len(tokens))
        total = total + len(tokens) * ppo(s, a, low, high)
    return -total / len(logprobs)


def vespo(batch, logprobs):
    total, count = 0.0, 0
    for a, tokens in rows(batch, logprobs):
        w = 1.0
        for n, o, _, _ in tokens:
            w *= math.exp(n.item() - o.item())
        k, decay = (2, 3) if a >= 0 else (3, 2)
        weight = math.e**decay * w**k * math.e ** (-decay * w)
        for n, _, _, _ in tokens:
            total = total + weight * a * n
            count += 1
    return -total / count


def weighted(batch, logprobs, mean=False, beta=0.0):
    prompts = len(logprobs) // batch.group_size
    total = 0.0
    for w, tokens in rows(batch, logprobs):
        likelihood = sum(n for n, _, _, _ in tokens) / (len(tokens) if mean else 1)
        total = total - w * likelihood / prompts
        if beta:
            total = total + beta * sum(k3(n, ref) for n, _, _, ref in tokens) / len(tokens) / len(logprobs)
    return total


# -- advantages, on lists of lists -----------------------------------------------------------------------------------


def standardized(rewards, eps=1e-4):
    return [[(r - statistics.mean(g)) / (statistics.stdev(g) + eps) for r in g] for g in rewards]


def centred(rewards):
    return [[r - statistics.mean(g) for r in g] for g in rewards]


def leave_one_out(rewards):
    return [[r - statistics.mean(g[:i] + g[i + 1 :]) for i, r in enumerate(g)] for g in rewards]


def batch_baseline(rewards, eps=1e-4):
    flat = [a for g in centred(rewards) for a in g]
    mean, std = statistics.mean(flat), statistics.stdev(flat)
    return [[(a - mean) / (std + eps) for a in g] for g in centred(rewards)]
