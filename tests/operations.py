"""How much work a scan takes, counted instead of timed: the same figure on every machine, whatever else it does."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, ModuleType, SimpleNamespace
from typing import Any

from hypothesis import strategies as st

PIECES = [
    "```",
    "~~~",
    "````",
    "```python\n",
    "\n```\n",
    "\n",
    " ",
    "    ",
    "\t",
    '"""',
    "'''",
    '"',
    "'",
    '\\"""',
    "\\'",
    "\\",
    "\\\\",
    "#",
    "{",
    "}",
    "\\{",
    "\\}",
    "(",
    ")",
    "[",
    "]",
    "\\(",
    "\\)",
    "$",
    "$$",
    "\\boxed{",
    "\\fbox{",
    "\\boxed ",
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "####",
    "answer is",
    "Answer:",
    "answer",
    "<",
    "def f(x):",
    "f",
    "f =",
    "if ",
    ":",
    "=",
    "@",
    "return",
    "a.",
    "a[",
    "\\,",
    "\\;",
    "**",
    "__",
    "*",
    "`",
    "1",
    "1,",
    "-",
    ".",
    ". ",
    "/",
    "^",
    "_",
    "%",
    "\\text{",
    "\\frac",
    "\\left",
    "x",
    "or",
    " or",
    "&",
    "\\\\\n",
]
"""Of texts: what the scans of the rewards look for."""

_few = st.lists(st.sampled_from(PIECES), max_size=3).map("".join)
TEXTS = st.tuples(_few, st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join), _few)
"""A beginning, what is repeated, and an end."""


class Count:
    """Operations that were counted."""

    def __init__(self) -> None:
        self.total = 0


class Text(str):
    """A text that counts the characters that its methods read, and so do the texts that they return."""

    counter: Count

    @classmethod
    def of(cls, text: str, count: Count) -> Text:
        """The text."""
        self = cls(text)
        self.counter = count
        return self

    def _wrapped(self, value: Any) -> Any:
        if isinstance(value, str):
            return Text.of(value, self.counter)
        return type(value)(map(self._wrapped, value)) if type(value) in (list, tuple) else value

    def __getitem__(self, key: Any) -> Any:
        value = str.__getitem__(self, key)
        self.counter.total += len(value)
        return self._wrapped(value)

    def __contains__(self, part: Any) -> bool:
        return self.find(part) >= 0

    def find(self, part: str, *where: Any) -> int:
        found = str.find(self, part, *where)
        start, stop, _ = slice(*where, None).indices(len(self))
        self.counter.total += max(0, (found if found >= 0 else stop) - start) + len(part)
        return found

    def rfind(self, part: str, *where: Any) -> int:
        found = str.rfind(self, part, *where)
        start, stop, _ = slice(*where, None).indices(len(self))
        self.counter.total += max(0, stop - (found if found >= 0 else start)) + len(part)
        return found


def _whole(name: str) -> Any:
    """A method that reads the whole text."""

    def method(self: Text, *args: Any, **kwargs: Any) -> Any:
        self.counter.total += len(self)
        return self._wrapped(getattr(str, name)(self, *args, **kwargs))

    return method


def _end(name: str) -> Any:
    """A method that reads one end of a text, and copies the rest of it where that is another text."""

    def method(self: Text, *args: Any) -> Any:
        value = getattr(str, name)(self, *args)
        self.counter.total += len(value) if isinstance(value, str) and len(value) != len(self) else 1
        return self._wrapped(value)

    return method


_WHOLE = """
    split rsplit splitlines partition rpartition replace translate lower upper casefold count isalnum isascii isdigit
    isspace encode join index rindex
"""
for _name in _WHOLE.split():
    setattr(Text, _name, _whole(_name))
for _name in ("strip", "lstrip", "rstrip", "removeprefix", "removesuffix"):
    setattr(Text, _name, _end(_name))


