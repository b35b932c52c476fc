"""Parts that a seed makes: plates with walls and holes, turned bodies, tubes, and what is put together from these.

What is learned by comparing renderings with images is learned from many shapes, and needs no data set of others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sopose.core.geometry.rotation import random_rotation
from sopose.core.making.new_dataset import NewObject, require_place, with_found_symmetries, write_dataset
from sopose.core.making.toy_models import CELL, Box, Mesh, grid_mesh, join, refine, revolve, sweep, vertex_normals
from sopose.core.objects.model import ObjectModel, measure
from sopose.core.symmetry.tolerance import Tolerance
from sopose.core.utils.files import require_writable_dir
from sopose.core.utils.units import MM_TO_M

STEP = 6.0  # mm, between a profile's points, so that vertex colours can show a pattern
SEGMENTS = 48  # of a turned body


@dataclass(frozen=True)
class PartRange:
    """What parts are drawn from. Lengths in millimetres."""

    diameter: tuple[float, float] = (60.0, 250.0)
    boxes: tuple[int, int] = (2, 6)  # of a plate with walls
    holes: tuple[int, int] = (0, 2)
    rings: tuple[int, int] = (3, 7)  # corners of a turned body's profile
    added: tuple[int, int] = (0, 2)  # bodies put to the first
    smooth_prob: float = 0.7  # of a turned body that has smooth normals


def generated_part(seed: int, number: int, drawn: PartRange | None = None) -> NewObject:
    """Part `number` of a seed, with colours and the symmetries that it has; metres, origin in the middle of its box."""
    return with_found_symmetries(plain_part(seed, number, drawn), Tolerance())


def plain_part(seed: int, number: int, drawn: PartRange | None = None) -> NewObject:
    """`generated_part` whose symmetries nobody looked for."""
    drawn, rng = drawn or PartRange(), np.random.default_rng([seed, number])
    first = _first(drawn, rng)
    bodies = [first, *(_put_to(first[0], _added(drawn, rng), rng) for _ in range(_count(drawn.added, rng)))]
    mesh = join(*(mesh for mesh, _ in bodies))
    colors = np.concatenate([_painted(points, rng) for (points, _), _ in bodies])
    smooth = len(bodies) == 1 and first[1] and rng.random() < drawn.smooth_prob
    return _object(f"part_{number:04d}", mesh, colors, smooth, drawn, rng)


Body = tuple[Mesh, bool]  # and whether it is round


def _count(limits: tuple[int, int], rng: np.random.Generator) -> int:
    """A number between two, both included."""
    return int(rng.integers(limits[0], limits[1] + 1))


def _first(drawn: PartRange, rng: np.random.Generator) -> Body:
    return (_plate(drawn, rng), False) if rng.random() < 0.5 else (_turned(drawn, rng), True)


def _added(drawn: PartRange, rng: np.random.Generator) -> Body:
    kind = rng.integers(3)
    return [(_plate(drawn, rng), False), (_turned(drawn, rng), True), (_tube(rng), True)][kind]


def _plate(drawn: PartRange, rng: np.random.Generator) -> Mesh:
    """A base with walls and towers on it, and holes through some of them; corners on a grid."""

    def length(low: float, high: float) -> float:
        return CELL * round(rng.uniform(low, high) / CELL)

    x, y, thick = length(40, 120), length(30, 100), length(6, 24)
    solid: list[Box] = [((0, 0, 0), (x, y, thick))]
    for _ in range(_count(drawn.boxes, rng) - 1):
        wide, deep, high = length(8, 0.8 * x), length(8, 0.8 * y), length(12, 80)
        left, front = length(0, x - wide), length(0, y - deep)
        solid.append(((left, front, 0), (left + wide, front + deep, thick + high)))
    holes: list[Box] = []
    for _ in range(_count(drawn.holes, rng)):
        wide, deep = length(8, x / 3), length(8, y / 3)
        left, front = length(CELL, x - wide - CELL), length(CELL, y - deep - CELL)
        holes.append(((left, front, 0), (left + wide, front + deep, 400)))
    # Holes end where the walls do.
    top = max(upper[2] for _, upper in solid)
    return grid_mesh(solid, [(low, (*upper[:2], top)) for low, upper in holes])


def _turned(drawn: PartRange, rng: np.random.Generator) -> Mesh:
    """A body of revolution about z."""
    count = _count(drawn.rings, rng)
    radii = rng.uniform(8, 50, count)
    heights = np.concatenate([[0], np.cumsum(rng.uniform(0, 40, count - 1) + 2)])
    profile = [(0.0, 0.0), *zip(radii, heights, strict=True), (0.0, float(heights[-1]))]
    return revolve(refine(profile, STEP), SEGMENTS)


def _tube(rng: np.random.Generator) -> Mesh:
    """A bent tube, as a handle is."""
    turn = np.linspace(0, np.pi, 25)
    path = np.stack([rng.uniform(15, 50) * np.sin(turn), np.zeros_like(turn), rng.uniform(15, 50) * np.cos(turn)], 1)
    return sweep(path, radius=float(rng.uniform(3, 9)), segments=14)


def _put_to(first: Mesh, body: Body, rng: np.random.Generator) -> Body:
    """A body turned by quarters or anyhow, with its middle at a point of the first one's surface."""
    (vertices, faces), is_round = body
    if rng.random() < 0.5:
        vertices = vertices @ random_rotation(rng).T
    else:
        vertices = np.roll(vertices, int(rng.integers(3)), axis=1)  # a turn about the cube's diagonal
    middle = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    return (vertices - middle + first[0][rng.integers(len(first[0]))], faces), is_round


