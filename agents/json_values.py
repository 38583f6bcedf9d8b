"""Values of Python that JSON has no form for, written so that they come back as what they were."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

_TUPLE, _ITEMS, _LITERAL = _NAMES = ("__tuple__", "__items__", "__literal__")


def as_json(value: Any) -> Any:
    """A value with its tuples, and its mappings whose keys are no texts, as JSON can hold them.

    >>> as_json({"levels": (1, 2), "names": {3: "three"}})
    {'levels': {'__tuple__': [1, 2]}, 'names': {'__items__': [[3, 'three']]}}
    """
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value) and not (len(value) == 1 and next(iter(value)) in _NAMES):
            return {key: as_json(member) for key, member in value.items()}
        return {_ITEMS: [[as_json(key), as_json(member)] for key, member in value.items()]}
    if isinstance(value, tuple):
        return {_TUPLE: [as_json(member) for member in value]}
    if isinstance(value, bytes | complex | set):
        return {_LITERAL: repr(value)}
    return [as_json(member) for member in value] if isinstance(value, list) else value


def from_json(value: Any) -> Any:
    """The value that `as_json` was given."""
    if isinstance(value, list):
        return [from_json(member) for member in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        [(name, content)] = value.items()
        if name == _ITEMS:
            return {from_json(key): from_json(member) for key, member in content}
        if name == _LITERAL:
            return ast.literal_eval(content)
        if name == _TUPLE:
            return tuple(map(from_json, content))
    return {key: from_json(member) for key, member in value.items()}
