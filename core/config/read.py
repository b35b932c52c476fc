"""One configuration file with the files it is based on, as written: Python, YAML or JSON with `_base_`.

All three are data. Of Python, assignments of values are read (see `core.config.values`), and nothing is executed.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sopose.core.config.check import DELETE_KEY
from sopose.core.config.values import BASE_KEY, NotAValueError, read_assignment, read_assignments
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import require_file

logger = logging.getLogger(__name__)

YAML_SUFFIXES = (".yaml", ".yml")
SUFFIXES = (".py", ".json", *YAML_SUFFIXES)
MAX_BYTES = 300_000  # of a file
MAX_ENTRIES = 20_000  # values in a file, where ours have a few hundred, those of an alias counted wherever it stands
MAX_DEPTH = 50  # groups and lists within each other
MAX_DIGITS = 400  # characters of a number in YAML, which has some of quadratic cost
TOO_MANY = f"it has more than {MAX_ENTRIES} values, those of an alias counted wherever it stands"
ERRORS = (OSError, SyntaxError, ValueError, RecursionError, MemoryError, yaml.YAMLError)  # of a file that is none
PLACEHOLDER = re.compile(r"\{\{\s*(\$?\w+)[^}]*\}\}")


def read_config(path: Path, spare_bases: Path | None = None) -> dict[str, Any]:
    """One configuration file over its bases, unchecked: groups of texts, numbers, lists, tuples, None.

    A base that is not where the file says is looked for, by its name, in the folder `spare_bases`: a file copied out
    of its checkout stays usable; and one of a path such as configs/…/a.py beside the folder that `spare_bases` is in.
    Raises `UserError` where a file cannot be read or a base is missing.
    """
    return _read_over_bases(Path(path), spare_bases, ())


def parse_yaml(text: str) -> Any:
    """The value that a YAML text is, of plain types. Raises `yaml.YAMLError` or `ValueError`."""
    return yaml.load(text, _PlainLoader)


def base_paths(path: Path, spare_bases: Path | None = None) -> list[Path]:
    """The files that `path` names as its bases, where they are. Raises `UserError` for one that is missing."""
    return _bases_of(path, _content(path), spare_bases)


class _PlainLoader(yaml.SafeLoader):
    """YAML of plain values only, in which `1e-4` is a number, as in YAML 1.2."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._nodes += 1
        if self._nodes > MAX_ENTRIES:
            raise ValueError(TOO_MANY)
        return super().compose_node(parent, index)

    def construct_document(self, node: yaml.Node) -> Any:
        _weigh(node, {})
        return super().construct_document(node)


_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _weigh(node: yaml.Node, known: dict[int, int]) -> int:
    """The values below a node, those of an alias as often as it stands there. Raises `ValueError` for too many."""
    if isinstance(node, yaml.ScalarNode):
        if node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float") and len(node.value) > MAX_DIGITS:
            raise ValueError(f"the number {node.value[:20]}… has more than {MAX_DIGITS} characters")
        return 1
    if id(node) not in known:
        known[id(node)] = MAX_ENTRIES  # of a node that contains itself
        below = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_weigh(part, known) for part in below)
        if known[id(node)] > MAX_ENTRIES:
            raise ValueError(TOO_MANY)
    return known[id(node)]


def _read_over_bases(path: Path, spare_bases: Path | None, below: tuple[Path, ...]) -> dict[str, Any]:
    require_file(path, "give --config-file the path of a .py or .yaml configuration")
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path} is no configuration: its name must end in one of {', '.join(SUFFIXES)}")
    if path.resolve() in below:
        raise UserError(f"{path} is a base of itself; correct its {BASE_KEY}")
    content, bases = _content(path), {}
    for base in _bases_of(path, content, spare_bases):
        values = _read_over_bases(base, spare_bases, (*below, path.resolve()))
        twice = sorted(bases.keys() & values.keys())
        if twice:
            raise UserError(f"{path}: {', '.join(twice)} stands in two of its bases; base one on the other")
        bases |= values
    return _merge(_own_values(path, content, bases), bases, str(path))


