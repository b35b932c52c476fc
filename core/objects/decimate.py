"""Fewer triangles for a fine mesh, with the distance that its surface moves by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial import KDTree
from tqdm import tqdm

from sopose.core.geometry.surface import Surface, face_areas, sample_surface
from sopose.core.objects.cad_mesh import CadMesh

SHARE = 0.5  # of the triangles that a step leaves: faster than one step, and something to show
NEARLY = 1.02  # times the triangles that a step should leave is near enough
CAREFULNESS = (5, 7, 9)  # of the simplifier's 0 to 10, a fast one: more only where less leaves too many triangles
SIZE = 1000.0  # that meshes are scaled to: the simplifier's limits are absolute
INWARDS = 0.1  # of the way to its triangle's middle: how far from a corner its colour is looked up
SAMPLES = 20_000  # points of a surface, besides its vertices
SPREAD = 200_000  # of the surface that they are compared with, besides one in each triangle


def fewer_faces(
    vertices: np.ndarray, faces: np.ndarray, most: int, name: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) and triangles (F, 3) of about the same surface with at most `most` triangles where that works.

    By quadric errors. name: shown beside a progress bar, None for none. What cannot be simplified further keeps
    more; bodies that are too small for so few are lost.
    """
    total, factor = max(len(faces) - most, 0), SIZE / np.ptp(vertices, axis=0).max()
    vertices = factor * vertices
    with tqdm(total=total, desc=name, unit="triangle", unit_scale=True, disable=name is None or not total) as bar:
        while len(faces) > most:
            before = len(faces)
            found = _simplified(vertices, faces, max(most, int(SHARE * before)))
            if not 0 < len(found[1]) < before:
                break
            vertices, faces = found
            bar.update(before - len(faces))
    return vertices / factor, faces


def _simplified(vertices: np.ndarray, faces: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """One step to about `count` triangles where that works, all of which have an area."""
    import trimesh

    mesh = trimesh.Trimesh(vertices, faces, process=False)
    for carefulness in CAREFULNESS:
        simple = mesh.simplify_quadric_decimation(face_count=count, aggression=carefulness)
        if len(simple.faces) <= NEARLY * count:
            break
    points, triangles = np.asarray(simple.vertices), np.asarray(simple.faces)
    used, triangles = np.unique(triangles[face_areas(points, triangles) > 0], return_inverse=True)
    return points[used], triangles.reshape(-1, 3)


def decimated(mesh: CadMesh, most: int, name: str | None = None) -> CadMesh:
    """A mesh with at most `most` triangles where that works; itself where it has no more.

    Corners have the mean colour of the nearest triangle before, which a texture is turned into. Normals are left out,
    to be asked for anew. name: as of `fewer_faces`.
    """
    if len(mesh.faces) <= most:
        return mesh
    vertices, faces = fewer_faces(mesh.vertices, mesh.faces, most, name)
    baked, colors = mesh.with_baked_texture(), None
    if baked.colors is not None:
        corners = vertices[faces]
        inside = corners + INWARDS * (corners.mean(axis=1, keepdims=True) - corners)  # on its own side of an edge
        nearest = KDTree(mesh.vertices[mesh.faces].mean(axis=1)).query(inside)[1]
        colors = baked.colors.mean(axis=1)[nearest]
    return replace(mesh, vertices=vertices, faces=faces, colors=colors, uv=None, texture=None, normals=None)


def surface_moved(before: CadMesh, after: CadMesh) -> float:
    """About the largest distance of one surface from the other, in the meshes' unit: of vertices and other points."""
    if before is after:
        return 0.0
    rng = np.random.default_rng(0)

    def farthest(one: CadMesh, other: CadMesh) -> float:
        points = sample_surface(one.vertices, one.faces, SAMPLES, rng).points
        surface = Surface(other.vertices, other.faces, SPREAD, rng)
        return float(surface.distance(np.concatenate([points, one.vertices])).max())

    return max(farthest(before, after), farthest(after, before))
