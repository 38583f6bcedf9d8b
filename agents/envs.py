"""Making the vector environment that an agent asks for, from an id, a spec or an environment."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv

from agents.json_values import as_json, from_json
from agents.serial_vector_env import SerialVectorEnv
from llm_envs import CompletionEnv, CompletionVectorEnv, Unicode  # importing the package registers its tasks
from llm_envs.task import task_of

_EPOCHS = 0x65706F
"""Tells these streams from others that a seed names."""
_named_modules: dict[str, str] = {}
"""For ids that were given as `"module:id"`, the module: of Gymnasium's own specs none says who registered them."""
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
        if module:
            _named_modules[spec.id] = module
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
    """The id with the module that registers it, so that another process can find a task that is not one of ours.

    Of an environment of `gymnasium.register` it is the module that an id named, or else the one that the environment
    itself is in; the id alone where neither can be imported.
    """
    task = task_of(spec)
    if task is not None:
        return spec.id if task.module.startswith("llm_envs.") else _with_module(task.module, spec.id)
    return _with_module(_named_modules.get(spec.id) or _module_of(spec.entry_point), spec.id)


def _with_module(module: str, env_id: str) -> str:
    return f"{module}:{env_id}" if _can_be_imported(module) else env_id


def _can_be_imported(module: str) -> bool:
    if module in sys.modules or not module:
        return module not in ("", "__main__")
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _module_of(entry_point: Any) -> str:
    if isinstance(entry_point, str):
        return entry_point.partition(":")[0]
    return str(getattr(entry_point, "__module__", None) or "")


def max_turns(spec: EnvSpec) -> int:
    """The most completions in an episode of a task of ours; 1 for other environments, of which it is not known."""
    task = task_of(spec)
    return 1 if task is None else task.max_turns


def spec_record(spec: EnvSpec) -> dict[str, Any]:
    """What a checkpoint says of the environment, for `recorded_spec`.

    Returns:
        `env_id`, `env_kwargs` as `agents.json_values` writes them, and `env_wrappers` (names). For an environment of
        `gymnasium.register` also `env_made_by`, what else its spec has, where its entry point can be imported: then it
        can be made where nobody has registered it.
    """
    record: dict[str, Any] = {
        "env_id": importable_id(spec),
        "env_kwargs": as_json(dict(spec.kwargs)),
        "env_wrappers": [wrapper.name for wrapper in spec.additional_wrappers],
    }
    made_by = {} if task_of(spec) is not None else _made_by(spec)
    return record | {"env_made_by": made_by} if made_by else record


def _made_by(spec: EnvSpec) -> dict[str, Any]:
    entry_point = _entry_point_text(spec.entry_point)
    if not entry_point:
        return {}
    settings = ("max_episode_steps", "order_enforce", "disable_env_checker", "nondeterministic", "reward_threshold")
    return {
        "entry_point": entry_point,
        "vector_entry_point": _entry_point_text(spec.vector_entry_point) or None,
        **{name: getattr(spec, name) for name in settings},
    }


def _entry_point_text(entry_point: Any) -> str:
    """An entry point as a text that another process can import; empty where it has none."""
    if isinstance(entry_point, str):
        return entry_point if _can_be_imported(_module_of(entry_point)) else ""
    module, name = _module_of(entry_point), str(getattr(entry_point, "__qualname__", ""))
    found = _can_be_imported(module) and getattr(sys.modules.get(module), name, None) is entry_point
    return f"{module}:{name}" if found and entry_point is not None else ""


def recorded_spec(env_id: str, env_kwargs: Mapping[str, Any], env_made_by: Mapping[str, Any]) -> EnvSpec:
    """The spec that `spec_record` wrote.

    Args:
        env_id: With the module that registers it, if that is known.
        env_kwargs: Arguments of the environment, as they were written.
        env_made_by: What else the spec has, for an id that nobody registers.

    Raises:
        ImportError: The module cannot be imported.
        gymnasium.error.NameNotFound: Nobody registers the id; the message says how to go on.
    """
    kwargs = from_json(dict(env_kwargs))
    try:
        return env_spec(env_id, **kwargs)
    except gymnasium.error.Error as error:
        bare = env_id.rpartition(":")[2]
        if env_made_by:
            return EnvSpec(bare, kwargs=kwargs, **env_made_by)
        raise gymnasium.error.NameNotFound(f"{bare} is not registered here. {_how_to_find(bare)}") from error


def without_arguments(spec: EnvSpec) -> EnvSpec:
    """A spec with the arguments that it was registered with alone."""
    registered = gymnasium.registry.get(spec.id)
    return dataclasses.replace(spec, kwargs={} if registered is None else dict(registered.kwargs))


def only_here(spec: EnvSpec) -> str:
    """What to know of a run whose environment another process cannot find again; empty where it can."""
    task = task_of(spec)
    ours = task is not None and task.module.startswith("llm_envs.")
    if ours or ":" in importable_id(spec) or (task is None and _made_by(spec)):
        return ""
    return (
        f"{spec.id} is registered by the program that runs: what is saved of this run cannot be resumed or evaluated "
        f"by another program alone. {_how_to_find(spec.id)}"
    )


def _how_to_find(env_id: str) -> str:
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    stem = Path(file).stem if file else ""
    module = stem if stem.isidentifier() and stem != "__main__" else "my_tasks"
    return (
        f"Load it in a program that registers {env_id}, or name a module that does when it is imported, such as "
        f"env='{module}:{env_id}' (on the command line: --env {module}:{env_id})"
    )


def task_metric(spec: EnvSpec) -> str | None:
    """The figure that a task names as the one that says how it goes; None where it names none."""
    task = task_of(spec)
    return None if task is None else task.metric


def num_problems(envs: VectorEnv[Any, Any, Any]) -> int | None:
    """How many problems there are, where they are a finite set that the seeds from 0 on visit; else None."""
    inner: Any = envs.unwrapped
    if isinstance(inner, SerialVectorEnv):
        inner = inner.envs[0].unwrapped
    found = getattr(inner, "num_problems", None)
    return found if isinstance(found, int) else None


def has_several_turns(envs: VectorEnv[Any, Any, Any]) -> bool:
    """Whether it is known that an episode can have more than one completion; of other packages' tasks it is not."""
    task = None if envs.spec is None else task_of(envs.spec)
    return task is not None and task.reply is not None


def prompts_of(envs: VectorEnv[Any, Any, Any], seeds: Sequence[int]) -> list[str]:
    """The prompts that seeds name; the environments are reset for it, as often as they need to be."""
    prompts: list[str] = []
    for start in range(0, len(seeds), envs.num_envs):
        part = list(seeds[start : start + envs.num_envs])
        filled = part + [part[0]] * (envs.num_envs - len(part))
        observations, _ = envs.reset(seed=filled)  # type: ignore[arg-type]
        prompts += observations[: len(part)]
    return prompts


def finite_prompts(spec: EnvSpec) -> list[str]:
    """All prompts of a task that is a finite set; none of another."""
    envs = make_envs(spec, 1)
    try:
        count = num_problems(envs)
        return [] if count is None else prompts_of(envs, range(count))
    finally:
        envs.close()


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
