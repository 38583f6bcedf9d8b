"""The only episode loop: training and evaluation both go through `collect`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from agents.engines.rollout_engine import RolloutEngine
from agents.envs import check_rewards, has_several_turns, info_of, metrics_of
from agents.policies.language_model import LanguageModelPolicy, PromptTooLong, TooLong
from agents.rollout import Completion, Rollout, SamplingParams
from agents.serial_vector_env import SerialVectorEnv
from llm_envs.vector_env import CompletionVectorEnv


def collect(
    envs: VectorEnv[Any, Any, Any],
    policy: LanguageModelPolicy,
    engine: RolloutEngine,
    seeds: Sequence[int],
    group_size: int,
    sampling: SamplingParams,
    noise: np.random.Generator,
    too_long: TooLong = "error",
) -> list[Rollout]:
    """Play one episode in each environment: every seed's problem `group_size` times.

    In an episode of several turns, `sampling` is that of each completion. What stands before it in the context is what
    was there, token by token, and the environment's message.

    Args:
        envs: `P * G` environments, without autoreset.
        policy: Turns prompts into token ids and tokens into text.
        engine: Generates.
        seeds: P environment seeds; equal seeds give equal prompts, and that is what makes a group.
        group_size: G.
        sampling: How completions are drawn.
        noise: Gives each call of the engine its seed.
        too_long: What is done where the context has no room for a completion. `"truncate"` takes the end of a prompt.
            With it, and with `"skip"`, an episode that outgrows the context is cut there: what it says from then on is
            empty. To skip prompts is up to the caller, who chooses the seeds.

    Returns:
        N rollouts, the G of one seed next to each other.

    Raises:
        ValueError: The environments are not `P * G`, or one gives different prompts for equal seeds, or a reward that
            is not finite.
        PromptTooLong: A prompt, or with `"error"` an episode so far, leaves no room for a completion.
        UnsuitableTokenizer: The chat template cannot show the turns of an episode.
        NotImplementedError: Some episodes go on while others are over, in another vector environment than
            `make_envs` makes of tasks and of single environments.
    """
    if envs.num_envs != len(seeds) * group_size:
        raise ValueError(
            f"{len(seeds)} seeds x {group_size} completions need as many environments, got {envs.num_envs}"
        )
    prompts, _ = envs.reset(seed=[seed for seed in seeds for _ in range(group_size)])  # type: ignore[arg-type]
    for i, prompt in enumerate(prompts):
        if prompt != prompts[i - i % group_size]:
            raise ValueError(f"the environment gave two prompts for seed {seeds[i // group_size]}: it is not seeded")
    if has_several_turns(envs):
        policy.check_turns()
    prompt_ids = policy.encode_prompts(prompts[::group_size], sampling.max_completion_tokens, too_long=too_long)
    groups = engine.generate(prompt_ids, group_size, sampling, noise_seed(noise))
    episodes = [
        _Episode(
            seeds[i // group_size], prompts[i], prompt_ids[i // group_size], groups[i // group_size][i % group_size]
        )
        for i in range(envs.num_envs)
    ]
    while True:
        actions = [None if episode.over else episode.action(policy) for episode in episodes]
        messages, rewards, terminated, truncated, infos = envs.step(actions)
        check_rewards(rewards)
        for i, action in enumerate(actions):
            if action is not None:
                episodes[i].hear(i, action, float(rewards[i]), bool(terminated[i] | truncated[i]), infos)
        going = [episode for episode in episodes if not episode.over]
        if not going:
            return [episode.rollout() for episode in episodes]
        if len(going) < len(episodes) and not isinstance(envs.unwrapped, CompletionVectorEnv | SerialVectorEnv):
            raise NotImplementedError(
                "some episodes go on while others are over, in a vector environment of another package: it would step "
                "those that are over, or begin new ones"
            )
        for episode, message in zip(episodes, messages, strict=True):
            if not (episode.over or episode.is_full):
                ids = policy.encode_reply(message, episode.ids[-1])
                if too_long != "error" and not _has_room(policy, episode, len(ids), sampling.max_completion_tokens):
                    episode.cut()
                else:
                    episode.say(message, ids)
                    _check_room(policy, episode, sampling.max_completion_tokens)
        writing = [episode for episode in going if not episode.is_full]
        if writing:
            contexts = [episode.prompt_ids + episode.ids for episode in writing]
            groups = engine.generate(contexts, 1, sampling, noise_seed(noise))
            for episode, [completion] in zip(writing, groups, strict=True):
                episode.write(completion)


def noise_seed(noise: np.random.Generator) -> int:
    """The next seed for `RolloutEngine.generate`."""
    return int(noise.integers(2**63))


def _check_room(policy: LanguageModelPolicy, episode: _Episode, max_completion_tokens: int) -> None:
    if not _has_room(policy, episode, 0, max_completion_tokens):
        raise PromptTooLong(
            f"an episode of {episode.length} tokens after {episode.turns} turns and a completion of up to "
            f"{max_completion_tokens} do not fit into the {policy.context_length} tokens that the model can attend to; "
            "lower max_completion_tokens or the number of turns, or let such an episode be cut (too_long='truncate')"
        )


def _has_room(policy: LanguageModelPolicy, episode: _Episode, message_tokens: int, max_completion_tokens: int) -> bool:
    needed = episode.length + message_tokens + max_completion_tokens
    return policy.context_length is None or needed <= policy.context_length


class _Episode:
    """An episode while it is played."""

    def __init__(self, seed: int, prompt: str, prompt_ids: list[int], first: Completion) -> None:
        self.seed = seed
        self.prompt = prompt
        self.prompt_ids = prompt_ids
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.written: list[bool] = []
        self.texts: list[str] = []
        self.turns = 0
        self.truncated = False
        self.is_full = False
        self.over = False
        self.reward = 0.0
        self.outcome: str = ""
        self.answer: Any = None
        self.reference: Any = None
        self.metrics: dict[str, float] = {}
        self.write(first)

    def write(self, completion: Completion) -> None:
        """The model writes."""
        self.latest = completion
        self.truncated = self.truncated or completion.truncated
        self.ids = self.ids + completion.ids
        self.logprobs += completion.logprobs
        self.written += [True] * len(completion.ids)
        self.turns += 1

    @property
    def length(self) -> int:
        """Tokens of the context so far."""
        return len(self.prompt_ids) + len(self.ids)

    def cut(self) -> None:
        """Write no more: the context is full."""
        self.is_full = self.truncated = True

    def action(self, policy: LanguageModelPolicy) -> str:
        """What the model has just written, as text; nothing once the context is full."""
        if self.is_full:
            return ""
        written = self.latest.ids
        return policy.completion_text(written, self.prompt_ids + self.ids[: len(self.ids) - len(written)])

    def say(self, message: str, ids: list[int]) -> None:
        """The environment writes."""
        self.texts.append(f"[environment] {message}")
        self.ids = self.ids + ids
        self.logprobs += [0.0] * len(ids)
        self.written += [False] * len(ids)

    def hear(self, index: int, text: str, reward: float, over: bool, infos: dict[str, Any]) -> None:
        """The environment's verdict on what was written, as row `index` of its infos."""
        self.over = over
        self.texts.append(text)
        self.reward += reward
        outcome, self.answer, self.reference = (
            info_of(infos, key, index) for key in ("outcome", "answer", "reference")
        )
        self.outcome = "" if outcome is None else str(outcome)
        self.metrics = metrics_of(infos, index)

    def rollout(self) -> Rollout:
        """The episode, now that it is over."""
        return Rollout(
            seed=self.seed,
            prompt=self.prompt,
            prompt_ids=self.prompt_ids,
            completion=Completion(self.ids, self.logprobs, self.truncated),
            text="\n".join(self.texts),
            reward=self.reward,
            outcome=self.outcome,
            answer=self.answer,
            reference=self.reference,
            action_mask=None if self.turns == 1 else tuple(self.written),
            turns=self.turns,
            metrics=self.metrics,
        )
