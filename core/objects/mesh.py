"""A mesh as a file has it: in the file's unit and order, with whatever colours it has."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Mesh:
    """V vertices and F triangles, of any unit of length; quads and polygons are cut already.

    Values belong to vertices, (V, c), or to the corners of triangles, (F, 3, c).
    """

    vertices: np.ndarray  # (V, 3) float64
    faces: np.ndarray  # (F, 3) int64
    normals: np.ndarray | None = None  # (V, 3) float64
    colors: np.ndarray | None = None  # (V, 3) or (F, 3, 3) float64, levels of sRGB, 0 to 255
    uv: np.ndarray | None = None  # (V, 2) or (F, 3, 2) float64, v upwards
    texture: np.ndarray | None = None  # (H, W, 3) uint8 RGB, first row on top
    color: np.ndarray | None = None  # (3,) level of all of it, where neither colours nor a texture say more
    notes: tuple[str, ...] = ()  # what was read otherwise than it is written: textures missing, joined or left out

    def corners(self, values: np.ndarray) -> np.ndarray:
        """Values of vertices or corners as those of corners, (F, 3, c)."""
        return values if values.ndim == 3 else values[self.faces]

    def at_vertices(self) -> Mesh:
        """The same with all values at vertices. Geometry stays, but for vertices at the seams of a texture.

        Where coordinates on a texture differ between corners, their vertex is there several times, in another order
        than the file's; colours of triangles become the mean at each vertex.
        """
        mesh = self
        if mesh.colors is not None and mesh.colors.ndim == 3:
            mesh = replace(mesh, colors=_means(mesh.faces, mesh.colors, len(mesh.vertices)))
        return mesh if mesh.uv is None or mesh.uv.ndim == 2 else mesh._split_at_seams(mesh.uv)

    def _split_at_seams(self, uv: np.ndarray) -> Mesh:
        from trimesh.grouping import unique_rows
        from trimesh.visual.texture import unmerge_faces

        flat = uv.reshape(-1, 2)
        first, which = unique_rows(flat)
        faces, vertex, coordinate = unmerge_faces(self.faces, which.reshape(self.faces.shape))
        return replace(
            self,
            vertices=self.vertices[vertex],
            faces=np.asarray(faces, np.int64),
            normals=None if self.normals is None else self.normals[vertex],
            colors=None if self.colors is None else self.colors[vertex],
            uv=flat[first][coordinate],
        )


def _means(faces: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """(V, c) means of what the corners (F, 3, c) at each of `count` vertices have; 0 without a corner."""
    total = np.zeros((count, values.shape[-1]))
    np.add.at(total, faces.reshape(-1), values.reshape(-1, values.shape[-1]))
    return total / np.maximum(np.bincount(faces.reshape(-1), minlength=count), 1)[:, None]
