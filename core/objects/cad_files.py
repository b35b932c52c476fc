"""CAD and mesh files of any format that trimesh reads, as one mesh each: bodies joined, scene transforms applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sopose.core.objects.cad_mesh import CadMesh, joined
from sopose.core.objects.colors import linear_to_srgb
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import read_image, require_file

METERS = {"mm": 1e-3, "cm": 1e-2, "m": 1.0, "inch": 0.0254}
# Formats that trimesh reads with a package that is no dependency.
PACKAGES = {"3mf": "lxml", "3dxml": "lxml", "xaml": "lxml", "dae": "pycollada", "step": "cascadio", "stp": "cascadio"}
NO_MESHES = {"zip", "bz2", "tar.gz", "tar.bz2", "dxf", "svg", "xyz"}  # trimesh reads them, but not as one mesh
LINEAR = {"glb", "gltf"}  # whose factors and vertex colours are light, not levels
FLAT_UV = 1e-4  # by how much texture coordinates may leave [0, 1] and not mean a repeated texture
PLAIN = 170  # level of a body without colour beside others that have one
PATCH = 8  # pixels a side of one colour in a texture


@dataclass(frozen=True, eq=False)
class CadFile:
    """What a file holds, in its own unit of length."""

    mesh: CadMesh
    unit: str | None  # of `METERS`, where the file or its format tells one
    notes: list[str] = field(default_factory=list)


def readable_formats() -> list[str]:
    """Suffixes that can be read here, without the dot."""
    from trimesh.exchange.load import mesh_formats

    return sorted(mesh_formats() - NO_MESHES - {"stl_ascii"})


def read_cad(path: Path) -> CadFile:
    """One file as a mesh. `UserError` where it is missing, damaged, of an unknown format, or has no triangles."""
    path = require_file(Path(path), "give a CAD or mesh file")
    suffix = path.suffix.lower().removeprefix(".")
    known = readable_formats()
    if suffix not in known:
        package = PACKAGES.get(suffix)
        remedy = f"pip install {package}, or export" if package else "export"
        raise UserError(f"{path} is of a format that isn't read here ({', '.join(known)} are); {remedy} it as one")
    if not path.stat().st_size:
        raise UserError(f"{path} is empty; export it again")
    scene = _load(path)
    bodies, others = _bodies(scene, path)
    if not bodies:
        found = f"{others} without triangles (points or lines)" if others else "nothing"
        raise UserError(f"{path} has no triangles: it holds {found}; export a surface mesh")
    notes = [f"{len(bodies)} bodies joined"] if len(bodies) > 1 else []
    if others:
        notes.append(f"{others} parts without triangles (points or lines) left out")
    if any(body.lacks_texture for body in bodies):
        notes.append("it has texture coordinates, but no texture was found with it: put its image beside the file")
    meshes, colored = _with_colors(bodies)
    return CadFile(joined(meshes), _unit(scene), notes + colored)


def _load(path: Path) -> Any:
    import trimesh

    try:
        # As it is in the file: merging and repair are done, and told, later.
        return trimesh.load_scene(path, process=False)
    except Exception as error:  # whatever trimesh stumbles over, the file is at fault
        # What it would need to guess a text's encoding is no reason: a text that needs it is damaged.
        reason = "" if isinstance(error, ImportError) else " ".join(str(error).split())
        reason = reason or "it is damaged"
        raise UserError(f"{path} cannot be read as a mesh ({reason[:200]}); export it again") from error


def _unit(scene: Any) -> str | None:
    """The unit that file or format tells, where it is one of ours."""
    from trimesh.units import unit_conversion

    told = scene.units
    if not told:
        return None
    try:
        meters = unit_conversion(str(told), "meters")
    except Exception:  # a text that names no unit
        return None
    near = [unit for unit, size in METERS.items() if abs(meters / size - 1) < 1e-3]
    return near[0] if near else None


@dataclass(frozen=True, eq=False)
class _Body:
    """A part of a scene with what it has of colours: a texture, corners' colours, one colour, or none."""

    mesh: CadMesh
    color: np.ndarray | None = None  # (3,) levels, of all of it
    lacks_texture: bool = False  # it has coordinates on a texture that wasn't found


