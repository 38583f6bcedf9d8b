"""The only episode loop: training and evaluation both go through `collect`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from gymnasium.vector import VectorEnv

from agents.engines.base import RolloutEngine
from agents.policies.language_model import LanguageModelPolicy
from agents.rollout import Rollout, SamplingParams


def collect(
    envs: VectorEnv[Any, Any, Any],
    policy: LanguageModelPolicy,
    engine: RolloutEngine,
    seeds: Sequence[int],
    group_size: int,
    sampling: SamplingParams,
    generator: torch.Generator,
) -> list[Rollout]:
    """Play one episode in each environment: every seed's problem `group_size` times.

    Args:
        envs: `P * G` environments, without autoreset.
        policy: Turns prompts into token ids and tokens into text.
        engine: Generates.
        seeds: P environment seeds; equal seeds give equal prompts, and that is what makes a group.
        group_size: G.
        sampling: How completions are drawn.
        generator: Randomness of the sampling.

    Returns:
        N rollouts, the G of one seed next to each other.

    Raises:
        ValueError: The environments are not `P * G`, or one gives different prompts for equal seeds.
        NotImplementedError: An episode goes on after one completion.
    """
    if envs.num_envs != len(seeds) * group_size:
        raise ValueError(
            f"{len(seeds)} seeds x {group_size} completions need as many environments, got {envs.num_envs}"
        )
    prompts, _ = envs.reset(seed=[seed for seed in seeds for _ in range(group_size)])  # type: ignore[arg-type]
    for i, prompt in enumerate(prompts):
        if prompt != prompts[i - i % group_size]:
            raise ValueError(f"the environment gave two prompts for seed {seeds[i // group_size]}: it is not seeded")
    prompt_ids = policy.encode_prompts(prompts[::group_size], sampling.max_completion_tokens)
    groups = engine.generate(prompt_ids, group_size, sampling, generator)
    completions = [completion for group in groups for completion in group]
    texts = [policy.decode(completion.ids) for completion in completions]
    _, rewards, terminated, truncated, infos = envs.step(texts)
    if not (terminated | truncated).all():
        raise NotImplementedError(
            "an episode went on after one completion; episodes of several turns are not supported"
        )
    outcomes, answers, references = (infos.get(key) for key in ("outcome", "answer", "reference"))
    return [
        Rollout(
            seed=seeds[i // group_size],
            prompt=prompts[i],
            prompt_ids=prompt_ids[i // group_size],
            completion=completions[i],
            text=texts[i],
            reward=float(rewards[i]),
            outcome="" if outcomes is None else str(outcomes[i]),
            answer=None if answers is None else answers[i],
            reference=None if references is None else references[i],
        )
        for i in range(len(texts))
    ]
