"""A mesh between CAD file and model: cleaned, cut fine enough for training, with normals that keep its edges sharp.

Colours and texture coordinates belong to the corners of triangles here, so that bodies can be joined and vertices
merged by place alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sopose.core.geometry.surface import face_areas, is_flat
from sopose.core.objects.colors import encode, texture_colors
from sopose.core.objects.model import ObjectModel, measure
from sopose.core.utils.errors import UserError
from sopose.core.utils.units import M_TO_MM, MM_TO_M

MERGED = 1e-7  # of the size: vertices nearer to each other than this are one
FLAT = 1e-14  # of the size squared: triangles with less area are none
SHARP = 35.0  # degrees between neighbouring triangles from which their edge is seen as one
SHRINK = 0.75  # of the longest edge, from one pass of cutting to the next


@dataclass(frozen=True, eq=False)
class CadMesh:
    """V vertices, F triangles, of any unit of length. Colours, or a texture with its coordinates, or neither."""

    vertices: np.ndarray  # (V, 3) float64
    faces: np.ndarray  # (F, 3) int64
    colors: np.ndarray | None = None  # (F, 3, 3) float64, levels of the corners
    uv: np.ndarray | None = None  # (F, 3, 2) float64 of the corners, v upwards
    texture: np.ndarray | None = None  # (H, W, 3) uint8 RGB
    normals: np.ndarray | None = None  # (F, 3, 3) float64 of the corners, see `with_normals`

    @property
    def size(self) -> float:
        """The longest side of the axis-aligned box."""
        return float(np.ptp(self.vertices[np.unique(self.faces)], axis=0).max())

    def scaled(self, factor: float) -> CadMesh:
        """The same in another unit of length."""
        return replace(self, vertices=factor * self.vertices)

    def only(self, kept: np.ndarray) -> CadMesh:
        """The triangles of a mask or of indices `kept`."""
        parts = {name: part[kept] for name, part in self.corners().items()}
        return replace(self, faces=self.faces[kept], **parts)

    def corners(self) -> dict[str, np.ndarray]:
        """The values (F, 3, c) that the corners have, by field."""
        parts = {"colors": self.colors, "uv": self.uv, "normals": self.normals}
        return {name: part for name, part in parts.items() if part is not None}

    def with_baked_texture(self) -> CadMesh:
        """The same with the texture's colours at the corners in its place."""
        if self.texture is None or self.uv is None:
            return self
        levels = encode(texture_colors(self.texture, self.uv.reshape(-1, 2))).reshape(*self.faces.shape, 3)
        return replace(self, colors=levels.astype(np.float64), uv=None, texture=None)


def joined(meshes: Sequence[CadMesh]) -> CadMesh:
    """Meshes as one. All have colours, or coordinates on one texture, or none has."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]
    parts = {name: np.concatenate([getattr(mesh, name) for mesh in meshes]) for name in meshes[0].corners()}
    vertices = np.concatenate([mesh.vertices for mesh in meshes])
    return CadMesh(vertices, np.concatenate(faces), **parts, texture=meshes[0].texture)


def cleaned(mesh: CadMesh, where: str) -> tuple[CadMesh, list[str]]:
    """The mesh with vertices merged and useless triangles dropped; what was done, and what is wrong, in words.

    Raises `UserError`, which begins with `where`, if no triangle with an area is left.
    """
    notes = []
    finite = np.isfinite(mesh.vertices).all(axis=1)[mesh.faces].all(axis=1)
    if not finite.all():
        notes.append(f"{(~finite).sum()} triangles with coordinates that are no numbers dropped")
        mesh = mesh.only(finite)
    if not len(mesh.faces) or mesh.size == 0:
        raise UserError(f"{where} has no triangle with an area; export it again")
    before = len(np.unique(mesh.faces))
    mesh = _merged(mesh)
    if len(mesh.vertices) < before:
        notes.append(f"{before - len(mesh.vertices)} vertices merged")
    a, b, c = mesh.faces.T
    first = np.zeros(len(mesh.faces), bool)
    first[np.unique(np.sort(mesh.faces, axis=1), axis=0, return_index=True)[1]] = True
    whole = (a != b) & (b != c) & (c != a)
    # Triangles that are flat, but have three corners, join others at their edges: they count as long as gaps do.
    faults = flaws(mesh.faces[whole & first])
    solid = whole & (face_areas(mesh.vertices, mesh.faces) > FLAT * mesh.size**2)
    for useless, what in ((~solid, "triangles without area"), (solid & ~first, "repeated triangles")):
        if useless.any():
            notes.append(f"{useless.sum()} {what} dropped")
    mesh = mesh.only(solid & first)
    if not len(mesh.faces) or is_flat(mesh.vertices[np.unique(mesh.faces)]):
        raise UserError(f"{where} is flat, it has no volume; give a solid or at least a bent sheet")
    return _merged(mesh), notes + faults


def _merged(mesh: CadMesh) -> CadMesh:
    """The mesh with vertices at one place made one, and those without triangles left out."""
    used, faces = np.unique(mesh.faces, return_inverse=True)
    vertices = mesh.vertices[used]
    keys = np.rint((vertices - vertices.min(axis=0)) / (MERGED * mesh.size)).astype(np.int64)
    _, first, same = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return replace(mesh, vertices=vertices[first], faces=same.reshape(-1)[faces.reshape(-1)].reshape(-1, 3))


def flaws(faces: np.ndarray) -> list[str]:
    """What the triangles (F, 3) of a closed surface would not have: open edges, and edges of more than two."""
    edges = _edges(faces)
    _, same, count = np.unique(np.sort(edges, axis=1), axis=0, return_inverse=True, return_counts=True)
    found = []
    if (count == 1).any():
        found.append(f"not closed: {(count == 1).sum()} open edges")
    if (count > 2).any():
        found.append(f"{(count > 2).sum()} edges have more than two triangles")
    upwards = np.bincount(same.reshape(-1), edges[:, 0] < edges[:, 1])
    if ((count == 2) & (upwards != 1)).any():
        found.append("some triangles are turned over against their neighbours")
    return found


def _edges(faces: np.ndarray) -> np.ndarray:
    """(3 F, 2) vertices of the triangles' edges, in the order of their corners: those from the first corners first."""
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def refined(mesh: CadMesh, vertices: int) -> CadMesh:
    """The same surface with at least so many vertices: its longest edges are halved, again and again."""
    limit = np.inf
    while len(mesh.vertices) < vertices:
        ends = mesh.vertices[_edges(mesh.faces)]
        limit = SHRINK * min(limit, np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1).max())
        mesh = _halved(mesh, limit)
    return mesh


