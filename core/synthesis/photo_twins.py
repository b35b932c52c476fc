"""Twins of annotated photographs: the same objects at the same poses before the same camera, rendered.

Where a network does worse on photographs than on renderings, poses and boxes may differ, or what things look like. A
twin has the photograph's poses; a pasted one has its surroundings, too, and differs in the looks of the objects alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sopose.core.bop.records import ImageRecord
from sopose.core.synthesis.rendered_image import render_drawn
from sopose.core.synthesis.scene_sampling import Table
from sopose.core.synthesis.scenes import SceneDrawer

EDGE = 0.7  # pixels: Gaussian sigma of the transition between a photograph and what is pasted into it


@dataclass(frozen=True, eq=False)
class Twin:
    """Two images (H, W, 3) uint8 BGR that are annotated as the photograph is."""

    rendered: np.ndarray  # all objects, before a random background
    pasted: np.ndarray  # the photograph, the wanted objects' visible parts replaced by their renderings


def render_twin(photo_bgr: np.ndarray, record: ImageRecord, drawer: SceneDrawer, rng: np.random.Generator) -> Twin:
    """The twins of a photograph with at least one wanted object; looks are drawn from the drawer's options.

    Where objects stand upright by them, they stand on the plane below the first; else a plane is behind them.
    """
    height, width = photo_bgr.shape[:2]
    drawer = drawer.seen_by(record.K, (width, height))
    everything = (*record.instances, *record.others)
    placed = [(item.obj_id, item.pose) for item in everything if item.obj_id in drawer.models]
    first_id, first_pose = placed[0]
    upright = drawer.options.poses.rotations == "upper"
    table = Table.under(drawer.models[first_id], first_pose, np.eye(3)) if upright else None
    rendered = render_drawn(drawer.dressed(placed, table, rng), drawer, rng)
    shown = np.zeros((height, width), np.float32)
    for _, visible in rendered.masks[: len(record.instances)]:
        shown[visible] = 1.0
    share = cv2.GaussianBlur(shown, (0, 0), EDGE)[..., None]
    pasted = np.rint(share * rendered.image + (1 - share) * photo_bgr).astype(np.uint8)
    return Twin(rendered.image, pasted)
