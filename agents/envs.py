"""Making the vector environment that an agent asks for, from an id, a spec or an environment."""

from __future__ import annotations

import dataclasses
import importlib
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv

from agents.serial_vector_env import SerialVectorEnv
from llm_envs import CompletionEnv, CompletionVectorEnv, Unicode  # importing the package registers its tasks
from llm_envs.task import task_of

_EPOCHS = 0x65706F
"""Tells these streams from others that a seed names."""
EnvLike = str | EnvSpec | gymnasium.Env[Any, Any]


def env_spec(env: EnvLike, **kwargs: Any) -> EnvSpec:
    """The spec that an id or an environment stands for.

    Args:
        env: An id, a spec or an environment. As in `gymnasium.make`, an id may name the module that registers it:
            `"my_tasks:demo/Doubling-v0"`.
        kwargs: Arguments of the environment that override those in the spec; the registered spec is left as it is.

    Raises:
        ImportError: The module cannot be imported.
        gymnasium.error.Error: The id is not registered; the message suggests similar ones.
        ValueError: The environment was not made by `gymnasium.make`, so that it cannot be made again.
        TypeError: `env` is neither an id, a spec nor an environment.
    """
    spec: EnvSpec | None
    if isinstance(env, str):
        module, _, env_id = env.rpartition(":")
        if module:
            _import(module, env_id)
        spec = gymnasium.spec(env_id)
    elif isinstance(env, EnvSpec):
        spec = env
    elif isinstance(env, gymnasium.Env):
        spec = env.spec
    else:
        raise TypeError(f"expected an environment id, a gymnasium.Env or an EnvSpec, got {type(env).__name__}")
    if spec is None:
        raise ValueError(f"{env} has no spec; make it with gymnasium.make, or pass its id")
    return dataclasses.replace(spec, kwargs={**spec.kwargs, **kwargs})


def _import(module: str, env_id: str) -> None:
    try:
        importlib.import_module(module)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = (
            f" ({where.filename}, line {where.lineno})"
            if not isinstance(error, ModuleNotFoundError | SyntaxError)
            else ""
        )
        raise ImportError(
            f"the module {module!r}, which should register {env_id!r}, cannot be imported: "
            f"{type(error).__name__}: {error}{place}"
        ) from error


def importable_id(spec: EnvSpec) -> str:
    """The id with the module that registers it, so that another process can find a task that is not one of ours."""
    task = task_of(spec)
    module = "__main__" if task is None else task.module
    return spec.id if module == "__main__" or module.startswith("llm_envs.") else f"{module}:{spec.id}"


def max_turns(spec: EnvSpec) -> int:
    """The most completions in an episode of a task of ours; 1 for other environments, of which it is not known."""
    task = task_of(spec)
    return 1 if task is None else task.max_turns


def spec_record(spec: EnvSpec) -> dict[str, Any]:
    """What a checkpoint says of the environment."""
    return {
        "env_id": importable_id(spec),
        "env_kwargs": dict(spec.kwargs),
        "env_wrappers": [wrapper.name for wrapper in spec.additional_wrappers],
    }


def num_problems(envs: VectorEnv[Any, Any, Any]) -> int | None:
    """How many problems there are, where they are a finite set that the seeds from 0 on visit; else None."""
    inner: Any = envs.unwrapped
    if isinstance(inner, SerialVectorEnv):
        inner = inner.envs[0].unwrapped
    found = getattr(inner, "num_problems", None)
    return found if isinstance(found, int) else None


def what_is_asked(envs: VectorEnv[Any, Any, Any], prompts: Sequence[str]) -> list[str]:
    """What makes each environment's problem this one: its key, or else its prompt (see `Problem`).

    Args:
        envs: They have been reset.
        prompts: What `reset` returned: all that is known of environments that are not this package's.
    """
    inner = envs.unwrapped
    if isinstance(inner, CompletionVectorEnv):
        problems = inner.problems
    elif isinstance(inner, SerialVectorEnv) and all(isinstance(env.unwrapped, CompletionEnv) for env in inner.envs):
        problems = [env.unwrapped.problem for env in inner.envs]  # type: ignore[attr-defined]
    else:
        return list(prompts)
    return [problem.prompt if problem.key is None else problem.key for problem in problems]


