"""The documentation's examples run, its links lead somewhere, and its tables are complete."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

from agents import Callback, GRPOAgent, GRPOConfig, SB3Agent, SB3Config

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])


BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
EXAMPLES = [
    pytest.param(block, id=f"{page.name}-{i}")
    for page in PAGES
    for i, block in enumerate(BLOCK.findall(page.read_text("utf-8")))
]


@pytest.mark.learning
@pytest.mark.parametrize("block", EXAMPLES)
def test_python_examples_run(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    registered = set(gymnasium.registry)
    exec(compile(block, "documentation", "exec"), {"__name__": "__main__"})  # noqa: S102 (our own documentation)
    for env_id in set(gymnasium.registry) - registered:
        del gymnasium.registry[env_id]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_placeholder_is_left(page):
    assert not re.search(r"@[A-Z_]+@|TODO|FIXME", page.read_text("utf-8"))


def test_every_metric_is_documented():
    names = set()

    class Names(Callback):
        def on_update(self, record):
            names.update(record.metrics)

    config = GRPOConfig(prompts_per_update=4, group_size=4, max_completion_tokens=24)
    GRPOAgent("builtin/tiny", "llm_envs/Arithmetic-v0", config=config, device="cpu").learn(16, Names())
    ppo = SB3Config(num_envs=16, max_completion_tokens=24, kl_coef=0.1)
    SB3Agent("builtin/tiny", "llm_envs/Arithmetic-v0", config=ppo, device="cpu").learn(16, Names())
    documented = set(re.findall(r"`([a-z_]+)`", (ROOT / "docs" / "metrics.md").read_text("utf-8")))
    assert {name for name in names if not name.startswith(("outcome/", "metric/"))} <= documented


PACKAGES = sorted(
    {
        f"{file.parent.relative_to(ROOT)}/"
        for top in ("rewards", "llm_envs", "agents")
        for file in (ROOT / top).rglob("*.py")
    }
)
ARCHITECTURE = ROOT / "docs" / "architecture.md"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_architecture_says_what_every_package_is(package):
    rows = [
        [cell.strip() for cell in row.split("|")]
        for row in re.findall(r"^\|(.*)\|$", ARCHITECTURE.read_text("utf-8"), re.M)
    ]
    assert any(f"`{package}`" in row[0] and re.search(r"\w{3}", " ".join(row[1:])) for row in rows), (
        f"no row of a table in docs/architecture.md begins with `{package}` and says what it is"
    )


def test_every_path_in_the_architecture_exists():
    named = re.findall(r"`([\w.-]+/[\w./-]*|[\w/-]+\.(?:py|md))`", ARCHITECTURE.read_text("utf-8"))
    paths = [path for path in named if not re.search(r"-v\d+$", path)]  # `llm_envs/Arithmetic-v0` is a task
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(
    "command",
    [["gymnasium_loop.py"], pytest.param(["new_task.py", "--episodes", "256"], marks=pytest.mark.learning)],
    ids=lambda command: command[0],
)
def test_examples_run(command):
    out = subprocess.run(
        [sys.executable, str(ROOT / "examples" / command[0]), *command[1:]], check=True, capture_output=True, text=True
    ).stdout
    assert re.search(r"mean reward", out)


def test_the_example_of_an_audit_finds_the_hole_and_passes_without_it():
    command = [sys.executable, str(ROOT / "examples" / "register_task.py")]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "examples/Careless-v0: " in out
    assert "answer inside a larger one" in out
    assert out.endswith("examples/Seconds-v0: passed\n")


def test_version_is_the_same_everywhere():
    from importlib.metadata import version

    assert f"## {version('llm-envs')} " in (ROOT / "CHANGELOG.md").read_text("utf-8")
