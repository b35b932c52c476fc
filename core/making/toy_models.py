"""Four procedural, coloured, watertight objects for the toy data set: one of each kind that matters for pose.

1 bracket (no symmetry, hides much of itself), 2 mug (no symmetry), 3 cross (turned by 90° it is the
same), 4 bottle (a body of revolution). Built in millimetres, the unit of BOP's model files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from sopose.core.bop.catalog import TOY
from sopose.core.objects.model import ObjectModel, measure
from sopose.core.utils.units import MM_TO_M

Mesh = tuple[np.ndarray, np.ndarray]  # vertices (V, 3) mm, faces (F, 3)
Box = tuple[tuple[float, float, float], tuple[float, float, float]]  # two corners, mm
ROUND_IDS = (2, 4)  # have smooth normals in their files, the others are shaded flat
CELL = 4.0  # mm, of the grid that boxes are cut into, so that vertex colours can show a pattern


def toy_models() -> dict[int, ObjectModel]:
    """The toy objects by id, metres, origin at the centre of their boxes."""
    meshes = {1: bracket(), 2: mug(), 3: cross(), 4: bottle()}
    painters = {1: _paint_bracket, 2: _paint_mug, 3: _paint_cross, 4: _paint_bottle}
    quarter_turns = [_turn_about_z(k * np.pi / 2) for k in (1, 2, 3)]
    discrete = {3: quarter_turns}
    continuous = {4: [(np.array([0.0, 0.0, 1.0]), np.zeros(3))]}
    return {
        obj_id: _object_model(obj_id, mesh, painters[obj_id], discrete.get(obj_id, []), continuous.get(obj_id, []))
        for obj_id, mesh in meshes.items()
    }


def _object_model(
    obj_id: int, mesh: Mesh, painter: Callable[[np.ndarray], np.ndarray], discrete: list, continuous: list
) -> ObjectModel:
    vertices, faces = mesh
    vertices = vertices - (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    # The file holds float32 millimetres; sizes are those of the file.
    vertices = MM_TO_M * vertices.astype(np.float32).astype(np.float64)
    diameter, bounds_min, extent = measure(vertices)
    colors = np.clip(255 * painter(vertices / MM_TO_M), 0, 255).round().astype(np.uint8)
    return ObjectModel(
        obj_id,
        TOY.object_names[obj_id],
        vertices,
        faces,
        diameter,
        bounds_min,
        extent,
        normals=vertex_normals(vertices, faces) if obj_id in ROUND_IDS else None,
        colors=colors,
        symmetries_discrete=discrete,
        symmetries_continuous=continuous,
    )


def _turn_about_z(angle: float) -> np.ndarray:
    transform = np.eye(4)
    c, s = np.round([np.cos(angle), np.sin(angle)], 12) + 0.0  # quarter turns are exact
    transform[:2, :2] = [[c, -s], [s, c]]
    return transform


def bracket() -> Mesh:
    """A machine part: base plate with a window, a high and a low wall, a tongue between them."""
    solid = [
        ((0, 0, 0), (100, 72, 8)),
        ((0, 0, 0), (8, 72, 76)),
        ((92, 0, 0), (100, 40, 44)),
        ((0, 64, 0), (60, 72, 52)),
        ((40, 20, 0), (56, 36, 32)),
        ((0, 0, 68), (44, 32, 76)),
    ]
    holes = [((64, 44, 0), (84, 60, 8)), ((0, 40, 32), (8, 56, 56))]
    return grid_mesh(solid, holes)


def cross() -> Mesh:
    """Two crossing bars with a tower on their middle; the same after a quarter turn about z."""
    return grid_mesh(
        [
            ((-60, -16, 0), (60, 16, 24)),
            ((-16, -60, 0), (16, 60, 24)),
            ((-12, -12, 24), (12, 12, 64)),
            ((-20, -20, 64), (20, 20, 76)),
        ]
    )


def mug() -> Mesh:
    """A cup with wall and floor, and a handle whose ends are inside the wall."""
    radius, height, wall = 38.0, 92.0, 5.0
    inner = radius - wall
    profile = [(0, 0), (radius, 0), (radius, height), (inner, height), (inner, 6), (0, 6)]
    cup = revolve(refine(profile, 5.0), segments=56)
    s = np.linspace(0, np.pi, 25)
    path = np.stack([radius - 2.5 + 30 * np.sin(s), np.zeros_like(s), 48 + 28 * np.cos(s)], axis=1)
    return join(cup, sweep(path, radius=6.0, segments=14))


def bottle() -> Mesh:
    """A body of revolution with shoulder and cap, about z."""
    profile = [
        (0, 0),
        (30, 0),
        (33, 4),
        (33, 78),
        (26, 96),
        (13, 108),
        (13, 126),
        (16, 128),
        (16, 144),
        (0, 144),
    ]
    return revolve(refine(profile, 5.0), segments=96)


def grid_mesh(solid: Sequence[Box], holes: Sequence[Box] = (), cell: float = CELL) -> Mesh:
    """Surface of the union of boxes without the holes, on a cubic grid of `cell` mm; corners lie on it."""
    corners = np.array([*solid, *holes], float)
    low = corners.min(axis=(0, 1))
    limits = np.rint((corners - low) / cell).astype(int)
    filled = np.zeros(limits.max(axis=(0, 1)), bool)
    for index, ((x1, y1, z1), (x2, y2, z2)) in enumerate(limits):
        filled[x1:x2, y1:y2, z1:z2] = index < len(solid)
    quads = np.concatenate([_boundary(filled, axis, side) for axis in range(3) for side in (0, 1)])
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    used, faces = np.unique(faces, return_inverse=True)
    lattice = np.stack(np.unravel_index(used, np.add(filled.shape, 1)), axis=1)
    return low + cell * lattice, faces.reshape(-1, 3)


def _boundary(filled: np.ndarray, axis: int, side: int) -> np.ndarray:
    """Quads (N, 4) of lattice indices on the cells' faces that look along ±`axis`, outward order."""
    padded = np.pad(filled, 1)
    neighbour = np.roll(padded, -1 if side else 1, axis)[1:-1, 1:-1, 1:-1]
    cells = np.argwhere(filled & ~neighbour)
    u, v = np.eye(3, dtype=int)[[(axis + 1) % 3, (axis + 2) % 3]]
    corner = cells + side * np.eye(3, dtype=int)[axis]
    around = [corner, corner + u, corner + u + v, corner + v]
    if not side:
        around.reverse()
    shape = np.add(filled.shape, 1)
    return np.stack([np.ravel_multi_index(point.T, shape) for point in around], axis=1)


