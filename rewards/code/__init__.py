"""Rewards for code: candidates run in a jail, verdicts are made outside of it."""
