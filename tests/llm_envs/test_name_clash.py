"""Another package with the import name `agents` in the same environment: openai-agents has it too."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OTHERS = {"package": "agents/__init__.py", "module": "agents.py"}
COMMAND = "import sys; sys.argv[0] = 'llm-envs'; from llm_envs.command import main; main()"


@pytest.fixture
def other(tmp_path):
    """Makes a folder before ours on the import path, and runs code there; returns what became of it."""

    def run(code, *arguments, installed=True, hides=None):
        if installed:
            info = tmp_path / "openai_agents-0.24.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text("Metadata-Version: 2.1\nName: openai-agents\nVersion: 0.24.0\n")
        if hides:
            file = tmp_path / OTHERS[hides]
            file.parent.mkdir(exist_ok=True)
            file.write_text("raise ImportError('cannot import name nothing from somewhere inside')\n")
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize("hides", OTHERS)
@pytest.mark.parametrize("installed", [True, False])
def test_importing_llm_envs_says_that_agents_is_another_package(other, hides, installed):
    code = "import llm_envs, gymnasium; print(gymnasium.make('llm_envs/Arithmetic-v0').reset(seed=0)[0])"
    done = other(code, installed=installed, hides=hides)
    assert done.returncode == 0  # the environments do not need agents
    assert done.stdout.startswith("What is ")
    assert (
        "import name `agents` is taken by " + ("the package openai-agents" if installed else "another") in done.stderr
    )
    assert "an environment of its own" in done.stderr
    assert done.stderr.count("taken by") == 1


@pytest.mark.parametrize("hides", OTHERS)
@pytest.mark.parametrize("arguments", [["list"], ["train", "--help"], ["--help"], ["audit", "llm_envs/Fractions-v0"]])
def test_the_command_line_says_so_and_ends(other, hides, arguments):
    done = other(COMMAND, *arguments, hides=hides)
    assert done.returncode == 2
    assert "llm-envs: the import name `agents` is taken by the package openai-agents" in done.stderr
    assert "an environment of its own" in done.stderr
    assert "Traceback" not in done.stderr
    assert "somewhere inside" not in done.stderr


def test_both_are_named_where_ours_is_the_one_that_works(other):
    done = other("import llm_envs, agents; print(agents.GRPOConfig().group_size)")
    assert done.returncode == 0
    assert int(done.stdout) > 1
    assert "the package openai-agents is installed in the same environment" in done.stderr


def test_without_another_package_nothing_is_said(other):
    done = other(COMMAND, "--help", installed=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: llm-envs" in done.stdout


def test_the_command_is_looked_for_where_no_other_package_is():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"llm-envs": "llm_envs.command:main"}
