"""Kills training runs with `kill -9` at random moments, resumes them, and compares them with a run that was left alone.

Only the commands of the README are used: `llm-envs train ... --run-dir RUN`, and after a kill `llm-envs train --resume
--run-dir RUN`, or the first command again where it was killed before there was a run. A run counts as equal if each
tensor of the checkpoint (weights, reference, optimizer, value head), the metrics but for their seconds, the completions
and both evaluations are the same to the last bit.

    python benchmarks/kill_and_resume.py                  # 30 kills, three in each run of GRPO
    python benchmarks/kill_and_resume.py --agent ppo --kills 12
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from safetensors.torch import load_file

COMMAND = [sys.executable, "-m", "agents.cli", "train"]
SMALL = [
    "--device", "cpu", "--threads", "1", "--max-completion-tokens", "24",
    "--eval-problems", "10", "--eval-samples", "2", "--checkpoint-every", "1", "--env-args", "operands=2",
]  # fmt: skip
SIZES = {
    "grpo": ["--prompts-per-update", "8", "--group-size", "8", "--total-episodes", str(64 * 12)],
    "ppo": ["--num-envs", "64", "--total-episodes", str(64 * 12)],
    "ppo-token": ["--num-envs", "16", "--n-steps", "32", "--total-episodes", "400"],
}
OF_THE_CLOCK = ("seconds_rollout", "seconds_update", "tokens_per_second")


def content(run: Path) -> dict[str, object]:
    """What must be equal, by name."""
    state = json.loads((run / "checkpoint" / "agent.json").read_text())
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    found: dict[str, object] = {
        "state": {name: state[name] for name in ("num_updates", "num_episodes", "random_states")},
        "metrics": [{name: value for name, value in row.items() if name not in OF_THE_CLOCK} for row in metrics],
    }
    for name in ("completions.jsonl", "evaluation_before.json", "evaluation_after.json"):
        found[name] = (run / name).read_bytes()
    for file in sorted((run / "checkpoint").rglob("*.safetensors")):
        for name, tensor in load_file(file).items():
            found[f"{file.relative_to(run)} {name}"] = tensor.numpy().tobytes()
    return found


def command(agent: str, run: Path) -> list[str]:
    """The next command for a run: to begin it, or to go on with it."""
    if (run / "config.json").exists():
        return [*COMMAND, "--resume", "--run-dir", str(run)]
    return [*COMMAND, agent, *SIZES[agent], *SMALL, "--run-dir", str(run)]


def phase(run: Path) -> str:
    """What a run was doing when it was killed."""
    if not (run / "config.json").exists():
        return "before the run folder"
    if (run / "checkpoint.new").exists() or (run / "checkpoint.old").exists():
        return "in a checkpoint"
    if not (run / "evaluation_before.json").exists():
        return "before or in the first evaluation"
    if (run / "evaluation_after.json").exists():
        return "after the last evaluation"
    return "while it learned, or in the last evaluation"


def finish(agent: str, run: Path) -> float:
    """Let a run come to its end, and return its seconds."""
    started = time.perf_counter()
    done = subprocess.run(command(agent, run), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the run {run} failed:\n{done.stdout}\n{done.stderr}")
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agent", choices=SIZES, default="grpo")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--kills-per-run", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    phases: Counter[str] = Counter()
    unequal: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        straight = Path(folder) / "straight"
        seconds = finish(arguments.agent, straight)
        expected = content(straight)
        number = 0
        while phases.total() < arguments.kills:
            run = Path(folder) / f"run{number}"
            for _ in range(min(arguments.kills_per_run, arguments.kills - phases.total())):
                process = subprocess.Popen(
                    command(arguments.agent, run), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
                try:
                    process.wait(timeout=rng.uniform(0, seconds))
                    break  # it came to its end before
                except subprocess.TimeoutExpired:
                    phases[phase(run)] += 1
                    process.kill()
                    process.wait()
            finish(arguments.agent, run)
            found = content(run)
            differing = [name for name in {**expected, **found} if found.get(name) != expected.get(name)]
            print(f"run {number}: {differing or 'equal'}", file=sys.stderr, flush=True)
            unequal += [run.name] * bool(differing)
            number += 1
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "stable-baselines3"))
    print(f"{arguments.agent}, {platform.machine()}, {packages}, {time.strftime('%Y-%m-%d')}\n")
    print("| killed | times |\n|---|---|")
    for name, count in phases.most_common():
        print(f"| {name} | {count} |")
    equal = number - len(unequal)
    print(f"\n{equal} of {number} runs are equal in {len(expected)} parts, after {phases.total()} kills.")
    if unequal:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
