"""Verifiable rewards: what a text says, compared with what is right. Standard library and sympy only."""
