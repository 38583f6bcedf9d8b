"""Specs of tasks are data: they can be written as JSON, printed, pickled and used in another process."""

from __future__ import annotations

import dataclasses
import multiprocessing
import pickle
import subprocess
import sys

import gymnasium
import pytest
from gymnasium.envs.registration import EnvSpec

import llm_envs  # noqa: F401  (registers the tasks)
from agents.envs import make_envs, spec_record
from llm_envs.registration import register_task
from llm_envs.task import add_task, find_task, remove_task, task_of

ARITHMETIC = "llm_envs/Arithmetic-v0"
USER_MODULE = """
import functools

from llm_envs import Problem, register_curriculum, register_dataset, register_task
from llm_envs.task import find_task
from rewards import MathReward


@register_task("mine/Doubling-v0", reward=MathReward())
def doubling(rng, high: int = 100):
    n = int(rng.integers(high))
    return Problem(f"What is 2 * {n}?", reference=str(2 * n), solution=f"\\\\boxed{{{2 * n}}}")


rows = [{"question": f"What is {n} + 1?", "answer": n + 1} for n in range(100)]
register_dataset("mine/Successors-v0", rows, prompt="question", reference="answer")
register_curriculum("mine/Climb-v0", "mine/Doubling-v0", [{"high": 10**n} for n in (3, 4)])
register_task("mine/Partial-v0", reward=MathReward())(functools.partial(doubling, high=1000))
arithmetic, _ = find_task("llm_envs/Arithmetic-v0")
register_task("mine/Borrowed-v0", reward=MathReward())(arithmetic.sampler)
"""
USER_TASKS = {
    "mine/Doubling-v0": {"high": 1000},
    "mine/Successors-v0": {},
    "mine/Climb-v0": {"start": 1},
    "mine/Partial-v0": {},
    "mine/Borrowed-v0": {"operands": 3},
}


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """The name of an imported module, outside this repository, that registers three tasks."""
    (tmp_path / "my_tasks.py").write_text(USER_MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__("my_tasks")
    yield "my_tasks"
    for id in USER_TASKS:
        remove_task(id)
    del sys.modules["my_tasks"]


def first_prompt(text: str) -> str:
    """What the environment of a spec, written as JSON, asks first."""
    return gymnasium.make(EnvSpec.from_json(text)).reset(seed=3)[0]


def in_new_process(text: str) -> str:
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(first_prompt, (text,))


@pytest.mark.parametrize("kwargs", [{}, {"operands": 3, "split": "test"}], ids=str)
def test_a_spec_goes_through_json_and_pickle(kwargs):
    env = gymnasium.make(ARITHMETIC, **kwargs)
    assert env.spec.kwargs == kwargs
    text = env.spec.to_json()
    for spec in (EnvSpec.from_json(text), pickle.loads(pickle.dumps(env.spec))):  # noqa: S301
        again = gymnasium.make(spec)
        assert again.spec == env.spec
        assert again.reset(seed=3) == env.reset(seed=3)
        assert again.unwrapped.problem == env.unwrapped.problem
        envs = gymnasium.make_vec(spec, num_envs=2)
        assert envs.reset(seed=[3, 4])[0][0] == env.reset(seed=3)[0]


def test_every_task_is_named_by_its_spec():
    ours = {id for id, spec in gymnasium.registry.items() if task_of(spec) is not None}
    assert {ARITHMETIC, "llm_envs/CodeRepair-v0", "llm_envs/GSM8K-v0"} <= ours
    for id in ours:
        spec = gymnasium.registry[id]
        assert EnvSpec.from_json(spec.to_json()) == spec
        assert task_of(spec).id == id
        assert spec.kwargs == {}
    assert task_of(gymnasium.spec("CartPole-v1")) is None
    assert task_of(None) is None


def test_the_registry_is_printed_with_the_tasks():
    text = gymnasium.pprint_registry(disable_print=True)
    assert ARITHMETIC in text
    heading = text[: text.index(ARITHMETIC)].rpartition("=====")[2].split()
    assert all(name.startswith("llm_envs/") for name in heading), heading


def test_users_see_their_own_arguments_alone():
    with pytest.raises(TypeError, match=r"has no argument 'operand'; it takes .* with kwargs \({'operand': 2}\)"):
        gymnasium.make(ARITHMETIC, operand=2)
    env = gymnasium.make(ARITHMETIC, operands=2)
    assert spec_record(env.spec) == {"env_id": ARITHMETIC, "env_kwargs": {"operands": 2}, "env_wrappers": []}
    assert make_envs(env, 2).reset(seed=[1, 2])[0][0] == env.reset(seed=1)[0]


def test_a_new_process_makes_a_task_of_the_package():
    env = gymnasium.make(ARITHMETIC, operands=3)
    assert in_new_process(env.spec.to_json()) == env.reset(seed=3)[0]


@pytest.mark.parametrize("id", USER_TASKS)
def test_a_new_process_imports_the_module_that_registers_a_task(user_module, id):
    env = gymnasium.make(id, **USER_TASKS[id])
    assert spec_record(env.spec)["env_id"] == f"{user_module}:{id}"
    assert in_new_process(env.spec.to_json()) == env.reset(seed=3)[0]


def test_gymnasiums_vector_environment_spawns_processes(user_module):
    options = {"context": "spawn"}
    envs = gymnasium.make_vec("mine/Doubling-v0", 2, "async", vector_kwargs=options, high=1000)
    try:
        prompts, _ = envs.reset(seed=[3, 4])
        assert prompts[0] == gymnasium.make("mine/Doubling-v0", high=1000).reset(seed=3)[0]
    finally:
        envs.close()


def test_a_task_of_a_script_is_found_in_the_processes_that_it_spawns(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"{USER_MODULE}\n"
        "import multiprocessing, gymnasium\n"
        "from gymnasium.envs.registration import EnvSpec\n"
        "def ask(text):\n"
        "    return gymnasium.make(EnvSpec.from_json(text)).reset(seed=3)[0]\n"
        "if __name__ == '__main__':\n"
        "    text = gymnasium.spec('mine/Doubling-v0').to_json()\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.apply(ask, (text,)) == ask(text))\n"
    )
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert ran.stdout == "True\n", ran.stderr


def test_what_cannot_be_found_is_named():
    spec = gymnasium.spec(ARITHMETIC)
    gone = EnvSpec.from_json(spec.to_json().replace("Arithmetic-v0", "Gone-v0"))
    with pytest.raises(gymnasium.error.NameNotFound, match=r"'llm_envs.tasks.arithmetic' does not register the task"):
        gymnasium.make(gone)
    elsewhere = EnvSpec.from_json(
        spec.to_json().replace("Arithmetic-v0", "Gone-v0").replace("llm_envs.tasks.arithmetic", "no_such_module")
    )
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        gymnasium.make(elsewhere)
    with pytest.raises(TypeError, match="was not registered with register_task"):
        find_task("CartPole-v1")
    with pytest.raises(gymnasium.error.NameNotFound):
        find_task("llm_envs/Nothing-v0")


def test_a_malformed_id_is_not_kept():
    task, _ = find_task(ARITHMETIC)
    with pytest.raises(gymnasium.error.Error, match="Malformed"):
        register_task("no good-v0", reward=task.reward)(task.sampler)
    with pytest.raises(KeyError):
        remove_task("no good-v0")


def test_a_task_replaces_an_earlier_one_of_its_id():
    task, _ = find_task(ARITHMETIC)
    register_task("test/Twice-v0", reward=task.reward)(task.sampler)
    later = dataclasses.replace(find_task("test/Twice-v0")[0], reward=lambda *batch: [])
    with pytest.warns(UserWarning, match="Overriding"):
        add_task(later)
    try:
        assert find_task("test/Twice-v0")[0] is later
    finally:
        remove_task("test/Twice-v0")


def test_a_module_that_cannot_be_found_is_named_with_its_task_and_a_remedy(tmp_path, monkeypatch):
    (tmp_path / "needs_another.py").write_text("import no_such_package")
    monkeypatch.syspath_prepend(tmp_path)
    for module, missing in (("no_such_tasks", "no_such_tasks"), ("needs_another", "no_such_package")):
        with pytest.raises(
            ModuleNotFoundError, match=f"'{module}', which should register 'demo/X-v0'.*{missing}.*PYTHONPATH"
        ):
            find_task(f"{module}:demo/X-v0")
