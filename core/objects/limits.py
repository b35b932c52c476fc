"""How much a small mesh file may ask for: pixels of its pictures, triangles placed again and again, numbers of glTF."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from sopose.core.images.files import MOST_PIXELS, read_header
from sopose.core.utils.errors import UserError

if TYPE_CHECKING:
    from trimesh import Scene

MOST_TRIANGLES = 10_000_000  # of all parts, each as often as it is placed
MOST_ENTRIES = 50_000_000  # points, indices, … that a glTF file asks for
MOST_UNSTORED = 5_000_000  # of them that stand nowhere in the file: readers make zeros
JSON_START = 20  # bytes of a .glb before its json


class PixelAllowance:
    """Counts the pixels of a mesh's pictures; they are refused before they are decoded."""

    def __init__(self, where: Path) -> None:
        self.where, self.left = where, MOST_PIXELS

    def take_file(self, path: Path) -> Path:
        """`path`, its pixels counted. `UserError` where it is no image, or all have too many."""
        width, height = read_header(path).size
        self.take(width * height)
        return path

    def take(self, pixels: int) -> None:
        """Count so many pixels. `UserError` where all have too many."""
        self.left -= pixels
        if self.left < 0:
            raise UserError(
                f"{self.where}: its textures have more than {round(MOST_PIXELS / 1e6)} million pixels together; "
                "scale them down"
            )


def require_modest_gltf(data: bytes, suffix: str) -> None:
    """`ValueError` where a .glb or .gltf file asks for more numbers than any mesh of ours has.

    What is no such file is left to its reader.
    """
    end = JSON_START + int.from_bytes(data[12:16], "little")
    try:
        entries = json.loads(data[JSON_START:end] if suffix == "glb" else data).get("accessors", [])
        counts = [(max(int(entry.get("count", 0)), 0), "bufferView" in entry) for entry in entries]
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return
    asked, unstored = sum(count for count, _ in counts), sum(count for count, stored in counts if not stored)
    if asked > MOST_ENTRIES or unstored > MOST_UNSTORED:
        raise ValueError(f"it asks for {asked} points and indices, {unstored} of them not stored in it")


def require_few_triangles(scene: Scene) -> None:
    """`ValueError` where the parts of a scene, as often as they are placed, have more than `MOST_TRIANGLES`."""
    placed = (scene.geometry[scene.graph[node][1]] for node in scene.graph.nodes_geometry)
    count = sum(len(getattr(part, "faces", ())) for part in placed)
    if count > MOST_TRIANGLES:
        raise ValueError(f"its parts, as often as they are placed, have {count} triangles, more than {MOST_TRIANGLES}")
