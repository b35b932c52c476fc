"""A CAD file as one mesh: its parts joined, with colours or one texture for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sopose.core.objects.cad_mesh import CadMesh, joined
from sopose.core.objects.mesh import Mesh
from sopose.core.objects.mesh_files import read_mesh_file
from sopose.core.objects.textures import missing_texture, on_stack, stacked
from sopose.core.utils.errors import UserError

FLAT_UV = 1e-4  # by how much texture coordinates may leave [0, 1] and not mean a repeated texture
PLAIN = 170  # level of a body without colour beside others that have one
PATCH = 8  # pixels a side of one colour in a texture


@dataclass(frozen=True, eq=False)
class CadFile:
    """What a file holds, in its own unit of length."""

    mesh: CadMesh
    unit: str | None  # of `mesh_files.METERS`, where the file or its format states one
    notes: list[str] = field(default_factory=list)


def read_cad(path: Path) -> CadFile:
    """One file as a mesh. `UserError` where it is missing, damaged, of an unknown format, or has no triangles."""
    file = read_mesh_file(path)
    if not file.parts:
        found = f"{file.others} without triangles (points or lines)" if file.others else "nothing"
        raise UserError(f"{path} has no triangles: it holds {found}; export a surface mesh")
    notes = [f"{len(file.parts)} bodies joined"] if len(file.parts) > 1 else []
    if file.others:
        notes.append(f"{file.others} parts without triangles (points or lines) left out")
    if any(part.uv is not None and part.texture is None for part in file.parts) and not file.notes:
        notes.append(missing_texture([]))
    meshes, colored = _with_colors([_body(part) for part in file.parts], path)
    return CadFile(joined(meshes), file.unit, [*notes, *file.notes, *colored])


@dataclass(frozen=True, eq=False)
class _Body:
    """A part with what it has of colours: a texture, corners' colours, one colour, or none."""

    mesh: CadMesh
    color: np.ndarray | None = None  # (3,) levels, of all of it


def _body(part: Mesh) -> _Body:
    if part.texture is not None and part.uv is not None:
        return _Body(CadMesh(part.vertices, part.faces, uv=part.corners(part.uv), texture=part.texture))
    colors = None if part.colors is None else part.colors.reshape(-1, 3)
    if colors is None or (colors == colors[0]).all():
        return _Body(CadMesh(part.vertices, part.faces), part.color if colors is None else colors[0])
    return _Body(CadMesh(part.vertices, part.faces, colors=part.corners(part.colors)))


def _with_colors(bodies: Sequence[_Body], path: Path) -> tuple[list[CadMesh], list[str]]:
    """Bodies as meshes that all have colours, or all a part of one texture, or all neither; and notes about it."""
    meshes = [body.mesh for body in bodies]
    textured = [mesh.texture is not None for mesh in meshes]
    plain = [body.mesh.colors is None and body.mesh.texture is None and body.color is None for body in bodies]
    if all(plain):
        return meshes, []
    one_picture = all(textured) and all(np.array_equal(mesh.texture, meshes[0].texture) for mesh in meshes)
    if one_picture:
        return meshes, []
    if not any(textured):
        return [_painted(body) for body in bodies], []
    flat = all(mesh.uv is None or _is_flat(mesh.uv) for mesh in meshes)
    if flat and not any(mesh.colors is not None for mesh in meshes):
        return _one_texture(bodies, path), []
    baked = [_Body(mesh.with_baked_texture(), body.color) for mesh, body in zip(meshes, bodies, strict=True)]
    note = "textures and colours of several kinds became colours of vertices: detail between vertices is lost"
    return [_painted(body) for body in baked], [note]


def _painted(body: _Body) -> CadMesh:
    """A body with a colour at each corner."""
    if body.mesh.colors is not None:
        return body.mesh
    color = np.full(3, float(PLAIN)) if body.color is None else body.color
    colors = np.broadcast_to(color, (*body.mesh.faces.shape, 3)).copy()
    return CadMesh(body.mesh.vertices, body.mesh.faces, colors=colors)


def _is_flat(uv: np.ndarray) -> bool:
    return bool(uv.min() >= -FLAT_UV and uv.max() <= 1 + FLAT_UV)


def _one_texture(bodies: Sequence[_Body], path: Path) -> list[CadMesh]:
    """Bodies with pictures of their own, or one colour, on one picture: theirs stacked, the first on top."""
    pictures = []
    for body in bodies:
        plain = np.full(3, PLAIN) if body.color is None else np.rint(body.color)
        patch = np.broadcast_to(plain.astype(np.uint8), (PATCH, PATCH, 3))
        pictures.append(patch if body.mesh.texture is None else body.mesh.texture)
    texture, tops = stacked(pictures, path)
    meshes = []
    for body, picture, top in zip(bodies, pictures, tops, strict=True):
        own = body.mesh.uv if body.mesh.uv is not None else np.full((*body.mesh.faces.shape, 2), 0.5)
        meshes.append(replace(body.mesh, uv=on_stack(own, picture, top, texture), texture=texture))
    return meshes
