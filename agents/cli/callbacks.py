"""Callbacks that the command line names."""

from __future__ import annotations

import importlib
from typing import Any

from agents.cli.common import UsageError
from agents.tracking.callback import Callback


def load_callback(name: str) -> Any:
    """Import a callback.

    Args:
        name: `my_module:MyCallback` or `my_module.MyCallback`: a class that is called without arguments, an instance,
            or a function of an update's record.

    Raises:
        UsageError: There is no such thing, or it is none of these.
    """
    module_name, colon, path = name.partition(":")
    if not colon:
        module_name, _, path = name.rpartition(".")
    if not module_name or not path:
        raise UsageError(f"--callback {name}: a callback is named with its module, such as my_module:MyCallback")
    try:
        found: Any = importlib.import_module(module_name)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"--callback {name}: {error}") from error
    if isinstance(found, type):
        try:
            found = found()
        except TypeError as error:
            raise UsageError(f"--callback {name}: the class must be made without arguments ({error})") from error
    if not isinstance(found, Callback) and not callable(found):
        raise UsageError(f"--callback {name}: expected a Callback or a function, got {found!r}")
    return found
