"""Fewer triangles for a picture of a model: vertices of one cell of a grid become one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sopose.core.objects.colors import encode, texture_colors
from sopose.core.objects.model import ObjectModel

GROWTH = 1.1  # of the cells, from one try to the next


def simplified_model(model: ObjectModel, max_faces: int) -> ObjectModel:
    """`model` with at most `max_faces` triangles, to look at and not to measure with; itself where it has no more.

    Every vertex moves by less than the diagonal of a cell, which is about the length of the new edges. A texture is
    turned into colours of the vertices. Sizes and symmetries stay those of the whole model.
    """
    if len(model.faces) <= max_faces:
        return model
    corners = model.vertices[model.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2
    side = max(np.sqrt(area / max_faces), 1e-4 * float(np.ptp(model.vertices, axis=0).max()))
    while True:
        cluster, faces = _clustered(model, side)
        if len(faces) <= max_faces:
            break
        side *= GROWTH
    normals = None if model.normals is None else _means(cluster, model.normals)
    if normals is not None:
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    colors = _vertex_colors(model)
    return replace(
        model,
        vertices=_means(cluster, model.vertices),
        faces=faces,
        normals=normals,
        colors=None if colors is None else np.rint(_means(cluster, colors)).astype(np.uint8),
        uv=None,
        texture=None,
    )


def _clustered(model: ObjectModel, side: float) -> tuple[np.ndarray, np.ndarray]:
    """Each vertex' cell (V,), numbered from 0, and the triangles (F, 3) left between cells of `side` metres."""
    cells = np.floor((model.vertices - model.vertices.min(axis=0)) / side).astype(np.int64)
    key = np.ravel_multi_index(cells.T, tuple(cells.max(axis=0) + 1))
    cluster = np.unique(key, return_inverse=True)[1]
    faces = cluster[model.faces]
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]
    # Of triangles that now have the same corners one is kept.
    kept = np.unique(np.sort(faces, axis=1), axis=0, return_index=True)[1]
    return cluster, faces[np.sort(kept)]


def _means(cluster: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(clusters, c) means of vertex values (V, c)."""
    count = np.bincount(cluster)
    return np.stack([np.bincount(cluster, column) for column in values.T.astype(np.float64)], axis=1) / count[:, None]


def _vertex_colors(model: ObjectModel) -> np.ndarray | None:
    """(V, 3) uint8 RGB colours of the vertices, of the texture where there is one."""
    if model.texture is None or model.uv is None:
        return model.colors
    return encode(texture_colors(model.texture, model.uv))
