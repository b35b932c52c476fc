"""Whole images rendered from models, with all annotations of a BOP split."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sopose.core.geometry.camera import pixel_grid
from sopose.core.geometry.pose import Pose
from sopose.core.render.shade import render_rgb
from sopose.core.render.visibility import annotate_scene
from sopose.core.synthesis.camera_path import draw_camera
from sopose.core.synthesis.scenes import DrawnScene, SceneDrawer


@dataclass(frozen=True, eq=False)
class RenderedImage:
    """An image with the truth about it; N objects."""

    image: np.ndarray  # (H, W, 3) uint8 BGR
    depth: np.ndarray  # (H, W) float64, metres along the optical axis, 0 where there is nothing
    K: np.ndarray  # (3, 3) pixels
    objects: list[tuple[int, Pose]]  # ids and poses, N
    masks: list[tuple[np.ndarray, np.ndarray]]  # N times whole and visible (H, W) bool
    info: list[dict[str, Any]]  # N entries of scene_gt_info.json
    cam_T_world: Pose | None = None  # where the camera of a scene that stands still is


def render_image(drawer: SceneDrawer, rng: np.random.Generator) -> RenderedImage:
    """An image of many objects, all of its randomness from `rng`."""
    return render_drawn(drawer.crowd(rng), drawer, rng)


def render_view(drawer: SceneDrawer, scene: np.random.Generator, view: np.random.Generator) -> RenderedImage:
    """An image of a scene that stands still, from a camera of its own: each of both follows from its generator alone.

    The world's frame is that in which the scene was drawn.
    """
    drawn = drawer.crowd(scene)
    cam_T_world = draw_camera(drawn, drawer.models, view)
    return replace(render_drawn(drawn.moved(cam_T_world), drawer, view), cam_T_world=cam_T_world)


def render_drawn(drawn: DrawnScene, drawer: SceneDrawer, rng: np.random.Generator) -> RenderedImage:
    """The image of a scene before a random background, taken by a random camera of the drawer's options."""
    options, scene = drawer.options, drawn.of(drawer.models)
    image = drawer.backgrounds.sample(options.image_size, rng).copy()
    picture = render_rgb(scene, pixel_grid(*options.image_size), options.shading)
    shown = (picture.owner >= 0).reshape(image.shape[:2])
    image[shown] = picture.rgb[shown.ravel(), ::-1]
    masks, info = annotate_scene(scene.meshes.meshes, scene.meshes.poses, drawn.K, options.image_size)
    depth = np.where(np.isfinite(picture.depth), picture.depth, 0.0).reshape(shown.shape)
    return RenderedImage(options.sensor(image, 1.0, rng), depth, drawn.K, drawn.objects, masks, info)
