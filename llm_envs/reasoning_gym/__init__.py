"""The task families of the package `reasoning-gym` (extra `reasoning-gym`), with a strict reward.

Importing this registers `reasoning_gym/NAME-v0` for each family, where the package is installed; the package itself is
imported when the first environment is made. (Gymnasium allows one namespace, so there is no `llm_envs/` before it.)
"""

from llm_envs.reasoning_gym.families import FAMILIES, register_families
from llm_envs.reasoning_gym.reward import ReasoningGymReward

__all__ = ["FAMILIES", "ReasoningGymReward", "register_families"]

register_families()
