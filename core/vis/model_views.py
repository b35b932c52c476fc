"""Models from several sides, before white, with lengths to read off. Pictures are (H, W, 3) uint8 BGR."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from sopose.core.geometry.camera import pixel_grid, project
from sopose.core.geometry.pose import Pose
from sopose.core.objects.model import ObjectModel
from sopose.core.render.lights import Lights
from sopose.core.render.looks import Body
from sopose.core.render.materials import Material
from sopose.core.render.packed import Scene
from sopose.core.render.shade import Shading, render_rgb
from sopose.core.utils.units import M_TO_MM

# A lamp beside the camera, so that what faces it shows its own colour.
LAMP = Lights(np.full(3, 0.45), np.array([[-0.35, -0.6, -1.0, 0.0]]), np.full((1, 3), 0.7))
AWAY = 8.0  # of the camera, in radii of the object: near parts look little larger than far ones
SAMPLES = 2  # of a pixel, each way
MARGIN = 1.08
INK, WHITE = (60, 50, 40), 255
FONT = cv2.FONT_HERSHEY_SIMPLEX
SIDES = {
    "front": (0, -1, 0),
    "right": (1, 0, 0),
    "top": (0, 0, 1),
    "above": (0.6, -0.8, 0.7),
    "below": (-0.7, 0.6, -0.7),
}


@dataclass(frozen=True, eq=False)
class View:
    """A picture of a model, and the camera that sees it."""

    image: np.ndarray  # (size, size, 3) uint8 BGR
    depth: np.ndarray  # (size, size) metres, inf where there is none
    points_obj: np.ndarray  # (size, size, 3) what is seen, metres, in the model's frame
    K: np.ndarray
    pose: Pose


class Portrait:
    """A model before a camera that shows all of it, however it is turned about its middle."""

    def __init__(self, model: ObjectModel, size: int) -> None:
        """size: of a picture, pixels a side."""
        self.model, self.size = model, size
        self.caster = model.caster
        self.distance = AWAY * self.caster.radius
        self.focal = size / 2 * np.sqrt(AWAY**2 - 1) / MARGIN

    @property
    def pixels_per_metre(self) -> float:
        """Of a length across the view, at the distance of the object's middle."""
        return self.focal / self.distance

    def view(self, cam_R_obj: np.ndarray, motion: np.ndarray | None = None) -> View:
        """The model from where the camera looks at its middle; `motion` (4, 4), metres, moves the model before it."""
        pose = Pose(cam_R_obj, np.array([0, 0, self.distance]) - cam_R_obj @ self.caster.center)
        moved = pose if motion is None else pose @ Pose(motion[:3, :3], motion[:3, 3])
        middle = (self.size - 1) / 2
        K = np.array([[self.focal, 0, middle], [0, self.focal, middle], [0, 0, 1.0]])
        grid = pixel_grid(SAMPLES * self.size, SAMPLES * self.size)
        fine = (grid + 0.5) / SAMPLES - 0.5
        scene = Scene(K, [Body(self.model, moved, Material(specular=0.02))], LAMP)
        hits = render_rgb(scene, fine, Shading(shadows=False, ambient_occlusion=False))
        rgb = np.where(hits.owner[:, None] >= 0, hits.rgb, WHITE).astype(np.uint8).reshape(*grid.shape[:2], 3)
        image = cv2.resize(rgb, (self.size, self.size), interpolation=cv2.INTER_AREA)[..., ::-1].copy()
        depth, points = (
            part.reshape(*grid.shape[:2], -1)[::SAMPLES, ::SAMPLES] for part in (hits.depth, hits.points_obj)
        )
        return View(image, depth[..., 0], points, K, pose)


def looking(towards: np.ndarray, up: np.ndarray) -> np.ndarray:
    """(3, 3) cam_R_obj of a camera that sees the object from direction `towards` (3,), with `up` (3,) upwards."""
    z = -np.asarray(towards, float) / np.linalg.norm(towards)
    x = np.cross(z, up)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z])


def side_views(model: ObjectModel, size: int) -> list[tuple[str, np.ndarray]]:
    """Titled pictures of a model from several sides of its frame, z up; the last has a scale bar."""
    portrait = Portrait(model, size)
    pictures = []
    for name, towards in SIDES.items():
        up = np.array([0.0, 1.0, 0.0]) if name == "top" else np.array([0.0, 0.0, 1.0])
        view = portrait.view(looking(np.array(towards), up))
        pictures.append((name, with_scale_bar(view.image, portrait.pixels_per_metre)))
    return pictures