def _painted(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(V, 3) colours in [0, 1] of a body: one, stripes or fields of two, or a ramp between them."""
    one, other = rng.uniform(0.05, 0.95, (2, 3))
    pattern, axis, size = rng.integers(4), rng.integers(3), rng.uniform(8, 30)
    along = points[:, axis] - points[:, axis].min()
    if pattern == 0:
        share = np.zeros(len(points))
    elif pattern == 1:
        share = np.floor(along / size) % 2
    elif pattern == 2:
        share = np.floor(points / size).sum(axis=1) % 2
    else:
        share = along / max(along.max(), 1e-9)
    return one + (other - one) * share[:, None]


def _object(
    name: str, mesh: Mesh, colors: np.ndarray, smooth: bool, drawn: PartRange, rng: np.random.Generator
) -> NewObject:
    vertices, faces = mesh
    vertices = vertices - (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    wanted = np.exp(rng.uniform(*np.log(drawn.diameter)))
    vertices = vertices * (wanted / measure(vertices)[0])
    vertices = MM_TO_M * vertices.astype(np.float32).astype(np.float64)  # as the file holds them
    diameter, bounds_min, extent = measure(vertices)
    model = ObjectModel(
        0,
        name,
        vertices,
        faces,
        diameter,
        bounds_min,
        extent,
        normals=vertex_normals(vertices, faces) if smooth else None,
        colors=np.round(255 * colors).astype(np.uint8),
        symmetries_discrete=[],
        symmetries_continuous=[],
    )
    return NewObject(model, "generated", "mm", np.zeros(3))


def write_parts(root: Path, count: int, seed: int = 0, workers: int = 1, overwrite: bool = False) -> list[NewObject]:
    """Write so many parts as a data set of models; the same seed makes the same parts, in any number of processes.

    Raises `UserError` where something else is in `root`, unless `overwrite`.
    """
    from joblib import Parallel, delayed

    require_place(root, overwrite, add=False)
    require_writable_dir(root.parent)
    make = partial(generated_part, seed)
    found = Parallel(workers, return_as="generator")(delayed(make)(number) for number in range(count))
    return write_dataset(root, list(tqdm(found, "parts", total=count)), None, tolerance=None)
