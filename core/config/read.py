"""One configuration file with the files it is based on, as written: Python, YAML or JSON with `_base_`."""

from __future__ import annotations

import ast
import json
import logging
import re
import tempfile
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config

from sopose.core.utils.errors import UserError
from sopose.core.utils.files import require_file

logger = logging.getLogger(__name__)

BASE_KEY = "_base_"
YAML_SUFFIXES = (".yaml", ".yml")
SUFFIXES = (".py", ".json", *YAML_SUFFIXES)


class _PlainLoader(yaml.SafeLoader):
    """YAML of plain values only, in which `1e-4` is a number, as in YAML 1.2."""


_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_config(path: Path, spare_bases: Path | None = None) -> Config:
    """One configuration file over its bases, unchecked.

    A base that is not where the file says is looked for, by its name, in the folder `spare_bases`: a file copied out
    of its checkout stays usable. Raises `UserError` where a file cannot be read or a base is missing.
    """
    path = require_file(path, "give --config-file the path of a .py or .yaml configuration")
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path} is no configuration: its name must end in one of {', '.join(SUFFIXES)}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            staged = _staged(path, Path(folder), spare_bases)
            return Config.fromfile(str(staged), lazy_import=False, import_custom_modules=False)
    except UserError:
        raise
    except Exception as error:  # a configuration may be any Python file, so any error may come out of it
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} cannot be read as a configuration: {type(error).__name__}: {reason}; correct it, a .py file has "
            "lines KEY = VALUE, a .yaml file KEY: VALUE"
        ) from error


def parse_yaml(text: str) -> Any:
    """The value that a YAML text is, of plain types. Raises `yaml.YAMLError` or `ValueError`."""
    return yaml.load(text, _PlainLoader)


def base_paths(path: Path, spare_bases: Path | None = None) -> list[Path]:
    """The files that `path` names as its bases, where they are. Raises `UserError` for one that is missing."""
    return [_existing_base(name, path, spare_bases) for name in _base_names(path)]


def _staged(path: Path, folder: Path, spare_bases: Path | None, below: tuple[Path, ...] = ()) -> Path:
    """`path`, or a copy in `folder` that reads the same where the original would not do.

    That is where a base stands elsewhere than it says, and where a file is YAML: mmengine's loader makes any Python
    object that such a file names, JSON has none.
    """
    if path.resolve() in below:
        raise UserError(f"{path} is a base of itself; correct its {BASE_KEY}")
    chain = (*below, path.resolve())
    bases = base_paths(path, spare_bases)
    staged = [_staged(base, folder, spare_bases, chain) for base in bases]
    named = [path.parent / name for name in _base_names(path)]
    if staged == named and path.suffix not in YAML_SUFFIXES:
        return path
    place = Path(tempfile.mkdtemp(dir=folder))
    texts = [str(base.absolute()) for base in staged]
    if path.suffix == ".py":
        copy = place / path.name
        copy.write_text(_with_bases(path.read_text(encoding="utf-8"), texts), encoding="utf-8")
    else:
        copy = place / f"{path.stem}.json"
        copy.write_text(json.dumps({**_read_data(path), BASE_KEY: texts}, default=str), encoding="utf-8")
    return copy


def _existing_base(name: str, path: Path, spare_bases: Path | None) -> Path:
    base = path.parent / name
    if base.is_file():
        return base
    spare = None if spare_bases is None else spare_bases / base.name
    if spare is None or not spare.is_file():
        known = "" if spare_bases is None else f" (ours are in {spare_bases})"
        raise UserError(f"{path} is based on {base}, which is missing; copy it there or correct {BASE_KEY}{known}")
    logger.info("%s is based on %s, which is not there; %s takes its place", path, name, spare)
    return spare


def _base_names(path: Path) -> list[str]:
    """What a file says under `_base_`."""
    if path.suffix == ".py":
        node = _base_assignment(path.read_text(encoding="utf-8"))
        names = [] if node is None else ast.literal_eval(node.value)
    else:
        names = _read_data(path).get(BASE_KEY, [])
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: {BASE_KEY} must be a path or a list of paths, got {names!r}; correct it")
    return list(names)


def _base_assignment(source: str) -> ast.Assign | None:
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == BASE_KEY:
            return node
    return None


def _with_bases(source: str, bases: list[str]) -> str:
    """A Python configuration's text with other bases."""
    node = _base_assignment(source)
    if node is None:
        return source
    lines = source.split("\n")
    head = lines[node.lineno - 1].encode()[: node.col_offset].decode()
    tail = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
    lines[node.lineno - 1 : node.end_lineno] = [f"{head}{BASE_KEY} = {bases!r}{tail}"]
    return "\n".join(lines)


def _read_data(path: Path) -> dict[str, Any]:
    """The content of a YAML or JSON file; an empty file sets nothing."""
    text = path.read_text(encoding="utf-8")
    data = parse_yaml(text) if path.suffix in YAML_SUFFIXES else json.loads(text)
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UserError(f"{path} must be keys with values, got {type(data).__name__}; a .yaml file has KEY: VALUE")
    return data
