"""How a run's environment is found again: by its module, by its entry point, or not, which is then said."""

from __future__ import annotations

import json
import sys
import textwrap
import warnings
from pathlib import Path

import gymnasium
import pytest

from agents import GRPOAgent, GRPOConfig, load_agent
from agents.cli.app import run
from agents.cli.config_file import read_config
from agents.envs import env_spec, importable_id, only_here, recorded_spec, spec_record
from agents.evaluation import EvaluationReport, evaluate
from llm_envs import Problem, register_task
from rewards.math import MathReward
from tests import started

ROOT = Path(__file__).parents[2]
CONFIG = GRPOConfig(prompts_per_update=2, group_size=2, max_completion_tokens=4)
ENV_MODULE = """
import gymnasium
from llm_envs import Unicode


class Echo(gymnasium.Env):
    observation_space = Unicode()
    action_space = Unicode()

    def __init__(self, word="two", pair=(1, 2), render_mode=None):
        self.word, self.pair = word, pair

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return f"Say {self.word} {int(self.np_random.integers(10**9))}.", {}

    def step(self, action):
        return "", float(self.word in action), True, False, {}


def make(**kwargs):
    return Echo(**kwargs)


gymnasium.register("plain/Registered-v0", entry_point=lambda **kwargs: Echo(**kwargs), kwargs={"word": "three"})
"""


