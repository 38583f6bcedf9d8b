"""Whether another package has the import name `agents`, as openai-agents does.

Two packages of one import name can be installed without a word: the one that comes later writes over the files of the
other, or hides it. Both then fail in places that do not say why.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
import warnings
from importlib.machinery import ModuleSpec
from pathlib import Path

_OTHER = "openai-agents"
_OUR_NAME = "GRPOAgent"
"""A name that the file `agents/__init__.py` of this package has, and no other package of that name."""
CURE = (
    "Install llm-envs into an environment of its own (python -m venv, conda create, uv venv); where both have been "
    f"installed into one, that one has to be made anew without {_OTHER}, which the package verifiers brings with it."
)


def hidden() -> str:
    """What is wrong where `import agents` gives another package; empty where it gives ours, or nothing."""
    spec = _spec()
    if spec is None or spec.origin is None:
        return ""
    file = Path(spec.origin)
    if not file.is_file() or _OUR_NAME in file.read_text(encoding="utf-8", errors="replace"):
        return ""
    owner = f"the package {_OTHER}" if _is_installed() else "another package"
    return f"the import name `agents` is taken by {owner} ({file}), so the agents of llm-envs cannot be used. {CURE}"


def shared() -> str:
    """What is wrong where `agents` is ours, but openai-agents is installed too; empty where it is not."""
    if not _is_installed():
        return ""
    return (
        f"the package {_OTHER} is installed in the same environment as llm-envs, and both have the import name "
        f"`agents`: one breaks the other, now or with the next installation. {CURE}"
    )


def warn() -> None:
    """Say so, at the line that imports llm_envs; its environments work nevertheless."""
    if problem := hidden() or shared():
        warnings.warn(problem, stacklevel=3)


def _spec() -> ModuleSpec | None:
    try:
        return importlib.util.find_spec("agents")
    except ValueError:  # it is imported, and has no spec: a module that was made by hand
        return getattr(sys.modules["agents"], "__spec__", None)


def _is_installed() -> bool:
    try:
        importlib.metadata.distribution(_OTHER)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
