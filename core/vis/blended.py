"""Models drawn over photographs in their own colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sopose.core.geometry.camera import pixel_grid
from sopose.core.render.lights import Lights
from sopose.core.render.looks import Body
from sopose.core.render.packed import Scene
from sopose.core.render.shade import Shading, render_rgb

# Of drawn models: a lamp beside the camera, so that what faces it shows its own colour.
LAMP = Lights(np.full(3, 0.45), np.array([[-0.3, -0.5, -1.0, 0.0]]), np.full((1, 3), 0.75))


def blend_bodies(image_bgr: np.ndarray, K: np.ndarray, bodies: Sequence[Body], alpha: float = 0.8) -> np.ndarray:
    """The photograph with `bodies` drawn over it in their own colours, nearest first.

    `alpha` is their share of a pixel: 1 hides the photograph, 0 the bodies. What stands in front of them in the
    photograph does not hide them.
    """
    height, width = image_bgr.shape[:2]
    shading = Shading(shadows=False, ambient_occlusion=False)
    hits = render_rgb(Scene(K, bodies, LAMP), pixel_grid(width, height), shading)
    seen = (hits.owner >= 0).reshape(height, width)
    drawn = hits.rgb.reshape(height, width, 3)[seen][:, ::-1].astype(np.float64)
    image = image_bgr.copy()
    image[seen] = np.rint(alpha * drawn + (1 - alpha) * image[seen]).astype(np.uint8)
    return image