def _halved(mesh: CadMesh, limit: float) -> CadMesh:
    """Every edge longer than `limit` halved, of all its triangles alike, so that no gap opens."""
    edges = np.sort(_edges(mesh.faces), axis=1)
    unique, which = np.unique(edges, axis=0, return_inverse=True)
    ends = mesh.vertices[unique]
    long = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1) > limit
    number = np.where(long, len(mesh.vertices) + np.cumsum(long) - 1, -1)
    middle = number[which.reshape(-1)].reshape(3, -1).T  # (F, 3) new vertex of the edge that each corner begins, or -1
    vertices = np.concatenate([mesh.vertices, ends[long].mean(axis=1)])
    pieces, parents, corners = [], [], []
    for turn, marks, triangles in _PATTERNS:
        chosen = np.flatnonzero(((middle >= 0) == marks).all(axis=1))
        six = np.concatenate([np.roll(mesh.faces[chosen], -turn, 1), np.roll(middle[chosen], -turn, 1)], axis=1)
        for triangle in triangles:
            pieces.append(six[:, triangle])
            parents.append(chosen)
            corners.append(np.tile(np.roll(_WEIGHTS[list(triangle)], turn, axis=1), (len(chosen), 1, 1)))
    parent, weights = np.concatenate(parents), np.concatenate(corners)
    parts = {name: weights @ part[parent] for name, part in mesh.corners().items()}
    return replace(mesh, vertices=vertices, faces=np.concatenate(pieces), **parts)


# How a triangle is cut, by which of its edges are halved: 0, 1, 2 are its corners, 3, 4, 5 the middles of the edges
# that begin there. `turn` brings it to a position where the first edges are those that are halved.
_WEIGHTS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0], [0, 0.5, 0.5], [0.5, 0, 0.5]])
_ONE, _TWO = ((0, 3, 2), (3, 1, 2)), ((3, 1, 4), (0, 3, 4), (0, 4, 2))
_PATTERNS = [
    (0, np.array([False, False, False]), ((0, 1, 2),)),
    *((turn, np.roll([True, False, False], turn), _ONE) for turn in range(3)),
    *((turn, np.roll([True, True, False], turn), _TWO) for turn in range(3)),
    (0, np.array([True, True, True]), ((0, 3, 5), (3, 1, 4), (5, 4, 2), (3, 4, 5))),
]


def object_model(mesh: CadMesh, obj_id: int, name: str) -> ObjectModel:
    """The mesh, metres, as a model; coordinates are those that a file of float32 millimetres holds.

    A vertex is doubled where colours, texture coordinates or normals of its corners differ.
    """
    parts = [mesh.faces.reshape(-1, 1), *(part.reshape(-1, part.shape[-1]) for part in mesh.corners().values())]
    keys = np.round(np.concatenate([part.astype(np.float64) for part in parts], axis=1), 5)
    _, first, faces = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    millimetres = (M_TO_MM * mesh.vertices[mesh.faces.reshape(-1)[first]]).astype(np.float32)
    vertices = MM_TO_M * millimetres.astype(np.float64)
    of_vertices = {key: part.reshape(-1, part.shape[-1])[first] for key, part in mesh.corners().items()}
    if mesh.colors is not None:
        of_vertices["colors"] = np.rint(of_vertices["colors"]).astype(np.uint8)
    if mesh.normals is not None:
        length = np.linalg.norm(of_vertices["normals"], axis=1, keepdims=True)
        of_vertices["normals"] = of_vertices["normals"] / np.maximum(length, 1e-12)
    diameter, low, extent = measure(vertices)
    return ObjectModel(
        obj_id,
        name,
        vertices,
        faces.reshape(-1, 3),
        diameter=diameter,
        bounds_min=low,
        extent=extent,
        texture=mesh.texture,
        **of_vertices,
    )


def with_normals(mesh: CadMesh) -> CadMesh:
    """The mesh with smooth normals at its corners, but for edges of more than `SHARP`, which stay edges.

    To be asked for before `refined`: the halves of a curved surface's triangles would each be flat.
    """
    import trimesh

    surface = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    smooth = surface.face_adjacency[surface.face_adjacency_angles < np.radians(SHARP)]
    patch = trimesh.graph.connected_component_labels(smooth, node_count=len(mesh.faces))
    # A vertex has a normal for each patch: that of the patch's triangles around it, by their angles there.
    pairs = np.stack([mesh.faces.reshape(-1), np.repeat(patch, 3)], axis=1)
    _, group = np.unique(pairs, axis=0, return_inverse=True)
    group = group.reshape(mesh.faces.shape)
    normals = trimesh.geometry.weighted_vertex_normals(
        group.max() + 1, group, surface.face_normals, surface.face_angles
    )
    return replace(mesh, normals=normals[group])
