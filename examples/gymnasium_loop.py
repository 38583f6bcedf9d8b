"""An environment without any agent of ours: an ordinary Gymnasium loop, single and vectorized.

python examples/gymnasium_loop.py
"""

from __future__ import annotations

import re

import gymnasium

import llm_envs

gymnasium.register_envs(llm_envs)


def calculator(prompt: str) -> str:
    """A policy that adds up whatever numbers it sees: right now and then."""
    numbers = [int(number) for number in re.findall(r"\d+", prompt)]
    return f"\\boxed{{{sum(numbers)}}}"


def main() -> None:
    """Play ten episodes one by one, then a thousand at once."""
    env = gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.make("llm_envs/Arithmetic-v0", operators="+-"))
    prompt, _ = env.reset(seed=0)
    for _ in range(10):
        _, reward, _, _, info = env.step(calculator(prompt))
        print(f"{prompt}  {info['answer']:>4}  {info['outcome']:8} {reward:g}")
        prompt, _ = env.reset()

    envs = gymnasium.make_vec("llm_envs/Arithmetic-v0", num_envs=1000, operators="+-")
    prompts, _ = envs.reset(seed=0)
    _, rewards, _, _, _ = envs.step([calculator(prompt) for prompt in prompts])
    print(f"mean reward of {len(rewards)} episodes: {rewards.mean():.3f}")


if __name__ == "__main__":
    main()
