"""Prompts that leave no room for a completion: found before the run, skipped or cut, and counted."""

from __future__ import annotations

import json
from dataclasses import replace

import gymnasium
import numpy as np
import pytest

from agents import GRPO, Callback, GRPOAgent, GRPOConfig, SB3Agent, evaluate
from agents.cli.app import run
from agents.cli.compare import Compare
from agents.cli.evaluate import Evaluate
from agents.cli.options import parse
from agents.collect import collect
from agents.engines import default_engine
from agents.envs import make_envs
from agents.evaluation import EvaluationReport
from agents.evaluation.comparison import Comparison
from agents.policies import ChatFormat, LanguageModelPolicy, PromptTooLong
from agents.rollout import Completion, SamplingParams
from agents.sb3.config import SB3Config
from llm_envs import Problem, register_dataset, register_task
from rewards import Outcome, RewardResult
from rewards.math import MathReward

LONG = "What is " + "1 + " * 200 + "1?"
CONFIG = GRPOConfig(prompts_per_update=2, group_size=2, max_completion_tokens=8, epochs=1, minibatches=1)


class Recorder(Callback):
    def __init__(self):
        self.records = []

    def on_update(self, record):
        self.records.append(record)

    def counted(self, name):
        return sum(record.metrics[name] for record in self.records)


class Never:
    exact_logprobs = True

    def generate(self, *_):
        raise AssertionError("a completion was asked for")

    def sync_weights(self, policy):
        pass


def table(name, texts):
    rows = [{"question": text, "answer": "1"} for text in texts]
    options = {"split": "none", "reward": MathReward(), "instruction": ""}
    register_dataset(name, rows, prompt="question", reference="answer", **options)


@pytest.fixture
def rows():
    """Ten problems, of which two are too long for a context of 256 tokens."""
    table("test/Rows-v0", [f"What is {i} + 1?" for i in range(8)] + [LONG, LONG + " Again."])
    yield "test/Rows-v0"
    del gymnasium.registry["test/Rows-v0"]


@pytest.fixture
def stream():
    """An endless task, a third of whose prompts are too long."""

    @register_task("test/Stream-v0", reward=MathReward())
    def sampler(rng):
        a = int(rng.integers(3))
        return Problem((LONG if a == 0 else "What is 1 + 1?") + f" {int(rng.integers(10**6))}", reference="2")

    yield "test/Stream-v0"
    del gymnasium.registry["test/Stream-v0"]


def agent_of(policy, task, too_long="error", **options):
    return GRPOAgent(policy, task, config=replace(CONFIG, too_long=too_long), objective=GRPO(kl_coef=0), **options)


def test_a_finite_set_is_looked_through_before_the_run(rows, micro_policy):
    agent = agent_of(micro_policy, rows, engine=Never())
    with pytest.raises(PromptTooLong, match=r"2 of the 10 prompts.*too_long='skip'"):
        agent.learn(40)
    assert agent.num_updates == 0


def test_one_that_fits_throughout_is_not_refused(micro_policy):
    agent_of(micro_policy, "llm_envs/Arithmetic-v0").learn(4)


def test_few_shot_turns_are_counted_in(rows, random_policy):
    micro = random_policy("llama", max_position_embeddings=1024)
    agent = agent_of(micro, rows)
    agent.check_prompts()
    examples = (("What is " + "1 + " * 150 + "1?", "151"),) * 2
    chat = ChatFormat("Be brief.", examples)
    policy = LanguageModelPolicy(micro.model, micro.tokenizer, name="few-shot", chat=chat, plain=True)
    with pytest.raises(PromptTooLong):
        agent_of(policy, rows, engine=Never()).learn(4)


def test_skipping_takes_other_rows_and_counts_them(rows, micro_policy):
    recorder = Recorder()
    agent_of(micro_policy, rows, "skip").learn(4 * 5, recorder)
    prompts = {rollout.prompt for record in recorder.records for rollout in record.rollouts}
    assert prompts == {f"What is {i} + 1?" for i in range(8)}  # an epoch is eight of ten rows
    assert recorder.counted("prompts_skipped") >= 2
    assert all(len(record.rollouts) == 4 for record in recorder.records)


def test_skipping_draws_other_problems_of_an_endless_task(stream, micro_policy):
    recorder = Recorder()
    agent_of(micro_policy, stream, "skip").learn(4 * 6, recorder)
    assert not any("1 + 1 +" in rollout.prompt for record in recorder.records for rollout in record.rollouts)
    assert recorder.counted("prompts_skipped") > 0


def test_an_endless_task_without_any_that_fits_ends(micro_policy):
    @register_task("test/AllLong-v0", reward=MathReward())
    def sampler(rng):
        return Problem(f"{LONG} {int(rng.integers(10**6))}", reference="2")

    try:
        with pytest.raises(PromptTooLong, match="only 0 leave room"):
            agent_of(micro_policy, "test/AllLong-v0", "skip", engine=Never()).learn(4)
    finally:
        del gymnasium.registry["test/AllLong-v0"]


