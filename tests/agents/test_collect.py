from __future__ import annotations

import contextlib
import math
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.wrappers import TransformObservation

from agents import GRPOAgent, SB3Agent, serial_vector_env
from agents.collect import collect
from agents.engines import CachedEngine
from agents.envs import env_spec, make_envs
from agents.rollout import Completion, SamplingParams
from agents.tracking.callback import UpdateRecord
from agents.tracking.completions_file import CompletionsWriter
from llm_envs import Problem, Unicode, register_task
from rewards import Outcome, RewardResult

ARITHMETIC = "llm_envs/Arithmetic-v0"


class ScriptedEngine:
    """Writes given texts, in the order of the rollouts."""

    def __init__(self, policy, texts):
        self.policy, self.texts = policy, list(texts)

    def generate(self, prompt_ids, group_size, sampling, seed):
        encode = self.policy.tokenizer
        completions = [
            Completion(encode(text, add_special_tokens=False)["input_ids"], [], False) for text in self.texts
        ]
        return [completions[i : i + group_size] for i in range(0, len(completions), group_size)]

    def sync_weights(self, policy):
        pass


def play(policy, engine, seeds, group_size, env=ARITHMETIC, **kwargs):
    envs = make_envs(env, len(seeds) * group_size, **kwargs)
    return collect(envs, policy, engine, seeds, group_size, SamplingParams(8), np.random.default_rng(0))


def test_groups_share_a_problem_and_rewards_belong_to_their_completions(micro_policy):
    env = gymnasium.make(ARITHMETIC)
    references = []
    for seed in (7, 8):
        env.reset(seed=seed)
        references.append(env.unwrapped.problem.reference)
    texts = [f"\\boxed{{{references[0]}}}", "no", f"\\boxed{{{references[0]}}}x", f"\\boxed{{{references[1]}}}"]
    rollouts = play(micro_policy, ScriptedEngine(micro_policy, texts), [7, 8], 2)
    assert [rollout.seed for rollout in rollouts] == [7, 7, 8, 8]
    assert [rollout.text for rollout in rollouts] == texts
    assert [rollout.reward for rollout in rollouts] == [1.0, 0.0, float(references[0] == references[1]), 1.0]
    assert [rollout.outcome for rollout in rollouts][:2] == ["correct", "no_answer"]
    assert [rollout.reference for rollout in rollouts] == [references[0]] * 2 + [references[1]] * 2
    assert rollouts[0].prompt == rollouts[1].prompt != rollouts[2].prompt
    assert rollouts[0].prompt_ids == micro_policy.encode_prompts([rollouts[0].prompt])[0]


@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf, 1e39])
@pytest.mark.parametrize("agent", [GRPOAgent, SB3Agent])
def test_a_reward_that_is_no_finite_number_is_an_error_and_changes_nothing(reward, agent):
    @register_task("test/Broken-v0", reward=lambda prompts, *_: [RewardResult(reward, Outcome.SCORED)] * len(prompts))
    def sampler(rng):
        return Problem(f"{rng.integers(10**6)}?", reference="1")

    learner = agent("builtin/tiny", "test/Broken-v0", device="cpu")
    before = [parameter.detach().clone() for parameter in learner.policy.model.parameters()]
    with pytest.raises(ValueError, match=r"must be (finite|a finite float32 number)"):
        learner.learn(16)
    assert all(map(torch.equal, before, learner.policy.model.parameters()))
    del gymnasium.registry["test/Broken-v0"]


class Numbers(gymnasium.Env):
    """An environment of somebody else, whose infos hold numbers, or nothing."""

    def __init__(self, render_mode=None):
        self.observation_space, self.action_space = Unicode(), Unicode()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed = seed
        return f"{seed}?", {}

    def step(self, action):
        return "", 0.5, True, False, {"answer": 10 * self.seed, "outcome": "wrong"} if self.seed % 2 else {}


def test_infos_of_numbers_and_episodes_without_any(micro_policy, tmp_path):
    gymnasium.register("test/Numbers-v0", entry_point=Numbers)
    rollouts = play(micro_policy, CachedEngine(micro_policy), [1, 2, 3], 2, "test/Numbers-v0")
    found = [(rollout.answer, rollout.outcome, rollout.reference) for rollout in rollouts[::2]]
    assert found == [(10, "wrong", None), (None, "", None), (30, "wrong", None)]
    CompletionsWriter(tmp_path).on_update(UpdateRecord(1, 1, 6, {}, rollouts))
    del gymnasium.registry["test/Numbers-v0"]


def test_a_real_engine_fills_in_tokens_and_text(micro_policy):
    rollouts = play(micro_policy, CachedEngine(micro_policy), [1, 2, 3], 4)
    assert len(rollouts) == 12
    for rollout in rollouts:
        assert 1 <= len(rollout.completion.ids) <= 8
        assert rollout.text == micro_policy.decode(rollout.completion.ids)


def test_the_number_of_environments_must_fit(micro_policy):
    with pytest.raises(ValueError, match="2 seeds x 2"):
        collect(
            make_envs(ARITHMETIC, 3), micro_policy, CachedEngine(micro_policy), [1, 2], 2, SamplingParams(1),
            np.random.default_rng(0),
        )  # fmt: skip


class Unseeded(gymnasium.Env[str, str]):
    """Ignores its seed, or goes on for several turns, or (None) for one or two."""

    observation_space = Unicode()
    action_space = Unicode()
    count = 0

    def __init__(self, turns: int | None = 1, seeded: bool = True) -> None:
        self.turns, self.seeded, self.left = turns, seeded, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        Unseeded.count += 1
        self.left = Unseeded.count % 2 + 1 if self.turns is None else self.turns
        return ("same" if self.seeded else f"prompt {Unseeded.count}"), {}

    def step(self, action: str):
        self.left -= 1
        return "go on", 2.0, self.left == 0, False, {}


