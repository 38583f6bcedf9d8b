from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from agents import GRPO, GRPOConfig, SB3Config, load_agent, make_agent
from agents.engines import CachedEngine
from agents.factory import AGENT_NAMES, default_config

ARITHMETIC = "llm_envs/Arithmetic-v0"
SMALL = {"max_completion_tokens": 8, "micro_batch_size": 4}


def small(name, policy, **options):
    sizes = {"prompts_per_update": 2, "group_size": 2} if name not in ("ppo", "a2c", "ppo-token", "a2c-token") else {}
    sizes |= {} if sizes else {"num_envs": 2}
    return make_agent(name, policy, ARITHMETIC, config=replace(default_config(name), **SMALL, **sizes), **options)


@pytest.mark.parametrize("name", AGENT_NAMES)
def test_every_name_makes_an_agent_that_is_saved_and_loaded(name, micro_policy, tmp_path):
    agent = small(name, micro_policy, seed=3)
    agent.save(tmp_path / "agent")
    loaded = load_agent(tmp_path / "agent", device="cpu")
    assert type(loaded) is type(agent)
    assert (loaded.seed, loaded.config) == (3, agent.config)
    assert getattr(loaded, "objective", None) == getattr(agent, "objective", None)
    assert getattr(loaded, "view", None) == getattr(agent, "view", None)


@pytest.mark.parametrize("name", ["grpo", "ppo"])
def test_loading_takes_an_engine_and_a_precision(name, micro_policy, tmp_path):
    small(name, micro_policy).save(tmp_path / "agent")
    synced = []

    class Engine(CachedEngine):
        def sync_weights(self, policy):
            synced.append(policy)
            super().sync_weights(policy)

    engine = Engine(micro_policy)
    for load in (load_agent, type(small(name, micro_policy)).load):
        synced.clear()
        agent = load(tmp_path / "agent", engine=engine, precision="bfloat16")
        assert agent.engine is engine
        assert agent.policy.precision == "bfloat16"
        assert synced  # with the weights that were loaded
        assert all(policy is agent.policy for policy in synced)


def test_what_an_agent_does_not_take_is_refused(micro_policy, tmp_path):
    with pytest.raises(ValueError, match="there is no agent 'dqn'; there are grpo"):
        make_agent("dqn", micro_policy, ARITHMETIC)
    with pytest.raises(ValueError, match="takes no objective"):
        make_agent("ppo", micro_policy, ARITHMETIC, objective=GRPO())
    with pytest.raises(TypeError, match="config must be a GRPOConfig"):
        make_agent("grpo", micro_policy, ARITHMETIC, config=SB3Config())
    with pytest.raises(TypeError, match="config must be an SB3Config"):
        make_agent("ppo", micro_policy, ARITHMETIC, config=GRPOConfig())
    small("grpo", micro_policy).save(tmp_path / "agent")
    with pytest.raises(ValueError, match="GRPOAgent, which has no algorithm"):
        load_agent(tmp_path / "agent", algorithm=object)


THREADS = (
    "import os, sys, agents, torch\n{before}\n"
    f"agents.make_agent('grpo', 'builtin/tiny', 'llm_envs:{ARITHMETIC}', device='cpu')\n"
    "assert 'stable_baselines3' not in sys.modules  # which takes a second to load\n"
    "print(os.environ['OMP_WAIT_POLICY'], torch.get_num_threads())"
)


@pytest.mark.parametrize(
    ("environment", "before", "expected"),
    [
        ({}, "", f"passive {min(2, len(os.sched_getaffinity(0)))}"),
        ({"OMP_NUM_THREADS": "3"}, "", "passive 3"),
        ({}, "import agents.hardware; torch.set_num_threads(5)", "passive 5"),
        ({"OMP_WAIT_POLICY": "active"}, "", "active 1"),
    ],
    ids=["by the model's size", "OMP_NUM_THREADS", "set by the program", "threads that spin"],
)
def test_python_has_the_threads_and_the_waiting_of_the_command_line(environment, before, expected):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    command = [sys.executable, "-c", THREADS.format(before=before)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=inherited | environment)
    assert done.stdout.strip() == expected
