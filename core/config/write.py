"""Values written as the Python source of a configuration file, which reads back as the same values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from keyword import iskeyword
from typing import Any

WIDTH = 120
INDENT = "    "


def as_python(values: Mapping[str, Any]) -> str:
    """The source `KEY = value`, a line or more for each key, in their order.

    Values are texts, numbers, True, False and None; lists, tuples and groups of values. Raises `ValueError` for others,
    and for a key that is no name.
    """
    for key in values:
        if not _is_name(key):
            raise ValueError(f"{key!r} cannot be assigned, it is no name")
    return "".join(f"{key} = {_written(value, f'{key} = ', 0)}\n" for key, value in values.items())


def _written(value: Any, before: str, level: int) -> str:
    """A value behind `before`, on that line where it fits, else with each entry on a line of its own."""
    line = _on_one_line(value)
    inside = INDENT * (level + 1)
    if not isinstance(value, (Mapping, list, tuple)) or len(INDENT * level) + len(before) + len(line) < WIDTH:
        return line
    opening, entries, closing = _parts(value)
    lines = [f"{inside}{head}{_written(entry, head, level + 1)},\n" for head, entry in entries]
    return f"{opening}\n{''.join(lines)}{INDENT * level}{closing}"


def _on_one_line(value: Any) -> str:
    if isinstance(value, (Mapping, list, tuple)):
        opening, entries, closing = _parts(value)
        texts = [f"{head}{_on_one_line(entry)}" for head, entry in entries]
        single = "," if isinstance(value, tuple) and len(texts) == 1 else ""
        return f"{opening}{', '.join(texts)}{single}{closing}"
    if isinstance(value, float) and not math.isfinite(value):
        return "1e999 - 1e999" if math.isnan(value) else "1e999" if value > 0 else "-1e999"
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    raise ValueError(f"{type(value).__name__} {value!r} is not a value of a configuration")


def _parts(value: Mapping | list | tuple) -> tuple[str, Iterable[tuple[str, Any]], str]:
    """Brackets, and the entries each with what stands before it."""
    if not isinstance(value, Mapping):
        opening, closing = "()" if isinstance(value, tuple) else "[]"
        return opening, [("", entry) for entry in value], closing
    if all(map(_is_name, value)):
        return "dict(", [(f"{key}=", entry) for key, entry in value.items()], ")"
    return "{", [(f"{key!r}: ", entry) for key, entry in value.items()], "}"


def _is_name(key: Any) -> bool:
    return isinstance(key, str) and key.isidentifier() and not iskeyword(key)