def test_a_finite_set_without_any_that_fits_is_refused(micro_policy):
    table("test/LongRows-v0", [LONG + str(i) for i in range(3)])
    try:
        with pytest.raises(PromptTooLong, match="3 of the 3 prompts"):
            agent_of(micro_policy, "test/LongRows-v0", "skip", engine=Never()).learn(4)
    finally:
        del gymnasium.registry["test/LongRows-v0"]


def test_truncating_takes_the_end_and_keeps_the_template(rows, micro_policy):
    recorder = Recorder()
    agent_of(micro_policy, rows, "truncate").learn(4 * 5, recorder)
    assert recorder.counted("prompts_truncated") == 2  # of ten rows, each once
    cut = [r for record in recorder.records for r in record.rollouts if r.prompt.startswith(LONG)]
    for rollout in cut:
        assert len(rollout.prompt_ids) <= 256 - 8
        text = micro_policy.tokenizer.decode(rollout.prompt_ids)
        assert text.startswith("<|user|>")
        assert text.endswith(rollout.prompt[-40:] + "<|end|><|assistant|>")
        assert len(rollout.prompt_ids) > 200  # as much as fits


@pytest.mark.parametrize("prompt", [LONG, "é" * 900, "\N{GRINNING FACE}" * 400, "x" * 3000, "\n" * 1000])
@pytest.mark.parametrize("room", [1, 8, 200])
def test_any_prompt_can_be_cut(prompt, room, micro_policy):
    [ids] = micro_policy.encode_prompts([prompt], room, too_long="truncate")
    assert len(ids) + room <= 256
    assert "\N{REPLACEMENT CHARACTER}" not in micro_policy.tokenizer.decode(ids)


def test_what_stands_around_a_prompt_is_never_cut(micro_policy):
    chat = ChatFormat("word " * 300)
    policy = LanguageModelPolicy(micro_policy.model, micro_policy.tokenizer, chat=chat, plain=True)
    with pytest.raises(PromptTooLong):
        policy.encode_prompts(["Hi"], 8, too_long="truncate")


@pytest.mark.parametrize("too_long", ["skip", "truncate"])
def test_a_resumed_run_goes_on_with_it(too_long, stream, micro_policy, tmp_path, random_policy):
    whole, first = (agent_of(random_policy("llama"), stream, too_long) for _ in range(2))
    whole.learn(4 * 4)
    first.learn(4 * 2)
    first.save(tmp_path / "checkpoint")
    resumed = GRPOAgent.load(tmp_path / "checkpoint", device="cpu")
    assert resumed.config.too_long == too_long
    resumed.learn(4 * 4)
    assert resumed.num_prompts == whole.num_prompts
    assert resumed.rng.bit_generator.state == whole.rng.bit_generator.state


@pytest.mark.parametrize("view", ["completion", "token"])
def test_agents_of_stable_baselines3_do_the_same(view, stream, rows, micro_policy, random_policy):
    def agent(task, too_long, **limits):
        limits = {"max_prompt_tokens": 64, **limits}
        steps = {"num_envs": 4, "n_steps": 2 if view == "completion" else 16, "max_completion_tokens": 8}
        config = SB3Config(**steps, **limits, too_long=too_long)
        return SB3Agent(random_policy("llama"), task, view=view, config=config)

    with pytest.raises(PromptTooLong, match="2 of the 10 prompts"):
        agent(rows, "error").learn(8)
    with pytest.raises(PromptTooLong, match="max_prompt_tokens=64; raise it"):
        agent(stream, "error").learn(64)
    skipping, cutting = Recorder(), Recorder()
    agent(stream, "skip").learn(16, skipping)
    assert skipping.counted("prompts_skipped") > 0
    assert not any("1 + 1 +" in rollout.prompt for record in skipping.records for rollout in record.rollouts)
    agent(stream, "truncate").learn(16, cutting)
    assert cutting.counted("prompts_truncated") > 0
    assert all(len(rollout.prompt_ids) <= 64 for record in cutting.records for rollout in record.rollouts)


