"""Evaluation on held-out problems: greedy and sampled, with confidence intervals over problems."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
from gymnasium.envs.registration import EnvSpec

from agents.base_agent import Agent
from agents.collect import collect
from agents.distributed import Ranks
from agents.engines import RolloutEngine, default_engine
from agents.envs import EnvLike, env_spec, make_envs, num_problems, prompts_of, task_metric, what_is_asked
from agents.evaluation.estimates import Estimate, mean_estimate, pass_at_k, proportion_estimate
from agents.hardware import resolve_device
from agents.json_values import as_json, from_json
from agents.policies import LanguageModelPolicy, PromptTooLong, load_policy
from agents.policies.language_model import TooLong
from agents.rollout import Rollout, SamplingParams
from agents.tracking import files
from agents.tracking.completions_file import rollout_as_json, rollout_from_json
from agents.tracking.figures import ACCURACY, REWARD, main_figure, value_of
from agents.validation import checked

_MAX_ROWS = 1024
_ATTEMPTS_PER_PROBLEM = 20


@dataclass(frozen=True)
class EvaluationReport:
    """What `evaluate` found; `print` shows it as text.

    Attributes:
        env: The environment's id.
        env_kwargs: Its arguments.
        problems: How many different problems were asked.
        samples: How many completions were sampled for each, beside the greedy one.
        temperature: Of the sampled completions.
        greedy: Share of problems solved by greedy decoding.
        pass_at_k: For each k, the probability that one of k sampled completions is right; k = 1 is the sampled
            accuracy.
        mean_reward: Of the sampled completions.
        outcomes: How often each outcome occurred among the sampled completions.
        split: Of the problems; `"test"` are held-out ones.
        truncated: Share of sampled completions that were cut by the token limit.
        greedy_rollouts: One per problem.
        sampled_rollouts: `samples` per problem, next to each other, in the same order of problems.
        top_k: Of the sampled completions, see `SamplingParams`.
        top_p: Of them.
        stop: Of all completions.
        metric: The figure that the task names in place of the accuracy; None where it names none.
        prompts_skipped: Problems that were left out because their prompts leave no room for a completion.
        prompts_truncated: Problems of which the model saw the end of the prompt alone.
    """

    env: str
    env_kwargs: dict[str, Any]
    problems: int
    samples: int
    temperature: float
    greedy: Estimate
    pass_at_k: dict[int, Estimate]
    mean_reward: Estimate
    outcomes: dict[str, int]
    truncated: float
    split: str | None
    greedy_rollouts: tuple[Rollout, ...]
    sampled_rollouts: tuple[Rollout, ...]
    top_k: int | None = None
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    metric: str | None = None
    prompts_skipped: int = 0
    prompts_truncated: int = 0

    @property
    def figure(self) -> str:
        """What says how the policy does: `"accuracy"`, `"reward"` where nothing is right or wrong, or `metric`."""
        return main_figure((rollout.outcome for rollout in self.rollouts), self.metric)

    @property
    def rollouts(self) -> tuple[Rollout, ...]:
        """All of them, the greedy ones first."""
        return self.greedy_rollouts + self.sampled_rollouts

    def by_problem(self, figure: str) -> tuple[np.ndarray, np.ndarray]:
        """A figure of the greedy completions, and its mean over the sampled ones: two arrays (problems,)."""
        greedy, sampled = (
            np.array([value_of(rollout, figure) for rollout in rollouts])
            for rollouts in (self.greedy_rollouts, self.sampled_rollouts)
        )
        return greedy, sampled.reshape(self.problems, self.samples).mean(axis=1)

    def estimates(self, figure: str) -> tuple[Estimate, Estimate]:
        """The mean of a figure, greedy and sampled, each with its interval over problems."""
        if figure == ACCURACY:
            return self.greedy, self.pass_at_k[1]
        greedy, sampled = self.by_problem(figure)
        return mean_estimate(greedy), mean_estimate(sampled)

    def sampled_accuracy_by_problem(self) -> np.ndarray:
        """(problems,) share of right completions."""
        return _correct(self.sampled_rollouts).reshape(self.problems, self.samples).mean(axis=1)

    def greedy_by_problem(self) -> np.ndarray:
        """(problems,) 1.0 where greedy decoding is right."""
        return _correct(self.greedy_rollouts)

    def __str__(self) -> str:
        lines = [
            f"{self.env} {self.env_kwargs or ''}".strip(),
            f"{self.problems} problems of split {self.split}, greedy and {self.samples} samples each at temperature "
            f"{self.temperature:g}{self._restrictions()}; 95 % intervals over problems",
            *self._main_lines(),
            f"mean reward      {self.mean_reward.as_number()}",
            f"truncated        {100 * self.truncated:.1f} %",
            "outcomes         " + ", ".join(f"{name} {count}" for name, count in self.outcomes.items()),
        ]
        for count, what in ((self.prompts_skipped, "left out"), (self.prompts_truncated, "cut to their end")):
            if count:
                lines.append(f"prompts          {count} too long for the model's context: {what}")
        return "\n".join(lines)

    def _main_lines(self) -> list[str]:
        figure = self.figure
        if figure == ACCURACY:
            passes = (f"pass@{k:<11} {estimate.as_percent()} %" for k, estimate in self.pass_at_k.items())
            return [f"greedy accuracy  {self.greedy.as_percent()} %", *passes]
        greedy, sampled = self.estimates(figure)
        lines = [f"{f'greedy {figure}':<16} {greedy.as_number()}"]
        return lines if figure == REWARD else [*lines, f"{f'sampled {figure}':<16} {sampled.as_number()}"]

    def _restrictions(self) -> str:
        top_k = "" if self.top_k is None else f", top-k {self.top_k}"
        top_p = "" if self.top_p == 1 else f", top-p {self.top_p:g}"
        return top_k + top_p + (f", stopped by {', '.join(map(repr, self.stop))}" if self.stop else "")

    def as_json(self) -> dict[str, Any]:
        """Figures, and every completion that they were computed from."""
        estimates = {"greedy": self.greedy, "mean_reward": self.mean_reward}
        estimates |= {f"pass@{k}": estimate for k, estimate in self.pass_at_k.items()}
        return {
            "env": self.env,
            "env_kwargs": as_json(self.env_kwargs),
            "problems": self.problems,
            "samples": self.samples,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "stop": list(self.stop),
            "metric": self.metric,
            **{name: {"value": e.value, "low": e.low, "high": e.high} for name, e in estimates.items()},
            "outcomes": self.outcomes,
            "truncated": self.truncated,
            "split": self.split,
            "prompts_skipped": self.prompts_skipped,
            "prompts_truncated": self.prompts_truncated,
            "greedy_rollouts": [rollout_as_json(rollout) for rollout in self.greedy_rollouts],
            "sampled_rollouts": [rollout_as_json(rollout) for rollout in self.sampled_rollouts],
        }

    def save(self, file: str | Path) -> None:
        """Write `as_json` to a file."""
        files.write_text(Path(file), json.dumps(self.as_json(), indent=1, default=str) + "\n")

    @classmethod
    def load(cls, file: str | Path) -> EvaluationReport:
        """Read what `save` wrote; the rollouts come back without their token ids, which are not stored."""
        record = json.loads(Path(file).read_text(encoding="utf-8"))
        greedy, sampled = (
            [rollout_from_json(rollout) for rollout in record[name]] for name in ("greedy_rollouts", "sampled_rollouts")
        )
        report = report_from_rollouts(
            record["env"],
            from_json(record["env_kwargs"]),
            record["samples"],
            record["temperature"],
            record["split"],
            greedy,
            sampled,
            top_k=record.get("top_k"),
            top_p=record.get("top_p", 1.0),
            stop=tuple(record.get("stop", ())),
            metric=record.get("metric"),
        )
        counts = {name: record.get(name, 0) for name in ("prompts_skipped", "prompts_truncated")}
        return replace(report, **counts)


class SamplingOptions(TypedDict, total=False):
    """The settings of `SamplingParams`, each of which may be left out."""

    max_completion_tokens: int
    temperature: float
    top_k: int | None
    top_p: float
    stop: Sequence[str]


def evaluate(
    agent: Agent | LanguageModelPolicy | str | Path,
    env: EnvLike | None = None,
    *,
    problems: int = 200,
    samples: int = 8,
    split: str | None = "test",
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
    too_long: TooLong | None = None,
    **sampling_options: Unpack[SamplingOptions],
) -> EvaluationReport:
    """Ask a policy held-out problems, once greedily and `samples` times by sampling.

    The problems are distinct (by what they ask, see `Problem.key`) and depend on `seed` alone: two policies evaluated
    with the same arguments get the same ones. The policy and an agent's own randomness do not change.

    An agent samples as in its training (`agent.sampling`). A policy without an agent samples with the defaults of
    `SamplingParams`. Each of the sampling options that is given replaces that one setting.

    Args:
        agent: An agent, a policy, or the name of one for `load_policy`.
        env: The environment; by default the agent's own.
        problems: How many different problems to ask. A task with fewer of them gives fewer, and the report says so.
        samples: How many completions to sample for each.
        split: Passed to the environment as `split`; None for an environment that has none.
        seed: Names the problems and the sampling noise.
        on_progress: Called with the episodes finished and their total; of this process, where there are several.
        too_long: What is done with a prompt that leaves no room for a completion in the model's context: an `"error"`
            before anything is asked, `"skip"` the problem, or `"truncate"` it to its end. None is as an agent was
            trained, and an error for a policy. The report counts such prompts.
        **sampling_options: `max_completion_tokens`, `temperature`, `top_k`, `top_p` and `stop`, see `SamplingParams`.
            Greedy completions use `max_completion_tokens` and `stop` too.

    Raises:
        ValueError: `problems`, `samples` or a sampling option is out of range, or `env` is missing.
        TypeError: The environment has no argument `split`, or there is no such sampling option.
        PromptTooLong: A prompt leaves no room for a completion, and `too_long` is `"error"`; or all are skipped.
    """
    checked("agent", agent, Agent | LanguageModelPolicy | str | Path)
    problems, samples = checked("problems", problems, int), checked("samples", samples, int)
    seed, split = checked("seed", seed, int), checked("split", split, str | None)
    if problems < 1 or samples < 1:
        raise ValueError(f"problems and samples must be at least 1, got {problems} and {samples}")
    sampling = _sampling(agent, sampling_options)
    spec = env_spec(env if env is not None else _own_env(agent))
    policy, engine = _policy_and_engine(agent)
    ranks = agent.ranks if isinstance(agent, Agent) else Ranks()
    kwargs = {} if split is None else {"split": split}
    if too_long is None:
        too_long = agent.too_long if isinstance(agent, Agent) else "error"
    seeds = distinct_problem_seeds(spec, problems, seed, **kwargs)
    fitting = _seeds_that_fit(
        spec, seeds, policy, sampling.max_completion_tokens, checked("too_long", too_long, TooLong), kwargs
    )
    misfits = len(seeds) - len(fitting)
    own = ranks.share(fitting if too_long == "skip" else seeds)
    noise = np.random.default_rng(seed if ranks.size == 1 else [seed, ranks.rank])
    total = len(own) * (1 + samples)
    done = 0

    def play(group_size: int, sampling: SamplingParams) -> list[Rollout]:
        nonlocal done
        at_once = max(1, _MAX_ROWS // group_size)
        rollouts: list[Rollout] = []
        for start in range(0, len(own), at_once):
            part = own[start : start + at_once]
            envs = make_envs(spec, len(part) * group_size, **kwargs)
            rollouts += collect(envs, policy, engine, part, group_size, sampling, noise, too_long)
            envs.close()
            done += len(part) * group_size
            if on_progress is not None:
                on_progress(done, total)
        return ranks.gather(rollouts)

    with agent.rollout_phase() if isinstance(agent, Agent) else contextlib.nullcontext():
        greedy = play(1, SamplingParams(sampling.max_completion_tokens, 0.0, stop=sampling.stop))
        sampled = play(samples, sampling)
    report = report_from_rollouts(
        spec.id,
        dict(spec.kwargs),
        samples,
        sampling.temperature,
        split,
        greedy,
        sampled,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        stop=sampling.stop,
        metric=task_metric(spec),
    )
    return replace(
        report,
        prompts_skipped=misfits if too_long == "skip" else 0,
        prompts_truncated=misfits if too_long == "truncate" else 0,
    )


def _seeds_that_fit(
    spec: EnvSpec,
    seeds: list[int],
    policy: LanguageModelPolicy,
    max_completion_tokens: int,
    too_long: TooLong,
    kwargs: dict[str, Any],
) -> list[int]:
    """Those whose prompts leave room for a completion.

    Raises:
        PromptTooLong: One does not and `too_long` is `"error"`, or `"skip"` leaves none.
    """
    envs = make_envs(spec, len(seeds), **kwargs)
    prompts = prompts_of(envs, seeds)
    envs.close()
    fits = [policy.fits(prompt, max_completion_tokens) for prompt in prompts]
    misfits = [prompt for prompt, fit in zip(prompts, fits, strict=True) if not fit]
    if misfits and (too_long == "error" or (too_long == "skip" and not any(fits))):
        longest = max(misfits, key=len)
        raise PromptTooLong(
            f"{len(misfits)} of {len(prompts)} prompts of {spec.id} leave no room for a completion of "
            f"{max_completion_tokens} tokens in the {policy.context_length} that the model can attend to; lower "
            "max_completion_tokens, leave them out (too_long='skip', --too-long skip) or take the end of each "
            f"(too_long='truncate'). The longest has {len(longest)} characters and begins: {longest[:80]!r}"
        )
    return [seed for seed, fit in zip(seeds, fits, strict=True) if fit]


def report_from_rollouts(
    env: str,
    env_kwargs: dict[str, Any],
    samples: int,
    temperature: float,
    split: str | None,
    greedy: Sequence[Rollout],
    sampled: Sequence[Rollout],
    *,
    top_k: int | None = None,
    top_p: float = 1.0,
    stop: tuple[str, ...] = (),
    metric: str | None = None,
) -> EvaluationReport:
    """Turn one greedy and `samples` sampled rollouts per problem into a report."""
    problems = len(greedy)
    counts = _correct(sampled).reshape(problems, samples).sum(axis=1)
    rewards = np.array([rollout.reward for rollout in sampled]).reshape(problems, samples).mean(axis=1)
    ks = [k for k in (1, 2, 4, 8, 16, 32, 64, 128, 256) if k <= samples]
    outcomes = Counter(rollout.outcome for rollout in sampled)
    return EvaluationReport(
        env=env,
        env_kwargs=env_kwargs,
        problems=problems,
        samples=samples,
        temperature=temperature,
        greedy=proportion_estimate(_correct(greedy)),
        pass_at_k={
            k: proportion_estimate(np.array([pass_at_k(samples, int(c), k) for c in counts]), samples // k) for k in ks
        },
        mean_reward=mean_estimate(rewards),
        outcomes=dict(outcomes.most_common()),
        split=split,
        truncated=float(np.mean([rollout.completion.truncated for rollout in sampled])),
        greedy_rollouts=tuple(greedy),
        sampled_rollouts=tuple(sampled),
        top_k=top_k,
        top_p=top_p,
        stop=stop,
        metric=metric,
    )


def distinct_problem_seeds(env: EnvLike, problems: int, seed: int = 0, **kwargs: Any) -> list[int]:
    """Seeds of different problems, at most `problems` of them: none asks in other words what another one asks.

    Of a finite set (see `register_dataset`), each problem is taken once. Another task with a small problem space runs
    out: after 20 draws for each problem that is wanted, the problems found so far are returned.

    Args:
        env: The environment.
        problems: How many are wanted.
        seed: Names the sequence of candidates.
        kwargs: Arguments of the environment, such as `split`.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    envs = make_envs(env, problems, **kwargs)
    if (count := num_problems(envs)) is not None:
        envs.close()
        return rng.permutation(count)[:problems].tolist()
    found: dict[str, int] = {}
    for _ in range(_ATTEMPTS_PER_PROBLEM):
        candidates = rng.integers(2**63, size=problems).tolist()
        prompts, _ = envs.reset(seed=candidates)
        for content, candidate in zip(what_is_asked(envs, prompts), candidates, strict=True):
            if len(found) < problems:
                found.setdefault(content, candidate)
        if len(found) == problems:
            break
    envs.close()
    return list(found.values())


