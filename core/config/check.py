"""What is said about the keys of a configuration: unknown ones, values of another type, keys that are history."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from sopose.core.utils.errors import UserError

DELETE_KEY = "_delete_"
# Which arguments an optimizer has is its own business: it refuses those it doesn't know.
OPEN_SECTIONS = ("OPTIMIZER_CFG",)
TYPE_NAMES = {bool: "True or False", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True)
class KeyRules:
    """Keys of older files that are more than a value of the schema.

    `without_effect` are keys of the schema that do nothing. `retired` (names, with all below them) and `retired_words`
    (parts of a name, in any case and place) are keys that the schema doesn't have; they are dropped. `refused` says of
    a key why a file that has it cannot be used.
    """

    without_effect: Collection[str] = ()
    retired: Collection[str] = ()
    retired_words: Collection[str] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


def leaf_keys(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key that holds a value, with its value: `("A.B.C", 3)`, …; an empty group holds none."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from leaf_keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def check_keys(
    given: Mapping[str, Any], schema: Mapping[str, Any], where: str, refused: Mapping[str, str] | None = None
) -> None:
    """Compare keys and types of `given` with `schema`, level by level; `UserError` at the first difference."""
    known = [name for name, _ in leaf_keys(schema)]
    _check_level(given, schema, where, "", known, refused or {})


def check_finite(given: Mapping[str, Any], where: str) -> None:
    """`UserError` for the first number that is nan or infinity: no setting means anything by one."""
    for name, value in leaf_keys(given):
        if not _is_finite(value):
            raise UserError(f"{where}: {name} must be finite, got {value!r}")


def _is_finite(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _check_level(
    given: Mapping[str, Any],
    schema: Mapping[str, Any],
    where: str,
    prefix: str,
    known: list[str],
    refused: Mapping[str, str],
) -> None:
    for key, value in given.items():
        name = f"{prefix}{key}"
        if key == DELETE_KEY:
            continue
        if name in refused:
            raise UserError(f"{where}: {name} {refused[name]}")
        if key not in schema:
            if _is_open(prefix):
                continue
            name = _deepest(name, value)
            match = nearest_key(name, known)
            hint = f"; did you mean '{match}'?" if match else ""
            raise UserError(f"{where}: unknown configuration key '{name}'{hint}")
        default = schema[key]
        if isinstance(default, Mapping) and isinstance(value, Mapping):
            _check_level(value, default, where, f"{name}.", known, refused)
        elif not _same_type(value, default):
            example = "" if isinstance(default, Mapping) else f" like its default {default!r}"
            raise UserError(
                f"{where}: {name} must be {_type_name(default)}{example}, got {type(value).__name__} {value!r}"
            )


def nearest_key(name: str, known: Collection[str]) -> str:
    """The known key that was meant by `name`, or the empty string.

    In this order: one much alike in the same group, the same name in another group, one alike in the same group, one
    alike anywhere. Groups of `known` are known, too.
    """
    names = sorted({part for key in known for part in _with_groups(key)})
    group, _, word = name.rpartition(".")
    siblings = {key: _alike(word, key.rpartition(".")[2]) for key in names if key.rpartition(".")[0] == group}
    namesakes = [key for key in names if key.rpartition(".")[2].casefold() == word.casefold()]
    for candidates in (
        {key: share for key, share in siblings.items() if share > 0.8},
        {key: _alike(name, key) for key in namesakes},
        {key: share for key, share in siblings.items() if share > 0.6},
        {key: share for key in names if (share := _alike(name, key)) > 0.6},
    ):
        if candidates:
            return max(candidates, key=lambda key: (candidates[key], key))
    return ""


def drop_retired(
    given: Mapping[str, Any], schema: Mapping[str, Any], rules: KeyRules, prefix: str = ""
) -> tuple[dict[str, Any], list[str]]:
    """`given` without keys that `rules` call retired and the schema doesn't have, and their names."""
    kept: dict[str, Any] = {}
    dropped: list[str] = []
    for key, value in given.items():
        name, default = f"{prefix}{key}", schema.get(key)
        if key not in schema and is_retired(name, rules):
            dropped.append(name)
        elif isinstance(value, Mapping) and (isinstance(default, Mapping) or default is None):
            kept[key], below = drop_retired(value, default or {}, rules, f"{name}.")
            if below and not kept[key] and default is None:
                del kept[key]  # a group that had nothing else
            dropped += below
        else:
            kept[key] = value
    return kept, dropped


def is_retired(name: str, rules: KeyRules) -> bool:
    """Whether a key is one of those that older files carry and nothing reads."""
    word = name.rpartition(".")[2].upper().replace("-", "_")
    return name in rules.retired or any(part in word for part in rules.retired_words)


def _is_open(prefix: str) -> bool:
    return any(f"{section}." in prefix for section in OPEN_SECTIONS)


def _deepest(name: str, value: Any) -> str:
    """The key that was written as A.B.C, where its group is unknown already."""
    while isinstance(value, Mapping) and len(value) == 1:
        ((key, value),) = value.items()
        name = f"{name}.{key}"
    return name


def _with_groups(key: str) -> Iterator[str]:
    """`A`, `A.B` and `A.B.C` of `A.B.C`."""
    parts = key.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _alike(a: str, b: str) -> float:
    return SequenceMatcher(None, a.casefold(), b.casefold()).ratio()


def _same_type(value: Any, default: Any) -> bool:
    if value is None:
        return default is None or isinstance(default, (str, list, tuple))  # nothing chosen: empty
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, (int, float))
    if isinstance(default, (list, tuple)):
        return isinstance(value, (list, tuple)) and all(_same_kind(item, default) for item in value)
    return default is None or isinstance(value, type(default))


def _same_kind(item: Any, defaults: list | tuple) -> bool:
    """Whether an entry is, as the default's first, a number, a text, …; of an empty default nothing is known."""
    number = (int, float)
    if not defaults:
        return True
    kind = number if isinstance(defaults[0], number) else type(defaults[0])
    return isinstance(item, kind) and not isinstance(item, bool)


def _type_name(default: Any) -> str:
    if isinstance(default, (list, tuple)):
        return "a list"
    return TYPE_NAMES.get(type(default), "a group of keys")
