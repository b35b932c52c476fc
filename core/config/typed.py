"""Between the values of a configuration and frozen dataclasses: one for each group, one field for each key.

A field is named as its key in lower case, and its annotation says what the key's value is: `bool`, `int`, `float`,
`str`, a dataclass for a group, `tuple[float, float]`, `tuple[str, ...]`, or `Mapping[str, Any]` for a group of any
keys. `Annotated[float, AtLeast(0.1)]` says more. Keys without a field are of no consequence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from sopose.core.config.check import TYPE_NAMES
from sopose.core.utils.errors import UserError

Group = TypeVar("Group")
PLURALS = {str: "names", int: "whole numbers", float: "numbers"}


@dataclass(frozen=True)
class AtLeast:
    """The least value of a number, or of each of several."""

    least: float


@dataclass(frozen=True)
class AtMost:
    """The largest value of a number, or of each of several."""

    most: float


@dataclass(frozen=True)
class AtMostEntries:
    """How many entries a list may have."""

    most: int


NotNegative = Annotated[int, AtLeast(0)]
Positive = Annotated[int, AtLeast(1)]


def typed(group: type[Group], values: Mapping[str, Any], prefix: str = "") -> Group:
    """`values` as the dataclass `group`; lists become tuples. `UserError` names the key of a value that doesn't fit.

    `prefix` is that of the keys in messages ("SOLVER."). Every field needs its key: `values` are complete.
    """
    kinds = get_type_hints(group, include_extras=True)
    keys = {key.lower(): key for key in values}
    given = {field.name: keys[field.name] for field in fields(group)}
    return group(**{name: _fitted(kinds[name], values[key], f"{prefix}{key}") for name, key in given.items()})


def plain(group: Any, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `typed`: keys and their order are those of `schema`, and so are values that have no field."""
    values: dict[str, Any] = {}
    known = {field.name for field in fields(group)}
    for key, default in schema.items():
        value = getattr(group, key.lower()) if key.lower() in known else default
        values[key] = plain(value, default) if is_dataclass(value) else value
    return values


def field_keys(group: type, schema: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The dotted keys of all fields, "SOLVER.AMP.ENABLED"; a field without a key in `schema` is written as it is."""
    keys = {key.lower(): key for key in schema}
    found: list[str] = []
    for name, kind in get_type_hints(group).items():
        key = keys.get(name, name)
        below = schema.get(key, {})
        found += field_keys(kind, below, f"{prefix}{key}.") if is_dataclass(kind) else [f"{prefix}{key}"]
    return found


def _fitted(kind: Any, value: Any, name: str) -> Any:
    """A value as its annotation has it."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        value = _fitted(args[0], value, name)
        for bound in args[1:]:
            _check_bound(bound, value, name)
        return value
    if origin is tuple:
        return _entries(args, value, name)
    if is_dataclass(kind) and isinstance(value, Mapping):
        return typed(kind, value, f"{name}.")
    if origin is Mapping and isinstance(value, Mapping):
        return dict(value)
    if not _is_a(kind, value):
        raise UserError(f"{name} must be {TYPE_NAMES.get(kind, 'a group of keys')}, got {value!r}")
    return float(value) if kind is float else value


def _check_bound(bound: AtLeast | AtMost | AtMostEntries, value: Any, name: str) -> None:
    numbers = value if isinstance(value, tuple) else (value,)
    if isinstance(bound, AtLeast) and not all(number >= bound.least for number in numbers):
        raise UserError(f"{name} must be at least {bound.least}, got {value}")
    if isinstance(bound, AtMost) and not all(number <= bound.most for number in numbers):
        raise UserError(f"{name} must be at most {bound.most}, got {value}")
    if isinstance(bound, AtMostEntries) and len(numbers) > bound.most:
        raise UserError(f"{name} may have {bound.most} entries at most, got {len(numbers)}")


def _entries(kinds: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    count = None if kinds[-1] is Ellipsis else len(kinds)
    if not isinstance(value, (list, tuple)) or not all(_is_a(kinds[0], entry) for entry in value):
        raise UserError(f"{name} must be a list of {PLURALS[kinds[0]]}, got {value!r}")
    if count is not None and len(value) != count:
        raise UserError(f"{name} must have {count} entries, got {value!r}")
    return tuple(_fitted(kinds[0], entry, name) for entry in value)


def _is_a(kind: type, value: Any) -> bool:
    if kind is float and type(value) is int:
        return value.bit_length() < 1000  # more than that, no float holds
    return type(value) is kind
