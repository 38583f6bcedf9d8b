"""What is collected for documentation examples: a module whose optional package is missing cannot be imported."""

from __future__ import annotations

import importlib.util

collect_ignore = [] if importlib.util.find_spec("reasoning_gym") else ["llm_envs/reasoning_gym/judge.py"]
