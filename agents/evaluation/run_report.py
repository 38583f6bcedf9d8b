"""What a run shows in the terminal and leaves as a picture: its header, before and after, the learning curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from agents.evaluation.estimates import Estimate, mean_estimate, paired_difference
from agents.evaluation.held_out import EvaluationReport
from agents.memory import MemoryEstimate
from agents.rollout import Rollout
from agents.tracking import files
from agents.tracking.figures import ACCURACY, REWARD, column_of, is_graded, main_figure


def header(agent: Any, run_dir: Path, threads: int) -> Text:
    """What is about to run, in three lines."""
    policy = agent.policy
    total = sum(parameter.numel() for parameter in policy.model.parameters())
    trained = sum(parameter.numel() for _, parameter in policy.trainable_parameters())
    size = f"{total:,} parameters" + ("" if trained == total else f", {trained:,} trained")
    where = str(policy.device) + (
        f", {threads} thread{'s' if threads > 1 else ''}" if policy.device.type == "cpu" else ""
    )
    arguments = "".join(f" {name}={value!r}" for name, value in agent.env_spec.kwargs.items())
    return Text(
        f"{agent.env_spec.id}{arguments}\n"
        f"{policy.name}: {size}; {where}, {policy.precision}\n"
        f"{agent.summary}; run folder {run_dir}"
    )


def memory_line(estimate: MemoryEstimate) -> str:
    """What learning is estimated to take on each device."""
    always = sum(estimate.always.values())
    phases = {"rollouts": estimate.rollout, "updates": estimate.update}
    parts = ", ".join(f"{name} {_gib(always + sum(phase.values()))}" for name, phase in phases.items())
    return f"Memory, estimated: {parts} (without libraries)"


def peak_line(estimated: int, peak: int, device: str) -> str:
    """What a run took beside what was estimated, in bytes."""
    what = "with libraries" if device == "cpu" else "allocated by torch"
    return f"Memory, at most: {_gib(peak)} ({what}); estimated {_gib(estimated)}"


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


def print_comparison(console: Console, before: EvaluationReport, after: EvaluationReport) -> None:
    """The table of held-out figures before and after, and a few completions.

    It shows the accuracy, and below it the mean reward where that is more than the share of right completions; where
    nothing is right or wrong, the mean reward alone, and where the task names a figure, that one.
    """
    figure = main_figure((rollout.outcome for rollout in before.rollouts + after.rollouts), after.metric)
    named = {ACCURACY: "accuracy in %", REWARD: "mean reward"}.get(figure, f"mean {figure}")
    table = Table(
        "",
        "before",
        "after",
        "difference",
        title=f"Held-out {named} on {after.problems} problems that were not trained on",
        caption=f"95 % intervals over problems; sampled: {'pass@1' if figure == ACCURACY else 'mean'} of "
        f"{after.samples} completions each at temperature {after.temperature:g}; difference: paired by problem",
    )
    for column in table.columns:
        column.no_wrap = True
    if figure == ACCURACY:
        _add_accuracies(table, before, after)
    else:
        _add_means(table, before, after, figure, ("greedy", "sampled"))
    if figure != REWARD and is_graded(before.rollouts + after.rollouts):
        _add_means(table, before, after, REWARD, ("greedy reward", "sampled reward"))
    console.print(table)
    console.print(completions_table(before, after))


def _add_accuracies(table: Table, before: EvaluationReport, after: EvaluationReport) -> None:
    rows = zip(
        ("greedy", "sampled"),
        before.estimates(ACCURACY),
        after.estimates(ACCURACY),
        before.by_problem(ACCURACY),
        after.by_problem(ACCURACY),
        strict=True,
    )
    for name, old, new, old_by_problem, new_by_problem in rows:
        difference = paired_difference(old_by_problem, new_by_problem)
        table.add_row(name, old.as_percent(), new.as_percent(), difference.as_points())
    k = max(after.pass_at_k)
    if k > 1:
        table.add_row(f"pass@{k}", before.pass_at_k[k].as_percent(), after.pass_at_k[k].as_percent(), "")


def _add_means(
    table: Table, before: EvaluationReport, after: EvaluationReport, figure: str, names: tuple[str, str]
) -> None:
    for name, old, new in zip(names, before.by_problem(figure), after.by_problem(figure), strict=True):
        estimates = mean_estimate(old), mean_estimate(new)
        table.add_row(name, *(one.as_number() for one in estimates), mean_estimate(new - old).as_change())


def print_warnings(
    console: Console, warnings: Sequence[str], before: EvaluationReport, after: EvaluationReport
) -> None:
    """The warnings of the run, and what only its two evaluations show together."""
    for message in (*warnings, *evaluation_warnings(before, after)):
        print_warning(console, message)


def print_warning(console: Console, message: str) -> None:
    """Print a warning in a line of its own."""
    console.print(Text(f"Warning: {message}", style="yellow"), soft_wrap=True)


def evaluation_warnings(before: EvaluationReport, after: EvaluationReport) -> list[str]:
    """What is wrong where the mean reward on held-out problems rose while accuracy fell, both beyond chance."""
    accuracy = paired_difference(before.sampled_accuracy_by_problem(), after.sampled_accuracy_by_problem())
    rewards = [
        np.array([rollout.reward for rollout in report.sampled_rollouts]).reshape(report.problems, -1).mean(axis=1)
        for report in (before, after)
    ]
    reward = paired_difference(*rewards)
    if accuracy.high >= 0 or reward.low <= 0:
        return []
    return [
        f"on held-out problems the mean reward rose by {reward.value:.2f} while accuracy fell by "
        f"{-accuracy.value:.2f}: the policy earns reward by something else than right answers. Look at "
        "completions.jsonl, and lower the weight of the other parts of the reward"
    ]


def completions_table(before: EvaluationReport, after: EvaluationReport, problems: int = 3) -> Table:
    """The first sampled completion of some problems, before and after, chosen without looking at the result."""
    table = Table("prompt", "before", "after", title="Sampled completions", show_lines=True)
    for i in range(min(problems, after.problems)):
        old, new = before.sampled_rollouts[i * before.samples], after.sampled_rollouts[i * after.samples]
        table.add_row(Text(new.prompt), _shown(old), _shown(new))
    return table


def _shown(rollout: Rollout, limit: int = 300) -> Group:
    text = rollout.text if len(rollout.text) <= limit else rollout.text[:limit] + " ..."
    return Group(Text(text), Text(rollout.outcome, style="green" if rollout.correct else "red"))


def plot_learning_curve(
    file: Path,
    metrics: Sequence[Mapping[str, Any]],
    before: EvaluationReport,
    after: EvaluationReport | None,
    shown: str = ACCURACY,
) -> None:
    """Draw accuracy (training and held-out) and KL against episodes into a PNG file.

    Args:
        file: Where the picture goes.
        metrics: Of each update.
        before: The evaluation before training.
        after: The one after it, if there is one yet.
        shown: Another figure in place of the accuracy, see `EvaluationReport.figure`. Beside the accuracy, a mean
            reward is drawn that is more than the share of right completions.
    """
    from matplotlib.figure import Figure  # the object interface: no global state, no display

    episodes = [row["episodes"] for row in metrics]
    has_kl = any("kl" in row for row in metrics)
    figure = Figure(figsize=(7, 6 if has_kl else 4), layout="constrained")
    axes = figure.subplots(2 if has_kl else 1, 1, sharex=True, squeeze=False, height_ratios=[2, 1] if has_kl else None)
    top = axes[0][0]
    marker = "o" if len(metrics) == 1 else None  # a line of one point is not seen
    values = [row.get(column_of(shown)) for row in metrics]
    top.plot(episodes, values, color="tab:blue", lw=1.5, marker=marker, label="training, sampled")
    rewards = [row.get("reward", row["accuracy"]) for row in metrics]
    graded = shown == ACCURACY and any(
        abs(reward - row["accuracy"]) > 1e-6 for reward, row in zip(rewards, metrics, strict=True)
    )
    if graded:
        top.plot(episodes, rewards, color="tab:purple", lw=1, ls="--", marker=marker, label="training, mean reward")
    last = episodes[-1] if episodes else 0
    for report, x in ((before, 0), (after, last)):
        if report is not None:
            first = x == 0
            greedy, sampled = (report.greedy, report.pass_at_k[1]) if shown == ACCURACY else report.estimates(shown)
            _point(top, x, sampled, "o", "tab:orange", "held-out, sampled" if first else None)
            _point(top, x, greedy, "s", "tab:green", "held-out, greedy" if first else None)
    top.set(ylabel="mean reward" if shown == REWARD else shown, title=before.env)
    if shown == ACCURACY and not graded:
        top.set_ylim(-0.02, 1.02)
    top.grid(alpha=0.3)
    top.legend(loc="lower right")
    if has_kl:
        axes[1][0].plot(episodes, [row.get("kl") for row in metrics], color="tab:red", lw=1.5, marker=marker)
        axes[1][0].set(ylabel="KL to reference (nats)")
        axes[1][0].grid(alpha=0.3)
    axes[-1][0].set_xlabel("episodes")
    with files.replacing(file) as fresh:
        figure.savefig(fresh, dpi=120, format="png")


def _point(axis: Any, x: float, estimate: Estimate, marker: str, color: str, label: str | None) -> None:
    error = [[estimate.value - estimate.low], [estimate.high - estimate.value]]
    axis.errorbar([x], [estimate.value], yerr=error, fmt=marker, color=color, capsize=4, label=label)
