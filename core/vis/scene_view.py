"""An interactive view of model, truth and estimates in one html file, which loads nothing and opens offline.

Drawing is three.js's (MIT licence), taken from the page that the installed trimesh writes for any scene. That page has
no camera with intrinsics, no switches and no text, so ours has a script of its own.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from sopose.core.bop.models import INFO_NAME, load_model, read_models_info
from sopose.core.geometry.camera import pixel_rays
from sopose.core.geometry.pose import Pose
from sopose.core.objects.model import ObjectModel
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import require_writable_file, write_text
from sopose.core.utils.units import M_TO_MM
from sopose.core.vis.colors import ESTIMATE, PALETTE, TRUTH
from sopose.core.vis.simplify import simplified_model

MAX_FACES = 20_000  # triangles of a mesh in a page
PAGE_FACES = 120_000  # of all meshes of a page together
PHOTO_SIDE, TEXTURE_SIDE = 1600, 1024  # longest side of a picture in a page, pixels
TRUTH_NAME, MODEL_NAME = "truth", "model"
OTHER_ESTIMATES = (PALETTE[5], PALETTE[2], PALETTE[3], PALETTE[6])  # after `ESTIMATE`
SAME_TURN = 1e-6  # radians; what turns less is no symmetry to draw
VIEWER_START = "var camera,controls,scene"  # where trimesh's own lines begin, behind the library
TESTED = ">=5.2,<6"  # releases of trimesh whose page is known


@dataclass(frozen=True, eq=False)
class Photograph:
    """What a camera saw."""

    image_bgr: np.ndarray  # (H, W, 3) uint8
    K: np.ndarray  # (3, 3) pixels


@dataclass(frozen=True, eq=False)
class ViewedEstimate:
    """An estimated pose, where it comes from, and values shown beside it."""

    series: str  # the results it comes from; poses of one series have one colour
    pose: Pose
    values: Mapping[str, str] = field(default_factory=dict)  # heading -> value, e.g. its errors


@dataclass(frozen=True, eq=False)
class ViewedObject:
    """A model with its true pose and estimates of it; without any pose it is shown in its own frame."""

    label: str
    model: ObjectModel
    truth: Pose | None = None
    estimates: Sequence[ViewedEstimate] = ()


def write_scene_view(
    path: Path,
    title: str,
    objects: Sequence[ViewedObject],
    photograph: Photograph | None = None,
    facts: Mapping[str, str] | None = None,
) -> None:
    """Write the page, atomically. `facts` are shown below the title.

    The photograph stands as the picture plane of its camera's frustum; without one the objects stand alone. Meshes of
    more than `MAX_FACES` triangles are simplified. Raises `UserError` without an object, and where trimesh has no
    viewer.
    """
    if not objects:
        raise UserError("a view needs at least one object; choose another image or other objects")
    colors = _series_colors(objects)
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    folder = files("sopose.core.vis")
    template, script = (folder.joinpath(f"scene_view.{kind}").read_text("utf-8") for kind in ("html", "js"))
    html = environment.from_string(template).render(
        title=title,
        facts=dict(facts or {}),
        colors=colors,
        headings=list(dict.fromkeys(key for item in objects for estimate in item.estimates for key in estimate.values)),
        objects=objects,
        axes=any(_stands_alone(item) for item in objects),
        data=_scene(objects, colors, photograph),
        library=three_js(),
        script=script,
    )
    write_text(path, html)


def view_mesh(html: Path, mesh: Path) -> None:
    """Write the page of a model alone, a PLY file in millimetres.

    Its symmetries are those of the models_info.json beside it, where there is one.
    Raises `UserError` for a model or an info file that is wrong, and before any work for a page that cannot be written.
    """
    require_writable_file(html)
    info_path, found = mesh.parent / INFO_NAME, re.fullmatch(r"obj_(\d+)", mesh.stem)
    infos = read_models_info(info_path) if found and info_path.is_file() else {}
    known = infos.get(int(found[1])) if found else None
    model = load_model(mesh, int(found[1]) if found else 0, mesh.stem, known)
    write_scene_view(html, mesh.stem, [ViewedObject(mesh.stem, model)], facts=model_facts(model))


@lru_cache
def three_js() -> str:
    """The text of three.js and its TrackballControls, which define `THREE`: the script of trimesh's own viewer page.

    Raises `UserError` where the installed trimesh writes another page.
    """
    import trimesh.viewer

    page = trimesh.viewer.scene_to_html(trimesh.Scene(trimesh.creation.box()))
    library, own_lines, _ = page.partition("<script>")[2].partition(VIEWER_START)
    if not own_lines or "THREE.TrackballControls=" not in library:
        raise UserError(f"trimesh {trimesh.__version__} has another viewer page; pip install 'trimesh{TESTED}'")
    return library


def symmetry_axes(model: ObjectModel) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """What turns the model onto itself: (name, point (3,) on the axis, unit direction (3,)), metres, object frame.

    A continuous symmetry is called "any angle", a discrete one by its angle in degrees.
    """
    axes = [("any angle", offset, axis) for axis, offset in model.symmetries_continuous]
    for transform in model.symmetries_discrete:
        turn = Rotation.from_matrix(transform[:3, :3]).as_rotvec()
        angle = float(np.linalg.norm(turn))
        if angle > SAME_TURN:
            # The fixed point nearest to the origin; along the axis the equation says nothing.
            point = np.linalg.lstsq(np.eye(3) - transform[:3, :3], transform[:3, 3], rcond=1e-6)[0]
            axes.append((f"{np.degrees(angle):.0f}°", point, turn / angle))
    return axes


def _series_colors(objects: Sequence[ViewedObject]) -> dict[str, str]:
    """The colour of each series that there is, truth first."""
    names = dict.fromkeys(estimate.series for item in objects for estimate in item.estimates)
    of_estimates = dict(zip(names, (ESTIMATE, *OTHER_ESTIMATES * len(names)), strict=False))
    colors = {TRUTH_NAME: TRUTH} if any(item.truth is not None for item in objects) else {}
    if any(_stands_alone(item) for item in objects):
        colors[MODEL_NAME] = PALETTE[7]
    return colors | of_estimates


def _stands_alone(item: ViewedObject) -> bool:
    return item.truth is None and not item.estimates


def _scene(objects: Sequence[ViewedObject], colors: Mapping[str, str], photograph: Photograph | None) -> dict[str, Any]:
    """What the page's script draws; lengths in metres, the camera's frame."""
    models = list(dict.fromkeys(item.model for item in objects))
    limit = min(MAX_FACES, PAGE_FACES // len(models))
    poses = []
    for index, item in enumerate(objects):
        series = [(TRUTH_NAME, item.truth)] if item.truth is not None else []
        series += [(estimate.series, estimate.pose) for estimate in item.estimates]
        if not series:
            series = [(MODEL_NAME, Pose(np.eye(3), np.zeros(3)))]
        poses += [
            {"object": index, "mesh": models.index(item.model), "series": name, "matrix": _matrix(pose)}
            for name, pose in series
        ]
    return {
        "photo": None if photograph is None else _photo(photograph),
        "meshes": [_mesh(model, limit) for model in models],
        "poses": poses,
        "colors": dict(colors),
    }


def _matrix(pose: Pose) -> list[float]:
    """The 16 numbers of a pose, column by column."""
    return np.vstack([np.column_stack([pose.cam_R_obj, pose.cam_t_obj]), [0, 0, 0, 1]]).T.reshape(-1).tolist()


def _photo(photograph: Photograph) -> dict[str, Any]:
    """The picture, its camera, and where its corners are at a depth of one metre (top left, top right, bottom …)."""
    height, width = photograph.image_bgr.shape[:2]
    right, low = width - 0.5, height - 0.5  # pixel centres are integers, so the picture begins at -0.5
    corners = pixel_rays(photograph.K, np.array([[-0.5, -0.5], [right, -0.5], [-0.5, low], [right, low]]))
    return {
        "uri": _jpeg_uri(photograph.image_bgr, PHOTO_SIDE),
        "width": width,
        "height": height,
        "K": photograph.K.tolist(),
        "corners": corners.tolist(),
    }


def _mesh(model: ObjectModel, max_faces: int) -> dict[str, Any]:
    """A model's arrays in base64, and its measures in metres."""
    shown = simplified_model(model, max_faces)
    textured = shown.uv is not None and shown.texture is not None
    colored = shown.colors is not None and not textured
    return {
        "positions": _packed(shown.vertices, "<f4"),
        "faces": _packed(shown.faces, "<u4"),
        "normals": None if shown.normals is None else _packed(np.rint(127 * np.clip(shown.normals, -1, 1)), "i1"),
        "colors": _packed(shown.colors, "u1") if colored else None,
        "uv": _packed(shown.uv, "<f4") if textured else None,
        "texture": _jpeg_uri(shown.texture[..., ::-1], TEXTURE_SIDE) if textured else None,
        "diameter": model.diameter,
        "low": model.bounds_min.tolist(),
        "size": model.extent.tolist(),
        "symmetries": [
            {"name": name, "point": point.tolist(), "direction": direction.tolist()}
            for name, point, direction in symmetry_axes(model)
        ],
    }


def model_facts(model: ObjectModel) -> dict[str, str]:
    """What a page shows of a model alone: size, triangles, symmetries."""
    size = " × ".join(f"{M_TO_MM * length:.1f}" for length in model.extent)
    simplified = f", fewer than {MAX_FACES:,} of them here" if len(model.faces) > MAX_FACES else ""
    symmetries = ", ".join(name for name, _, _ in symmetry_axes(model))
    return {
        "size": f"{size} mm, diameter {M_TO_MM * model.diameter:.1f} mm",
        "mesh": f"{len(model.vertices):,} vertices, {len(model.faces):,} triangles{simplified}",
        "symmetries": symmetries or "none",
    }


def _packed(values: np.ndarray, dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, np.dtype(dtype)).tobytes()).decode("ascii")


def _jpeg_uri(image_bgr: np.ndarray, longest: int) -> str:
    """A picture as a data URI, shrunk where a side is longer than `longest` pixels."""
    height, width = image_bgr.shape[:2]
    scale = min(1.0, longest / max(height, width))
    if scale < 1:
        size = max(1, round(scale * width)), max(1, round(scale * height))
        image_bgr = cv2.resize(image_bgr, size, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", np.ascontiguousarray(image_bgr), [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"