def _content(path: Path) -> str | dict[str, Any]:
    """The source of a Python file, the values of a YAML or JSON file; an empty one sets nothing."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ValueError(f"it has {size} bytes, more than {MAX_BYTES}")
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            return text
        data = parse_yaml(text) if path.suffix in YAML_SUFFIXES else json.loads(text)
    except ERRORS as error:
        raise _unreadable(path, error) from error
    if data is not None and not isinstance(data, dict):
        raise UserError(f"{path} must be keys with values, got {type(data).__name__}; a .yaml file has KEY: VALUE")
    return data or {}


def _bases_of(path: Path, content: str | dict[str, Any], spare_bases: Path | None) -> list[Path]:
    try:
        names = read_assignment(content, BASE_KEY) if isinstance(content, str) else content.get(BASE_KEY)
    except ERRORS as error:
        raise _unreadable(path, error) from error
    names = [names] if isinstance(names, str) else [] if names is None else names
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: {BASE_KEY} must be a path or a list of paths, got {names!r}; correct it")
    return [_existing_base(name, path, spare_bases) for name in names]


def _own_values(path: Path, content: str | dict[str, Any], bases: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says itself. Names that begin with two underscores are its own business."""
    try:
        values = read_assignments(content, {BASE_KEY: bases}) if isinstance(content, str) else content
        given = {key: value for key, value in values.items() if key != BASE_KEY and not str(key).startswith("__")}
        return _plain(given, path)
    except ERRORS as error:
        raise _unreadable(path, error) from error


def _merge(above: Mapping[str, Any], below: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`above` laid over `below`, group by group; a group with `_delete_` replaces the one below it."""
    result = dict(below)
    for key, value in above.items():
        if not isinstance(value, dict) or key not in below:
            result[key] = value
            continue
        own = {name: entry for name, entry in value.items() if name != DELETE_KEY}
        if value.get(DELETE_KEY):
            result[key] = own
        elif isinstance(below[key], dict):
            result[key] = _merge(own, below[key], where)
        else:
            raise UserError(
                f"{where}: {key} is a group, in the file it is based on it is {below[key]!r}; correct one of them, or "
                f"add {DELETE_KEY}=True to the group"
            )
    return result


def _existing_base(name: str, path: Path, spare_bases: Path | None) -> Path:
    base = path.parent / name
    if base.is_file():
        return base
    spares = [] if spare_bases is None else [spare_bases / base.name, spare_bases.parent.parent / name]
    spare = next((each for each in spares if each.is_file()), None)
    if spare is None:
        known = "" if spare_bases is None else f" (ours are in {spare_bases})"
        raise UserError(f"{path} is based on {base}, which is missing; copy it there or correct {BASE_KEY}{known}")
    if spare == spares[0]:
        logger.info("%s is based on %s, which is not there; %s takes its place", path, name, spare)
    return spare


def _plain(values: Mapping[Any, Any], path: Path) -> dict[str, Any]:
    """A copy of plain types, in which nothing is shared. Raises `ValueError` for what is too large."""
    count = 0

    def copy(value: Any, depth: int) -> Any:
        nonlocal count
        count += 1
        if count > MAX_ENTRIES or depth > MAX_DEPTH:
            raise ValueError(TOO_MANY if count > MAX_ENTRIES else f"it is nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, Mapping):
            return {str(key): copy(entry, depth + 1) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)([copy(entry, depth + 1) for entry in value])
        if value is None or isinstance(value, (bool, int, float)):
            return value
        return PLACEHOLDER.sub(lambda found: _filled(found, path), str(value))  # str: YAML has dates

    return copy(values, 0)


def _filled(found: re.Match[str], path: Path) -> str:
    """What stands for `{{ fileBasename }}` and the like in a text; anything else in such brackets stays."""
    place = path.absolute()
    known = {
        "fileDirname": place.parent.as_posix(),
        "fileBasename": place.name,
        "fileBasenameNoExtension": place.stem,
        "fileExtname": place.suffix,
    }
    if found[1].startswith("$"):
        raise ValueError(f"{found[0]} is not a value: the environment is not read, use --opts")
    return known.get(found[1], found[0])


def _unreadable(path: Path, error: BaseException) -> UserError:
    reason = " ".join(str(error).split())
    if isinstance(error, NotAValueError):
        return UserError(
            f"{path} cannot be read as a configuration: {reason}; a configuration is read, not run: write the value"
        )
    return UserError(
        f"{path} cannot be read as a configuration: {type(error).__name__}: {reason}; correct it, a .py file has "
        "lines KEY = VALUE, a .yaml file KEY: VALUE"
    )