def refine(profile: Sequence[tuple[float, float]], step: float) -> np.ndarray:
    """A polyline (N, 2) with points added so that no edge is longer than `step`."""
    points = np.asarray(profile, float)
    parts = []
    for start, end in pairwise(points):
        count = int(np.ceil(np.linalg.norm(end - start) / step))
        parts.append(start + (end - start) * np.arange(count)[:, None] / count)
    return np.concatenate([*parts, points[-1:]])


def revolve(profile: np.ndarray, segments: int) -> Mesh:
    """Closed body of a profile (N, 2) of (radius, z) turned about z; both ends lie on the axis.

    The profile runs so that the body is on its left, bottom to top on the outside.
    """
    angle = 2 * np.pi * np.arange(segments) / segments
    rings = profile[1:-1]
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    around = np.concatenate(
        [
            rings[:, None, :1] * circle,
            np.broadcast_to(rings[:, None, 1:], (len(rings), segments, 1)),
        ],
        axis=2,
    )
    return _close_rings(around, [0, 0, profile[0, 1]], [0, 0, profile[-1, 1]])


def sweep(path: np.ndarray, radius: float, segments: int) -> Mesh:
    """A closed tube around a path (N, 3) in the plane y = 0."""
    tangent = np.gradient(path, axis=0)
    # At the ends the one-sided difference leans inward; the path starts and ends along x.
    tangent[0], tangent[-1] = [1, 0, 0], [-1, 0, 0]
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    side = np.array([0.0, 1.0, 0.0])
    up = np.cross(tangent, side)
    angle = 2 * np.pi * np.arange(segments) / segments
    offset = np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * up[:, None]
    return _close_rings(path[:, None] + radius * offset, path[0], path[-1])


