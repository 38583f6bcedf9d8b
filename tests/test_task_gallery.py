"""docs/tasks.md shows what the tasks really ask and what their rewards really say."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import gymnasium

from llm_envs.task import task_of

ROOT = Path(__file__).parent.parent


def load():
    spec = importlib.util.spec_from_file_location("task_gallery", ROOT / "benchmarks" / "task_gallery.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks there
    spec.loader.exec_module(module)
    return module


def test_the_gallery_is_up_to_date():
    module = load()
    assert module.page() == module.PAGE.read_text(encoding="utf-8"), "run python benchmarks/task_gallery.py --write"


def test_every_generated_task_is_shown_and_every_task_listed():
    module = load()
    text = module.PAGE.read_text(encoding="utf-8")
    from_files = {"CodeTests", "HumanEval", "GSM8K", "MATH"}
    names = {
        spec.name for spec in gymnasium.registry.values() if task_of(spec) is not None and spec.namespace == "llm_envs"
    }
    assert names - from_files == {name for name, _, _ in module.SHOWN}
    assert all(f"{name}-v0`" in text for name in names)
