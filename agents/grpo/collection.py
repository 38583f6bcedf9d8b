"""How a `GRPOAgent` collects its groups of episodes: refills, prompts that are too long, and one step ahead."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Self

import numpy as np
from gymnasium.vector import VectorEnv

from agents.background import in_background
from agents.base_agent import Agent
from agents.collect import collect, noise_seed
from agents.envs import epoch_seeds, num_problems, prompts_of
from agents.grpo.config import GRPOConfig
from agents.json_values import as_json, from_json
from agents.objectives import Objective
from agents.prompt_lengths import seeds_that_fit
from agents.rollout import Completion, Rollout


@dataclass(frozen=True, slots=True)
class CollectedBatch:
    """Episodes of an update.

    Attributes:
        sampled: All that were played, whole groups.
        chosen: The groups to learn from, by their place among them.
        group_size: G.
    """

    sampled: list[Rollout]
    chosen: list[int]
    group_size: int

    @property
    def rollouts(self) -> list[Rollout]:
        """The episodes to learn from."""
        size = self.group_size
        return [rollout for i in self.chosen for rollout in self.sampled[i * size : (i + 1) * size]]

    def to_json(self) -> str:
        """For a checkpoint; what JSON has no form for, as a task's reference may be, becomes text."""
        record = {"sampled": [asdict(rollout) for rollout in self.sampled], "chosen": self.chosen}
        return json.dumps(as_json(record), default=str)

    @classmethod
    def from_json(cls, text: str, group_size: int) -> Self:
        """The inverse of `to_json`."""
        record = from_json(json.loads(text))
        sampled = [Rollout(**row | {"completion": Completion(**row["completion"])}) for row in record["sampled"]]
        return cls(sampled, record["chosen"], group_size)


class CollectingAgent(Agent):
    """An agent that learns from groups of episodes.

    Attributes:
        config: How much is collected, and of what.
        objective: What is made of it.
        envs: What the episodes of one process are played in.
        num_prompts: Problems that were drawn so far.
    """

    config: GRPOConfig
    objective: Objective
    envs: VectorEnv[Any, Any, Any]
    num_prompts: int
    _count: Counter[str]

    def check_engine(self) -> None:
        """Refuse an engine that cannot generate while the policy is updated, where that was asked for.

        Raises:
            ValueError: It cannot, or several processes train, or the objective does not correct for older weights.
        """
        if self.config.max_staleness == 0:
            return
        if not hasattr(self.objective, "sampler_correction"):
            raise ValueError(
                f"max_staleness={self.config.max_staleness} learns from completions of older weights, and the "
                f"objective {self.name} has no sampler_correction for that"
            )
        if not getattr(self.engine, "generates_elsewhere", False):
            raise ValueError(
                f"max_staleness={self.config.max_staleness} needs an engine that generates in another process, such as "
                f"VLLMServerEngine (--engine vllm --server URL), and not {type(self.engine).__name__}"
            )
        if self.ranks.size > 1:
            raise ValueError(
                f"max_staleness={self.config.max_staleness} is for one training process, and these are "
                f"{self.ranks.size}: rollouts and updates of several would cross on their way"
            )

    def _collect_ahead(self) -> Future[CollectedBatch]:
        """Begin to collect the next batch, with the weights that the engine has now.

        It draws from streams of its own, whatever this update draws meanwhile.
        """
        self.check_engine()
        rng, noise = (np.random.default_rng(noise_seed(stream)) for stream in (self.rng, self.noise))
        return in_background(lambda: self._collect(rng, noise))

    def _collect(self, *streams: np.random.Generator) -> CollectedBatch:
        """Groups to learn from, and others that were sampled to find them (see `GRPOConfig.max_refills`).

        Args:
            *streams: What draws problems and what seeds the engine; none are the agent's own.
        """
        size, wanted = self.config.group_size, self.config.prompts_per_update
        sampled: list[Rollout] = []
        informative: list[int] = []
        others: list[int] = []
        with self.rollout_phase():
            for _ in range(1 + self.config.max_refills):
                first = len(sampled) // size
                sampled += self._sample(*streams)
                if self.config.max_refills == 0:
                    return CollectedBatch(sampled, list(range(wanted)), size)
                for i in range(first, len(sampled) // size):
                    group = sampled[i * size : (i + 1) * size]
                    differ = any(rollout.reward != group[0].reward for rollout in group)
                    (informative if differ else others).append(i)
                if len(informative) >= wanted:
                    break
        return CollectedBatch(sampled, (informative + others)[:wanted], size)

    def _sample(self, *streams: np.random.Generator) -> list[Rollout]:
        rng, noise = streams or (self.rng, self.noise)
        wanted, size = self.config.prompts_per_update, self.config.group_size
        draw = partial(self._draw, rng=rng)
        seeds = draw(wanted)
        if self.too_long == "skip":  # others in the place of those whose prompts are too long
            seeds = seeds_that_fit(seeds, draw, lambda found: prompts_of(self.envs, found), self.fits, self._count)
        if self.ranks.size > 1:  # one draw on every rank, however often its episodes need the engine
            noise = np.random.default_rng([noise_seed(noise), self.ranks.rank])
        own = self.ranks.share(seeds)
        rollouts = collect(self.envs, self.policy, self.engine, own, size, self.sampling, noise, too_long=self.too_long)
        rollouts = self.ranks.gather(rollouts)
        if self.too_long == "truncate":
            self._count["prompts_truncated"] += sum(not self.fits(rollout.prompt) for rollout in rollouts[::size])
        return rollouts

    def _draw(self, wanted: int, rng: np.random.Generator) -> list[int]:
        """Seeds of the next problems."""
        problems = num_problems(self.envs)
        if problems is None:
            seeds = rng.integers(2**63, size=wanted).tolist()
        else:  # a data set: each row once in an epoch
            seeds = epoch_seeds(problems, self.num_prompts, wanted, self.seed)
        self.num_prompts += wanted
        return seeds