@pytest.fixture
def plain(tmp_path, monkeypatch):
    """A module outside this repository with an environment; ids that the test registers are forgotten afterwards."""
    (tmp_path / "plain_envs.py").write_text(ENV_MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(gymnasium.registry)
    yield "plain_envs"
    sys.modules.pop("plain_envs", None)
    for new in set(gymnasium.registry) - before:
        del gymnasium.registry[new]


def forget(env_id):
    """As in a new process, where nobody has registered the id yet."""
    del gymnasium.registry[env_id]
    sys.modules.pop("plain_envs", None)


def agent_on(env):
    return GRPOAgent("builtin/tiny", env, config=CONFIG, device="cpu").learn(4)


@pytest.mark.parametrize("how", ["module", "text", "class", "function", "named"])
def test_a_run_on_a_plain_environment_goes_on(plain, how, tmp_path, recwarn):
    if how == "module":
        env, env_id = f"{plain}:plain/Registered-v0", "plain/Registered-v0"
    else:
        import plain_envs

        env = env_id = "plain/Other-v0"
        entry_point = {"text": "plain_envs:Echo", "class": plain_envs.Echo, "function": plain_envs.make}.get(how)
        gymnasium.register(env_id, entry_point=entry_point or "plain_envs:Echo", max_episode_steps=3)
        if how == "named":
            env = f"{plain}:{env_id}"
    agent = agent_on(gymnasium.make(env, pair=(3, 4)) if how == "text" else env)
    agent.save(tmp_path / "agent")
    assert not [warning for warning in recwarn if "registered by the program" in str(warning.message)]
    straight = agent.learn(8)
    forget(env_id)
    resumed = load_agent(tmp_path / "agent", device="cpu")
    assert resumed.env_spec.kwargs == agent.env_spec.kwargs
    assert resumed.env_spec.max_episode_steps == agent.env_spec.max_episode_steps
    assert resumed.learn(8).num_episodes == 8
    for ours, theirs in zip(resumed.policy.model.parameters(), straight.policy.model.parameters(), strict=True):
        assert ours.equal(theirs)
    assert evaluate(resumed, problems=2, samples=1, split=None).problems == 2


def test_the_command_line_trains_resumes_and_evaluates_a_plain_environment(plain, tmp_path, capsys):
    run_dir = tmp_path / "run"
    small = ["--prompts-per-update", "2", "--group-size", "2", "--eval-problems", "2", "--eval-samples", "1"]
    env = ["--env", "plain_envs:plain/Split-v0", "--max-completion-tokens", "4", "--device", "cpu"]
    (tmp_path / "plain_envs.py").write_text(
        ENV_MODULE.replace("render_mode=None", "split='train', render_mode=None").replace("Registered", "Split")
    )
    assert run(["train", *env, *small, "--total-episodes", "4", "--run-dir", str(run_dir)]) == 0
    forget("plain/Split-v0")
    assert run(["train", "--resume", "--run-dir", str(run_dir), "--total-episodes", "8"]) == 0
    forget("plain/Split-v0")
    assert run(["evaluate", str(run_dir), "--problems", "2", "--samples", "1", "--env-args", "word=four"]) == 0
    assert "'word': 'four'" in capsys.readouterr().out


def test_an_environment_of_the_program_itself_is_said_to_be_so(tmp_path):
    program = """
        import sys
        import gymnasium
        from agents import GRPOAgent, GRPOConfig, load_agent
        from llm_envs import Problem, register_task
        from rewards import MathReward

        @register_task("mine/Here-v0", reward=MathReward())
        def here(rng, high: int = 10**6):
            return Problem(f"What is {rng.integers(high)} + 1?", "1")

        gymnasium.register("mine/Lambda-v0", entry_point=lambda **kwargs: gymnasium.make("mine/Here-v0").unwrapped)
        config = GRPOConfig(prompts_per_update=2, group_size=2, max_completion_tokens=4)
        agent = GRPOAgent("builtin/tiny", sys.argv[1], config=config, device="cpu")
        agent.learn(4)
        agent.save("agent")
        print(load_agent("agent", device="cpu").learn(8).num_episodes)
    """
    (tmp_path / "my_program.py").write_text(textwrap.dedent(program))
    for env_id in ("mine/Here-v0", "mine/Lambda-v0"):
        env = {"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(tmp_path)}
        done = started.run("my_program.py", env_id, cwd=tmp_path, env=env)
        assert done.stdout == "8\n", done.stderr
        assert f"{env_id} is registered by the program that runs: what is saved" in done.stderr
        assert f"env='my_program:{env_id}'" in done.stderr
        with pytest.raises(
            gymnasium.error.NameNotFound, match=f"{env_id} is not registered here. Load it in a program"
        ):
            load_agent(tmp_path / "agent", device="cpu")


def test_only_what_cannot_be_found_again_is_said(plain):
    assert not only_here(env_spec("llm_envs/Arithmetic-v0"))
    assert not only_here(env_spec(f"{plain}:plain/Registered-v0"))
    gymnasium.register("plain/Nowhere-v0", entry_point="module_that_is_not:Env")
    assert "plain/Nowhere-v0 is registered by the program" in only_here(gymnasium.spec("plain/Nowhere-v0"))


def test_tuples_and_keys_of_arguments_come_back(tmp_path, micro_policy):
    @register_task("test/Tuples-v0", reward=MathReward())
    def tuples(rng, levels: tuple[int, ...] = (1, 2), names: dict[int, str] | None = None):
        assert isinstance(levels, tuple)
        return Problem(f"What is {int(rng.integers(10**6))} + 1?", "1")

    kwargs = {"levels": (3, 4), "names": {1: "one"}}
    agent = GRPOAgent(micro_policy, env_spec("test/Tuples-v0", **kwargs), config=CONFIG).learn(4)
    agent.save(tmp_path / "agent")
    assert load_agent(tmp_path / "agent", device="cpu").env_spec.kwargs == kwargs
    report = evaluate(agent, problems=2, samples=1)
    report.save(tmp_path / "report.json")
    assert EvaluationReport.load(tmp_path / "report.json").env_kwargs == kwargs
    record = json.loads(json.dumps(spec_record(agent.env_spec)))
    assert recorded_spec(record["env_id"], record["env_kwargs"], {}).kwargs == kwargs
    assert importable_id(agent.env_spec) == f"{__name__}:test/Tuples-v0"
    del gymnasium.registry["test/Tuples-v0"]


def test_tuples_come_back_from_the_file_of_a_run(tmp_path):
    @register_task("test/Pairs-v0", reward=MathReward())
    def pairs(rng, pair: tuple[int, int] = (1, 2)):
        return Problem(f"What is {int(rng.integers(10**6))} + {pair[0]}?", "1")

    run_dir = tmp_path / "run"
    small = ["--prompts-per-update", "2", "--group-size", "2", "--eval-problems", "2", "--eval-samples", "1"]
    options = ["--max-completion-tokens", "4", "--total-episodes", "4", "--device", "cpu", "--run-dir", str(run_dir)]
    assert run(["train", "--env", "test/Pairs-v0", "--env-args", "pair=(3, 4)", *small, *options]) == 0
    assert read_config(run_dir / "config.json")["env_args"] == ("pair=(3, 4)",)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert run(["train", "--resume", "--run-dir", str(run_dir)]) == 0
    assert load_agent(run_dir / "checkpoint", device="cpu").env_spec.kwargs == {"pair": (3, 4)}
    del gymnasium.registry["test/Pairs-v0"]