def _correct(rollouts: Sequence[Rollout]) -> np.ndarray:
    return np.array([float(rollout.correct) for rollout in rollouts])


def _sampling(agent: object, options: SamplingOptions) -> SamplingParams:
    """The agent's sampling or the defaults, with the given options in place of its settings."""
    settings: dict[str, Any] = dict(options)
    known = [field.name for field in fields(SamplingParams)]
    if unknown := sorted(settings.keys() - set(known)):
        alike = get_close_matches(unknown[0], known, n=1, cutoff=0.4)
        hint = f"did you mean {alike[0]}?" if alike else f"there are {', '.join(known)}"
        raise TypeError(f"there is no sampling option {unknown[0]!r}; {hint}")
    if not isinstance(settings.get("stop", ""), str):  # a text by itself would be taken for its letters
        settings["stop"] = tuple(settings["stop"])
    return replace(agent.sampling if isinstance(agent, Agent) else SamplingParams(), **settings)


def _own_env(agent: Any) -> EnvLike:
    spec = getattr(agent, "env_spec", None)
    if spec is None:
        raise ValueError("pass the environment to evaluate on: a policy by itself has none")
    return spec


def _policy_and_engine(agent: Agent | LanguageModelPolicy | str | Path) -> tuple[LanguageModelPolicy, RolloutEngine]:
    if isinstance(agent, Agent):
        return agent.policy, agent.engine
    policy = agent if isinstance(agent, LanguageModelPolicy) else load_policy(agent, device=resolve_device("auto"))
    return policy, default_engine(policy)
