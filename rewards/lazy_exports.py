"""Names that a package exports without importing the modules that define them (PEP 562)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def lazy_exports(
    package: str, names_by_module: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package that imports a module when one of its names is first used.

    The package assigns both under `if not TYPE_CHECKING`, or a type checker would accept every name, and repeats the
    names under `if TYPE_CHECKING` as imports and in `__all__`. `tests/test_architecture.py` compares the three.

    Args:
        package: The package's `__name__`.
        names_by_module: The exported names, by the full name of the module that defines them.
    """
    homes = {name: module for module, names in names_by_module.items() for name in names}

    def getattr_(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(homes[name]), name)

    def dir_() -> list[str]:
        return sorted({*vars(importlib.import_module(package)), *homes})

    return getattr_, dir_
