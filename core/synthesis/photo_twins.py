"""Twins of annotated photographs: the same objects at the same poses before the same camera, rendered.

Where a network does worse on photographs than on renderings, poses and boxes may differ, or what things look like. A
twin has the photograph's poses; a pasted one has its surroundings, too, and differs in the looks of the objects alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np

from sopose.core.bop.records import ImageRecord
from sopose.core.objects.model import ObjectModel
from sopose.core.rays.raycast import RayCaster
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.synthesis.rendered_image import ImageOptions, render_placed
from sopose.core.synthesis.scene_sampling import Table

EDGE = 0.7  # pixels: Gaussian sigma of the transition between a photograph and what is pasted into it


@dataclass(frozen=True, eq=False)
class Twin:
    """Two images (H, W, 3) uint8 BGR that are annotated as the photograph is."""

    rendered: np.ndarray  # all objects, before a random background
    pasted: np.ndarray  # the photograph, the wanted objects' visible parts replaced by their renderings


def render_twin(
    photo_bgr: np.ndarray,
    record: ImageRecord,
    models: Mapping[int, ObjectModel],
    casters: Mapping[int, RayCaster],
    options: ImageOptions,
    backgrounds: Backgrounds,
    rng: np.random.Generator,
) -> Twin:
    """The twins of a photograph with at least one wanted object; looks are drawn from `options`.

    Where objects stand upright by `options`, they stand on the plane below the first; else a plane is behind them.
    """
    height, width = photo_bgr.shape[:2]
    options = replace(options, K=record.K, image_size=(width, height))
    placed = [(item.obj_id, item.pose) for item in (*record.instances, *record.others) if item.obj_id in models]
    first_id, first_pose = placed[0]
    upright = options.poses.rotations == "upper"
    table = Table.under(models[first_id], first_pose, np.eye(3)) if upright else None
    drawn = render_placed(placed, table, models, casters, options, backgrounds, rng)
    shown = np.zeros((height, width), np.float32)
    for _, visible in drawn.masks[: len(record.instances)]:
        shown[visible] = 1.0
    share = cv2.GaussianBlur(shown, (0, 0), EDGE)[..., None]
    pasted = np.rint(share * drawn.image + (1 - share) * photo_bgr).astype(np.uint8)
    return Twin(drawn.image, pasted)
