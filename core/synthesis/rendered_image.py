"""Whole images rendered from models, with all annotations of a BOP split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sopose.core.data.roi import ImageSize
from sopose.core.geometry.camera import pixel_grid
from sopose.core.geometry.pose import Pose
from sopose.core.objects.model import ObjectModel
from sopose.core.rays.raycast import RayCaster
from sopose.core.render.shade import Body, render_rgb
from sopose.core.render.visibility import annotate_scene
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.synthesis.look import Look
from sopose.core.synthesis.many_objects import CrowdRange
from sopose.core.synthesis.scene_sampling import PoseRange, Table

SCENE_TRIES = 20  # scenes drawn until one has an object in the image


@dataclass(frozen=True)
class ImageOptions:
    """What images are drawn from."""

    K: np.ndarray  # (3, 3) pixels
    image_size: ImageSize  # (width, height)
    poses: PoseRange = field(default_factory=lambda: PoseRange(rotations="stable"))
    crowd: CrowdRange = field(default_factory=CrowdRange)
    look: Look = field(default_factory=Look)


@dataclass(frozen=True, eq=False)
class RenderedImage:
    """An image with the truth about it; N objects."""

    image: np.ndarray  # (H, W, 3) uint8 BGR
    depth: np.ndarray  # (H, W) float64, metres along the optical axis, 0 where there is nothing
    objects: list[tuple[int, Pose]]  # ids and poses, N
    masks: list[tuple[np.ndarray, np.ndarray]]  # N times whole and visible (H, W) bool
    info: list[dict[str, Any]]  # N entries of scene_gt_info.json


def render_image(
    models: Mapping[int, ObjectModel],
    casters: Mapping[int, RayCaster],
    options: ImageOptions,
    backgrounds: Backgrounds,
    rng: np.random.Generator,
) -> RenderedImage:
    """An image of a scene drawn from `options`, all of its randomness from `rng`."""
    for _ in range(SCENE_TRIES):
        placed, table = options.crowd.draw(models, options.poses, options.K, options.image_size, rng)
        if placed:
            break
    return render_placed(placed, table, models, casters, options, backgrounds, rng)


def render_placed(
    placed: list[tuple[int, Pose]],
    table: Table | None,
    models: Mapping[int, ObjectModel],
    casters: Mapping[int, RayCaster],
    options: ImageOptions,
    backgrounds: Backgrounds,
    rng: np.random.Generator,
) -> RenderedImage:
    """An image of objects (ids and poses, at least one) and the table they stand on, looks drawn from `options`."""
    K, size, look = options.K, options.image_size, options.look
    bodies = [Body(casters[k], models[k], pose, look.materials.draw(rng)) for k, pose in placed]
    ground = look.ground.draw(bodies, table, backgrounds, rng)
    lights = look.draw_lights(np.mean([pose.cam_t_obj for _, pose in placed], axis=0), ground, rng)
    image = backgrounds.sample(size, rng).copy()
    picture = render_rgb(bodies, K, pixel_grid(*size), lights, look.shading, ground)
    shown = (picture.owner >= 0).reshape(image.shape[:2])
    image[shown] = picture.rgb[shown.ravel(), ::-1]
    masks, info = annotate_scene([body.caster for body in bodies], [body.pose for body in bodies], K, size)
    depth = np.where(np.isfinite(picture.depth), picture.depth, 0.0).reshape(shown.shape)
    return RenderedImage(look.sensor(image, 1.0, rng), depth, placed, masks, info)
