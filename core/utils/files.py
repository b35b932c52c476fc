"""Files: read with an error that says what to do, written whole or not at all."""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sopose.core.utils.errors import UserError

# A damaged image is told by our one line, not by OpenCV's several.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

PART_NAME = re.compile(r"\..+\.([1-9]\d*)\.part(\..+)?")  # of what `atomic_path` has not finished
JPEG_START, JPEG_END, PNG_START = b"\xff\xd8\xff", b"\xff\xd9", b"\x89PNG\r\n\x1a\n"


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


def remove_parts(folder: Path) -> None:
    """Remove from a folder what `atomic_path` left unfinished in processes of this machine that are no more."""
    for path in Path(folder).glob(".*.part*"):
        match = PART_NAME.fullmatch(path.name)
        if match and not _is_running(int(match[1])):
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
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not json, not UTF-8, or a number without end
        raise UserError(f"{path} is not valid json ({error}); restore the file or remove it") from error


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


def require_key(entry: dict, key: str, where: str) -> Any:
    """`entry[key]`, or a `UserError` naming the key, the place and the keys that are there."""
    if not isinstance(entry, dict) or key not in entry:
        have = ", ".join(map(str, entry)) if isinstance(entry, dict) else type(entry).__name__
        raise UserError(f"{where} needs the key '{key}' and has: {have}; repair the file")
    return entry[key]


def read_image(path: Path, flags: int = cv2.IMREAD_COLOR, remedy: str = "check the data set") -> np.ndarray:
    """An image as OpenCV decodes it: (H, W, 3) uint8 BGR by default, or as `flags` say.

    Raises `UserError` where the file is missing or cannot be decoded.
    """
    path = require_file(path, remedy)
    data = path.read_bytes()
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data and _is_whole(data) else None
    except cv2.error:  # a header that promises more pixels than OpenCV allows
        image = None
    if image is None:
        raise UserError(f"{path} cannot be decoded as an image; restore the file ({remedy})")
    return image


def _is_whole(data: bytes) -> bool:
    """Whether a JPEG has its end and a PNG every chunk with its checksum; other formats are their decoders' business.

    OpenCV fills up what a JPEG lacks, and libpng complains of a PNG on stderr by itself.
    """
    if data.startswith(JPEG_START):
        return JPEG_END in data
    if not data.startswith(PNG_START):
        return True
    at, kind = len(PNG_START), b""
    while kind != b"IEND" and at + 12 <= len(data):
        kind = data[at + 4 : at + 8]
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return False
        at = end + 4
    return kind == b"IEND"


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an image (BGR or one channel; the suffix names the format), atomically."""
    require_image_name(path)
    # Encoded first: OpenCV's own writing to a full disk can leave part of a file and say that all went well.
    encoded, data = cv2.imencode(Path(path).suffix, image)
    if not encoded:
        raise UserError(f"{path} cannot be written as an image; use another format")
    with atomic_path(path) as beside:
        beside.write_bytes(data)


def require_image_name(path: Path) -> Path:
    """`path` where its suffix names a format that can be written, else a `UserError`."""
    if not cv2.haveImageWriter(str(path)):
        raise UserError(f"{path} names no image format; use a .png or .jpg name")
    return Path(path)
