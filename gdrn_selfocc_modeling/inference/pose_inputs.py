"""What `sopose predict` takes: its options, and from them cameras, lenses, boxes and depth images of frames."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sopose.core.bop.detections import read_detections, select_detections
from sopose.core.bop.fields import read_camera, read_depth_scale, read_intrinsics
from sopose.core.bop.scene_folder import entries_by_image
from sopose.core.data.frames import Frame, Frames
from sopose.core.data.roi import ImageSize
from sopose.core.detection.facts import USUAL_THRESHOLD
from sopose.core.geometry.camera import as_K
from sopose.core.geometry.distortion import as_distortion
from sopose.core.images.files import read_image
from sopose.core.images.scene_images import CAMERA_NAME, SceneNames, images_by_stem
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import require_dir, require_key
from sopose.core.utils.units import MM_TO_M
from sopose.inference.estimator import PoseEstimator
from sopose.inference.found import Box

logger = logging.getLogger(__name__)
SCENE_DEPTH = "scene"  # for --depth: the depth images of the BOP scene itself
Camera = Callable[[Frame, ImageSize], np.ndarray]  # K of a frame of a width and height
Boxes = Callable[[Frame], list[Box]]


@dataclass(frozen=True, eq=False)
class Senses:
    """What is known of images beside their intrinsics."""

    distortion: np.ndarray | None  # of the lens
    depth: Callable[[Frame], np.ndarray | None]  # metres at an image's pixels


@dataclass(frozen=True)
class PredictOptions:
    """What `sopose predict` takes, by the names of its options."""

    source: str
    checkpoint: Path
    runtime: str | None = None
    K: str | None = None
    distortion: str | None = None
    depth: Path | None = None
    depth_scale: float | None = None
    camera: Path | None = None
    box: Sequence[str] | None = None
    boxes: Path | None = None
    views: Path | None = None
    track: bool = False
    detector: Path | None = None
    detector_size: int | None = None
    threshold: float | None = None  # by default the detector's own; of boxes from a file `USUAL_THRESHOLD`
    topk: int = 1
    models: Path | None = None
    looks: int | None = None  # by default as the network's file says
    starts: int | None = None  # of looks; by default as the network's file says
    refiner: Path | None = None
    output: Path = Path("output/predictions")
    no_pictures: bool = False
    show: bool = False
    limit: int = 0
    device: str | None = None
    opts: Sequence[str] = ()


def look_words(options: PredictOptions) -> list[str]:
    """The configuration keys that --looks, --starts and --refiner stand for."""
    given = {"ITERATIONS": options.looks, "STARTS": options.starts, "WEIGHTS": options.refiner}
    return [f"TEST.REFINE.{key}={value}" for key, value in given.items() if value is not None]


def open_camera(options: PredictOptions, frames: Frames) -> Camera:
    """K of a frame: from the command line, or a BOP scene's scene_camera.json."""
    if options.K:
        try:
            K = as_K([float(word) for word in options.K.split(",")])
        except ValueError as error:
            raise UserError(f"--K must be four numbers fx,fy,cx,cy, got '{options.K}'") from error
        return lambda frame, size: K
    if options.camera:
        camera = read_camera(options.camera, "give a json with fx, fy, cx, cy, or --K")
        return lambda frame, size: camera.of_images(size, str(options.camera))
    path = None if frames.folder is None else frames.folder / SceneNames(frames.sensor).of(CAMERA_NAME)
    if path is None or not path.is_file():
        raise UserError(f"{options.source} doesn't state its camera; give --K fx,fy,cx,cy or --camera camera.json")
    entries = entries_by_image(path)
    return lambda frame, size: read_intrinsics(
        require_key(entries, frame.im_id, str(path)), f"{path}, image {frame.im_id}"
    )


def open_distortion(options: PredictOptions) -> np.ndarray | None:
    """The lens's coefficients: from the command line, or the camera's file."""
    if options.distortion:
        return as_distortion(options.distortion.split(","), "--distortion")
    return read_camera(options.camera).distortion if options.camera else None


def open_depth(options: PredictOptions, frames: Frames) -> Callable[[Frame], np.ndarray | None]:
    """The depth image of a frame: of a BOP scene, or of a folder that has one for each image, of the same name.

    Raises `UserError` where the folder is missing; the function where an image has none.
    """
    if options.depth is None:
        return lambda frame: None
    entries: dict[int, Any] = {}
    folder = options.depth
    if frames.folder is not None:
        names = SceneNames(frames.sensor)
        folder = folder if str(folder) != SCENE_DEPTH else frames.folder / names.of("depth")
        entries = entries_by_image(frames.folder / names.of(CAMERA_NAME), optional=True)
    elif str(folder) == SCENE_DEPTH:
        raise UserError(f"{options.source} is no BOP scene; name the folder of its depth images: --depth FOLDER")
    images = images_by_stem(require_dir(folder, "name the folder of depth images"))

    def read(frame: Frame) -> np.ndarray:
        path = images.get(Path(frame.name).stem)
        if path is None:
            raise UserError(f"{folder} has no depth image for {frame.name}; add it, or leave --depth out")
        scale = options.depth_scale
        if scale is None:
            scale = 1 / MM_TO_M * read_depth_scale(entries.get(frame.im_id, {}), f"{folder}, image {frame.im_id}")
        depth = read_image(path, cv2.IMREAD_UNCHANGED, "give another depth image")
        if depth.ndim != 2:
            raise UserError(f"{path} must have one channel, as depth images have, and has shape {depth.shape}")
        return MM_TO_M * scale * depth.astype(np.float32)

    return read


def open_boxes(options: PredictOptions, estimator: PoseEstimator) -> Boxes | None:
    """The boxes of a frame, given or from a file; None for those of the estimator's detector."""
    if options.box:
        fixed = [parse_box(text) for text in options.box]
        return lambda frame: fixed
    if estimator.finder is not None:
        return None
    of_image = read_boxes(options, estimator)
    return lambda frame: of_image.get((frame.scene_id, frame.im_id), [])


def read_boxes(options: PredictOptions, estimator: PoseEstimator) -> dict[tuple[int, int], list[Box]]:
    """The boxes of a file by scene and image, those of --topk and --threshold; a warning where none is left.

    Raises `UserError` where all are of objects that the network doesn't know.
    """
    names = {known.obj_id: name for name, known in estimator.objects.items()}
    found = read_detections(options.boxes)
    known = [item for item in found if item.obj_id in names]
    if not known:
        ids = ", ".join(map(str, sorted({item.obj_id for item in found})))
        raise UserError(
            f"{options.boxes} has boxes of objects {ids[:80]}, {options.checkpoint} knows "
            f"{', '.join(f'{obj_id} {name}' for obj_id, name in names.items())[:200]}; give boxes of those"
        )
    of_image: dict[tuple[int, int], list[Box]] = defaultdict(list)
    threshold = USUAL_THRESHOLD if options.threshold is None else options.threshold
    for item in select_detections(known, options.topk, threshold):
        of_image[item.scene_id, item.im_id].append(Box(names[item.obj_id], item.bbox, item.score))
    if not of_image:
        best = max(item.score for item in known)
        logger.warning(
            "%s: none of its %d boxes has a score of --threshold %g, the best has %g; lower it",
            *(options.boxes, len(known), threshold, best),
        )
    return dict(of_image)


def parse_box(text: str) -> Box:
    """A box of the command line, "can,210,140,330,290"."""
    name, *words = text.split(",")
    try:
        return Box(name, [float(word) for word in words])
    except ValueError as error:
        raise UserError(f"--box must be NAME,X1,Y1,X2,Y2, got '{text}'") from error
