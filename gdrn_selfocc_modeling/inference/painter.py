"""Estimated poses drawn into the photograph they were found in."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from sopose.core.rays.raycast import RayCaster
from sopose.core.render.visibility import render_depth
from sopose.core.vis.colors import ESTIMATE, bgr
from sopose.core.vis.overlays import contour, draw_axes, draw_box
from sopose.inference.checkpoint_facts import KnownObject, known_models
from sopose.inference.estimator import ObjectPose

AXIS = 0.5  # length of the axes, diameters
DOUBTFUL, COARSE = "#888888", "#CCCCCC"  # the latter of poses before second looks


class PosePainter:
    """Draws outlines where models are at hand, else boxes; axes, names, and doubtful estimates in grey.

    The outline of a pose before second looks is thin and light.
    """

    def __init__(self, objects: Iterable[KnownObject], models_dir: Path | None = None) -> None:
        """`models_dir`: a BOP folder of models. A warning where one is not what the network was trained with."""
        self.objects = {known.name: known for known in objects}
        self.casters: dict[str, RayCaster] = {}
        if models_dir is None:
            return
        self.casters = {name: model.caster for name, model in known_models(self.objects.values(), models_dir).items()}

    def __call__(self, rgb: np.ndarray, K: np.ndarray, poses: Iterable[ObjectPose]) -> np.ndarray:
        """The image (H, W, 3) uint8 RGB with the poses, as BGR."""
        image = np.ascontiguousarray(rgb[..., ::-1])
        for pose in poses:
            if np.isfinite(pose.cam_t_obj).all() and np.isfinite(pose.cam_R_obj).all() and pose.cam_t_obj[2] > 0:
                image = self._draw(image, K, pose)
        return image

    def _draw(self, image: np.ndarray, K: np.ndarray, found: ObjectPose) -> np.ndarray:
        known, color = self.objects[found.object], ESTIMATE if found.reliable else DOUBTFUL
        caster = self.casters.get(found.object)
        if caster is None:
            image = draw_box(image, K, found.pose, known.bounds_min, known.extent, color)
        else:
            height, width = image.shape[:2]
            image = contour(image, render_depth(caster, found.pose, K, (width, height)) > 0, color)
            if found.coarse is not None:
                image = contour(image, render_depth(caster, found.coarse, K, (width, height)) > 0, COARSE, 1)
        image = draw_axes(image, K, found.pose, AXIS * known.diameter)
        x, y = (int(value) for value in np.clip(np.nan_to_num(found.box[:2]), 0, 30000))
        label = f"{found.object} {found.score:.2f}"
        return cv2.putText(
            image, label, (x, max(y - 5, 12)), cv2.FONT_HERSHEY_SIMPLEX, 0.45, bgr(color), 1, cv2.LINE_AA
        )