def env_state(envs: VectorEnv[Any, Any, Any]) -> dict[str, Any]:
    """What the environments' next problems depend on beside their seeds, as JSON takes it; empty for most."""
    inner: Any = envs.unwrapped
    return dict(inner.state_dict()) if hasattr(inner, "state_dict") else {}


def restore_env_state(envs: VectorEnv[Any, Any, Any], state: Mapping[str, Any]) -> None:
    """Go on from what `env_state` gave.

    Raises:
        ValueError: It is that of another task.
    """
    if state:
        inner: Any = envs.unwrapped
        if not hasattr(inner, "load_state_dict"):
            raise ValueError(f"the environment keeps no state, but the checkpoint has one: {dict(state)!r:.200}")
        inner.load_state_dict(state)


def epoch_seeds(problems: int, start: int, count: int, seed: int) -> list[int]:
    """Seeds of a finite set's problems: one epoch after another, each in an order of its own.

    Args:
        problems: How many there are.
        start: How many have been taken before.
        count: How many are wanted.
        seed: Names the orders.
    """
    seeds: list[int] = []
    while len(seeds) < count:
        epoch, position = divmod(start + len(seeds), problems)
        order = np.random.default_rng(np.random.SeedSequence((seed, epoch, _EPOCHS))).permutation(problems)
        seeds += order[position : position + count - len(seeds)].tolist()
    return seeds


def info_of(infos: Mapping[str, Any], key: str, index: int) -> Any:
    """What an environment of a vector environment said in its info; None where it did not, no numpy scalar."""
    if key not in infos or not infos.get(f"_{key}", {index: True})[index]:
        return None
    value = infos[key][index]
    return value.item() if isinstance(value, np.generic) else value


def metrics_of(infos: Mapping[str, Any], index: int) -> dict[str, float]:
    """The figures that an environment of a vector environment gave as `info["metrics"]`; none where it gave none."""
    metrics = infos.get("metrics")
    if not isinstance(metrics, Mapping):
        return {}
    found = {name: info_of(metrics, name, index) for name in metrics if not name.startswith("_")}
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def check_rewards(rewards: np.ndarray) -> None:
    """Refuse rewards that nothing can be learned from.

    Raises:
        ValueError: One is no finite number in float32, which agents compute in.
    """
    bad = np.flatnonzero(~(np.abs(rewards) <= np.finfo(np.float32).max))
    if len(bad) > 0:
        raise ValueError(f"the environment gave the reward {rewards[bad[0]]}; a reward must be a finite float32 number")


def make_envs(env: EnvLike, num_envs: int, **kwargs: Any) -> VectorEnv[Any, Any, Any]:
    """Make `num_envs` copies that are scored together, without autoreset.

    An environment without a vector entry point, or with wrappers around it, runs as copies one after the other.

    Args:
        env: An id, a spec, or an environment to make again.
        num_envs: How many.
        kwargs: Arguments of the environment; they override those in the spec.

    Raises:
        ValueError: The environment's observations or actions are not text.
    """
    spec = env_spec(env)
    kwargs = {"render_mode": None, **kwargs} if "render_mode" in spec.kwargs else kwargs
    envs: VectorEnv[Any, Any, Any]
    # a time limit is a wrapper too, and Gymnasium would give it to the vector entry point as an argument
    wrapped = spec.additional_wrappers != () or spec.max_episode_steps is not None
    if spec.vector_entry_point is not None and not wrapped:
        envs = gymnasium.make_vec(spec, num_envs=num_envs, vectorization_mode="vector_entry_point", **kwargs)
    else:
        envs = SerialVectorEnv(spec, num_envs, **kwargs)
    for space in (envs.single_observation_space, envs.single_action_space):
        if not isinstance(space, Unicode | gymnasium.spaces.Text):
            raise ValueError(f"{spec.id} cannot be used: its observations and actions must be text, but it has {space}")
    return envs
