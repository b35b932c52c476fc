"""Fewer triangles for a picture of a model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial import KDTree

from sopose.core.objects.colors import encode, texture_colors
from sopose.core.objects.decimate import fewer_faces
from sopose.core.objects.model import ObjectModel


def simplified_model(model: ObjectModel, max_faces: int) -> ObjectModel:
    """`model` with at most `max_faces` triangles, to look at and not to measure with; itself where it has no more.

    Vertices have the colour of the nearest one before, which a texture is turned into. Sizes and symmetries stay those
    of the whole model.
    """
    if len(model.faces) <= max_faces:
        return model
    import trimesh

    merged = trimesh.Trimesh(model.vertices, model.faces)
    mesh = trimesh.Trimesh(*fewer_faces(merged.vertices, merged.faces, max_faces), process=False)
    colors = _vertex_colors(model)
    return replace(
        model,
        vertices=np.asarray(mesh.vertices),
        faces=np.asarray(mesh.faces),
        normals=None if model.normals is None else np.asarray(mesh.vertex_normals),
        colors=None if colors is None else colors[KDTree(model.vertices).query(mesh.vertices)[1]],
        uv=None,
        texture=None,
    )


def _vertex_colors(model: ObjectModel) -> np.ndarray | None:
    """(V, 3) uint8 RGB colours of the vertices, of the texture where there is one."""
    if model.texture is None or model.uv is None:
        return model.colors
    return encode(texture_colors(model.texture, model.uv))
