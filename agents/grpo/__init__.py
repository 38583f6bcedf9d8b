"""GRPO: the agent and its config."""