def test_evaluation_finds_them_before_it_asks_anything(rows, micro_policy, tmp_path):
    options = {"problems": 10, "samples": 2, "split": "train", "max_completion_tokens": 8}
    with pytest.raises(PromptTooLong, match="2 of 10 prompts"):
        evaluate(micro_policy, rows, **options)
    skipped = evaluate(micro_policy, rows, **options, too_long="skip")
    assert (skipped.problems, skipped.prompts_skipped, skipped.prompts_truncated) == (8, 2, 0)
    assert "2 too long for the model's context: left out" in str(skipped)
    truncated = evaluate(micro_policy, rows, **options, too_long="truncate")
    assert (truncated.problems, truncated.prompts_skipped, truncated.prompts_truncated) == (10, 0, 2)
    truncated.save(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["prompts_truncated"] == 2
    assert EvaluationReport.load(tmp_path / "report.json").prompts_truncated == 2
    agent = agent_of(micro_policy, rows, "skip")
    assert evaluate(agent, problems=10, samples=2, split="train").prompts_skipped == 2  # as it was trained


def test_a_comparison_passes_it_to_agents_and_evaluations(rows):
    comparison = Comparison(
        env=gymnasium.spec(rows),
        policy="builtin/tiny",
        agents=("grpo", "ppo"),
        seeds=(0,),
        budget_episodes=8,
        problems=2,
        samples=1,
        too_long="skip",
        device="cpu",
    )
    for name in comparison.agents:
        assert comparison.make_agent(name, 0).too_long == "skip"
    with pytest.raises(ValueError, match="too_long"):
        replace(comparison, too_long="no")


def test_it_must_be_one_of_three(micro_policy):
    with pytest.raises(ValueError, match="too_long must be one of 'error', 'skip', 'truncate'"):
        GRPOConfig(too_long="cut")
    with pytest.raises(ValueError, match="too_long"):
        SB3Config(too_long="drop")
    with pytest.raises(ValueError, match="too_long"):
        evaluate(micro_policy, "llm_envs/Arithmetic-v0", problems=1, samples=1, too_long="ignore")


@pytest.mark.parametrize("too_long", ["skip", "truncate"])
def test_an_episode_that_outgrows_the_context_is_cut_and_the_others_go_on(too_long, micro_policy):
    heard = []

    def reward(prompts, completions, references):
        heard.append(list(completions))
        return [RewardResult(float(bool(text)), Outcome.PARTIAL, None) for text in completions]

    @register_task("test/Growing-v0", reward=reward, reply=lambda *_: "go on " * 20, max_turns=12)
    def sampler(rng):
        return Problem(f"{int(rng.integers(10**6))}", "1")

    try:
        envs = make_envs("test/Growing-v0", 4)
        engine, noise = default_engine(micro_policy), np.random.default_rng(0)
        rollouts = collect(envs, micro_policy, engine, [1, 2], 2, SamplingParams(14), noise, too_long=too_long)
    finally:
        del gymnasium.registry["test/Growing-v0"]
    for rollout in rollouts:
        assert rollout.completion.truncated
        assert 1 < rollout.turns < 12
        assert len(rollout.prompt_ids) + len(rollout.completion.ids) <= 256
        assert len(rollout.completion.ids) == len(rollout.completion.logprobs) == len(rollout.action_mask)
    assert heard[-1] == [""] * 4  # nothing was said any more


def test_one_cut_completion_of_several_masks_the_episode(micro_policy):
    """The first completion is cut, the last one is not."""

    class Engine:
        exact_logprobs = True
        calls = 0

        def generate(self, prompt_ids, group_size, sampling, seed):
            self.calls += 1
            end = [] if self.calls % 2 else [micro_policy.tokenizer.eos_token_id]
            ids = [7, 8, *end]
            return [[Completion(ids, [-1.0] * len(ids), not end)] * group_size for _ in prompt_ids]

        def sync_weights(self, policy):
            pass

    def reward(prompts, completions, references):
        return [RewardResult(float(i % 2), Outcome.PARTIAL, None) for i in range(len(completions))]

    @register_task("test/TwoTurns-v0", reward=reward, reply=lambda *_: "And?", max_turns=2)
    def sampler(rng):
        return Problem(f"{int(rng.integers(10**6))}", "1")

    try:
        recorder = Recorder()
        config = replace(CONFIG, mask_truncated=True)
        GRPOAgent(micro_policy, "test/TwoTurns-v0", engine=Engine(), config=config).learn(4, recorder)
    finally:
        del gymnasium.registry["test/TwoTurns-v0"]
    metrics = recorder.records[0].metrics
    assert (metrics["truncated"], metrics["optimizer_steps"]) == (1, 0)


def test_the_command_line_says_it_in_one_line_before_it_evaluates_or_trains(rows, tmp_path, capsys):
    train = ["train", "--env", rows, "--total-episodes", "8", "--eval-problems", "4", "--eval-samples", "2"]
    train += ["--prompts-per-update", "2", "--group-size", "2", "--minibatches", "1", "--max-completion-tokens", "8"]
    assert run([*train, "--run-dir", str(tmp_path / "refused")]) == 2
    error = capsys.readouterr().err
    assert "2 of the 10 prompts" in error
    assert "--too-long skip" in error
    assert not (tmp_path / "refused" / "evaluation_before.json").exists()


def test_the_command_line_has_the_option_of_python():
    assert Evaluate("builtin/tiny").too_long is None
    assert parse(Evaluate, ["builtin/tiny", "--too-long", "skip"], "llm-envs evaluate").too_long == "skip"
    for config in (GRPOConfig, SB3Config, Compare):
        assert parse(config, [], "llm-envs train").too_long == "error"
        assert parse(config, ["--too-long", "truncate"], "llm-envs train").too_long == "truncate"
