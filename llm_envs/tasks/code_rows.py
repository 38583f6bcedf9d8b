"""Rows of code problems: their files, their three shapes, and what is wrong with a row that is not one."""

from __future__ import annotations

import ast
import builtins
import functools
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_envs.problem import BadRow
from rewards.base import InvalidReference
from rewards.code import load

_LANGUAGE_NAMES = frozenset(dir(builtins))


@dataclass(frozen=True, slots=True)
class Row:
    """A problem of a file.

    Attributes:
        prompt: What the model is asked; tests that are shown are not part of it.
        reference: What `CodeTestsReward` takes.
        solution: A right completion, where the file has one.
        name: What the file calls it, or its line.
        asserts: The tests of an MBPP-style row as written, from which some may be shown.
    """

    prompt: str
    reference: Mapping[str, Any]
    solution: str | None
    name: str
    asserts: tuple[str, ...] = ()


def read_rows(path: Path, skip_bad_rows: bool = False) -> tuple[Row, ...]:
    """The rows of a JSONL file, which may be compressed (`.gz`); a file that has changed is read again.

    Args:
        path: The file.
        skip_bad_rows: Whether rows that cannot be used are left out. A file of nothing else is still an error.

    Raises:
        FileNotFoundError: There is no such file.
        BadRow: A row cannot be used, or asks the same as another one.
        ValueError: The file has no rows, or is not what its name says.
    """
    path = path.expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    status = path.stat()
    return _read(path.resolve(), skip_bad_rows, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=16)
def _read(path: Path, skip_bad_rows: bool, modified: int, size: int) -> tuple[Row, ...]:
    rows: dict[str, tuple[int, Row]] = {}
    first_error: BadRow | None = None
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        try:
            row = parse_row(_utf8(line, where), where)
            if row.prompt + "\n".join(row.asserts) in rows:
                other = rows[row.prompt + "\n".join(row.asserts)][0]
                raise BadRow(f"{where}, field 'prompt': asks the same as line {other}")
        except BadRow as error:
            first_error = first_error or error
            if not skip_bad_rows:
                raise
            continue
        rows[row.prompt + "\n".join(row.asserts)] = number, row
    if not rows:
        raise ValueError(
            f"{path} has no rows that can be used" + (f"; the first error: {first_error}" * bool(first_error))
        )
    return tuple(row for _, row in rows.values())