def overview(models: Iterable[tuple[ObjectModel, str]], size: int = 230) -> np.ndarray:
    """A row of pictures from several sides for each model, below a line of text of it."""
    rows = []
    for model, text in models:
        pictures = [titled(picture, name) for name, picture in side_views(model, size)]
        row = np.concatenate(pictures, axis=1)
        rows.append(np.concatenate([text_bar(text, row.shape[1]), row]))
    return np.concatenate(rows)


def with_scale_bar(image: np.ndarray, pixels_per_metre: float) -> np.ndarray:
    """`image` with a bar of a round number of millimetres, about a quarter of it long."""
    image = image.copy()
    longest = 0.35 * image.shape[1] / pixels_per_metre * M_TO_MM
    power = 10.0 ** np.floor(np.log10(longest))
    length = power * max(step for step in (1, 2, 5) if step * power <= longest)
    left, bottom = 8, image.shape[0] - 8
    right = round(left + length / M_TO_MM * pixels_per_metre)
    cv2.line(image, (left, bottom), (right, bottom), INK, 2)
    for x in (left, right):
        cv2.line(image, (x, bottom - 4), (x, bottom + 3), INK, 1)
    cv2.putText(image, f"{length:g} mm", (left, bottom - 7), FONT, 0.38, INK, 1, cv2.LINE_AA)
    return image


def titled(image: np.ndarray, title: str) -> np.ndarray:
    """`image` with a title in its upper left corner, and a thin frame."""
    image = cv2.rectangle(image.copy(), (0, 0), (image.shape[1] - 1, image.shape[0] - 1), (225, 225, 225), 1)
    return cv2.putText(image, title, (6, 15), FONT, 0.4, INK, 1, cv2.LINE_AA)


def text_bar(text: str, width: int, height: int = 26, strong: bool = True) -> np.ndarray:
    """A line of text (height, width, 3); smaller where it is long. Letters that OpenCV lacks are replaced."""
    shade = (228, 222, 214) if strong else (246, 244, 240)
    bar = np.full((height, width, 3), shade, np.uint8)
    plain = text.replace("×", "x").replace("°", " deg").replace("…", "...").replace("–", "-")
    plain = plain.encode("ascii", "replace").decode()
    (length, _), _ = cv2.getTextSize(plain, FONT, 0.48, 1)
    scale = 0.48 * min(1.0, (width - 16) / max(length, 1))
    return cv2.putText(bar, plain, (8, height - 8), FONT, scale, INK, 1, cv2.LINE_AA)


def draw_line(view: View, point: np.ndarray, axis: np.ndarray, half: float, color: tuple[int, int, int]) -> np.ndarray:
    """The view with a line through `point` (3,) along `axis` (3,), `half` metres each way; dashed where hidden."""
    image = view.image.copy()
    points_cam = view.pose.transform(point + np.linspace(-half, half, 121)[:, None] * axis)
    uv = np.rint(project(points_cam, view.K)).astype(int)
    column, row = np.clip(uv, 0, len(image) - 1).T
    hidden = points_cam[:, 2] > view.depth[row, column]
    borders = np.flatnonzero(np.diff(hidden)) + 1
    for part in np.split(np.arange(len(uv)), borders):
        if not hidden[part[0]]:
            cv2.line(image, uv[part[0]].tolist(), uv[part[-1]].tolist(), color, 2, cv2.LINE_AA)
            continue
        for dash in part[:-1:3]:
            cv2.line(image, uv[dash].tolist(), uv[dash + 1].tolist(), color, 1, cv2.LINE_AA)
    return image


def tilted(axis: np.ndarray, across: np.ndarray, degrees: float) -> np.ndarray:
    """(3, 3) cam_R_obj of a camera that sees an axis (3,) point up, tilted towards it by so many degrees.

    across: (3,) at right angles to the axis, to the right.
    """
    lean = np.radians(degrees)
    z = -(np.cos(lean) * np.cross(across, axis) + np.sin(lean) * axis)
    return np.stack([across, np.cross(z, across), z])
