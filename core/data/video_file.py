"""Videos that are written frame by frame."""

from __future__ import annotations

from pathlib import Path

import cv2

from sopose.core.data.frames import open_frames
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import require_writable_dir


def open_video(path: Path, fps: float, size: tuple[int, int]) -> cv2.VideoWriter:
    """A video of frames of a width and height to write to. `UserError` where OpenCV can't."""
    require_writable_dir(path.parent).mkdir(parents=True, exist_ok=True)
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
    if not video.isOpened():
        raise UserError(f"{path} cannot be written as a video of {size[0]} x {size[1]} pixels; give --no-pictures")
    return video


def closed_video(video: cv2.VideoWriter, path: Path) -> str:
    """End a video; why it cannot be opened again, if so. OpenCV is silent where the disk is full."""
    video.release()
    try:
        open_frames(str(path))
    except UserError as error:
        return str(error)
    return ""
