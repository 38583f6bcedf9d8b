"""Checks of the fields of configs: types by their annotations, and ranges."""

from __future__ import annotations

import functools
import math
import numbers
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def check_types(config: Any) -> None:
    """Check each field of a dataclass against its annotation; numbers of numpy become Python's.

    Integers are integers, not `3.0`, `True` or `"3"`. Numbers are finite. A `Literal` names its choices.

    Args:
        config: An instance; called in its `__post_init__`.

    Raises:
        TypeError: A field has a value of another type.
        ValueError: A number is not finite, or a choice is none of those that there are.
    """
    cls: Any = type(config)
    for name, kind in _annotations(cls).items():
        value = checked(name, getattr(config, name), kind)
        if value is not getattr(config, name):
            object.__setattr__(config, name, value)


def check_at_least(config: Any, minimum: int, *names: str) -> None:
    """Check that fields have at least this value; None is not checked.

    Raises:
        ValueError: One is smaller.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and not value >= minimum:
            bound = "not be negative" if minimum == 0 else f"be at least {minimum}"
            raise ValueError(f"{name} must {bound}, got {value}")


def check_at_most(config: Any, maximum: int, *names: str) -> None:
    """Check that fields have at most this value; None is not checked.

    Raises:
        ValueError: One is larger.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and not value <= maximum:
            raise ValueError(f"{name} must be at most {maximum}, got {value}")


def check_positive(config: Any, *names: str) -> None:
    """Check that fields are above 0; None is not checked.

    Raises:
        ValueError: One is not.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")


def check_fraction(config: Any, *names: str) -> None:
    """Check that fields are above 0 and at most 1; None is not checked.

    Raises:
        ValueError: One is not.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value <= 1:
            raise ValueError(f"{name} must be above 0 and at most 1, got {value}")


def check_between(config: Any, *names: str) -> None:
    """Check that fields are above 0 and below 1; None is not checked.

    Raises:
        ValueError: One is not.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value < 1:
            raise ValueError(f"{name} must be between 0 and 1, got {value}")


def checked(name: str, value: Any, kind: Any) -> Any:
    """A value of the type that an annotation names, as Python's own type.

    Args:
        name: What the error calls it.
        value: What was given.
        kind: `int`, `float`, a `Literal`, another class, a union of one of these with None, or a union of classes.

    Raises:
        TypeError: The value has another type.
        ValueError: It is not finite, or none of the choices.
    """
    if get_origin(kind) in (Union, UnionType):
        options = get_args(kind)
        if value is None and NoneType in options:
            return None
        options = tuple(option for option in options if option is not NoneType)
        if len(options) > 1:
            return _of_one_class(name, value, options)
        [kind] = options
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            choices = ", ".join(repr(choice) for choice in get_args(kind))
            raise ValueError(f"{name} must be one of {choices}; got {value!r}")
        return value
    if kind is int:
        return _number(name, value, numbers.Integral, "an integer", int)
    if kind is float:
        found = _number(name, value, numbers.Real, "a number", float)
        if not math.isfinite(found):
            raise ValueError(f"{name} must be finite, got {value}")
        return found
    expected = get_origin(kind) or kind
    if isinstance(expected, type) and not isinstance(value, expected):
        raise TypeError(f"{name} must be of type {expected.__name__}, got {value!r}")
    if kind == tuple[str, ...] and not all(isinstance(text, str) for text in value):
        raise TypeError(f"{name} must be a tuple of texts, got {value!r}")
    return value


def _of_one_class(name: str, value: Any, classes: tuple[type, ...]) -> Any:
    if not isinstance(value, classes):
        words = " or ".join(one.__name__ for one in classes)
        raise TypeError(f"{name} must be of type {words}, got {value!r} ({type(value).__name__})")
    return value


def _number(name: str, value: Any, kind: type, words: str, made: type) -> Any:
    if isinstance(value, bool) or not isinstance(value, kind):
        raise TypeError(f"{name} must be {words}, got {value!r} ({type(value).__name__})")
    return value if type(value) in (int, float) else made(value)


@functools.cache
def _annotations(cls: Any) -> dict[str, Any]:
    return {name: kind for name, kind in get_type_hints(cls).items() if name in cls.__dataclass_fields__}
