"""The tasks are there without an import, and the start-up hook that sees to it is harmless."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, entry_points, files
from pathlib import Path

import pytest

ARITHMETIC = "llm_envs/Arithmetic-v0"
STARTUP = Path(__file__).parents[2] / "startup"
HOOK = "llm_envs_plugin_hook"


def installed_hook() -> bool:
    try:
        return {f"{HOOK}.py", f"{HOOK}.pth"} <= {str(file) for file in files("llm-envs") or []}
    except PackageNotFoundError:
        return False


needs_hook = pytest.mark.skipif(not installed_hook(), reason="llm-envs with its start-up hook is not installed here")


def python(code: str, *, cwd: Path, options: tuple[str, ...] = ("-W", "error"), **env: str) -> str:
    """Run the code in a new interpreter away from the checkout; its output and what it wrote to stderr."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "LLM_ENVS_PLUGIN")}
    done = subprocess.run(
        [sys.executable, *options, "-c", code], cwd=cwd, env=inherited | env, capture_output=True, text=True
    )
    return done.stdout + done.stderr


def load_hook():
    spec = importlib.util.spec_from_file_location(HOOK, STARTUP / f"{HOOK}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_hook
def test_the_id_is_enough(tmp_path):
    out = python(f"import gymnasium; print(gymnasium.make('{ARITHMETIC}').reset(seed=0)[0])", cwd=tmp_path)
    assert out.startswith("What is ")


@needs_hook
def test_the_id_is_enough_for_vectors(tmp_path):
    code = f"import gymnasium; print(len(gymnasium.make_vec('{ARITHMETIC}', num_envs=3).reset(seed=0)[0]))"
    assert python(code, cwd=tmp_path) == "3\n"


@needs_hook
def test_the_installed_hook_is_this_one():
    installed = {file.name: file.locate().read_text("utf-8") for file in files("llm-envs") if file.stem == HOOK}
    for source in STARTUP.glob(f"{HOOK}.*"):
        assert installed[source.name] == source.read_text("utf-8"), "run pip install -e . again: the hook is a copy"


@needs_hook
def test_a_start_loads_the_hook_and_not_what_it_is_for(tmp_path):
    modules = python("import sys; print(*sys.modules)", cwd=tmp_path).split()
    assert HOOK in modules
    assert not {"gymnasium", "llm_envs", "numpy"} & set(modules)


def test_the_hook_loads_no_other_module(tmp_path):
    code = f"import sys; before = set(sys.modules); import {HOOK}; print(*(set(sys.modules) - before))"
    bare = ("-S",)  # without what site-packages bring along
    assert python(code, cwd=tmp_path, options=bare, PYTHONPATH=str(STARTUP)) == f"{HOOK}\n"
    code = f"import sys, {HOOK}; import json; print('importlib.util' in sys.modules)"
    assert python(code, cwd=tmp_path, options=bare, PYTHONPATH=str(STARTUP)) == "False\n"


@needs_hook
@pytest.mark.parametrize("first", ["llm_envs", "llm_envs.plugin", "agents", "rewards", "importlib.metadata"])
def test_other_imports_may_come_first(first, tmp_path):
    code = f"import {first}, gymnasium; print(gymnasium.make('{ARITHMETIC}').reset(seed=0)[0])"
    assert python(code, cwd=tmp_path).startswith("What is ")


@needs_hook
def test_the_hook_is_gone_once_gymnasium_is_there(tmp_path):
    code = (
        "import sys, gymnasium\n"
        f"assert {HOOK!r} in sys.modules and 'llm_envs' in sys.modules and 'torch' not in sys.modules\n"
        f"print([f for f in sys.meta_path if type(f).__module__ == {HOOK!r}], type(gymnasium.__loader__).__name__)\n"
        "print(gymnasium.__spec__.loader is gymnasium.__loader__)"
    )
    assert python(code, cwd=tmp_path) == "[] SourceFileLoader\nTrue\n"


@needs_hook
def test_looking_for_gymnasium_does_not_use_the_hook_up(tmp_path):
    code = (
        "import importlib.util, sys; assert importlib.util.find_spec('gymnasium').origin\n"
        "assert 'gymnasium' not in sys.modules and 'llm_envs' not in sys.modules\n"
        f"import gymnasium; print(gymnasium.make('{ARITHMETIC}').reset(seed=0)[0])"
    )
    assert python(code, cwd=tmp_path).startswith("What is ")


@needs_hook
def test_the_hook_can_be_turned_off(tmp_path):
    code = f"import gymnasium; gymnasium.make('{ARITHMETIC}')"
    assert "NamespaceNotFound" in python(code, cwd=tmp_path, LLM_ENVS_PLUGIN="0")
    code = f"import gymnasium; print(gymnasium.make('llm_envs:{ARITHMETIC}').reset(seed=0)[0])"
    assert python(code, cwd=tmp_path, LLM_ENVS_PLUGIN="0").startswith("What is ")


@pytest.mark.parametrize("broken", ["1 / 0", "import no_such_module", "def __getattr__(name): raise ValueError('no')"])
def test_a_broken_registration_is_a_warning(broken, tmp_path):
    (tmp_path / "llm_envs").mkdir()
    (tmp_path / "llm_envs" / "__init__.py").write_text(broken, "utf-8")
    code = f"import {HOOK}, gymnasium; print(gymnasium.make('CartPole-v1').spec.id)"
    out = python(code, cwd=tmp_path, options=(), PYTHONPATH=f"{tmp_path}{os.pathsep}{STARTUP}")
    assert out.startswith("CartPole-v1\n<string>:1: RuntimeWarning: the tasks of llm_envs are not registered: ")
    assert any(error in out for error in ("ZeroDivisionError", "no_such_module", "llm_envs.plugin"))


def test_a_package_that_imports_gymnasium_itself_is_left_alone(tmp_path):
    (tmp_path / "llm_envs").mkdir()
    (tmp_path / "llm_envs" / "__init__.py").write_text("import gymnasium", "utf-8")
    (tmp_path / "llm_envs" / "plugin.py").write_text("raise AssertionError('called too early')", "utf-8")
    out = python(f"import {HOOK}, llm_envs", cwd=tmp_path, PYTHONPATH=f"{tmp_path}{os.pathsep}{STARTUP}")
    assert out == ""


def test_a_broken_gymnasium_fails_as_ever_and_may_be_mended(tmp_path):
    (tmp_path / "gymnasium.py").write_text("raise ImportError('half installed')", "utf-8")
    code = (
        f"import {HOOK}, sys\n"
        "try:\n    import gymnasium\nexcept ImportError as error:\n    print(error)\n"
        f"sys.path.remove({str(tmp_path)!r})\n"
        f"import gymnasium; print(gymnasium.make('{ARITHMETIC}').reset(seed=0)[0])"
    )
    out = python(code, cwd=STARTUP, PYTHONPATH=f"{tmp_path}{os.pathsep}{STARTUP}{os.pathsep}{STARTUP.parent}")
    assert out.startswith("half installed\nWhat is ")


def test_the_finder_leaves_other_modules_alone(monkeypatch):
    finder = load_hook().GymnasiumFinder()
    monkeypatch.setattr(sys, "meta_path", [finder, PathFinder])
    for name in ("gymnasium.envs", "gymnasium_robotics", "gym", "llm_envs", "json"):
        assert finder.find_spec(name) is None
    assert finder.find_spec("gymnasium").origin == sys.modules["gymnasium"].__file__
    monkeypatch.setenv("LLM_ENVS_PLUGIN", "0")
    assert finder.find_spec("gymnasium") is None


def test_the_finder_asks_only_the_finders_behind_it(monkeypatch):
    first, second = load_hook().GymnasiumFinder(), load_hook().GymnasiumFinder()
    monkeypatch.setattr(sys, "meta_path", [first, second])
    assert first.find_spec("gymnasium") is None
    monkeypatch.setattr(sys, "meta_path", [PathFinder])
    assert first.find_spec("gymnasium") is None


def test_the_hook_comes_too_late_when_gymnasium_is_there():
    before = list(sys.meta_path)
    load_hook()
    assert sys.meta_path == before


def test_the_entry_point_registers_the_tasks(tmp_path):
    [entry_point] = [e for e in entry_points(group="gymnasium.envs") if e.name == "llm_envs"]
    code = (
        "import gymnasium; from importlib.metadata import entry_points\n"
        "[e.load()() for e in entry_points(group='gymnasium.envs') if e.name == 'llm_envs']\n"
        f"print(gymnasium.make('{ARITHMETIC}').reset(seed=0)[0])"
    )
    assert entry_point.value == "llm_envs.plugin:register_builtin_tasks"
    assert python(code, cwd=tmp_path, LLM_ENVS_PLUGIN="0").startswith("What is ")
