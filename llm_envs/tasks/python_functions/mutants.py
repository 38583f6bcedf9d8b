"""Wrong versions of a program, each different from it in one place: what hidden tests have to catch."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T", bound=ast.AST)

_SWAPS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Add: (ast.Sub, ast.Mult),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add, ast.FloorDiv),
    ast.FloorDiv: (ast.Mult, ast.Mod),
    ast.Mod: (ast.FloorDiv,),
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
_OTHER_NAMES = {"max": "min", "min": "max", "any": "all", "all": "any", "sum": "len", "set": "list"}
_OTHER_METHODS = {"upper": "lower", "lower": "upper", "swapcase": "upper", "title": "upper", "islower": "isupper"}


def mutants(tree: ast.FunctionDef) -> Iterator[ast.FunctionDef]:
    """Every program that differs from this one in one constant, operator, name, branch or statement.

    The tree itself is not changed. Some mutants may do the same as the program.
    """
    for change in changes(tree):
        yield changed(tree, change)


def changes(tree: ast.FunctionDef) -> list[tuple[int, int]]:
    """The changes that `changed` can make."""
    return [(place, change) for place, node in enumerate(ast.walk(tree)) for change in range(_number_of_changes(node))]


def changed(tree: ast.FunctionDef, change: tuple[int, int]) -> ast.FunctionDef:
    """A copy of the program with one of its `changes`."""
    mutant = _copy(tree)
    place, which = change
    _change(next(node for at, node in enumerate(ast.walk(mutant)) if at == place), which)
    return mutant


def _copy(tree: T) -> T:
    """A copy of a syntax tree, several times faster than `copy.deepcopy`."""
    twin = type(tree).__new__(type(tree))
    for name, value in vars(tree).items():
        if isinstance(value, ast.AST):
            value = _copy(value)
        elif isinstance(value, list):
            value = [_copy(item) if isinstance(item, ast.AST) else item for item in value]
        setattr(twin, name, value)
    return twin


def _number_of_changes(node: ast.AST) -> int:
    match node:
        case ast.Constant(value=bool()):
            return 1
        case ast.Constant(value=int()):
            return 2
        case ast.BinOp(op=op) | ast.BoolOp(op=op):
            return len(_SWAPS.get(type(op), ()))
        case ast.Compare(ops=[op]):
            return len(_SWAPS.get(type(op), ()))
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant()):
            return 0  # its constant is changed already
        case ast.UnaryOp() | ast.IfExp() | ast.If():
            return 1
        case ast.Call(func=ast.Name(id=name)):
            return int(name in _OTHER_NAMES)
        case ast.Call(func=ast.Attribute(attr=name)):
            return int(name in _OTHER_METHODS)
        case ast.comprehension(ifs=[_, *_]):
            return 1
        case ast.FunctionDef(body=body):
            return len(body) - 1  # leave out one statement, but not the return
    return 0


def _change(node: ast.AST, change: int) -> None:
    match node:
        case ast.Constant(value=bool() as value):
            node.value = not value
        case ast.Constant(value=int() as value):
            node.value = value + (1, -1)[change]
        case ast.BinOp(op=op):
            node.op = _SWAPS[type(op)][change]()  # type: ignore[assignment]
        case ast.BoolOp(op=op):
            node.op = _SWAPS[type(op)][change]()  # type: ignore[assignment]
        case ast.Compare(ops=[op]):
            node.ops = [_SWAPS[type(op)][change]()]  # type: ignore[list-item]
        case ast.UnaryOp(op=op):
            node.op = ast.Not() if isinstance(op, ast.USub) else ast.UAdd()
        case ast.IfExp(body=body, orelse=orelse):
            node.body, node.orelse = orelse, body
        case ast.If(test=test):
            node.test = ast.UnaryOp(ast.Not(), test)
        case ast.Call(func=ast.Name(id=name) as function):
            function.id = _OTHER_NAMES[name]
        case ast.Call(func=ast.Attribute(attr=name) as function):
            function.attr = _OTHER_METHODS[name]
        case ast.comprehension(ifs=[_, *rest]):
            node.ifs = rest
        case ast.FunctionDef(body=body):
            del body[change]
