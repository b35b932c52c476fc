"""Configuration files: read, checked against the keys that exist, overridden from the command line.

A configuration is Python or YAML with `_base_` (mmengine.config). The schema is itself a configuration: its keys are
those that exist, its values their defaults and types. A file that names no base, or another project's, is laid over
the schema all the same.
"""

from __future__ import annotations

import ast
import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config

from core.utils.errors import UserError, nearest
from core.utils.files import require_file, write_text

logger = logging.getLogger(__name__)

# Which arguments an optimizer has is its own business: it refuses those it doesn't know.
OPEN_SECTIONS = ("OPTIMIZER_CFG",)


def load_config(
    path: Path, schema_path: Path, overrides: Sequence[str] = (), without_effect: Collection[str] = ()
) -> Config:
    """The configuration of `path` over the defaults of `schema_path`, then `overrides` ("KEY.SUB=VALUE").

    Keys in `without_effect` that are set to something else than their default are named in one warning. Raises
    `UserError` for a file that is missing or cannot be read, an unknown key, or a value of another type.
    """
    schema = read_config(schema_path)
    given = read_config(path)
    check_keys(given, schema, where=str(path))
    config = Config(schema.to_dict())
    config.merge_from_dict(_replacing_optimizer(given.to_dict(), schema))
    changes = dict(parse_override(text) for text in overrides)
    if changes:
        nested = Config()
        nested.merge_from_dict(changes)
        check_keys(nested, schema, where="--opts")
        config.merge_from_dict(_replacing_optimizer(nested.to_dict(), config))
    _warn_without_effect(config, schema, without_effect)
    return config


def read_config(path: Path) -> Config:
    """One configuration file with its bases, unchecked. Raises `UserError` where it cannot be read."""
    path = require_file(path, "give --config-file the path of a .py or .yaml configuration")
    try:
        return Config.fromfile(str(path), lazy_import=False)
    except Exception as error:  # a configuration may be any Python file, so any error may come out of it
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} cannot be read as a configuration: {type(error).__name__}: {reason}; correct it, a .py file has "
            "lines KEY = VALUE, a .yaml file KEY: VALUE"
        ) from error


def check_keys(given: dict, schema: dict, where: str, prefix: str = "") -> None:
    """Compare keys and types of `given` with `schema`, level by level; `UserError` at the first difference."""
    for key, value in given.items():
        name = f"{prefix}{key}"
        if key == "_delete_":
            continue
        if key not in schema:
            if _is_open(prefix):
                continue
            known = [f"{prefix}{other}" for other in schema]
            raise UserError(f"{where}: unknown configuration key '{name}'{nearest(name, known)}")
        default = schema[key]
        if isinstance(default, dict) and isinstance(value, dict):
            check_keys(value, default, where, f"{name}.")
        elif not _same_type(value, default):
            example = "" if isinstance(default, dict) else f" like its default {default!r}"
            raise UserError(
                f"{where}: {name} must be {_type_name(default)}{example}, got {type(value).__name__} {value!r}"
            )


def parse_override(text: str) -> tuple[str, Any]:
    """`"A.B=value"` as key and value: Python literals, `[a,b]`, `true`, or else text. Never evaluated."""
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise UserError(f"--opts takes KEY=VALUE, got '{text}'")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        pass
    try:
        return key, yaml.safe_load(value) if value else ""
    except yaml.YAMLError as error:
        raise UserError(f"--opts {key}: '{value}' is not a value; quote text that holds : or [") from error


def save_config(config: Config, path: Path) -> None:
    """Write the whole configuration as used, as Python that loads again."""
    write_text(path, Config(config.to_dict()).pretty_text + "\n")


def _replacing_optimizer(given: dict, current: dict) -> dict:
    """`given`, its optimizer marked to replace the current one where the type is another: momentum is not Adam's.

    The learning rate, which every optimizer has, stays where no other is given.
    """
    optimizer = given.get("SOLVER", {}).get("OPTIMIZER_CFG", {})
    if (
        optimizer
        and optimizer.get("type", current["SOLVER"]["OPTIMIZER_CFG"]["type"])
        != current["SOLVER"]["OPTIMIZER_CFG"]["type"]
    ):
        optimizer["_delete_"] = True
        optimizer.setdefault("lr", current["SOLVER"]["OPTIMIZER_CFG"]["lr"])
    return given


def _is_open(prefix: str) -> bool:
    return any(f"{section}." in prefix for section in OPEN_SECTIONS)


def _same_type(value: Any, default: Any) -> bool:
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
    return {bool: "True or False", int: "a whole number", float: "a number", str: "text"}.get(
        type(default), "a group of keys"
    )


def _warn_without_effect(config: Config, schema: Config, names: Collection[str]) -> None:
    changed = [name for name in names if look_up(config, name) != look_up(schema, name)]
    if changed:
        logger.warning("these configuration keys have no effect any more: %s", ", ".join(changed))


def look_up(config: dict, name: str) -> Any:
    """The value of the key `name` ("A.B.C"), a list as a tuple."""
    for key in name.split("."):
        config = config[key]
    return tuple(config) if isinstance(config, list) else config
