"""Mesh and CAD files of any format: their parts as meshes, where the file puts them. The one place that reads them."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sopose.core.images.files import IMAGE_SUFFIXES, read_image
from sopose.core.objects.colors import linear_to_srgb
from sopose.core.objects.limits import PixelAllowance, require_few_triangles, require_modest_gltf
from sopose.core.objects.mesh import Mesh
from sopose.core.objects.ply import read_ply
from sopose.core.objects.textures import find_beside, missing_texture, own_picture, read_texture, without_options
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import decode_text, require_file

if TYPE_CHECKING:
    from PIL.Image import Image
    from trimesh import Scene, Trimesh
    from trimesh.visual.material import Material

METERS = {"mm": 1e-3, "cm": 1e-2, "m": 1.0, "inch": 0.0254}
# Formats that trimesh reads with a package that is no dependency.
PACKAGES = {"3mf": "lxml", "3dxml": "lxml", "xaml": "lxml", "dae": "pycollada", "step": "cascadio", "stp": "cascadio"}
NO_MESHES = {"zip", "bz2", "tar.gz", "tar.bz2", "dxf", "svg", "xyz"}  # trimesh reads them, but not as one mesh
GLTF = {"glb", "gltf"}  # whose factors and vertex colours are light, not levels
TEXTS = {"obj", "off", "mtl"}  # formats that are text, of whatever encoding


@dataclass(frozen=True, eq=False)
class MeshFile:
    """What a file holds, in its own unit of length."""

    parts: list[Mesh]  # with triangles
    others: int  # parts without triangles: points or lines
    unit: str | None  # of `METERS`, where the file or its format states one
    notes: tuple[str, ...] = ()  # what was read otherwise than it is written


def readable_formats() -> list[str]:
    """Suffixes that can be read here, without the dot."""
    from trimesh.exchange.load import mesh_formats

    return sorted(mesh_formats() - NO_MESHES - {"stl_ascii"})


def read_mesh_file(path: Path) -> MeshFile:
    """The parts of one file. `UserError` where it is missing, damaged or of an unknown format."""
    path = require_file(Path(path), "give a CAD or mesh file")
    suffix = path.suffix.lower().removeprefix(".")
    if suffix != "ply":  # the one format that is read without trimesh
        _require_readable(path, suffix)
    if not path.stat().st_size:
        raise UserError(f"{path} is empty; export it again")
    if suffix == "ply":
        mesh = read_ply(path)
        return MeshFile([mesh] if len(mesh.faces) else [], int(not len(mesh.faces)), None, mesh.notes)
    return _read_by_trimesh(path, suffix)


def _require_readable(path: Path, suffix: str) -> None:
    known = readable_formats()
    if suffix not in known:
        package = PACKAGES.get(suffix)
        remedy = f"pip install {package}, or export" if package else "export"
        raise UserError(f"{path} is of a format that isn't read here ({', '.join(known)} are); {remedy} it as one")


class _Beside:
    """Gives trimesh the files that a mesh names: those beside it or below, texts as UTF-8, pictures as read here."""

    def __init__(self, path: Path) -> None:
        self.folder, self.file_name = path.parent, path.name
        self.missing: list[str] = []  # pictures that were asked for in vain
        self.notes: list[str] = []
        self.pixels = PixelAllowance(path)
        self.damage: UserError | None = None  # trimesh continues without what it can't read

    def get(self, name: str) -> bytes:
        """The content of a file by its name."""
        found = find_beside(self.folder, name)
        is_picture = without_options(name).lower().endswith(IMAGE_SUFFIXES)
        if found is None:
            self.missing += [name] if is_picture else []
            raise FileNotFoundError(name)
        if not is_picture:
            data = found.read_bytes()
            return decode_text(data).encode() if found.suffix.lower().removeprefix(".") in TEXTS else data
        if without_options(name) != name.strip():
            self.notes.append(f"options of a texture are left out: {name.strip()}")
        try:
            return cv2.imencode(".bmp", read_image(self.pixels.take_file(found)))[1].tobytes()
        except UserError as error:
            self.damage = error
            raise

    __getitem__ = get


def _read_by_trimesh(path: Path, suffix: str) -> MeshFile:
    import trimesh

    data, beside = path.read_bytes(), _Beside(path)
    if suffix in TEXTS or (suffix == "stl" and data.lstrip().startswith(b"solid") and b"facet" in data[:1000]):
        data = decode_text(data).encode()
    try:
        if suffix in GLTF:
            require_modest_gltf(data, suffix)
        # As it is in the file: merging and repair are done, and reported, later.
        scene = trimesh.load_scene(io.BytesIO(data), suffix, resolver=beside, process=False)
        if beside.damage is not None:
            raise beside.damage
        return _mesh_file(scene, path, suffix, beside)
    except UserError:
        raise
    except Exception as error:  # whatever trimesh stumbles over, the file is at fault
        # A package that trimesh would guess a damaged text's encoding with is no reason.
        reason = "" if isinstance(error, ImportError) else " ".join(str(error).split())
        reason = reason or "it is damaged"
        raise UserError(f"{path} cannot be read as a mesh ({reason[:200]}); export it again") from error


def _mesh_file(scene: Scene, path: Path, suffix: str, beside: _Beside) -> MeshFile:
    """What trimesh has read of a file. Raises what trimesh and Pillow stumble over, and `ValueError` for too much."""
    import trimesh

    require_few_triangles(scene)
    if suffix in GLTF:  # whose pictures lie within it
        _count_pictures(scene, beside.pixels)
    dumped = scene.dump()
    meshes = [part for part in dumped if isinstance(part, trimesh.Trimesh) and len(part.faces)]
    parts = [_part(mesh, suffix in GLTF, path) for mesh in meshes]
    lacking = any(part.uv is not None and part.texture is None for part in parts)
    notes = [*dict.fromkeys(beside.notes), *([missing_texture(beside.missing)] if lacking else [])]
    return MeshFile(parts, len(dumped) - len(meshes), _unit(scene), tuple(notes))


def _count_pictures(scene: Scene, pixels: PixelAllowance) -> None:
    materials = (getattr(part.visual, "material", None) for part in scene.geometry.values() if hasattr(part, "visual"))
    pictures = {id(picture): picture for material in materials if (picture := _picture(material)) is not None}
    for picture in pictures.values():
        pixels.take(picture.size[0] * picture.size[1])


def _unit(scene: Scene) -> str | None:
    """The unit that file or format states, where it is one of ours."""
    from trimesh.units import unit_conversion

    given = scene.units
    if not given:
        return None
    try:
        meters = unit_conversion(str(given), "meters")
    except Exception:  # a text that names no unit
        return None
    near = [unit for unit, size in METERS.items() if abs(meters / size - 1) < 1e-3]
    return near[0] if near else None


def _part(part: Trimesh, linear: bool, path: Path) -> Mesh:
    """One part of the file `path`, whose own picture is the texture of one that names none."""
    mesh = Mesh(np.asarray(part.vertices, np.float64), np.asarray(part.faces, np.int64))
    visual = part.visual
    if visual.kind in ("vertex", "face"):
        levels = visual.vertex_colors if visual.kind == "vertex" else visual.face_colors
        levels = _levels(np.asarray(levels)[:, :3], linear)
        return replace(mesh, colors=levels if visual.kind == "vertex" else np.repeat(levels[:, None], 3, axis=1))
    if visual.kind != "texture" or visual.material is None:
        return mesh
    uv = np.asarray(visual.uv, np.float64) if visual.uv is not None and len(visual.uv) == len(part.vertices) else None
    image = None if uv is None else _image(visual.material)
    if image is None and uv is not None and (own := own_picture(path)):  # as for PLY files that name none
        image = read_texture(own)
    color = None
    if image is None and not _is_default(visual.material):
        color = _levels(np.asarray(visual.material.main_color)[None, :3], linear)[0]
    return replace(mesh, uv=uv, texture=image, color=color)


def _levels(colors: np.ndarray, linear: bool) -> np.ndarray:
    """Colours (N, 3) of trimesh, 0 to 255, as levels of sRGB, float64."""
    levels = np.asarray(colors, np.float64)
    return 255 * linear_to_srgb(levels / 255) if linear else levels


def _picture(material: Material) -> Image | None:
    """The picture as trimesh has it, not decoded yet."""
    return getattr(material, "baseColorTexture", None) or getattr(material, "image", None)


def _image(material: Material) -> np.ndarray | None:
    """The picture (H, W, 3) uint8 of a material's colour, if it has one."""
    image = _picture(material)
    # trimesh puts four pixels of one colour where a picture is missing.
    return None if image is None or max(image.size) <= 2 else np.array(image.convert("RGB"))


def _is_default(material: Material) -> bool:
    """Whether a material says nothing of colour."""
    from trimesh.visual.color import to_rgba

    colors = [getattr(material, name, None) for name in ("baseColorFactor", "diffuse")]
    return all(color is None or np.array_equal(color, to_rgba(None)) for color in colors)
