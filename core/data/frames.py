"""Images one after another: files, folders, scenes of BOP data sets, videos and webcams."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from sopose.core.images.files import IMAGE_SUFFIXES, image_files
from sopose.core.images.photo import as_rgb
from sopose.core.images.scene_images import IMAGE_FOLDERS, ids_by_place, ids_of, scene_images, scene_of
from sopose.core.utils.errors import UserError

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
WEBCAM = re.compile(r"webcam:(\d+)")
MOST_FRAMES, MOST_FPS = 10**8, 1000.0  # beyond these a damaged header speaks

# A damaged video is reported in our one line, not in hundreds of its decoder's.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Frame:
    """One image; `read` gives it as (H, W, 3) uint8 RGB or raises `UserError`."""

    name: str  # of its file, or its number
    scene_id: int
    im_id: int
    read: Callable[[], np.ndarray]
    time: float | None = None  # seconds, of moving pictures


@dataclass(frozen=True, eq=False)
class Frames:
    """A source of frames. `count` is None where nobody knows; `fps` is above 0 for moving pictures."""

    frames: Callable[[], Iterator[Frame]]
    count: int | None
    fps: float = 0.0
    folder: Path | None = None  # of a BOP scene
    sensor: str = ""  # of a scene that several took

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()


def open_frames(source: str) -> Frames:
    """The frames of an image, a folder of images, a BOP scene, a video, or `webcam:0`.

    In a scene the number in a file's name is its id, and files without one are left out, as everywhere else. Other
    images have the numbers in their names too, and those without one of their own are counted on behind the largest:
    no file changes the ids of others. Hidden files are left out. Raises `UserError` for what is none of these, or holds
    no image.
    """
    if match := WEBCAM.fullmatch(source):
        return _moving(int(match[1]), source)
    path = Path(os.path.abspath(source))  # "." has no name, and the name is the scene's id; links keep theirs
    if path.is_dir():
        return _folder(path)
    if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
        return _moving(str(path), path.name)
    if path.is_file():
        return _file(path)
    raise UserError(f"{source} is no image, folder or video, nor webcam:0; check the path")


def _folder(folder: Path) -> Frames:
    found = scene_of(folder)
    by_id = {} if found is None else scene_images(*found)
    if found is not None and by_id:
        return _scene(*found, by_id)
    places = [folder, *(folder / name for name in IMAGE_FOLDERS if (folder / name).is_dir())]
    paths = next(filter(None, map(image_files, reversed(places))), [])
    if not paths:
        raise UserError(f"{places[-1]} holds no image ({', '.join(IMAGE_SUFFIXES)}); name a folder of images")
    return _files(sorted(paths, key=_natural))


def _file(path: Path) -> Frames:
    """One image; of a scene with the ids that the scene gives it."""
    found = scene_of(path.parent)
    ids = ids_of(path.stem)
    return _files([path]) if found is None or len(ids) != 1 else _scene(*found, {ids[0]: path})


def _scene(scene_dir: Path, sensor: str, by_id: dict[int, Path]) -> Frames:
    """Images that a sensor took of a scene, by the numbers in their names, which are their ids in its annotations."""
    scene_id = int(scene_dir.name) if scene_dir.name.isdecimal() else 0

    def frames() -> Iterator[Frame]:
        return (_frame(path, scene_id, im_id) for im_id, path in by_id.items())

    return Frames(frames, len(by_id), folder=scene_dir, sensor=sensor)


def _files(paths: list[Path]) -> Frames:
    """Any images: by the numbers in their names; those without one, or with that of another, are counted on."""
    ids = ids_by_place([path.stem for path in paths])

    def frames() -> Iterator[Frame]:
        return (_frame(path, 0, im_id) for path, im_id in zip(paths, ids, strict=True))

    return Frames(frames, len(paths))


def _frame(path: Path, scene_id: int, im_id: int) -> Frame:
    return Frame(path.name, scene_id, im_id, lambda: as_rgb(path))


def _moving(source: int | str, name: str) -> Frames:
    probe = cv2.VideoCapture(source)
    opened = probe.isOpened() and probe.grab()
    count, fps = probe.get(cv2.CAP_PROP_FRAME_COUNT), probe.get(cv2.CAP_PROP_FPS)
    probe.release()
    if not opened:
        raise UserError(
            f"{name} cannot be opened; check the path, the camera's number, and that OpenCV reads its format"
        )
    rate = fps if 0 < fps < MOST_FPS else 25.0
    known = int(count) if isinstance(source, str) and 0 < count < MOST_FRAMES else None

    def frames() -> Iterator[Frame]:
        """The frames from the first on; each call opens the video anew."""
        video = cv2.VideoCapture(source)
        try:
            place, started = 0, time.monotonic()
            while True:
                there, bgr = video.read()
                if not there:
                    _warn_of_end(name, place, known, is_file=isinstance(source, str))
                    return
                seconds = place / rate if isinstance(source, str) else time.monotonic() - started
                yield Frame(f"{place:06d}", 0, place, lambda bgr=bgr: as_rgb(bgr[..., ::-1]), seconds)
                place += 1
        finally:
            video.release()

    return Frames(frames, known, fps=rate)


def _warn_of_end(name: str, read: int, count: int | None, is_file: bool) -> None:
    """Warn where moving pictures end before they should."""
    if not is_file:
        logger.warning("%s gives no more images, after %d of them; check its cable", name, read)
    elif count is not None and read < count:  # what comes behind a damaged frame has no sure number
        message = (
            "%s: only %d of the %d frames that it declares can be read, as if it were damaged or cut off; restore it"
        )
        logger.warning(message, name, read, count)


def _natural(path: Path) -> list[tuple[int, int | str]]:
    """So that image 10 comes after image 9."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", path.name) if part]