def _bodies(scene: Any, path: Path) -> tuple[list[_Body], int]:
    """The parts with triangles where the scene graph puts them, and the number of others."""
    import trimesh

    parts = scene.dump()
    meshes = [part for part in parts if isinstance(part, trimesh.Trimesh) and len(part.faces)]
    linear = path.suffix.lower().removeprefix(".") in LINEAR
    return [_body(mesh, linear, path.with_suffix(".png")) for mesh in meshes], len(parts) - len(meshes)


def _body(part: Any, linear: bool, beside: Path) -> _Body:
    """One part; `beside` is the texture of one that names none, if there is that file."""
    vertices, faces = np.asarray(part.vertices, np.float64), np.asarray(part.faces, np.int64)
    visual = part.visual
    if visual.kind in ("vertex", "face"):
        levels = visual.vertex_colors if visual.kind == "vertex" else visual.face_colors
        levels = _levels(np.asarray(levels)[:, :3], linear)
        if (levels == levels[0]).all():
            return _Body(CadMesh(vertices, faces), levels[0])
        corners = levels[faces] if visual.kind == "vertex" else np.repeat(levels[:, None], 3, axis=1)
        return _Body(CadMesh(vertices, faces, colors=corners))
    if visual.kind != "texture" or visual.material is None:
        return _Body(CadMesh(vertices, faces))
    image, uv = _image(visual.material), visual.uv
    has_uv = uv is not None and len(uv) == len(vertices)
    if image is None and has_uv and beside.is_file():  # as textures of PLY files are found that name none
        image = cv2.cvtColor(read_image(beside), cv2.COLOR_BGR2RGB)
    if image is not None and has_uv:
        return _Body(CadMesh(vertices, faces, uv=np.asarray(uv, np.float64)[faces], texture=image))
    color = None
    if not _is_default(visual.material):
        color = _levels(np.asarray(visual.material.main_color)[None, :3], linear)[0]
    return _Body(CadMesh(vertices, faces), color, lacks_texture=has_uv)


def _levels(colors: np.ndarray, linear: bool) -> np.ndarray:
    """Colours (N, 3) of trimesh, 0 to 255, as levels of sRGB, float64."""
    levels = np.asarray(colors, np.float64)
    return 255 * linear_to_srgb(levels / 255) if linear else levels


def _image(material: Any) -> np.ndarray | None:
    """The picture (H, W, 3) uint8 of a material's colour, if it has one."""
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    # trimesh puts four pixels of one colour where a picture is missing.
    return None if image is None or max(image.size) <= 2 else np.array(image.convert("RGB"))


def _is_default(material: Any) -> bool:
    """Whether a material says nothing of colour."""
    from trimesh.visual.color import to_rgba

    told = [getattr(material, name, None) for name in ("baseColorFactor", "diffuse")]
    return all(color is None or np.array_equal(color, to_rgba(None)) for color in told)


def _with_colors(bodies: Sequence[_Body]) -> tuple[list[CadMesh], list[str]]:
    """Bodies as meshes that all have colours, or all a part of one texture, or all neither; and what to tell of it."""
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
        return _one_texture(bodies), []
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


def _one_texture(bodies: Sequence[_Body]) -> list[CadMesh]:
    """Bodies with pictures of their own, or one colour, on one picture: theirs stacked, the first on top."""
    pictures = []
    for body in bodies:
        plain = np.full(3, PLAIN) if body.color is None else np.rint(body.color)
        patch = np.broadcast_to(plain.astype(np.uint8), (PATCH, PATCH, 3))
        pictures.append(patch if body.mesh.texture is None else body.mesh.texture)
    width, height = max(p.shape[1] for p in pictures), sum(p.shape[0] for p in pictures)
    texture = np.concatenate([np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), mode="edge") for p in pictures])
    meshes, top = [], 0
    for body, picture in zip(bodies, pictures, strict=True):
        own = body.mesh.uv if body.mesh.uv is not None else np.full((*body.mesh.faces.shape, 2), 0.5)
        rows, columns = picture.shape[:2]
        # Half a pixel is kept from the borders, where the neighbour's colours begin.
        x = np.clip(own[..., 0] * columns, 0.5, columns - 0.5) / width
        y = np.clip((1 - own[..., 1]) * rows, 0.5, rows - 0.5) + top
        uv = np.stack([x, 1 - y / height], axis=-1)
        meshes.append(CadMesh(body.mesh.vertices, body.mesh.faces, uv=uv, texture=texture))
        top += rows
    return meshes
