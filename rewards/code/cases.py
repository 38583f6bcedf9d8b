"""What a program is tested with, as plain data: `FunctionTests`, `ClassTests`, `CheckTests`, `ProgramTests`.

All four can be written as a mapping that survives JSON (`as_dict`, `load`), which is how a task passes them as the
reference of a problem.
"""

from __future__ import annotations

import ast
import keyword
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rewards.base import InvalidReference
from rewards.code import nodes
from rewards.code.equality import same
from rewards.code.jsonable import from_json, to_json
from rewards.code.sandbox.codec import MAX_BYTES, Unencodable, decode, encode

_CALL_BYTES = 1_000  # for the function's name and the like


@dataclass(frozen=True, slots=True)
class FunctionCase:
    """One call and what it must return.

    Attributes:
        args: The positional arguments, plain data (see `rewards.code.sandbox.codec`).
        kwargs: The arguments by name.
        expected: What must come back, plain data.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    expected: Any = None


@dataclass(frozen=True, slots=True)
class FunctionTests:
    """Calls of a function. Results are compared by `rewards.code.equality.same`.

    Attributes:
        entry_point: The name of the function, or of a method, `Solution().addOne`: each call is on a new object.
        cases: The calls, at least one; each counts as one test. They are made in order, in one process.
        rel_tol: How far a float may be from the expected one, relative to that.
        abs_tol: How far a float may be from the expected one.
        nan_equal: Whether NaN equals NaN. Without it no case may expect one.
        prefix: The beginning of the program that the model was given, if a completion may continue it.
        argument_types: For functions of linked lists and trees: the type of each positional argument, one of
            `rewards.code.nodes.TYPES`. The cases have them as lists, as LeetCode writes them, and no `kwargs`.
        return_type: The type of the result. With either, the program finds the classes `ListNode` and `TreeNode`.

    Raises:
        InvalidReference: Where an attribute cannot be used.
    """

    entry_point: str
    cases: tuple[FunctionCase, ...]
    rel_tol: float = 0.0
    abs_tol: float = 0.0
    nan_equal: bool = False
    prefix: str = ""
    argument_types: tuple[str, ...] = ()
    return_type: str = ""

    def __post_init__(self) -> None:
        _check_entry_point(self.entry_point)
        _check_text("prefix", self.prefix)
        _check_tolerances(self)
        _check_bool("nan_equal", self.nan_equal)
        cases = _some("cases", self.cases)
        checked = tuple(_case(f"cases[{i}]", case, self.nan_equal) for i, case in enumerate(cases))
        types: Any = self.argument_types
        types = (types,) if isinstance(types, str) and types else tuple(types)
        for kind in (*types, self.return_type):
            if kind not in nodes.TYPES:
                raise InvalidReference(
                    f"argument_types and return_type must be of {', '.join(map(repr, nodes.TYPES))}, not {kind!r:.80}"
                )
        object.__setattr__(self, "argument_types", types)
        if self.has_nodes:
            checked = tuple(_node_case(f"cases[{i}]", case, self) for i, case in enumerate(checked))
        object.__setattr__(self, "cases", checked)

    @property
    def has_nodes(self) -> bool:
        """Whether an argument or the result is a linked list or a tree."""
        return bool(self.argument_types or self.return_type)

    @property
    def total(self) -> int:
        """The number of tests."""
        return len(self.cases)


@dataclass(frozen=True, slots=True)
class ClassCase:
    """An object and the calls of its methods, in the form in which LeetCode writes them.

    Attributes:
        methods: The names of what is called: the class, and then methods of the object.
        args: The positional arguments of each call, plain data.
        expected: What must come back from each, plain data; what belongs to the class does not count.
    """

    methods: tuple[str, ...]
    args: tuple[tuple[Any, ...], ...]
    expected: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class ClassTests:
    """Objects of a class that keep a state between calls. Results are compared by `rewards.code.equality.same`.

    Attributes:
        entry_point: The name of the class.
        cases: The objects, at least one; each counts as one test, which is passed if all its calls give what they must.
        rel_tol: How far a float may be from the expected one, relative to that.
        abs_tol: How far a float may be from the expected one.
        nan_equal: Whether NaN equals NaN. Without it no case may expect one.
        prefix: The beginning of the program that the model was given, if a completion may continue it.

    Raises:
        InvalidReference: Where an attribute cannot be used.
    """

    entry_point: str
    cases: tuple[ClassCase, ...]
    rel_tol: float = 0.0
    abs_tol: float = 0.0
    nan_equal: bool = False
    prefix: str = ""

    def __post_init__(self) -> None:
        _check_name("entry_point", self.entry_point)
        _check_text("prefix", self.prefix)
        _check_tolerances(self)
        _check_bool("nan_equal", self.nan_equal)
        cases = _some("cases", self.cases)
        checked = tuple(_class_case(f"cases[{i}]", case, self) for i, case in enumerate(cases))
        object.__setattr__(self, "cases", checked)

    @property
    def total(self) -> int:
        """The number of tests."""
        return len(self.cases)


@dataclass(frozen=True, slots=True)
class CheckTests:
    """Test code, as in HumanEval (`def check(candidate)`) or MBPP (lines of `assert`).

    It is the task author's own code and runs in a trusted process, where `candidate`, and the name of the entry point,
    is a function that passes plain data to the jail and back. A test passes when it ends without an exception.

    Attributes:
        entry_point: The name of the function, or of a method, `Solution().addOne`: each call is on a new object.
        checks: Test programs, each of which counts as one test; a single text is one of them. Each runs by itself after
            `setup`; if it defines `check`, that is called with `candidate`. It must have an `assert` or a `raise`.
        setup: Code that the checks need, such as the imports and helpers in a HumanEval prompt.
        prefix: The beginning of the program that the model was given, if a completion may continue it.

    Raises:
        InvalidReference: Where an attribute cannot be used.
    """

    entry_point: str
    checks: tuple[str, ...]
    setup: str = ""
    prefix: str = ""

    def __post_init__(self) -> None:
        _check_entry_point(self.entry_point)
        _check_text("prefix", self.prefix)
        _check_text("setup", self.setup)
        _tree("setup", self.setup)
        given: Any = self.checks
        checks = (given,) if isinstance(given, str) else tuple(_some("checks", given))
        for i, check in enumerate(checks):
            _check_text(f"checks[{i}]", check)
            if not any(isinstance(node, ast.Assert | ast.Raise) for node in ast.walk(_tree(f"checks[{i}]", check))):
                raise InvalidReference(f"checks[{i}] has no assert: every program would pass")
        object.__setattr__(self, "checks", checks)

    @property
    def total(self) -> int:
        """The number of tests."""
        return len(self.checks)


@dataclass(frozen=True, slots=True)
class ProgramCase:
    """What a program reads and what it must print."""

    stdin: str
    stdout: str


@dataclass(frozen=True, slots=True)
class ProgramTests:
    """Runs of a whole program.

    The output is compared line by line. White space at the end of a line and blank lines at the end do not count;
    anything else does. A program must end with exit code 0.

    Attributes:
        cases: The runs, at least one; each counts as one test.
        tokens: Whether only the words between white space are compared, so that `1  2` on one or two lines is `1 2`.
        rel_tol: How far a decimal number may be from the expected one, relative to that. Two whole numbers are always
            compared as they are written, and so are `nan`, `inf` and what is no number.
        abs_tol: How far a decimal number may be from the expected one.
        prefix: The beginning of the program that the model was given, if a completion may continue it.

    Raises:
        InvalidReference: Where an attribute cannot be used.
    """

    cases: tuple[ProgramCase, ...]
    prefix: str = ""
    tokens: bool = False
    rel_tol: float = 0.0
    abs_tol: float = 0.0

    def __post_init__(self) -> None:
        _check_text("prefix", self.prefix)
        _check_bool("tokens", self.tokens)
        _check_tolerances(self)
        cases = tuple(_some("cases", self.cases))
        for i, case in enumerate(cases):
            if not isinstance(case, ProgramCase):
                raise InvalidReference(f"cases[{i}] must be a ProgramCase, not a {type(case).__name__}")
            _check_text(f"cases[{i}].stdin", case.stdin)
            _check_text(f"cases[{i}].stdout", case.stdout)
        object.__setattr__(self, "cases", cases)

    @property
    def total(self) -> int:
        """The number of tests."""
        return len(self.cases)


Tests = FunctionTests | ClassTests | CheckTests | ProgramTests


def as_dict(tests: Tests) -> dict[str, Any]:
    """The tests as a mapping that `json.dumps` writes and `load` reads."""
    result: dict[str, Any]
    if isinstance(tests, FunctionTests):
        result = {"kind": "function", "entry_point": tests.entry_point, "cases": []}
        for case in tests.cases:
            row = {"args": [to_json(arg) for arg in case.args], "expected": to_json(case.expected)}
            if case.kwargs:
                row["kwargs"] = {name: to_json(value) for name, value in case.kwargs.items()}
            result["cases"].append(row)
        result |= {"rel_tol": tests.rel_tol, "abs_tol": tests.abs_tol, "nan_equal": tests.nan_equal}
        if tests.has_nodes:
            result |= {"argument_types": list(tests.argument_types), "return_type": tests.return_type}
    elif isinstance(tests, ClassTests):
        result = {"kind": "class", "entry_point": tests.entry_point, "cases": []}
        for one in tests.cases:
            args = [[to_json(arg) for arg in some] for some in one.args]
            expected = [to_json(value) for value in one.expected]
            result["cases"].append({"methods": list(one.methods), "args": args, "expected": expected})
        result |= {"rel_tol": tests.rel_tol, "abs_tol": tests.abs_tol, "nan_equal": tests.nan_equal}
    elif isinstance(tests, CheckTests):
        result = {"kind": "check", "entry_point": tests.entry_point, "checks": list(tests.checks), "setup": tests.setup}
    else:
        result = {"kind": "program", "cases": [{"stdin": case.stdin, "stdout": case.stdout} for case in tests.cases]}
        result |= {name: getattr(tests, name) for name in ("tokens", "rel_tol", "abs_tol") if getattr(tests, name)}
    if tests.prefix:
        result["prefix"] = tests.prefix
    return result


def load(reference: Any) -> Tests:
    """The tests that a reference describes.

    Args:
        reference: Tests, or a mapping as `as_dict` makes it: `kind` (`"function"`, `"class"`, `"check"` or `"program"`)
            and the attributes. Values may also be Python's own tuples and sets instead of their form in JSON.

    Raises:
        InvalidReference: Where they cannot be used; it names the field.
    """
    if isinstance(reference, Tests):
        return reference
    if not isinstance(reference, Mapping):
        raise InvalidReference(f"the reference must be tests or a mapping, not a {type(reference).__name__}")
    fields = dict(reference)
    kind = fields.pop("kind", None)
    if kind == "function":
        options = {"rel_tol", "abs_tol", "nan_equal", "prefix", "argument_types", "return_type"}
        _check_keys("", fields, {"entry_point", "cases"}, options)
        rows = _rows(fields.pop("cases"), set(), {"args", "kwargs", "expected"})
        return FunctionTests(cases=tuple(_read_case(where, row) for where, row in rows), **fields)
    if kind == "class":
        _check_keys("", fields, {"entry_point", "cases"}, {"rel_tol", "abs_tol", "nan_equal", "prefix"})
        rows = _rows(fields.pop("cases"), {"methods", "args", "expected"}, set())
        return ClassTests(cases=tuple(ClassCase(**_values(where, row)) for where, row in rows), **fields)
    if kind == "check":
        _check_keys("", fields, {"entry_point", "checks"}, {"setup", "prefix"})
        return CheckTests(**fields)
    if kind == "program":
        _check_keys("", fields, {"cases"}, {"prefix", "tokens", "rel_tol", "abs_tol"})
        rows = _rows(fields.pop("cases"), {"stdin", "stdout"}, set())
        return ProgramTests(cases=tuple(ProgramCase(**row) for _, row in rows), **fields)
    raise InvalidReference(f"kind must be 'function', 'class', 'check' or 'program', not {kind!r:.80}")


def _rows(cases: Any, needed: set[str], optional: set[str]) -> list[tuple[str, dict[str, Any]]]:
    rows = []
    for i, row in enumerate(_some("cases", cases)):
        if not isinstance(row, Mapping):
            raise InvalidReference(f"cases[{i}] must be a mapping, not a {type(row).__name__}")
        _check_keys(f"cases[{i}].", row, needed, optional)
        rows.append((f"cases[{i}]", dict(row)))
    return rows


def _read_case(where: str, row: dict[str, Any]) -> FunctionCase:
    if "expected" not in row:
        raise InvalidReference(f"{where}.expected is missing")
    values = _values(where, row)
    if not isinstance(values.get("args", []), list | tuple):
        raise InvalidReference(f"{where}.args must be a list, not a {type(values['args']).__name__}")
    return FunctionCase(tuple(values.get("args", ())), values.get("kwargs", {}), values["expected"])


def _values(where: str, row: dict[str, Any]) -> dict[str, Any]:
    """The fields of a row, read from their form in JSON."""
    values: dict[str, Any] = {}
    for name, value in row.items():
        try:
            values[name] = from_json(value)
        except ValueError as error:
            raise InvalidReference(f"{where}.{name}: {error}") from error
    return values


def _class_case(where: str, case: Any, tests: ClassTests) -> ClassCase:
    """The case with its values reduced to plain data."""
    if not isinstance(case, ClassCase):
        raise InvalidReference(f"{where} must be a ClassCase, not a {type(case).__name__}")
    methods = _some(f"{where}.methods", case.methods)
    for name in ("args", "expected"):
        values = getattr(case, name)
        if not isinstance(values, list | tuple) or len(values) != len(methods):
            raise InvalidReference(
                f"{where}.{name} must be a list with one entry for each of the {len(methods)} methods"
            )
    if methods[0] != tests.entry_point:
        raise InvalidReference(f"{where}.methods[0] must be the class, {tests.entry_point!r}, not {methods[0]!r:.80}")
    if len(methods) < 2:
        raise InvalidReference(f"{where}.methods has no method: every class would pass")
    calls = []
    for i, (method, args, expected) in enumerate(zip(methods, case.args, case.expected, strict=True)):
        _check_name(f"{where}.methods[{i}]", method)
        call = FunctionCase(args, {}, expected if i else None)
        calls.append(_case(f"{where}, call {i}", call, tests.nan_equal))
    args, expected = tuple(call.args for call in calls), tuple(call.expected for call in calls)
    return ClassCase(tuple(methods), args, expected)


def _case(where: str, case: Any, nan_equal: bool) -> FunctionCase:
    """The case with its values reduced to plain data, as the program's will be."""
    if not isinstance(case, FunctionCase):
        raise InvalidReference(f"{where} must be a FunctionCase, not a {type(case).__name__}")
    if not isinstance(case.args, list | tuple):
        raise InvalidReference(f"{where}.args must be a tuple, not a {type(case.args).__name__}")
    if not isinstance(case.kwargs, Mapping) or not all(isinstance(name, str) for name in case.kwargs):
        raise InvalidReference(f"{where}.kwargs must be a mapping with names as keys")
    values = {}
    for name, value in (("args", tuple(case.args)), ("kwargs", dict(case.kwargs)), ("expected", case.expected)):
        try:
            values[name] = decode(encode(value))
        except (Unencodable, ValueError) as error:
            raise InvalidReference(f"{where}.{name}: {error}") from error
    try:
        encode(("", values["args"], values["kwargs"], ""), max_bytes=MAX_BYTES - _CALL_BYTES)
    except Unencodable as error:
        raise InvalidReference(f"{where}.args: with kwargs, {error}") from error
    if not same(values["expected"], decode(encode(values["expected"])), nan_equal=nan_equal):
        raise InvalidReference(
            f"{where}.expected holds NaN, which equals nothing; set nan_equal (not for sets, keys and complex numbers)"
        )
    return FunctionCase(**values)


