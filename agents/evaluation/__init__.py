"""Evaluation: held-out accuracy with intervals, and comparisons of several agents."""