def _close_rings(rings: np.ndarray, first: Sequence[float], last: Sequence[float]) -> Mesh:
    """Triangles between consecutive rings (N, S, 3), and fans to a point before and one behind them."""
    count, segments = rings.shape[:2]
    index = np.arange(count * segments).reshape(count, segments)
    following = np.roll(index, -1, axis=1)
    a, b, c, d = (x.reshape(-1) for x in (index[:-1], following[:-1], following[1:], index[1:]))
    begin, end = count * segments, count * segments + 1
    faces = [
        np.stack([a, b, c], axis=1),
        np.stack([a, c, d], axis=1),
        np.stack([np.full(segments, begin), following[0], index[0]], axis=1),
        np.stack([np.full(segments, end), index[-1], following[-1]], axis=1),
    ]
    return np.concatenate([rings.reshape(-1, 3), [first, last]]), np.concatenate(faces)


def join(*meshes: Mesh) -> Mesh:
    """Several meshes as one."""
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in meshes[:-1])])
    faces = [faces + start for (_, faces), start in zip(meshes, starts, strict=True)]
    return np.concatenate([vertices for vertices, _ in meshes]), np.concatenate(faces)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) unit normals: of the triangles around each vertex, weighted by area."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normals = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(normals, faces[:, k], np.cross(b - a, c - a))
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def _checker(points: np.ndarray, size: float) -> np.ndarray:
    """(V, 1) brightness of a three-dimensional chessboard with fields of `size` mm: 1 or 0.72."""
    odd = np.floor(points / size + 1e-6).sum(axis=1) % 2
    return (1.0 - 0.28 * odd)[:, None]


def _ramp(values: np.ndarray) -> np.ndarray:
    """`values` (V,) scaled to [0, 1]."""
    return (values - values.min()) / np.ptp(values)


def _paint_bracket(points: np.ndarray) -> np.ndarray:
    x, y, z = (_ramp(points[:, k]) for k in range(3))
    return np.stack([0.95 - 0.55 * z, 0.15 + 0.7 * y, 0.1 + 0.55 * x * z], axis=1) * _checker(points, 12)


def _paint_mug(points: np.ndarray) -> np.ndarray:
    angle, z = np.arctan2(points[:, 1], points[:, 0] + 14), _ramp(points[:, 2])
    sector = np.floor(angle / (2 * np.pi) * 8) % 8 / 7
    blue = np.stack([0.1 + 0.35 * sector, 0.25 + 0.5 * z, 0.95 - 0.4 * sector], axis=1)
    handle = points[:, 0] > 26  # beyond the cup, whose wall ends there
    blue[handle] = np.stack([np.full(handle.sum(), 0.95), 0.9 - 0.5 * z[handle], 0.3 * z[handle]], axis=1)
    return blue


def _paint_cross(points: np.ndarray) -> np.ndarray:
    """A pattern on one arm, repeated on the other three, so that colours have the shape's symmetry."""
    angle = np.arctan2(points[:, 1], points[:, 0])
    turned = (angle + np.pi / 4) % (np.pi / 2) - np.pi / 4  # within one arm, -45° to 45°
    radius, z = np.hypot(points[:, 0], points[:, 1]), _ramp(points[:, 2])
    side = 0.5 + 0.5 * np.tanh(8 * np.round(turned, 6))
    stripes = 1 - 0.3 * (np.floor(radius / 10 + 1e-6) % 2)
    return np.stack([0.15 + 0.75 * side * (1 - z), 0.75 - 0.5 * side, 0.2 + 0.75 * z], axis=1) * stripes[:, None]


def _paint_bottle(points: np.ndarray) -> np.ndarray:
    """Rings: the colour depends on the height alone, but for the lids it has the shape's symmetry."""
    palette = np.array(
        [
            [0.95, 0.55, 0.1],
            [0.95, 0.95, 0.9],
            [0.5, 0.15, 0.6],
            [0.9, 0.2, 0.35],
            [0.95, 0.85, 0.2],
            [0.3, 0.3, 0.35],
        ]
    )
    height = points[:, 2] - points[:, 2].min()
    return palette[np.minimum(height // 24, len(palette) - 1).astype(int)]
