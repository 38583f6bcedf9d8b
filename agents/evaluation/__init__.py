"""Evaluation: held-out accuracy with intervals, and comparisons of several agents; names load on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rewards.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from agents.evaluation.comparison import Comparison, compare
    from agents.evaluation.comparison_report import write_report
    from agents.evaluation.estimates import Estimate, mean_estimate, paired_difference, pass_at_k, proportion_estimate
    from agents.evaluation.held_out import EvaluationReport, distinct_problem_seeds, evaluate

__all__ = [
    "Comparison",
    "Estimate",
    "EvaluationReport",
    "compare",
    "distinct_problem_seeds",
    "evaluate",
    "mean_estimate",
    "paired_difference",
    "pass_at_k",
    "proportion_estimate",
    "write_report",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "agents.evaluation.comparison": ["Comparison", "compare"],
            "agents.evaluation.comparison_report": ["write_report"],
            "agents.evaluation.estimates": [
                "Estimate",
                "mean_estimate",
                "paired_difference",
                "pass_at_k",
                "proportion_estimate",
            ],
            "agents.evaluation.held_out": ["EvaluationReport", "distinct_problem_seeds", "evaluate"],
        },
    )
