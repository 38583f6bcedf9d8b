"""Evaluation: held-out accuracy with intervals, and comparisons of several agents; names load on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.evaluation.comparison import Comparison, compare
    from agents.evaluation.comparison_report import write_report
    from agents.evaluation.estimates import Estimate, mean_estimate, paired_difference, pass_at_k, proportion_estimate
    from agents.evaluation.held_out import EvaluationReport, distinct_problem_seeds, evaluate

_HOME = {
    "Comparison": "agents.evaluation.comparison",
    "Estimate": "agents.evaluation.estimates",
    "EvaluationReport": "agents.evaluation.held_out",
    "compare": "agents.evaluation.comparison",
    "distinct_problem_seeds": "agents.evaluation.held_out",
    "evaluate": "agents.evaluation.held_out",
    "mean_estimate": "agents.evaluation.estimates",
    "paired_difference": "agents.evaluation.estimates",
    "pass_at_k": "agents.evaluation.estimates",
    "proportion_estimate": "agents.evaluation.estimates",
    "write_report": "agents.evaluation.comparison_report",
}

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


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'agents.evaluation' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
