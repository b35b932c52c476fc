"""Images one after another: files, folders, scenes of BOP data sets, videos and webcams."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from sopose.core.data.photo import as_rgb
from sopose.core.utils.errors import UserError, one_line

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
WEBCAM = re.compile(r"webcam:(\d+)")
BOP_FOLDERS = ("rgb", "gray")  # of images in a scene


@dataclass(frozen=True, eq=False)
class Frame:
    """One image; `read` gives it as (H, W, 3) uint8 RGB or raises `UserError`."""

    name: str  # of its file, or its number
    scene_id: int
    im_id: int
    read: Callable[[], np.ndarray]


@dataclass(frozen=True, eq=False)
class Frames:
    """A source of frames. `count` is None where nobody knows; `fps` is above 0 for moving pictures."""

    frames: Callable[[], Iterator[Frame]]
    count: int | None
    fps: float = 0.0
    folder: Path | None = None  # of a BOP scene

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()


def open_frames(source: str) -> Frames:
    """The frames of an image, a folder of images, a BOP scene, a video, or `webcam:0`.

    Ids are the numbers in the names of scene folders and image files; an image without one is counted. Raises
    `UserError` for what is none of these, or holds no image.
    """
    if match := WEBCAM.fullmatch(source):
        return _moving(int(match[1]), source)
    path = Path(source)
    if path.is_dir():
        return _folder(path)
    if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
        return _moving(str(path), path.name)
    if path.is_file():
        return _files([path], None)
    raise UserError(f"{source} is no image, folder or video, nor webcam:0; check the path")


def _folder(folder: Path) -> Frames:
    scene = next((folder / name for name in BOP_FOLDERS if (folder / name).is_dir()), None)
    place = scene or folder
    paths = sorted((p for p in place.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES), key=_natural)
    if not paths:
        raise UserError(f"{place} holds no image ({', '.join(IMAGE_SUFFIXES)}); name a folder of images")
    return _files(paths, folder if scene else None)


def _files(paths: list[Path], scene: Path | None) -> Frames:
    numbers = [int(path.stem) if path.stem.isdecimal() else None for path in paths]
    told = None not in numbers and len(set(numbers)) == len(numbers)
    scene_id = int(scene.name) if scene is not None and scene.name.isdecimal() else 0

    def frames() -> Iterator[Frame]:
        for place, path in enumerate(paths):
            im_id = numbers[place] if told else place
            yield Frame(path.name, scene_id, im_id, lambda path=path: _read(path))

    return Frames(frames, len(paths), folder=scene)


def _read(path: Path) -> np.ndarray:
    try:
        return as_rgb(path)
    except OSError as error:
        raise UserError(one_line(error)) from error


def _moving(source: int | str, name: str) -> Frames:
    probe = cv2.VideoCapture(source)
    opened = probe.isOpened()
    count, fps = probe.get(cv2.CAP_PROP_FRAME_COUNT), probe.get(cv2.CAP_PROP_FPS)
    probe.release()
    if not opened:
        raise UserError(
            f"{name} cannot be opened; check the path, the camera's number, and that OpenCV reads its format"
        )

    def frames() -> Iterator[Frame]:
        video = cv2.VideoCapture(source)
        try:
            place = 0
            while True:
                there, bgr = video.read()
                if not there:
                    return
                yield Frame(f"{place:06d}", 0, place, lambda bgr=bgr: as_rgb(bgr[..., ::-1]))
                place += 1
        finally:
            video.release()

    known = int(count) if isinstance(source, str) and count > 0 else None
    return Frames(frames, known, fps=fps if fps > 0 else 25.0)


def _natural(path: Path) -> list[tuple[int, int | str]]:
    """So that image 10 comes after image 9."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", path.name) if part]
