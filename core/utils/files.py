"""Files: read with an error that says what to do, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from core.utils.errors import UserError

# A damaged image is told by our one line, not by OpenCV's several.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; on success it is synced and renamed, on failure removed.

    The suffix is kept, since image writers choose their format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield beside
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


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
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
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
    image = cv2.imdecode(np.frombuffer(path.read_bytes() or b"\0", np.uint8), flags)
    if image is None:
        raise UserError(f"{path} cannot be decoded as an image; restore the file ({remedy})")
    return image


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an image (BGR or one channel; the suffix names the format), atomically."""
    with atomic_path(path) as beside:
        if not cv2.imwrite(str(beside), image):
            raise UserError(f"{path} cannot be written as an image; use a .png or .jpg name")