def _node_case(where: str, case: FunctionCase, tests: FunctionTests) -> FunctionCase:
    """The case of a function of linked lists and trees, which are written as lists."""
    if case.kwargs or len(case.args) != len(tests.argument_types):
        raise InvalidReference(
            f"{where} must have one of args for each of the {len(tests.argument_types)} argument_types and no kwargs, "
            f"not {len(case.args)} and {len(case.kwargs)}"
        )
    try:
        args = tuple(map(nodes.checked, tests.argument_types, case.args))
        return FunctionCase(args, {}, nodes.checked(tests.return_type, case.expected))
    except ValueError as error:
        raise InvalidReference(f"{where}: {error}") from error


def _some(name: str, values: Any) -> list[Any]:
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise InvalidReference(f"{name} must be a list, not a {type(values).__name__}")
    found = list(values)
    if not found:
        raise InvalidReference(f"{name} is empty: without a test every program would pass")
    return found


def _check_keys(where: str, fields: Mapping[Any, Any], needed: set[str], optional: set[str]) -> None:
    for name in sorted(needed):
        if name not in fields:
            raise InvalidReference(f"{where}{name} is missing")
    for name in fields:
        if name not in needed | optional:
            known = ", ".join(sorted(needed | optional))
            raise InvalidReference(f"{where}{name!s:.80} is unknown; there are {known}")


def _check_entry_point(entry_point: Any) -> None:
    owner, method, name = entry_point.partition("().") if isinstance(entry_point, str) else ("", "", "")
    _check_name("entry_point", owner if method else entry_point)
    if method:
        _check_name("entry_point", name)


def _check_name(where: str, name: Any) -> None:
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        example = " or of a method, such as Solution().solve," if where == "entry_point" else ""
        raise InvalidReference(f"{where} must be the name of a function{example} not {name!r:.80}")


def _check_bool(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise InvalidReference(f"{name} must be a bool, not {value!r:.80}")


def _check_tolerances(tests: Any) -> None:
    for name, most in (("rel_tol", 1.0), ("abs_tol", math.inf)):
        value = getattr(tests, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < most:
            raise InvalidReference(f"{name} must be a number of at least 0 and less than {most:g}, not {value!r:.80}")


def _check_text(name: str, text: Any) -> None:
    if not isinstance(text, str):
        raise InvalidReference(f"{name} must be a str, not a {type(text).__name__}")


def _tree(name: str, source: str) -> ast.AST:
    """The parsed code of a task's author; a completion never comes here."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InvalidReference(f"{name} is no Python: {error}") from error
