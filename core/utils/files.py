"""Files: read with an error that says what to do, written whole or not at all."""

from __future__ import annotations

import codecs
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np

from sopose.core.utils.errors import UserError

MAX_ARRAY_BYTES = 256 << 20  # of all arrays in a file
PART_NAME = re.compile(r"\..+\.([1-9]\d*)\.part(\..+)?")  # of what `atomic_path` has not finished


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; on success it is synced and renamed, on failure removed.

    The suffix is kept, since image writers choose their format by it. Raises `UserError` where the system refuses.
    """
    path = Path(path)
    beside = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield beside
            with open(beside, "rb") as file:
                os.fsync(file.fileno())
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path} cannot be written ({reason}); choose another place or make room") from error


def remove_parts(folder: Path, name: str = "*") -> None:
    """Remove from a folder what `atomic_path` left unfinished in processes of this machine that are no more.

    So are folders that are called alike. `name`: a pattern of what was to be written.
    """
    for path in Path(folder).glob(f".{name}.part*"):
        match = PART_NAME.fullmatch(path.name)
        if not match or _is_running(int(match[1])):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:  # another user's
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_path(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any, indent: int | None = 1) -> None:
    """Write `data` as json, atomically."""
    write_text(path, json.dumps(data, indent=indent) + "\n")


def read_json(path: Path, remedy: str = "check the path") -> Any:
    """The content of a json file; `UserError` with `remedy` where it is missing or damaged."""
    path = require_file(path, remedy)
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:  # not json, not UTF-8, or a number without end
        raise UserError(f"{path} is not valid json ({error}); restore the file or remove it") from error


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A json object. `ValueError` where a key is there twice: all but the last would be lost without a word."""
    entries = dict(pairs)
    if len(entries) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key '{next(key for key in keys if keys.count(key) > 1)}' is there twice")
    return entries


def decode_text(data: bytes) -> str:
    """Text of anybody's file: UTF-8 (or UTF-16 where it says so), else Latin-1, where every byte is a letter."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def read_arrays(
    path: Path, keys: Iterable[str] | None, remedy: str = "restore the file", max_bytes: int = MAX_ARRAY_BYTES
) -> dict[str, np.ndarray]:
    """Those of an .npz file's arrays that are asked for (None: all) and there; what else it has is left alone.

    Raises `UserError` with `remedy` where the file is missing, damaged or unpacks to more than `max_bytes`.
    """
    path = require_file(path, remedy)
    try:
        with np.load(path, allow_pickle=False) as archive:
            require_unpackable(archive.zip, max_bytes)
            return {key: archive[key] for key in (archive.files if keys is None else keys) if key in archive}
    except Exception as error:  # whatever numpy stumbles over, the file is at fault
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"{path} cannot be read as arrays ({reason}); {remedy}") from error


def require_unpackable(archive: ZipFile, max_bytes: int) -> None:
    """`ValueError` where an archive would unpack to more than `max_bytes`, by its own directory; nothing is unpacked.

    A part counts as often as the directory names it, so that parts which lie over each other count as well.
    """
    size = sum(member.file_size for member in archive.infolist())
    if size > max_bytes:
        raise ValueError(f"it would unpack to {size >> 20} MiB, more than {max_bytes >> 20} MiB")


def require_file(path: Path, remedy: str = "check the path") -> Path:
    """`path` where it is a file, else a `UserError` that ends in `remedy`."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} is missing; {remedy}")
    return path


def require_dir(path: Path, remedy: str = "check the path") -> Path:
    """`path` where it is a folder, else a `UserError` that ends in `remedy`."""
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"folder {path} is missing; {remedy}")
    return path


def require_writable_dir(path: Path, remedy: str = "choose another folder") -> Path:
    """`path` where it is, or can become, a folder to write to, else a `UserError`. Nothing is made: ask before work."""
    path = Path(path)
    existing = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not existing.is_dir():
        raise UserError(f"{path} cannot be written to, {existing} is a file; {remedy}")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"{path} cannot be written to, {existing} gives no permission; {remedy}")
    return path


def require_writable_file(path: Path, remedy: str = "choose another name") -> Path:
    """`path` where a file of that name can be written, else a `UserError`. Nothing is made: ask before work."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder, a file is to be written; {remedy}")
    require_writable_dir(path.parent, remedy)
    return path


def distinct_names(paths: Sequence[Path]) -> dict[Path, str]:
    """What to call each of several files: its name, with as many of its folders' names as make all names differ.

    Raises `UserError` where a file is named twice.
    """
    parts_of = {path: Path(path).absolute().with_suffix("").parts[1:] for path in paths}
    for count in range(1, max(map(len, parts_of.values()), default=0) + 1):
        names = {path: "-".join(parts[-count:]) for path, parts in parts_of.items()}
        if len(set(names.values())) == len(paths):
            return names
    if paths:
        raise UserError(f"a file is named twice among {', '.join(map(str, paths))[:200]}; name each once")
    return {}


def require_key(entry: dict, key: str | int, where: str) -> Any:
    """`entry[key]`, or a `UserError` naming the key, the place and the keys that are there."""
    if not isinstance(entry, dict) or key not in entry:
        have = ", ".join(map(str, entry)) if isinstance(entry, dict) else type(entry).__name__
        raise UserError(f"{where} needs the key '{key}' and has: {have}; repair the file")
    return entry[key]
