"""Options from dataclasses: what tyro is told for every subcommand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructTypeInfo,
)

NO_DEFAULT = tyro.conf.arg(help_behavior_hint="")
"""For an option whose help says what happens without it, or where nothing does."""
OptionalInt = Annotated[int | None, NO_DEFAULT]
OptionalFloat = Annotated[float | None, NO_DEFAULT]
OptionalPath = Annotated[Path | None, NO_DEFAULT]
Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff, NO_DEFAULT]
EnvArgs = Annotated[tuple[str, ...], tyro.conf.arg(metavar="K=V ...", help_behavior_hint="")]
EnvId = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV", help_behavior_hint="")]
Choice = tyro.conf.arg(metavar="STR")
"""For an option whose help names the choices."""
_MARKERS = (tyro.conf.OmitArgPrefixes, tyro.conf.SuppressFixed)
_FROM_FILE = (tyro.conf.FlagConversionOff, tyro.conf.UsePythonSyntaxForLiteralCollections)
_REGISTRY = ConstructorRegistry()
_HIDDEN = {("WeightedLikelihood", "weights")}
"""Classes and fields of theirs that are no options, since the agent's name decides them."""


@_REGISTRY.primitive_rule
def _optional_value(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Show `int | None` as INT; the word None still stands for no value."""
    kinds = [kind for kind in get_args(info.type) if kind is not NoneType]
    if len(kinds) != 1 or NoneType not in get_args(info.type) or kinds[0] not in (int, float, str, Path):
        return None
    kind: Any = kinds[0]
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=kind.__name__.upper(),
        instance_from_str=lambda words: None if words[0] == "None" else kind(words[0]),
        is_instance=lambda value: value is None or isinstance(value, kind),
        str_from_instance=lambda value: [str(value)],
    )


@_REGISTRY.primitive_rule
def _pairs(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Show pairs of texts as A B ..., and name the problem where a half of one is missing."""
    if info.type != tuple[tuple[str, str], ...] or tyro.conf.UsePythonSyntaxForLiteralCollections in info.markers:
        return None

    def read(words: list[str]) -> tuple[tuple[str, str], ...]:
        if len(words) % 2:
            raise ValueError(f"expected pairs of texts, got {len(words)} texts")
        return tuple(zip(words[::2], words[1::2], strict=True))

    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="A B ...",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [text for pair in value for text in pair],
    )


@_REGISTRY.struct_rule
def _fields_with_useful_hints(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Show no default where there is none: an option's help says what happens without it."""
    if not is_dataclass(info.type) or NO_DEFAULT in info.markers:
        return None
    found = ConstructorRegistry.get_struct_spec(replace(info, markers=(*info.markers, NO_DEFAULT)))  # tyro's own rule
    if not isinstance(found, StructConstructorSpec):
        return None
    shown = []
    for field in found.fields:
        kind: Any = field.type
        if field.default is None or field.default == ():
            kind = Annotated[kind, NO_DEFAULT]
        if (info.type.__name__, field.name) in _HIDDEN:
            kind = Annotated[kind, tyro.conf.Suppress]
        shown.append(replace(field, type=kind))
    return replace(found, fields=tuple(shown))


def parse(
    options: type, arguments: Sequence[str], prog: str, *, default: Any = None, description: str | None = None
) -> Any:
    """Read a command line into a dataclass.

    Args:
        options: The dataclass; its docstrings are the help.
        arguments: The words after `prog`.
        prog: What the person typed before them, such as "llm-envs play".
        default: An instance whose values are the defaults.
        description: Stands at the top of the help instead of the docstring of the class.

    Raises:
        SystemExit: With code 0 after `--help`, or 2 after a mistake, which has been explained.
    """
    return tyro.cli(
        options,
        args=list(arguments),
        prog=prog,
        default=tyro.MISSING_NONPROP if default is None else default,
        description=description,
        config=_MARKERS,
        registry=_REGISTRY,
    )


def parse_known(options: type, arguments: Sequence[str], prog: str) -> Any:
    """Read some options of a command line before it is known which others there may be."""
    return tyro.cli(
        options, args=list(arguments), prog=prog, return_unknown_args=True, config=_MARKERS, registry=_REGISTRY
    )[0]


def from_values(options: type, values: dict[str, Any], prog: str) -> Any:
    """Make a dataclass from values as JSON and YAML have them, read as those of the command line are.

    Args:
        options: The dataclass.
        values: By the names of fields, those of nested dataclasses among them.
        prog: As in `parse`.

    Raises:
        SystemExit: A value is not allowed, which has been explained.
    """
    words = [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]
    return tyro.cli(options, args=words, prog=prog, config=(*_MARKERS, *_FROM_FILE), registry=_REGISTRY)


def leaves(options: Any) -> dict[str, Any]:
    """The values of a dataclass and of those nested in it, by their names on the command line."""
    found: dict[str, Any] = {}
    for field in fields(options):
        value = getattr(options, field.name)
        found |= leaves(value) if is_dataclass(value) else {field.name: value}
    return found
