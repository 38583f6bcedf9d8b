"""Whether the arguments given to a task have the types that the signature of its sampler asks for."""

from __future__ import annotations

import functools
import inspect
import os
import types
from collections.abc import Callable, Collection, Mapping
from enum import Enum
from numbers import Integral, Real
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints


def check_types(task: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Refuse arguments of another type than the function's annotations ask for.

    An argument without an annotation is judged by its default, where that is a number, a text or a bool; None fits it
    too. Annotations that cannot be looked up, or that are no types, allow anything.

    Args:
        task: The id of the task, for the message.
        function: The sampler.
        arguments: Keyword arguments of the function.

    Raises:
        TypeError: One does not fit.
        ValueError: One is not among the values of a `Literal`.
    """
    if not arguments:
        return
    hints = _type_hints(function)
    parameters = inspect.signature(function).parameters
    for name, value in arguments.items():
        expected = hints[name] if name in hints else _type_of_default(parameters[name].default)
        if not fits(value, expected):
            error = ValueError if get_origin(expected) is Literal else TypeError
            raise error(f"{task}: {name} must be {_shown(expected)}, got {value!r:.80} ({type(value).__name__})")


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the type that an annotation names.

    A list is taken for a tuple, as files of options have lists alone, a path for a text, and a text for a path.

    >>> fits(3, int | None), fits("abc", int), fits(True, int), fits([1, "x"], tuple[int, ...])
    (True, False, False, False)
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is None:
        return value is None
    if origin is Annotated:
        return fits(value, arguments[0])
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in arguments)
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in arguments)
    kind = hint if origin is None else origin
    if not isinstance(kind, type):
        return True
    return _is_instance(value, kind) and (not arguments or _members_fit(value, kind, arguments))


def _is_instance(value: Any, kind: type) -> bool:
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    if kind is str or issubclass(kind, os.PathLike):
        return isinstance(value, str | os.PathLike)
    if issubclass(kind, Enum):
        return isinstance(value, kind) or any(value == member.value for member in kind)
    if kind is tuple:
        return isinstance(value, tuple | list)
    if issubclass(kind, Collection) and isinstance(value, str | bytes):  # else "abc" would be three texts
        return issubclass(kind, str | bytes)
    try:
        return isinstance(value, kind)
    except TypeError:  # a protocol that cannot be asked
        return True


def _members_fit(value: Any, kind: type, hints: tuple[Any, ...]) -> bool:
    if kind is tuple:
        if len(hints) == 2 and hints[1] is Ellipsis:
            return all(fits(member, hints[0]) for member in value)
        return len(value) == len(hints) and all(map(fits, value, hints))
    if isinstance(value, Mapping) and len(hints) == 2:
        return all(fits(key, hints[0]) and fits(member, hints[1]) for key, member in value.items())
    if isinstance(value, Collection) and len(hints) == 1:
        return all(fits(member, hints[0]) for member in value)
    return True


def _type_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function, of a partial's function, or of an object's `__call__`."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    if not inspect.isroutine(function):
        function = type(function).__call__
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, AttributeError, TypeError):  # names that only a type checker imports
        return dict.fromkeys(inspect.signature(function).parameters, Any)


def _type_of_default(default: Any) -> Any:
    if isinstance(default, bool):
        return bool | None
    if isinstance(default, int | float):
        return float | None
    return str | None if isinstance(default, str) else Any


def _shown(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, get_args(hint)))
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")