class _Pattern:
    """A regular expression that counts the characters between where a search begins and where it ends."""

    def __init__(self, pattern: re.Pattern[str], count: Count) -> None:
        self._pattern, self._count = pattern, count

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._pattern, name)
        if name in ("search", "match", "fullmatch"):

            def call(text: str, pos: int = 0, endpos: int = sys.maxsize) -> Any:
                found = method(text, pos, endpos)
                end = min(len(text), endpos)
                self._count.total += 1 + max(0, (found.end() if found else end if name == "search" else pos) - pos)
                return found

            return call
        if name in ("finditer", "findall", "sub", "subn", "split"):

            def call_all(*args: Any, **kwargs: Any) -> Any:
                self._count.total += len(args[1] if name.startswith("sub") else args[0])
                return method(*args, **kwargs)

            return call_all
        return method


def _counting(value: Any, count: Count) -> Any:
    if isinstance(value, re.Pattern):
        return _Pattern(value, count)
    if isinstance(value, dict) and any(isinstance(inner, re.Pattern) for inner in value.values()):
        return {key: _counting(inner, count) for key, inner in value.items()}
    if isinstance(value, list | tuple) and any(isinstance(inner, re.Pattern) for inner in value):
        return type(value)(_counting(inner, count) for inner in value)
    return value


@contextmanager
def _patterns_counted(modules: tuple[ModuleType, ...], count: Count) -> Iterator[None]:
    """Put patterns that count in the place of those of the modules, and of those that they compile."""
    counting_re = SimpleNamespace(**vars(re))
    counting_re.compile = lambda *args: _Pattern(re.compile(*args), count)
    for name in ("search", "match", "fullmatch"):
        setattr(
            counting_re,
            name,
            lambda pattern, text, flags=0, _name=name: getattr(_Pattern(re.compile(pattern, flags), count), _name)(
                text
            ),
        )
    before: list[tuple[ModuleType, str, Any]] = []
    try:
        for module in modules:
            for name, value in list(vars(module).items()):
                if name.startswith("__"):
                    continue
                new = counting_re if value is re else _counting(value, count)
                if hasattr(value, "cache_clear"):
                    value.cache_clear()  # it may keep patterns
                if new is not value:
                    before.append((module, name, value))
                    setattr(module, name, new)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
        for module in modules:
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def count_operations(function: Callable[[str], Any], text: str, modules: tuple[ModuleType, ...]) -> int:
    """Return how many operations `function(text)` takes.

    Counted are the instructions that Python executes in the modules, the characters that methods of the text and of
    its parts read or copy, and those between the beginning and the end of each search with a regular expression. What
    an expression tries in vain in between is not: each is written so that no two alternatives begin alike.

    Args:
        function: What is measured; an exception is a result like any other.
        text: Its argument.
        modules: Where it and what it calls are defined.
    """
    count = Count()
    files = {module.__file__ for module in modules}

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return instruction

    def instruction(frame: FrameType, event: str, arg: Any) -> Any:
        count.total += event == "opcode"
        return instruction

    counted = Text.of(text, count)
    with _patterns_counted(modules, count):
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            function(counted)
        except Exception:  # noqa: BLE001 (a text may be refused)
            pass
        finally:
            sys.settrace(before)
    return count.total


SHORT, LONG = 1_500, 6_000
_SLACK = 1.5
"""Of linear growth; quadratic growth has another factor of four."""


def assert_linear(function: Callable[[str], Any], parts: tuple[str, str, str], modules: tuple[ModuleType, ...]) -> None:
    """Fail where a text four times as long takes clearly more than four times the operations.

    Args:
        function: What scans a text.
        parts: A beginning, what is repeated, and an end.
        modules: See `count_operations`.
    """
    begin, unit, end = parts
    texts = [begin + unit * (size // len(unit)) + end for size in (SHORT, LONG)]
    short, long = (count_operations(function, text, modules) for text in texts)
    most = _SLACK * LONG / SHORT * short + 2_000
    assert long <= most, f"{short} operations for {len(texts[0])} characters, {long} for {len(texts[1])}: {parts}"
