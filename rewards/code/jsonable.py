"""Plain data as JSON and back, so that tests survive a JSONL file.

None, bool, int, float, str, list, and a dict whose keys are strings are themselves. The others are an object with one
key: `{"$tuple": [...]}`, `$set`, `$frozenset`, `$dict` (a list of pairs), `$bytes` (base64), `$complex` (two numbers),
`$float` (`"nan"`, `"inf"`, `"-inf"`), and `$int` (hexadecimal) for what has more than 64 bits.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from typing import Any

_MAX_DEPTH = 100


def to_json(value: Any) -> Any:
    """The value in terms of JSON.

    Args:
        value: What `rewards.code.sandbox.codec.decode` gives.

    Raises:
        TypeError: For a type that is no plain data.
    """
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        return value if value.bit_length() <= 64 else {"$int": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind is complex:
        return {"$complex": [to_json(value.real), to_json(value.imag)]}
    if kind is bytes:
        return {"$bytes": base64.b64encode(value).decode("ascii")}
    if kind is list:
        return [to_json(element) for element in value]
    if kind in (tuple, set, frozenset):
        return {f"${kind.__name__}": [to_json(element) for element in value]}
    if kind is dict:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: to_json(element) for key, element in value.items()}
        return {"$dict": [[to_json(key), to_json(element)] for key, element in value.items()]}
    raise TypeError(f"a {kind.__name__} is no plain data")


def from_json(value: Any, _depth: int = _MAX_DEPTH) -> Any:
    """The value that `to_json` was given. What is no JSON, such as a tuple, is taken as it is.

    Raises:
        ValueError: Where an object with a key that begins with `$` is none of those above.
    """
    if _depth <= 0:
        raise ValueError("it is nested too deeply")
    if isinstance(value, list):
        return [from_json(element, _depth - 1) for element in value]
    if isinstance(value, tuple):
        return tuple(from_json(element, _depth - 1) for element in value)
    if not isinstance(value, Mapping):
        return value
    tag = next((key for key in value if isinstance(key, str) and key.startswith("$")), None)
    if tag is None:
        return {key: from_json(element, _depth - 1) for key, element in value.items()}
    if tag not in _READERS or len(value) != 1:
        raise ValueError(f"an object with the key {tag!r:.40} must have that key alone, one of {', '.join(_READERS)}")
    content = value[tag]
    if tag not in ("$bytes", "$float", "$int"):
        content = from_json(content, _depth - 1)
        if not isinstance(content, list):
            raise ValueError(f"{tag} needs a list")
    elif not isinstance(content, str):
        raise ValueError(f"{tag} needs a text")
    try:
        return _READERS[tag](content)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{tag} cannot be read: {error}") from error


def _complex(parts: list[Any]) -> complex:
    real, imaginary = parts
    return complex(real, imaginary)


_READERS: dict[str, Callable[[Any], Any]] = {
    "$tuple": tuple,
    "$set": set,
    "$frozenset": frozenset,
    "$dict": dict,
    "$bytes": lambda text: base64.b64decode(text, validate=True),
    "$complex": _complex,
    "$float": float,
    "$int": lambda text: int(text, 16),
}
