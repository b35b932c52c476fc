"""Configurations: read, checked against the keys that exist, laid over the defaults, overridden from the command line.

The schema is itself a configuration: its keys are those that exist, its values their defaults and types. A file that
names no base, or another project's, is laid over the schema all the same.

`_delete_=True` in a group forgets what the layers below said of it. Keys that it doesn't give take the schema's
defaults again; an optimizer's arguments, which are those of its type, are gone.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from sopose.core.config.check import DELETE_KEY, OPEN_SECTIONS, KeyRules, check_finite, check_keys, drop_retired
from sopose.core.config.overrides import parse_overrides
from sopose.core.config.read import read_config

logger = logging.getLogger(__name__)

NO_RULES = KeyRules()
# What stays of an open section whose `type` changes: the learning rate, which every optimizer has.
KEPT = ("lr",)


def load_config(
    path: Path, schema_path: Path, overrides: Sequence[str] = (), rules: KeyRules = NO_RULES
) -> dict[str, Any]:
    """The configuration of `path` over the defaults of `schema_path`, then `overrides` ("KEY.SUB=VALUE").

    Keys that `rules` call retired, and those without effect that are set to something else than their default, are
    named in one warning. A base that is missing is looked for beside the schema. Raises `UserError` for a file that
    is missing or cannot be read, an unknown key, or a value of another type.
    """
    given = read_config(path, Path(schema_path).parent)
    return config_of(given, str(path), schema_path, overrides, rules)


def config_of(
    values: Mapping[str, Any],
    where: str,
    schema_path: Path,
    overrides: Sequence[str] = (),
    rules: KeyRules = NO_RULES,
) -> dict[str, Any]:
    """The same from values instead of a file; `where` they are from, for messages."""
    schema = read_config(schema_path)
    config, dropped = schema, []
    for place, given in ((where, _with_whole_sections(values)), ("--opts", parse_overrides(overrides, schema))):
        kept, names = drop_retired(given, schema, rules)
        check_keys(kept, schema, place, rules.refused)
        check_finite(kept, place)
        config = lay_over(config, kept, schema)
        dropped += names
    _warn(config, schema, dropped, rules.without_effect)
    return config


def lay_over(below: Mapping[str, Any], above: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`, group by group; a group with `_delete_` over `defaults` instead.

    None, where the default is a text or a list, is an empty one.
    """
    result = dict(below)
    for key, value in above.items():
        default = defaults.get(key)
        if key == DELETE_KEY:
            continue
        if isinstance(value, Mapping):
            default = default if isinstance(default, Mapping) else {}
            result[key] = lay_over(_ground(key, value, below.get(key, {}), default), value, default)
        elif value is None and isinstance(default, (str, list, tuple)):
            result[key] = type(default)()
        else:
            result[key] = value
    return result


def look_up(config: Mapping[str, Any], name: str) -> Any:
    """The value of the key `name` ("A.B.C"), a list as a tuple."""
    value: Any = config
    for key in name.split("."):
        value = value[key]
    return tuple(value) if isinstance(value, list) else value


def _ground(
    key: str, above: Mapping[str, Any], below: Mapping[str, Any], default: Mapping[str, Any]
) -> Mapping[str, Any]:
    """What the group `above` is laid over. Another optimizer starts anew: momentum is not Adam's."""
    deleted = above.get(DELETE_KEY, False)
    if key not in OPEN_SECTIONS:
        return default if deleted else below
    if deleted or above.get("type", below.get("type")) != below.get("type"):
        return {name: below[name] for name in KEPT if name in below}
    return below


def _with_whole_sections(given: Mapping[str, Any]) -> dict[str, Any]:
    """`given`, its open sections marked to replace the default where they name a type.

    A file's own bases have been laid under it by then; the schema's optimizer has no more to say.
    """
    marked: dict[str, Any] = {}
    for key, value in given.items():
        if isinstance(value, Mapping):
            whole = {DELETE_KEY: True} if key in OPEN_SECTIONS and "type" in value else {}
            marked[key] = {**_with_whole_sections(value), **whole}
        else:
            marked[key] = value
    return marked


def _warn(
    config: Mapping[str, Any], schema: Mapping[str, Any], dropped: Sequence[str], without_effect: Collection[str]
) -> None:
    changed = [name for name in without_effect if look_up(config, name) != look_up(schema, name)]
    names = list(dict.fromkeys([*changed, *dropped]))
    if names:
        logger.warning("these configuration keys have no effect any more: %s", ", ".join(names))
