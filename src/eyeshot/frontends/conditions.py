"""Conditions on the sizes of a program's inputs, as ``torch.export`` writes them, read as data.

``(4*(L['x'].size()[2] // 4)) == L['x'].size()[2]`` says that the height of ``x`` must be a multiple
of 4. It is Python by its looks; here it is taken apart and worked out, and never evaluated.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from eyeshot.errors import Unsupported

_LONGEST = 20_000
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}
_COMPARED: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_CALLED: dict[str, Callable[..., Any]] = {"max": max, "min": min}
_NOT_ONE = {(ast.NotEq, 1), (ast.Gt, 1), (ast.GtE, 2)}
"""A comparison and its right side: torch takes it that no size is 1, where 1 does no harm."""

Sizes = Mapping[str, tuple[int, ...]]


def holds(condition: str, sizes: Sizes) -> bool:
    """Whether inputs of these sizes meet a condition.

    That a size is not 1 is left out: torch's export always says so, since a map with a side of 1
    could be stretched, and such a map is computed by the same operators.

    Args:
        condition: of a program.
        sizes: whole shapes, by the names of the inputs.

    Raises:
        Unsupported: it is no condition on sizes.
    """
    parsed = _parsed(condition)
    try:
        # How torch lays out memory depends on sides of 1, too; it writes those max(1, side).
        return bool(_value(parsed, sizes)) or bool(_value(parsed, sizes, least=2))
    except (ArithmeticError, LookupError):
        return False  # a size that is divided by becomes 0, or an axis is not there


def check_condition(condition: str) -> None:
    """Refuse what could not be worked out.

    Raises:
        Unsupported: it is no condition on sizes.
    """
    for part in ast.walk(_parsed(condition)):
        if not isinstance(part, _KNOWN):
            raise _unknown(condition)
    holds(condition, {})


@lru_cache(1024)
def _parsed(condition: str) -> ast.expr:
    try:
        if len(condition) > _LONGEST:
            raise ValueError
        return ast.parse(condition, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _unknown(condition) from None


def _unknown(condition: str) -> Unsupported:
    shown = condition if len(condition) < 80 else f"{condition[:77]}…"
    return Unsupported(f"a condition on sizes, {shown!r}, is not known", cure="export it again")


def _value(part: ast.AST, sizes: Sizes, least: int = 1) -> Any:
    """The value of a part; ``least`` stands for the 1 of ``max(1, side)``."""
    if isinstance(part, ast.Constant) and isinstance(part.value, (int, float)):
        return part.value
    if isinstance(part, ast.BoolOp):
        found = (_value(one, sizes, least) for one in part.values)
        return all(found) if isinstance(part.op, ast.And) else any(found)
    if isinstance(part, ast.UnaryOp) and isinstance(part.op, (ast.USub, ast.Not)):
        value = _value(part.operand, sizes, least)
        return -value if isinstance(part.op, ast.USub) else not value
    if isinstance(part, ast.BinOp) and type(part.op) in _BINARY:
        return _BINARY[type(part.op)](
            _value(part.left, sizes, least), _value(part.right, sizes, least)
        )
    if isinstance(part, ast.Compare) and len(part.ops) == 1:
        kind, right = type(part.ops[0]), part.comparators[0]
        if isinstance(right, ast.Constant) and (kind, right.value) in _NOT_ONE:
            return True
        if kind in _COMPARED:
            return _COMPARED[kind](_value(part.left, sizes, least), _value(right, sizes, least))
    if isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id in _CALLED:
        given = [_value(one, sizes, least) for one in part.args]
        first = part.args[0] if part.args else None
        if part.func.id == "max" and isinstance(first, ast.Constant) and first.value == 1:
            given[0] = least
        return _CALLED[part.func.id](*given)
    if isinstance(part, ast.Subscript):
        name, axis = _axis(part)
        return sizes[name][axis]
    raise _unknown(ast.unparse(part) if isinstance(part, ast.expr) else type(part).__name__)


def _axis(part: ast.Subscript) -> tuple[str, int]:
    """``L['x'].size()[2]`` as ("x", 2)."""
    match part:
        case ast.Subscript(
            value=ast.Call(
                func=ast.Attribute(
                    value=ast.Subscript(
                        value=ast.Name(id="L"), slice=ast.Constant(value=str(name))
                    ),
                    attr="size",
                ),
                args=[],
            ),
            slice=ast.Constant(value=int(axis)),
        ):
            return name, axis
    raise _unknown(ast.unparse(part))


_KNOWN = (
    *(ast.Constant, ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.Compare, ast.Call, ast.Subscript),
    *(ast.Name, ast.Attribute, ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)
