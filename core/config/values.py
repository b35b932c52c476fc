"""Python source read as values; nothing of it is executed.

Values are texts, numbers, True, False and None; lists, tuples, `{...}` and `dict(...)` of values; names assigned
before, and their entries (`A["B"]`, `_base_.A.B`, `{{_base_.A.B}}`); `+ - * / // **` of numbers; `+` of two texts or
lists, and `*` of one with a whole number.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Iterable, Mapping
from typing import Any

BASE_KEY = "_base_"
MAX_NESTING = 100  # brackets and operators within each other
MAX_MADE = 1_000_000  # entries and characters that the operators of a file make together
MAX_BITS = 1000  # of a whole number: as many as floats have
MOST_CHARACTERS = 80  # characters of an expression in a message

OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}


class NotAValueError(ValueError):
    """What a source has in the place of a value."""


def read_assignments(source: str, names: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The values that a source assigns, by name; `names` are known before.

    Docstrings are left aside, and so is the assignment of `_base_`. Raises `NotAValueError`, which names line and
    expression, and what `ast.parse` raises: `SyntaxError`, `ValueError`, `RecursionError`, `MemoryError`.
    """
    reader = _Reader(source, names or {})
    assigned: dict[str, Any] = {}
    for node in ast.parse(source).body:
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                continue
            case ast.Assign(targets=targets, value=expression):
                pass
            case ast.AnnAssign(target=target, value=ast.expr() as expression):
                targets = [target]
            case _:
                raise reader.refusal(node, "is no assignment KEY = VALUE")
        places = [target.id for target in targets if isinstance(target, ast.Name)]
        if len(places) < len(targets):
            raise reader.refusal(node, "is no assignment KEY = VALUE")
        if BASE_KEY not in places:
            value = reader.value(expression)
            for place in places:
                reader.names[place] = assigned[place] = value
    return assigned


def read_assignment(source: str, name: str) -> Any:
    """The value of the first assignment of `name`, by itself; None without one. Raises as `read_assignments`."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            return _Reader(source, {}).value(node.value)
    return None


class _Reader:
    """Reads expressions; what operators make is limited over its whole life."""

    def __init__(self, source: str, names: Mapping[str, Any]) -> None:
        self.names = dict(names)
        self._source = source
        self._nesting = 0
        self._made = 0

    def value(self, node: ast.expr) -> Any:
        if self._nesting >= MAX_NESTING:
            raise self.refusal(node, f"is nested deeper than {MAX_NESTING} levels")
        self._nesting += 1
        try:
            return self._value(node)
        finally:
            self._nesting -= 1

    def refusal(self, node: ast.AST, reason: str = "is not a value") -> NotAValueError:
        text = " ".join((ast.get_source_segment(self._source, node) or ast.unparse(node)).split())
        shown = text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"
        return NotAValueError(f"line {getattr(node, 'lineno', '?')}: '{shown}' {reason}")

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=None | bool() | str() as value):
                return value
            case ast.Constant(value=int() | float() as value):
                return self._number(node, value)
            case ast.Name(id=name) if name in self.names:
                return self.names[name]
            case ast.List(elts=entries):
                return self._entries(entries)
            case ast.Tuple(elts=entries):
                return tuple(self._entries(entries))
            case ast.Dict(keys=keys, values=values):
                return self._group(node, zip(keys, values, strict=True))
            case ast.Call(func=ast.Name(id="dict"), args=[], keywords=words):
                given = [word.arg for word in words if word.arg is not None]
                if len(set(given)) < len(given):
                    raise self.refusal(node, "has a key twice")
                return self._group(node, ((word.arg and ast.Constant(word.arg), word.value) for word in words))
            case ast.Set(elts=[ast.Set(elts=[ast.Attribute() as inner])]):  # {{_base_.A.B}}
                return self.value(inner)
            case ast.Attribute(value=owner, attr=key):
                return self._entry(node, owner, key)
            case ast.Subscript(value=owner, slice=key):
                return self._entry(node, owner, self.value(key))
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
                value = self.value(operand)
                if _is_number(value):
                    return -value if isinstance(sign, ast.USub) else value
            case ast.BinOp(left=left, op=sign, right=right):
                return self._operation(node, type(sign), self.value(left), self.value(right))
        raise self.refusal(node)

    def _entries(self, nodes: Iterable[ast.expr]) -> list[Any]:
        entries: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                more = self.value(node.value)
                if not isinstance(more, (list, tuple)):
                    raise self.refusal(node)
                self._make(len(more), node)
                entries += more
            else:
                entries.append(self.value(node))
        return entries

    def _group(self, node: ast.expr, items: Iterable[tuple[ast.expr | None, ast.expr]]) -> dict[Any, Any]:
        """Keys with values; without a key stands a group whose entries are taken in."""
        group: dict[Any, Any] = {}
        for key_node, value_node in items:
            value = self.value(value_node)
            if key_node is None:
                if not isinstance(value, Mapping):
                    raise self.refusal(value_node, "is no group of keys")
                self._make(len(value), node)
                group |= value
                continue
            key = self.value(key_node)
            if not isinstance(key, (str, int, float)):
                raise self.refusal(key_node, "is no key")
            group[key] = value
        return group

    def _entry(self, node: ast.expr, owner_node: ast.expr, key: Any) -> Any:
        owner = self.value(owner_node)
        try:
            if isinstance(owner, Mapping) or (isinstance(owner, (list, tuple)) and type(key) is int):
                return owner[key]
        except (LookupError, TypeError):
            pass
        raise self.refusal(node, "is not there")

    def _operation(self, node: ast.expr, sign: type[ast.operator], left: Any, right: Any) -> Any:
        if sign in OPERATORS and _is_number(left) and _is_number(right):
            return self._calculated(node, sign, left, right)
        if sign is ast.Add and type(left) is type(right) and isinstance(left, (str, list, tuple)):
            self._make(len(left) + len(right), node)
            return left + right
        if sign is ast.Mult and isinstance(left, (str, list, tuple)) and type(right) is int:
            self._make(len(left) * right, node)
            return left * right
        raise self.refusal(node)

    def _calculated(self, node: ast.expr, sign: type[ast.operator], left: float, right: float) -> float:
        whole = isinstance(left, int) and isinstance(right, int)
        if sign is ast.Pow and whole and left.bit_length() * abs(right) > MAX_BITS:
            raise self.refusal(node, "is too large a number")
        try:
            return self._number(node, OPERATORS[sign](left, right))
        except ArithmeticError as error:
            raise self.refusal(node, f"is not a value ({error})") from error

    def _number(self, node: ast.expr, value: Any) -> float:
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise self.refusal(node, "is too large a number")
        if not isinstance(value, (int, float)):  # a root of a negative number
            raise self.refusal(node)
        return value

    def _make(self, count: int, node: ast.AST) -> None:
        self._made += max(count, 0)
        if self._made > MAX_MADE:
            raise self.refusal(node, f"makes more than {MAX_MADE} entries")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