@pytest.fixture
def foreign():
    """An environment that does not come from register_task: no vector entry point, no outcome."""
    gymnasium.register("test/Foreign-v0", entry_point=Unseeded)
    yield "test/Foreign-v0"
    del gymnasium.registry["test/Foreign-v0"]


def test_any_text_environment_works(micro_policy, foreign):
    [rollout, _] = play(micro_policy, CachedEngine(micro_policy), [1], 2, foreign)
    assert (rollout.prompt, rollout.reward, rollout.outcome, rollout.answer) == ("same", 2.0, "", None)
    assert rollout.correct


def test_an_environment_that_ignores_its_seed_is_refused(micro_policy, foreign):
    with pytest.raises(ValueError, match="two prompts for seed 1"):
        play(micro_policy, CachedEngine(micro_policy), [1], 2, foreign, seeded=False)


def test_several_turns_of_a_foreign_environment(micro_policy, foreign):
    [rollout, _] = play(micro_policy, CachedEngine(micro_policy), [1], 2, foreign, turns=3)
    assert (rollout.turns, rollout.reward) == (3, 6.0)
    rollouts = play(micro_policy, CachedEngine(micro_policy), [1], 4, foreign, turns=None)
    assert sorted(rollout.turns for rollout in rollouts) == [1, 1, 2, 2]
    assert all(rollout.reward == 2 * rollout.turns for rollout in rollouts)


class TwoTurns(gymnasium.vector.VectorEnv):
    """A vector environment of its own, whose second episode has a turn more."""

    metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.DISABLED}  # noqa: RUF012 (Gymnasium's own form)
    num_envs = 2
    single_observation_space = single_action_space = Unicode()

    def __init__(self, num_envs=2, **kwargs):
        self.turn = 0

    def reset(self, *, seed=None, options=None):
        self.turn = 0
        return ("same", "same"), {}

    def step(self, actions):
        self.turn += 1
        done = np.array([True, self.turn > 1])
        return ("", "go on"), np.zeros(2), done, np.zeros(2, dtype=bool), {}


def test_several_turns_of_a_foreign_vector_environment_are_refused(micro_policy):
    gymnasium.register("test/TwoTurns-v0", entry_point=Unseeded, vector_entry_point=TwoTurns)
    try:
        with pytest.raises(NotImplementedError, match="some episodes go on"):
            play(micro_policy, CachedEngine(micro_policy), [1], 2, "test/TwoTurns-v0")
    finally:
        del gymnasium.registry["test/TwoTurns-v0"]


def test_copies_are_not_stepped_beyond_their_end(foreign):
    envs = make_envs(foreign, 2, turns=2)
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"\[0, 1\] are over"):
        envs.step(["a", "b"])
    envs.reset(seed=[1, 1])
    envs.step(["a", "b"])
    assert envs.step(["a", "b"])[2].all()
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"\[1\] are over"):
        envs.step([None, "b"])
    observations, rewards, terminated, truncated, infos = envs.step([None, None])
    assert (observations, rewards.tolist(), infos) == (("go on", "go on"), [0, 0], {})
    assert terminated.all()
    assert not truncated.any()


def test_wrappers_around_an_environment_are_kept(micro_policy):
    env = TransformObservation(gymnasium.make(ARITHMETIC, operands=2), str.upper, Unicode())
    [rollout, _] = play(micro_policy, CachedEngine(micro_policy), [1], 2, env)
    assert rollout.prompt.startswith("WHAT IS ")


def test_env_spec_accepts_what_people_have():
    env = gymnasium.make(ARITHMETIC, operands=2)
    assert env_spec(env).kwargs["operands"] == 2
    assert env_spec(env_spec(ARITHMETIC)).id == ARITHMETIC
    assert make_envs(env, 2).reset(seed=0)[0][0].count(" ") < 12
    with pytest.raises(gymnasium.error.NameNotFound):
        env_spec("llm_envs/Nothing-v0")
    with pytest.raises(TypeError, match="int"):
        env_spec(3)
    with pytest.raises(ValueError, match="no spec"):
        env_spec(Unseeded())


def test_an_environment_with_a_time_limit_is_made_again():
    env = gymnasium.wrappers.TimeLimit(gymnasium.make("llm_envs/Arithmetic-v0"), 5)
    envs = make_envs(env, 2)
    envs.reset(seed=[0, 0])
    _, _, terminated, truncated, _ = envs.step(["", ""])
    assert terminated.all()
    assert not truncated.any()


@pytest.mark.parametrize(("own", "watched"), [(False, 2), (True, 0)])
def test_steps_of_other_environments_are_watched(own, watched, monkeypatch):
    """Those of a `CompletionEnv` are not: its reward sets the deadline, and ending that one would end another's."""
    calls = []

    @contextlib.contextmanager
    def counted():
        calls.append(1)
        yield

    class Plain(gymnasium.Env):
        observation_space = action_space = Unicode()

        def reset(self, *, seed=None, options=None):
            return "?", {}

        def step(self, action):
            return "", 1.0, True, False, {}

    monkeypatch.setattr(serial_vector_env, "watched", counted)
    gymnasium.register("test/Watched-v0", entry_point=Plain, disable_env_checker=True)
    try:
        spec = gymnasium.spec("llm_envs/Arithmetic-v0" if own else "test/Watched-v0")
        envs = serial_vector_env.SerialVectorEnv(spec, 2)
        envs.reset(seed=[0, 1])
        envs.step(["1", "2"])
        envs.close()
    finally:
        del gymnasium.registry["test/Watched-v0"]
    assert len(calls) == watched
