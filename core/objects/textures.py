"""Pictures of meshes: found by the names that files give them, and several of them on one."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

import cv2
import numpy as np

from sopose.core.images.files import IMAGE_SUFFIXES, read_image
from sopose.core.objects.limits import PixelAllowance

# An option before a name in an MTL file, and its values: `-s 2 2 1`, `-clamp on`, `-imfchan r`, `-type sphere`.
OPTION = re.compile(r"-[a-z]+(\s+([-+]?[\d.]+(e[-+]?\d+)?|on|off|[rgbmlz]|sphere|cube_\w+)(?=\s))*\s+", re.IGNORECASE)


def read_texture(path: Path) -> np.ndarray:
    """A picture as (H, W, 3) uint8 RGB. `UserError` where it is damaged."""
    return cv2.cvtColor(read_image(path), cv2.COLOR_BGR2RGB)


def find_beside(folder: Path, name: str) -> Path | None:
    """The file that a mesh in `folder` calls `name`; None where it is nowhere in the folder or below it.

    A name may be of another system (`textures\\wood.png`, `C:\\parts\\wood.png`) or place (`/home/me/wood.png`), of
    other case, or stand behind the options of an MTL file. Of a path's folders the last ones count that exist; none
    above `folder` is ever entered.
    """
    for text in dict.fromkeys((name.strip(), without_options(name), unquote(name.strip()))):
        parts = [part for part in text.replace("\\", "/").strip("\"'").split("/") if part not in ("", ".", "..")]
        for start in range(len(parts)):
            found = _below(folder, parts[start:])
            if found is not None:
                return found
    return None


def missing_texture(names: Sequence[str]) -> str:
    """What to note of a mesh that has coordinates on a texture, and not the texture that it calls by these names."""
    wanted = ", ".join(dict.fromkeys(without_options(name) for name in names)) or "its image"
    return f"it has texture coordinates, but no texture was found with it: put {wanted} beside the file"


def without_options(name: str) -> str:
    """The name behind the options of an MTL file's `map_Kd`."""
    rest = name.strip()
    while match := OPTION.match(rest):
        rest = rest[match.end() :]
    return rest.strip()


def _below(folder: Path, parts: Sequence[str]) -> Path | None:
    """The file of a path below a folder; of names that differ in case alone, the one that is written so."""
    place = folder
    for part in parts:
        if not os.path.exists(place / part):  # False too for a name that no file can have
            names = os.listdir(place) if place.is_dir() else []
            alike = sorted(other for other in names if _plain(other) == _plain(part))
            if not alike:
                return None
            part = alike[0]
        place = place / part
    return place if place.is_file() else None


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def own_picture(path: Path) -> Path | None:
    """The picture of a mesh's own name, where there is one: the texture of a file that names none."""
    return next((found for suffix in IMAGE_SUFFIXES if (found := find_beside(path.parent, path.stem + suffix))), None)


def stacked(pictures: Sequence[np.ndarray], where: Path) -> tuple[np.ndarray, list[int]]:
    """Pictures (H, W, 3) below each other as one, the first on top, and the row that each begins at.

    `where` they are from, for the `UserError` that their widths and heights differ too much for that.
    """
    width = max(picture.shape[1] for picture in pictures)
    PixelAllowance(where).take(width * sum(len(picture) for picture in pictures))
    wide = [np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), mode="edge") for p in pictures]
    return np.concatenate(wide), np.cumsum([0, *(len(p) for p in pictures[:-1])]).tolist()


def on_stack(uv: np.ndarray, picture: np.ndarray, top: int, texture: np.ndarray) -> np.ndarray:
    """Coordinates (..., 2) on a picture, v upwards, as those on the `stacked` texture where it begins at row `top`.

    What lies outside of the picture comes to its border: a stacked picture cannot be repeated.
    """
    rows, columns = picture.shape[:2]
    height, width = texture.shape[:2]
    # Half a pixel is kept from the borders, where the neighbour's colours begin.
    x = np.clip(uv[..., 0] * columns, 0.5, columns - 0.5) / width
    y = np.clip((1 - uv[..., 1]) * rows, 0.5, rows - 0.5) + top
    return np.stack([x, 1 - y / height], axis=-1)
