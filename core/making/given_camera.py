"""A camera as it is given in words: the name of a json file, or fx,fy,cx,cy and the size of the images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sopose.core.bop.fields import read_camera
from sopose.core.geometry.camera import Camera, as_K
from sopose.core.utils.arguments import numbers
from sopose.core.utils.errors import UserError


def is_camera_file(words: str) -> bool:
    """Whether a camera is given as a file, not as numbers."""
    return words.endswith(".json") or Path(words).is_file()


def given_K(words: str) -> np.ndarray:
    """(3, 3) intrinsics given as fx,fy,cx,cy, pixels.

    Raises `UserError` for numbers that are no camera's, else as `sopose.core.utils.arguments.numbers`.
    """
    return as_K(numbers(4)(words))


def given_camera(words: str, image_size: Sequence[float] | None) -> Camera:
    """The camera that is given; image_size is (W, H) pixels, in place of that of a file.

    Raises `UserError` for a file that is wrong, and where no size is known.
    """
    size = None if image_size is None else (int(image_size[0]), int(image_size[1]))
    if not is_camera_file(words):
        return Camera(given_K(words), size)
    camera = read_camera(Path(words), "give a json with fx, fy, cx, cy, width, height")
    if camera.size is None and size is None:
        raise UserError(f"{words} has no width and height of the images; give --image-size W,H")
    return Camera(camera.K, size or camera.size)
