"""An interpreter for the small part of Python in which the generated functions are written.

A function's syntax tree becomes nested closures, which calculate its values; neither `exec` nor `eval` is used. The
text that a problem's solution prints is also the text that its expected values are calculated from, so the two cannot
disagree.

Most programs that run here are wrong on purpose: a mutant may loop for ever or make a huge number. So only the names
and methods in the tables below exist, each run has a budget of steps, and the sizes of values are limited. These
limits count work and not time, so the hidden tests of a program are the same on every machine. Running the programs as
Python would need a worker process. An environment draws a problem when it is made, and making it must start no process.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Env = dict[str, Any]
Expr = Callable[[Env], Any]
Stmt = Callable[[Env], bool]

MAX_STEPS = 20_000
_MAX_BITS = 4096
_MAX_LENGTH = 100_000
_STEPS, _RESULT = ".steps", ".result"  # names that no program can have
RAISES = (ArithmeticError, LookupError, TypeError, ValueError, AttributeError)
"""The exceptions that a wrong program may raise. A right program raises none."""


class OutOfSteps(ValueError):
    """The program needs more than `MAX_STEPS` steps, or makes a value that is too large."""


def _times(left: Any, right: Any) -> Any:
    for sequence, count in ((left, right), (right, left)):
        if isinstance(sequence, str | list | tuple) and isinstance(count, int) and len(sequence) * count > _MAX_LENGTH:
            raise OutOfSteps("a sequence is too long")
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > _MAX_BITS:
        raise OutOfSteps("a number is too large")
    return left * right


def _power(left: int, right: int) -> Any:
    if right < 0 or left.bit_length() * right > _MAX_BITS:
        raise OutOfSteps("a number is too large")
    return left**right


_BINARY: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: _times,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
_UNARY: dict[type[ast.AST], Callable[[Any], Any]] = {ast.USub: operator.neg, ast.Not: operator.not_}
_COMPARE: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}


def _range(*bounds: int) -> range:
    if len(range(*bounds)) > MAX_STEPS:
        raise OutOfSteps("a range is too long")
    return range(*bounds)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{f.__name__: f for f in (abs, all, any, chr, int, len, list, max, min, ord, set, sorted, str, sum)},
    "enumerate": lambda *values: list(enumerate(*values)),
    "range": _range,
    "zip": lambda *values: list(zip(*values, strict=False)),
}
_METHODS: dict[type, frozenset[str]] = {
    list: frozenset(("append", "count", "index")),
    dict: frozenset(("get", "items", "values")),
    str: frozenset(("count", "isalpha", "isdigit", "islower", "isupper", "join", "lower", "replace", "split"))
    | frozenset(("swapcase", "title", "upper")),
}


class Function:
    """A function that can be called, made from its text.

    Args:
        source: The text of one `def` statement, or its syntax tree.

    Raises:
        ValueError: The text uses a part of Python that this interpreter does not have.
        SyntaxError: The text is not Python.
    """

    def __init__(self, source: str | ast.FunctionDef) -> None:
        tree = parse(source) if isinstance(source, str) else source
        self.name = tree.name
        self.parameters = [argument.arg for argument in tree.args.args]
        self._body = _block(tree.body)

    def __call__(self, *arguments: Any) -> Any:
        """Calculate the value for these arguments. Lists and dictionaries among them are copied first.

        Raises:
            OutOfSteps: The program needs too many steps, or makes a value that is too large.
            Exception: The program fails in another way; always one of `RAISES`.
        """
        if len(arguments) != len(self.parameters):
            raise TypeError(f"{self.name} takes {len(self.parameters)} arguments, got {len(arguments)}")
        env: Env = {_STEPS: [MAX_STEPS]}
        env.update(zip(self.parameters, map(copy, arguments), strict=True))
        self._body(env)
        return env.get(_RESULT)


def parse(source: str) -> ast.FunctionDef:
    """Return the syntax tree of a text that is one function definition.

    Raises:
        ValueError: The text is something else.
        SyntaxError: The text is not Python.
    """
    [tree] = ast.parse(source).body
    if not isinstance(tree, ast.FunctionDef):
        raise ValueError(f"expected one function definition, got {type(tree).__name__}")
    return tree


def copy(value: Any) -> Any:
    """Copy lists and dictionaries at every depth; other values are immutable and shared."""
    if isinstance(value, list):
        return [copy(item) for item in value]
    if isinstance(value, dict):
        return {key: copy(item) for key, item in value.items()}
    return value


def _spend(env: Env) -> None:
    steps = env[_STEPS]
    steps[0] -= 1
    if steps[0] < 0:
        raise OutOfSteps(f"more than {MAX_STEPS} steps")


def _unknown(node: ast.AST) -> ValueError:
    return ValueError(f"the interpreter has no {type(node).__name__}: {ast.unparse(node)}")


# ---- statements: a closure says whether the function has returned


def _block(statements: Sequence[ast.stmt]) -> Stmt:
    parts = [_statement(statement) for statement in statements]
    if len(parts) == 1:
        return parts[0]

    def run(env: Env) -> bool:
        for part in parts:  # noqa: SIM110 (`any` with a generator takes twice the time, and this runs most)
            if part(env):
                return True
        return False

    return run


def _statement(node: ast.stmt) -> Stmt:
    match node:
        case ast.Return(value=ast.expr() as value):
            return _return(_expression(value))
        case ast.Assign(targets=[target], value=value):
            return _assign(_target(target), _expression(value))
        case ast.AugAssign(target=ast.Name() | ast.Subscript() as target, op=op, value=value):
            read = ast.copy_location(ast.parse(ast.unparse(target), mode="eval").body, target)
            return _assign(_target(target), _expression(ast.BinOp(left=read, op=op, right=value)))
        case ast.Expr(value=value):
            return _assign(lambda env, value: None, _expression(value))
        case ast.If(test=test, body=body, orelse=orelse):
            return _if(_expression(test), _block(body), _block(orelse))
        case ast.For(target=target, iter=iterable, body=body, orelse=[]):
            return _for(_target(target), _expression(iterable), _block(body))
        case ast.While(test=test, body=body, orelse=[]):
            return _while(_expression(test), _block(body))
    raise _unknown(node)


def _return(value: Expr) -> Stmt:
    def run(env: Env) -> bool:
        env[_RESULT] = value(env)
        return True

    return run


def _assign(target: Callable[[Env, Any], None], value: Expr) -> Stmt:
    def run(env: Env) -> bool:
        target(env, value(env))
        return False

    return run


def _if(test: Expr, body: Stmt, orelse: Stmt) -> Stmt:
    return lambda env: body(env) if test(env) else orelse(env)


def _for(target: Callable[[Env, Any], None], iterable: Expr, body: Stmt) -> Stmt:
    def run(env: Env) -> bool:
        for value in iterable(env):
            _spend(env)
            target(env, value)
            if body(env):
                return True
        return False

    return run


def _while(test: Expr, body: Stmt) -> Stmt:
    def run(env: Env) -> bool:
        while test(env):
            _spend(env)
            if body(env):
                return True
        return False

    return run


def _target(node: ast.expr) -> Callable[[Env, Any], None]:
    match node:
        case ast.Name(id=name):
            return lambda env, value: operator.setitem(env, name, value)
        case ast.Subscript(value=container, slice=index):
            of, at = _expression(container), _expression(index)
            return lambda env, value: operator.setitem(of(env), at(env), value)
        case ast.Tuple(elts=elements):
            targets = [_target(element) for element in elements]

            def unpack(env: Env, value: Any) -> None:
                for target, item in zip(targets, value, strict=True):
                    target(env, item)

            return unpack
    raise _unknown(node)


# ---- expressions


def _expression(node: ast.expr) -> Expr:
    match node:
        case ast.Constant(value=value):
            return lambda env: value
        case ast.Name(id=name):
            return lambda env: env[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _binary(_BINARY[type(op)], _expression(left), _expression(right))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _apply(_UNARY[type(op)], [_expression(operand)])
        case ast.BoolOp(op=op, values=values):
            return _bool(isinstance(op, ast.And), [_expression(value) for value in values])
        case ast.Compare(left=left, ops=ops, comparators=comparators) if all(type(op) in _COMPARE for op in ops):
            return _compare(
                _expression(left), [_COMPARE[type(op)] for op in ops], [_expression(c) for c in comparators]
            )
        case ast.IfExp(test=test, body=body, orelse=orelse):
            condition, yes, no = _expression(test), _expression(body), _expression(orelse)
            return lambda env: yes(env) if condition(env) else no(env)
        case ast.Subscript(value=container, slice=index):
            return _binary(operator.getitem, _expression(container), _expression(index))
        case ast.Slice(lower=lower, upper=upper, step=step):
            return _apply(slice, [_expression(part or ast.Constant(None)) for part in (lower, upper, step)])
        case ast.List(elts=elements):
            return _display(list, elements)
        case ast.Tuple(elts=elements):
            return _display(tuple, elements)
        case ast.Dict(keys=keys, values=values) if None not in keys:
            names, items = [_expression(key) for key in keys if key], [_expression(value) for value in values]
            return lambda env: {name(env): item(env) for name, item in zip(names, items, strict=True)}
        case ast.ListComp(elt=element, generators=generators) | ast.GeneratorExp(elt=element, generators=generators):
            return _comprehension(list, _expression(element), generators)
        case ast.DictComp(key=key, value=value, generators=generators):
            return _comprehension(dict, _display(tuple, [key, value]), generators)
        case ast.Lambda(args=arguments, body=body):
            return _lambda([argument.arg for argument in arguments.args], _expression(body))
        case ast.Call(func=ast.Name(id=name), args=positional, keywords=keywords) if name in _FUNCTIONS:
            return _call(_FUNCTIONS[name], positional, keywords)
        case ast.Call(func=ast.Attribute(value=of, attr=name), args=positional, keywords=[]):
            return _method(name, [_expression(of), *map(_expression, positional)])
    raise _unknown(node)


def _binary(function: Callable[[Any, Any], Any], left: Expr, right: Expr) -> Expr:
    return lambda env: function(left(env), right(env))


def _apply(function: Callable[..., Any], arguments: Sequence[Expr]) -> Expr:
    if len(arguments) == 1:
        [only] = arguments
        return lambda env: function(only(env))
    return lambda env: function(*[argument(env) for argument in arguments])


def _display(kind: Callable[[list[Any]], Any], elements: Sequence[ast.expr]) -> Expr:
    parts = [_expression(element) for element in elements]
    return lambda env: kind([part(env) for part in parts])


def _bool(conjunction: bool, values: Sequence[Expr]) -> Expr:
    def run(env: Env) -> Any:
        value: Any = conjunction
        for part in values:
            value = part(env)
            if bool(value) is not conjunction:
                break
        return value

    return run


def _compare(first: Expr, operators: Sequence[Callable[[Any, Any], Any]], others: Sequence[Expr]) -> Expr:
    def run(env: Env) -> bool:
        left = first(env)
        for compare, other in zip(operators, others, strict=True):
            right = other(env)
            if not compare(left, right):
                return False
            left = right
        return True

    return run


def _lambda(names: list[str], body: Expr) -> Expr:
    return lambda env: lambda *values: body(env | dict(zip(names, values, strict=True)))


def _call(function: Callable[..., Any], positional: Sequence[ast.expr], keywords: Sequence[ast.keyword]) -> Expr:
    arguments = [_expression(argument) for argument in positional]
    named = [(keyword.arg, _expression(keyword.value)) for keyword in keywords if keyword.arg]
    if not named:
        return _apply(function, arguments)
    return lambda env: function(*[argument(env) for argument in arguments], **{name: of(env) for name, of in named})


def _method(name: str, parts: Sequence[Expr]) -> Expr:
    def run(env: Env) -> Any:
        of, *arguments = [part(env) for part in parts]
        if name not in _METHODS.get(type(of), frozenset()):
            raise AttributeError(f"{type(of).__name__} has no method {name}")
        return getattr(of, name)(*arguments)

    return run


def _comprehension(kind: Callable[[list[Any]], Any], element: Expr, generators: Sequence[ast.comprehension]) -> Expr:
    loops = [
        (_target(g.target), _expression(g.iter), [_expression(condition) for condition in g.ifs]) for g in generators
    ]

    def items(env: Env, depth: int) -> Iterator[Any]:
        if depth == len(loops):
            yield element(env)
            return
        target, iterable, conditions = loops[depth]
        for value in iterable(env):
            _spend(env)
            target(env, value)
            if all(condition(env) for condition in conditions):
                yield from items(env, depth + 1)

    return lambda env: kind(list(items(dict(env), 0)))  # its variables are its own; the budget is shared
