"""Every objective on `llm_envs/Arithmetic-v0` with `builtin/tiny`, the same budget and seeds: a table and a figure.

python benchmarks/objectives.py --seeds 0 1 2 --figure docs/images/objectives.png
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch loads; see agents/cli/__init__.py

import json
import platform
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import torch
import transformers
import tyro

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from agents import Callback, GRPOAgent, GRPOConfig, evaluate
from agents.objectives import PRESETS
from agents.tracking.callback import UpdateRecord


@dataclass(frozen=True)
class Arguments:
    """Train with each objective and print a Markdown table; each has its own defaults and the same agent."""

    objectives: tuple[str, ...] = tuple(PRESETS)
    """Names, as llm-envs train has them."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of training, the same for all; the held-out problems are always the same."""
    total_episodes: int = 11_520
    """Completions to learn from."""
    problems: int = 500
    """Held-out problems."""
    samples: int = 8
    """Completions for each."""
    window: int = 5
    """Updates over which the curves are averaged."""
    figure: Path | None = None
    """Where the figure goes."""
    curves: Path | None = None
    """A JSON file for the curves and the accuracies; what it has already is not run again."""
    device: str = "auto"
    """auto, cpu or cuda."""
    config: GRPOConfig = field(default_factory=GRPOConfig)

    def __post_init__(self) -> None:
        if unknown := set(self.objectives) - set(PRESETS):
            raise ValueError(f"there is no objective {', '.join(sorted(unknown))}; there are {', '.join(PRESETS)}")
        if not self.objectives or not self.seeds or self.window < 1:
            raise ValueError("at least one objective, one seed and a window of at least 1 are needed")


class Curve(Callback):
    """The accuracy of the completions that each update sampled."""

    def __init__(self) -> None:
        self.accuracy: list[float] = []

    def on_update(self, record: UpdateRecord) -> None:
        self.accuracy.append(record.metrics["accuracy"])


def make_agent(name: str, seed: int, arguments: Arguments) -> GRPOAgent:
    return GRPOAgent(
        "builtin/tiny",
        "llm_envs/Arithmetic-v0",
        config=arguments.config,
        objective=PRESETS[name](),
        seed=seed,
        device=arguments.device,
    )


def train(name: str, seed: int, arguments: Arguments) -> dict:
    """One run: its curve, held-out accuracies (in [0, 1]) and seconds of learning."""
    agent = make_agent(name, seed, arguments)
    curve = Curve()
    started = time.perf_counter()
    agent.learn(arguments.total_episodes, curve)
    seconds = time.perf_counter() - started
    after = evaluate(agent, problems=arguments.problems, samples=arguments.samples)
    return {
        "curve": curve.accuracy,
        "after": after.pass_at_k[1].value,
        "greedy": after.greedy.value,
        "seconds": seconds,
    }


def spread(values: list[float]) -> str:
    """Mean over seeds, and the lowest and highest of them, in %."""
    return f"{100 * statistics.mean(values):.1f} ({100 * min(values):.1f} to {100 * max(values):.1f})"


def smooth(curve: list[float], window: int) -> list[float]:
    """Means over the last `window` values."""
    return [statistics.mean(curve[max(0, i + 1 - window) : i + 1]) for i in range(len(curve))]


def draw(runs: dict[str, list[dict]], arguments: Arguments, file: Path) -> None:
    """One panel per objective: the mean over seeds and the band from lowest to highest, in front of all means."""
    columns = min(4, len(runs))
    rows = -(-len(runs) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.1 * columns, 2.4 * rows), sharex=True, sharey=True, squeeze=False
    )
    curves = {name: [smooth(run["curve"], arguments.window) for run in of_seed] for name, of_seed in runs.items()}
    per_update = arguments.config.episodes_per_update
    for axis, (name, of_seeds) in zip(axes.flat, curves.items(), strict=False):
        for others in curves.values():
            means = [100 * statistics.mean(at) for at in zip(*others, strict=True)]
            axis.plot([per_update * (i + 1) for i in range(len(means))], means, color="0.85", linewidth=0.8)
        at_update = list(zip(*of_seeds, strict=True))
        episodes = [per_update * (i + 1) for i in range(len(at_update))]
        low, high = ([100 * choose(at) for at in at_update] for choose in (min, max))
        axis.fill_between(episodes, low, high, alpha=0.3, linewidth=0)
        axis.plot(episodes, [100 * statistics.mean(at) for at in at_update])
        axis.set_title(name, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes.flat[len(runs) :]:
        axis.set_visible(False)
    for axis in axes.flat[max(0, len(runs) - columns) : len(runs)]:
        axis.tick_params(labelbottom=True)  # the panels with nothing below them
    figure.supxlabel("completions learned from", fontsize=10)
    figure.supylabel("training accuracy in %", fontsize=10)
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)


def main(arguments: Arguments) -> None:
    """Print one row per objective, and draw."""
    torch.set_num_threads(1)
    print(f"{time.strftime('%Y-%m-%d')}, torch {torch.__version__}, transformers {transformers.__version__}, ", end="")
    print(torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU ({platform.machine()}), 1 thread")
    print(f"\n{arguments.total_episodes} completions, seeds {', '.join(map(str, arguments.seeds))}; ", end="")
    print(f"{arguments.problems} held-out problems, accuracy in %: mean over seeds (lowest to highest)\n")
    print("| objective | sampled | greedy | seconds, learning |")
    print("|---|---|---|---|")
    untrained = make_agent(arguments.objectives[0], 0, arguments)
    before = evaluate(untrained, problems=arguments.problems, samples=arguments.samples)
    print(f"| before | {100 * before.pass_at_k[1].value:.1f} | {100 * before.greedy.value:.1f} | |", flush=True)
    # a run is known by all that it depends on, so that a file of other settings is not taken for it
    settings = f"{arguments.total_episodes} {arguments.problems} {arguments.samples} {arguments.config}"
    known = json.loads(arguments.curves.read_text()) if arguments.curves and arguments.curves.exists() else {}
    runs: dict[str, list[dict]] = {}
    for name in arguments.objectives:
        runs[name] = []
        for seed in arguments.seeds:
            key = f"{PRESETS[name]()} seed={seed} {settings}"
            if key not in known:
                known[key] = train(name, seed, arguments)
                if arguments.curves:
                    arguments.curves.parent.mkdir(parents=True, exist_ok=True)
                    arguments.curves.write_text(json.dumps(known, indent=1) + "\n")
            runs[name].append(known[key])
        cells = [spread([run[what] for run in runs[name]]) for what in ("after", "greedy")]
        seconds = statistics.median(run["seconds"] for run in runs[name])
        print(f"| `{name}` | " + " | ".join(cells) + f" | {seconds:.0f} |", flush=True)
    if arguments.figure:
        draw(runs, arguments, arguments.figure)


if __name__ == "__main__":
    main(tyro.cli(Arguments, config=(tyro.conf.OmitArgPrefixes,)))
