"""Colour augmentation written as a text of imgaug-like calls, and the cut that truncates an object.

`COLOR_AUG_CODE` of GDR-Net's configurations is such a text. It is read with Python's `ast`, never
evaluated: only the operations registered here exist, and arguments are numbers, ranges, lists of choices,
and arithmetic with random draws.
"""

from __future__ import annotations

import ast
import inspect
import operator
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sopose.core.data.color_ops import AUGMENTERS, Augmenter, Draw
from sopose.core.utils.errors import UserError, nearest

_ARITHMETIC: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


# Draws are objects rather than closures, so that a data set can be sent to worker processes.
@dataclass(frozen=True)
class RandomUniform:
    """A fresh number of U(low, high) at each application."""

    low: float = 0.0
    high: float = 1.0

    def __call__(self, rng: np.random.Generator) -> float:
        return rng.uniform(self.low, self.high)


@dataclass(frozen=True)
class Arithmetic:
    """`left op right` with at least one side drawn at each application."""

    operation: Callable[[float, float], float]
    left: float | Draw
    right: float | Draw

    def __call__(self, rng: np.random.Generator) -> float:
        left = self.left(rng) if callable(self.left) else self.left
        right = self.right(rng) if callable(self.right) else self.right
        return self.operation(left, right)


# Calls that stand for a fresh random number at each application, under the names configurations use.
_RANDOM_CALLS: dict[str, Callable[..., Draw]] = {
    "np.random.rand": RandomUniform,
    "np.random.random": RandomUniform,
    "numpy.random.rand": RandomUniform,
    "random.random": RandomUniform,
    "np.random.uniform": RandomUniform,
    "random.uniform": RandomUniform,
}


def parse_augmentation(text: str) -> Augmenter:
    """The augmenter that `text` describes: a callable `(image (H, W, 3) uint8, rng) -> uint8`.

    Raises `UserError` naming the unknown operation, argument or construct, and the nearest known one.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError) as error:
        raise UserError(f"COLOR_AUG_CODE is not a call such as Sequential([...]): {error}") from error
    augmenter = _value(tree.body)
    if not isinstance(augmenter, Augmenter):
        raise UserError("COLOR_AUG_CODE must be one operation, such as Sequential([...])")
    return augmenter


def _dotted(node: ast.expr) -> str:
    """The dotted name a call is made by, such as 'np.random.rand'."""
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    if isinstance(node, ast.Name):
        return node.id
    raise UserError(f"COLOR_AUG_CODE: '{ast.unparse(node)}' cannot be called; use an operation's name")


def _value(node: ast.expr) -> object:
    """The Python value of a node: a number, a range (tuple), a list, a `Draw` or an `Augmenter`."""
    match node:
        case ast.Constant(value=bool() | int() | float() as value):
            return value
        case ast.Tuple(elts=[low, high]):
            return _number(low), _number(high)
        case ast.List(elts=elements):
            return [_value(element) for element in elements]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _combined(operator.sub, 0, _value(operand), node)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return _combined(_ARITHMETIC[type(op)], _value(left), _value(right), node)
        case ast.Call():
            return _call(node)
    raise UserError(f"COLOR_AUG_CODE cannot hold '{ast.unparse(node)}'; use numbers, ranges and known operations")


def _number(node: ast.expr) -> float:
    value = _value(node)
    if isinstance(value, (int, float)):
        return value
    raise UserError(f"COLOR_AUG_CODE: the ends of a range are plain numbers, not '{ast.unparse(node)}'")


def _is_draw(value: object) -> bool:
    return callable(value) and not isinstance(value, Augmenter)


def _combined(operation: Callable[[float, float], float], left: object, right: object, node: ast.expr) -> object:
    """`left op right`; a value drawn per application as soon as one side is."""
    for side in (left, right):
        if not isinstance(side, (int, float)) and not _is_draw(side):
            raise UserError(f"COLOR_AUG_CODE: '{ast.unparse(node)}' is not arithmetic of numbers")
    if _is_draw(left) or _is_draw(right):
        return Arithmetic(operation, left, right)
    try:
        return operation(left, right)
    except ZeroDivisionError as error:
        raise UserError(f"COLOR_AUG_CODE: '{ast.unparse(node)}' divides by zero") from error


def _call(node: ast.Call) -> object:
    """A random number or a registered operation with its arguments."""
    dotted = _dotted(node.func)
    if any(isinstance(arg, ast.Starred) for arg in node.args) or any(k.arg is None for k in node.keywords):
        raise UserError(f"COLOR_AUG_CODE: {dotted}(...) takes no starred arguments")
    args = [_value(arg) for arg in node.args]
    kwargs = {str(keyword.arg): _value(keyword.value) for keyword in node.keywords}
    # imgaug's operations are also written iaa.Name and pillike.Name.
    factory = _RANDOM_CALLS[dotted] if dotted in _RANDOM_CALLS else AUGMENTERS[dotted.rsplit(".", 1)[-1]]
    try:
        bound = inspect.signature(factory).bind(*args, **kwargs)
    except TypeError as error:
        known = list(inspect.signature(factory).parameters)
        unknown = next((name for name in kwargs if name not in known), "")
        hint = nearest(unknown, known) if unknown else ""
        raise UserError(f"COLOR_AUG_CODE: {dotted}: {error}{hint} (arguments: {', '.join(known)})") from error
    return factory(**bound.arguments)


@dataclass(frozen=True)
class Cut:
    """A half-plane that is kept: pixels whose coordinate `axis` (0 u, 1 v) is on one side of `bound`."""

    axis: int
    bound: float
    keep_above: bool

    def keeps(self, positions: np.ndarray) -> np.ndarray:
        """(...) bool for positions (..., 2) in pixels."""
        coordinate = positions[..., self.axis]
        return coordinate >= self.bound if self.keep_above else coordinate <= self.bound


def draw_cut(mask: np.ndarray, positions: np.ndarray, rng: np.random.Generator) -> Cut | None:
    """A cut that takes away one of a mask's four sides, anywhere up to its middle; None without a mask.

    mask: (h, w) bool; positions: (h, w, 2) source pixels of its samples.
    """
    if not mask.any():
        return None
    axis, keep_above = int(rng.integers(2)), bool(rng.integers(2))
    coordinate = positions[..., axis][mask]
    low, high = float(coordinate.min()), float(coordinate.max())
    middle = (low + high) / 2
    bound = rng.uniform(low, middle) if keep_above else rng.uniform(middle, high)
    return Cut(axis, bound, keep_above)