def _utf8(line: bytes, where: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRow(f"{where}: not UTF-8 ({error.reason})") from error


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if text.strip():
                    yield number, text
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file: {error}") from error


def parse_row(line: str, where: str) -> Row:
    """A row of one of the shapes that `llm_envs/CodeTests-v0` describes.

    Raises:
        BadRow: It has none of them.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadRow(f"{where}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise BadRow(f"{where}: expected an object, got {type(row).__name__}")
    fields = _Fields(row, where)
    if "tests" in row:
        return _own(fields)
    if "test_list" in row:
        return _mbpp(fields)
    if "test" in row:
        return _human_eval(fields)
    raise BadRow(f"{where}: needs a field 'tests', 'test' (HumanEval) or 'test_list' (MBPP), has {sorted(row)}")


class _Fields:
    """The fields of a row; what is wrong with one is said with its place."""

    def __init__(self, row: Mapping[str, Any], where: str, prefix: str = "") -> None:
        self.row, self.where, self.prefix = row, where, prefix

    def error(self, name: str, what: str) -> BadRow:
        return BadRow(f"{self.where}, field '{self.prefix}{name}': {what}")

    def text(self, name: str, default: str | None = None, *, empty: bool = False) -> str:
        value = self.row.get(name, default)
        if value is None:
            raise self.error(name, "is missing")
        if not isinstance(value, str) or not (empty or value.strip()):
            raise self.error(name, f"expected a text, got {value!r:.80}")
        return value

    def identifier(self, name: str) -> str:
        value = self.text(name)
        if not value.isidentifier():
            raise self.error(name, f"expected the name of a function, got {value!r:.80}")
        return value

    def entry_point(self) -> str:
        value = self.text("entry_point")
        if not all(name.isidentifier() for name in value.split("().", 1)):
            raise self.error("entry_point", f"expected the name of a function or `Class().method`, got {value!r:.80}")
        return value

    def items(self, name: str) -> list[Any]:
        value = self.row.get(name)
        if not isinstance(value, list) or not value:
            raise self.error(name, f"expected a list of at least one, got {value!r:.80}")
        return value

    def source(self, name: str, text: str) -> ast.Module:
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise self.error(name, f"is not Python: {error}") from error

    def solution(self, *names: str) -> str | None:
        for name in names:
            if self.row.get(name) is not None:
                return self.text(name)
        return None

    def name(self) -> str:
        value = self.row.get("task_id", self.row.get("id"))
        return self.where if value is None else str(value)


def _own(fields: _Fields) -> Row:
    tests = fields.row["tests"]
    if not isinstance(tests, dict):
        raise fields.error("tests", f"expected an object, got {tests!r:.80}")
    inner = _Fields(tests, fields.where, "tests.")
    kind = inner.text("kind")
    reference: Mapping[str, Any]
    if kind == "check":
        _no_unknown(inner, {"kind", "entry_point", "check", "checks", "setup", "prefix"})
        reference = _own_check(inner)
    elif kind == "function":
        inner.entry_point()
        for index, case in enumerate(inner.items("cases")):
            at = f"cases[{index}]"
            if not isinstance(case, dict) or "expected" not in case:
                raise inner.error(at, "expected an object with args and expected")
            if not isinstance(case.get("args", []), list) or not isinstance(case.get("kwargs", {}), dict):
                raise inner.error(at, "expected args to be a list and kwargs an object")
            if unknown := case.keys() - {"args", "kwargs", "expected"}:
                raise inner.error(at, f"has unknown fields {sorted(unknown)}")
        for name in ("rel_tol", "abs_tol"):
            value = tests.get(name, 0.0)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise inner.error(name, f"expected a number that is not negative, got {value!r:.80}")
        _no_unknown(inner, {"kind", "entry_point", "cases", "rel_tol", "abs_tol", "nan_equal", "prefix"})
        cases = [{"args": [], "kwargs": {}} | case for case in tests["cases"]]
        reference = {"rel_tol": 0.0, "abs_tol": 0.0} | tests | {"cases": cases}
    elif kind == "program":
        for index, case in enumerate(inner.items("cases")):
            if not isinstance(case, dict) or not all(isinstance(case.get(name), str) for name in ("stdin", "stdout")):
                raise inner.error(f"cases[{index}]", "expected an object with the texts stdin and stdout")
        _no_unknown(inner, {"kind", "cases", "prefix", "tokens", "rel_tol", "abs_tol"})
        reference = tests
    elif kind == "class":
        _no_unknown(inner, {"kind", "entry_point", "cases", "rel_tol", "abs_tol", "nan_equal", "prefix"})
        reference = tests
    else:
        raise inner.error("kind", f"expected 'function', 'class', 'check' or 'program', got {kind!r:.80}")
    try:
        load(reference)
    except InvalidReference as error:
        raise fields.error("tests", str(error)) from error
    return Row(fields.text("prompt"), reference, fields.solution("solution"), fields.name())


def _no_unknown(fields: _Fields, known: set[str]) -> None:
    for name in sorted(fields.row.keys() - known):
        raise fields.error(name, f"is unknown; there are {', '.join(sorted(known))}")


def _human_eval(fields: _Fields) -> Row:
    prompt = fields.text("prompt")
    entry_point = fields.entry_point()
    check = _with_check(fields, "test", fields.text("test"))
    setup = fields.source("prompt", prompt)  # the signature and docstring of a function are one with an empty body
    defined = entry_point.partition("()")[0]
    setup.body = [node for node in setup.body if getattr(node, "name", None) != defined]
    reference = _check(entry_point, [check], ast.unparse(setup), prompt)
    return Row(prompt, reference, fields.solution("canonical_solution"), fields.name())


def _own_check(fields: _Fields) -> dict[str, Any]:
    """Tests with `checks` (a text or a list of texts), or with HumanEval's `check`."""
    entry_point, prefix = fields.entry_point(), fields.text("prefix", "", empty=True)
    setup = fields.text("setup", "", empty=True)
    fields.source("setup", setup)
    if "check" in fields.row:
        return _check(entry_point, [_with_check(fields, "check", fields.text("check"))], setup, prefix)
    given = fields.row.get("checks")
    checks = [given] if isinstance(given, str) else fields.items("checks")
    for index, check in enumerate(checks):
        if not isinstance(check, str):
            raise fields.error(f"checks[{index}]", f"expected a text, got {check!r:.80}")
        tree = fields.source(f"checks[{index}]", check)
        if not any(isinstance(node, ast.Assert | ast.Raise) for node in ast.walk(tree)):
            raise fields.error(f"checks[{index}]", "has no assert: every function would pass")
    return _check(entry_point, checks, setup, prefix)


def _with_check(fields: _Fields, name: str, check: str) -> str:
    tree = fields.source(name, check)
    if not any(isinstance(node, ast.FunctionDef) and node.name == "check" for node in tree.body):
        raise fields.error(name, "has no function check(candidate)")
    if not any(isinstance(node, ast.Assert | ast.Raise) for node in ast.walk(tree)):
        raise fields.error(name, "has no assert: every function would pass")
    return check


def _check(entry_point: str, checks: list[str], setup: str, prefix: str) -> dict[str, Any]:
    return {"kind": "check", "entry_point": entry_point, "checks": checks, "setup": setup, "prefix": prefix}


def _mbpp(fields: _Fields) -> Row:
    prompt = fields.text("text" if "text" in fields.row else "prompt")
    asserts, trees = [], []
    for name in ("test_list", "challenge_test_list"):
        for index, test in enumerate(fields.items("test_list") if name == "test_list" else fields.row.get(name) or []):
            at = f"{name}[{index}]"
            if not isinstance(test, str):
                raise fields.error(at, f"expected a text, got {test!r:.80}")
            body = fields.source(at, test.strip()).body
            if not body or not all(isinstance(node, ast.Assert) for node in body):
                raise fields.error(at, f"expected assert statements, got {test!r:.80}")
            asserts.append(test.strip())
            trees.append((at, body))
    setup = fields.row.get("test_imports") or fields.row.get("test_setup_code") or []
    setup_code = "\n".join([setup] if isinstance(setup, str) else [str(line) for line in setup])
    setup_tree = fields.source("test_setup_code", setup_code)
    known = _LANGUAGE_NAMES | _defined(setup_tree)
    entry_point = _entry_point(fields, trees, known)
    rename = _Rename(entry_point)
    lines = [ast.unparse(rename.visit(node)) for _, body in trees for node in body]
    checks = [f"def check(candidate):\n    {line}\n" for line in lines]
    reference = _check(entry_point, checks, setup_code, "")
    return Row(
        prompt, reference, fields.solution("code"), fields.name(), tuple(asserts[: len(fields.row["test_list"])])
    )


def _defined(tree: ast.Module) -> set[str]:
    """The names that the setup of the tests defines."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def _entry_point(fields: _Fields, trees: list[tuple[str, list[ast.stmt]]], known: set[str] | frozenset[str]) -> str:
    """The one name that all tests use and that nothing else defines."""
    found: str | None = None
    for at, body in trees:
        for node in body:
            stored = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
            stored |= {n.arg for n in ast.walk(node) if isinstance(n, ast.arg)}
            loaded = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
            free = loaded - stored - known
            if len(free) != 1 or (found is not None and free != {found}):
                names = sorted(free if found is None else free | {found})
                raise fields.error(at, f"expected one function under test, found the names {names}")
            found = free.pop()
    assert found is not None  # there is at least one test
    return found


class _Rename(ast.NodeTransformer):
    """Calls of the function under test become calls of the candidate."""

    def __init__(self, name: str) -> None:
        self.name = name

    def visit_Name(self, node: ast.Name) -> ast.Name:
        """Rename one name."""
        return ast.Name("candidate", node.ctx) if node.id == self.name else node
