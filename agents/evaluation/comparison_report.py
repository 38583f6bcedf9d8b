"""What a comparison found, as Markdown, JSON and a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from agents.evaluation.comparison import Comparison, Run, Summary, summarize
from agents.evaluation.estimates import Estimate
from agents.evaluation.held_out import EvaluationReport
from agents.tracking.figures import ACCURACY

_AXES = {"episodes": "episodes", "tokens": "generated tokens", "seconds": "seconds of learning"}
_SMOOTHING = 3
_POINTS = 200


def write_report(
    folder: Path, comparison: Comparison, before: EvaluationReport, runs: Sequence[Run], ran_on: str
) -> str:
    """Write comparison.md, comparison.json and comparison.png.

    Args:
        folder: Where they go.
        comparison: What was asked for.
        before: The evaluation of the start.
        runs: What came out.
        ran_on: The machine and versions, in words.

    Returns:
        The Markdown text.
    """
    summaries = summarize(runs)
    figure = runs[0].figure
    greedy, sampled = before.estimates(figure)
    text = markdown(comparison, before, summaries, ran_on, figure)
    (folder / "comparison.md").write_text(text, encoding="utf-8")
    record = {
        "env": comparison.env.id,
        "env_kwargs": dict(comparison.env.kwargs),
        "policy": comparison.policy,
        "seeds": list(comparison.seeds),
        "budget_episodes": comparison.budget_episodes,
        "ran_on": ran_on,
        "figure": figure,
        "before": {"sampled": asdict(sampled), "greedy": asdict(greedy)},
        "summaries": [asdict(summary) for summary in summaries],
        "runs": [asdict(run) for run in runs],
    }
    (folder / "comparison.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    plot(folder / "comparison.png", comparison, before, runs)
    return text


def markdown(
    comparison: Comparison,
    before: EvaluationReport,
    summaries: Sequence[Summary],
    ran_on: str,
    figure: str = ACCURACY,
) -> str:
    """Two tables: held-out accuracy (or another figure, see `Run`), and what it took."""
    shown = "Accuracy in %" if figure == ACCURACY else f"Mean {figure}"
    greedy, sampled = before.estimates(figure)
    arguments = "".join(f" {name}={value!r}" for name, value in comparison.env.kwargs.items())
    seeds = ", ".join(map(str, comparison.seeds))
    first = summaries[0].agent
    lines = [
        f"# {', '.join(s.agent for s in summaries)} on {comparison.env.id}{arguments}",
        "",
        f"{ran_on}. All start from `{comparison.policy}` and learn from {comparison.budget_episodes} episodes (rounded "
        f"up to whole updates), seeds {seeds}. {before.problems} held-out problems, {before.samples} samples each at "
        f"temperature {comparison.temperature:g}, completions of at most {comparison.max_completion_tokens} tokens. "
        f"{shown} with 95 % intervals: over problems, and over seeds (Student's t).",
        "",
        f"| agent | sampled, over problems | over seeds | greedy, over problems | to {first}, paired by problem | "
        "paired by seed |",
        "|---|---|---|---|---|---|",
        f"| start | {_interval(sampled, figure)} | | {_interval(greedy, figure)} | | |",
    ]
    for s in summaries:
        cells = [s.agent, *(_interval(e, figure) for e in (s.sampled, s.sampled_over_seeds, s.greedy))]
        cells += [_change(difference, figure) for difference in (s.difference, s.difference_over_seeds)]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "Means over seeds; seconds are those of learning, and comparable only as far as the machine did nothing else.",
        "",
        "| agent | episodes | generated tokens | reward calls | updates | optimizer steps | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    names = ("episodes", "tokens", "reward_calls", "updates", "optimizer_steps", "seconds")
    for s in summaries:
        lines.append(f"| {s.agent} | " + " | ".join(f"{s.counts[name]:,.0f}" for name in names) + " |")
    return "\n".join([*lines, "", "![Learning curves](comparison.png)", ""])


def _interval(estimate: Estimate, figure: str) -> str:
    if np.isfinite(estimate.low):
        return estimate.as_percent() if figure == ACCURACY else estimate.as_number()
    return f"{100 * estimate.value:.1f} (one seed)" if figure == ACCURACY else f"{estimate.value:.3f} (one seed)"


def _change(estimate: Estimate | None, figure: str) -> str:
    if estimate is None:
        return ""
    if np.isfinite(estimate.low):
        return estimate.as_points() if figure == ACCURACY else estimate.as_change()
    return f"{100 * estimate.value:+.1f} (one seed)" if figure == ACCURACY else f"{estimate.value:+.3f} (one seed)"


def plot(file: Path, comparison: Comparison, before: EvaluationReport, runs: Sequence[Run]) -> None:
    """Draw the figure of training samples against episodes, tokens and seconds: mean and range of the seeds."""
    from matplotlib.figure import Figure  # the object interface: no global state, no display

    name_of_figure = runs[0].figure
    is_share = name_of_figure == ACCURACY
    scale = 100 if is_share else 1
    figure = Figure(figsize=(12, 4), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    for axis, (name, label) in zip(panels, _AXES.items(), strict=True):
        for agent in dict.fromkeys(run.agent for run in runs):
            x, curves = _on_one_grid([run.curve for run in runs if run.agent == agent], name, name_of_figure)
            axis.plot(x, scale * curves.mean(axis=0), label=agent, lw=1.5, marker="o" if x[0] == x[-1] else None)
            axis.fill_between(x, scale * curves.min(axis=0), scale * curves.max(axis=0), alpha=0.2, lw=0)
        axis.axhline(
            scale * before.estimates(name_of_figure)[1].value, color="0.5", ls=":", lw=1, label="start, held out"
        )
        axis.set(xlabel=label)
        if is_share:
            axis.set_ylim(0, 102)
        axis.set_xlim(left=0)
        axis.grid(alpha=0.3)
    panels[0].set_ylabel(
        f"{'accuracy' if is_share else name_of_figure} of training samples{' in %' if is_share else ''}"
    )
    panels[0].legend(loc="lower right")
    seeds = len(comparison.seeds)
    shown = "one seed" if seeds == 1 else f"mean and range of {seeds} seeds"
    figure.suptitle(f"{comparison.env.id}, {comparison.policy}: {shown}")
    figure.savefig(file, dpi=120)


def _on_one_grid(curves: Sequence[dict[str, Any]], name: str, figure: str) -> tuple[np.ndarray, np.ndarray]:
    """Smoothed accuracies, or another figure, (seeds, points) at points that every seed has reached."""
    begin, end = max(curve[name][0] for curve in curves), min(curve[name][-1] for curve in curves)
    grid = np.linspace(begin, max(begin, end), _POINTS)
    return grid, np.array([np.interp(grid, curve[name], _smooth(curve[figure])) for curve in curves])


def _smooth(values: Sequence[float]) -> list[float]:
    """Means over the last few updates."""
    return [float(np.mean(values[max(0, i + 1 - _SMOOTHING) : i + 1])) for i in range(len(values))]
