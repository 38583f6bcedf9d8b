"""Making the vector environment that an agent asks for, from an id, a spec or an environment."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv

import llm_envs  # noqa: F401  (registers the tasks that come with this package)

EnvLike = str | EnvSpec | gymnasium.Env[Any, Any]


def env_spec(env: EnvLike) -> EnvSpec:
    """The spec that an id or an environment stands for.

    Raises:
        gymnasium.error.Error: The id is not registered; the message suggests similar ones.
        ValueError: The environment was not made by `gymnasium.make`, so that it cannot be made again.
        TypeError: `env` is neither an id, a spec nor an environment.
    """
    if isinstance(env, str):
        return gymnasium.spec(env)
    if isinstance(env, EnvSpec):
        return env
    if isinstance(env, gymnasium.Env):
        if env.spec is None:
            raise ValueError(f"{env} has no spec; make it with gymnasium.make, or pass its id")
        return env.spec
    raise TypeError(f"expected an environment id, a gymnasium.Env or an EnvSpec, got {type(env).__name__}")


def make_envs(env: EnvLike, num_envs: int, **kwargs: Any) -> VectorEnv[Any, Any, Any]:
    """Make `num_envs` copies that are scored together, without autoreset.

    An environment without a vector entry point, or with wrappers around it, runs as copies one after the other.

    Args:
        env: An id, a spec, or an environment to make again.
        num_envs: How many.
        kwargs: Arguments of the environment; they override those in the spec.
    """
    spec = env_spec(env)
    kwargs = {"render_mode": None, **kwargs} if "render_mode" in spec.kwargs else kwargs
    if spec.vector_entry_point is not None and not spec.additional_wrappers:
        return gymnasium.make_vec(spec, num_envs=num_envs, vectorization_mode="vector_entry_point", **kwargs)
    return gymnasium.make_vec(
        spec,
        num_envs=num_envs,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.DISABLED},
        **kwargs,
    )
