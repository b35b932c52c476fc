"""Poses of known objects in images, folders, videos or a webcam: a csv, a readable json, and pictures or a video."""

from __future__ import annotations

import argparse
import logging
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from sopose.core.bop.detections import read_detections, select_detections
from sopose.core.bop.fields import read_camera, read_intrinsics
from sopose.core.bop.results import Estimate, write_results
from sopose.core.bop.scene_folder import entries_by_image
from sopose.core.data.frames import Frame, Frames, open_frames
from sopose.core.data.roi import ImageSize
from sopose.core.data.video_file import closed_video, open_video
from sopose.core.evaluation.scores import finite
from sopose.core.geometry.camera import as_K
from sopose.core.geometry.pose import Pose
from sopose.core.images.files import write_image
from sopose.core.images.scene_images import CAMERA_NAME, SceneNames
from sopose.core.utils.arguments import finite as finite_number
from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import require_key, require_writable_dir, write_json
from sopose.inference.estimator import Box, ObjectPose, PoseEstimator
from sopose.inference.onnx_runtimes import RUNTIMES
from sopose.inference.painter import PosePainter

logger = logging.getLogger(__name__)
EPILOG = """examples:
  python tools/predict.py photo.jpg --checkpoint model_final.safetensors --K 572.4,573.6,325.3,242.0 \\
      --box can,210,140,330,290
  python tools/predict.py path/to/images --checkpoint model_final.safetensors --camera camera.json \\
      --detector detector.safetensors --models path/to/bop/lmo/models --looks 2
  python tools/predict.py path/to/bop/lmo/test/000002 --checkpoint model_final.safetensors --boxes detections.json
  python tools/predict.py webcam:0 --checkpoint model_final.safetensors --camera camera.json --show \\
      --detector detector.safetensors

--K is of these very images: scale fx, fy, cx, cy with their size. --camera is scaled where its file has the width and
height of other images of the same aspect. A BOP scene brings its own.
"""
VIDEO_NAME = "poses.mp4"
Camera = Callable[[Frame, ImageSize], np.ndarray]  # K of a frame of a width and height
Boxes = Callable[[Frame, np.ndarray], list[Box]]


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "source",
        help="an image, a folder of images, a BOP scene (of several sensors: a folder of images in it), "
        "a video, or webcam:0",
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="of a run: .pth, .safetensors or .onnx")
    parser.add_argument("--runtime", choices=RUNTIMES, help="of an .onnx file (default: onnxruntime)")
    camera = parser.add_mutually_exclusive_group()
    camera.add_argument("--K", metavar="FX,FY,CX,CY", help="intrinsics of the images, pixels")
    camera.add_argument("--camera", type=Path, metavar="FILE", help="a camera.json with fx, fy, cx, cy")
    boxes = parser.add_mutually_exclusive_group(required=True)
    boxes.add_argument("--box", action="append", metavar="NAME,X1,Y1,X2,Y2", help="a box in every image; repeat it")
    boxes.add_argument("--boxes", type=Path, metavar="FILE", help="detections as json, BOP's form or GDR-Net's")
    boxes.add_argument("--detector", type=Path, metavar="FILE", help="what tools/train_detector.py wrote")
    parser.add_argument(
        "--detector-size",
        type=int,
        metavar="PX",
        help="longer side of the images it sees (default: as it was trained; a smaller one is faster and finds less)",
    )
    parser.add_argument("--threshold", type=finite_number, default=0.3, help="least score of a box (default: 0.3)")
    parser.add_argument("--topk", type=int, default=1, help="boxes of an object in an image (default: 1)")
    parser.add_argument(
        "--models", type=Path, metavar="FOLDER", help="a BOP models folder: outlines are drawn, not boxes"
    )
    parser.add_argument("--looks", type=int, default=0, metavar="N", help="second looks at each pose, by --models")
    parser.add_argument(
        "--refiner", type=Path, metavar="FILE", help="that looks (default: as TEST.REFINE.WEIGHTS says)"
    )
    parser.add_argument("--output", type=Path, default=Path("output/predictions"), help="default: output/predictions")
    parser.add_argument("--no-pictures", action="store_true", help="write csv and json only")
    parser.add_argument("--show", action="store_true", help="open a window; needs an OpenCV with one")
    parser.add_argument("--limit", type=int, default=0, help="stop after so many images")
    parser.add_argument("--device", help="cuda, cuda:1 or cpu (default: a GPU where there is one)")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="such as TEST.USE_PNP=True")
    args = parser.parse_args(argv)
    if args.topk < 1 or args.limit < 0 or args.looks < 0:
        parser.error("--topk must be at least 1, --limit and --looks at least 0")
    if args.looks and not args.models:
        parser.error("--looks renders the objects; name the folder of their --models")
    return args


def main(argv: list[str] | None = None) -> None:
    """Estimate, write and draw."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    require_writable_dir(args.output, "name another --output")
    frames = open_frames(args.source)
    camera = open_camera(args, frames)
    estimator = PoseEstimator.from_checkpoint(
        args.checkpoint, args.device, [*args.opts, *look_words(args)], args.runtime, args.models
    )
    boxes = open_boxes(args, estimator)
    painter = None if args.no_pictures and not args.show else PosePainter(estimator.objects.values(), args.models)
    run = Run(args, frames, painter)
    try:
        with tqdm(total=frames.count, desc="poses", unit="image") as bar:
            for number, frame in enumerate(frames):
                if args.limit and number >= args.limit:
                    break
                run.take(frame, camera, boxes, estimator)
                bar.update()
    finally:  # a webcam is ended by an interrupt; what was found is not lost
        run.write()
    run.check()


def look_words(args: argparse.Namespace) -> list[str]:
    """The configuration keys that --looks and --refiner stand for."""
    words = [f"TEST.REFINE.ITERATIONS={args.looks}"] if args.looks else []
    return [*words, f"TEST.REFINE.WEIGHTS={args.refiner}"] if args.refiner else words


def open_camera(args: argparse.Namespace, frames: Frames) -> Camera:
    """K of a frame: from the command line, or a BOP scene's scene_camera.json."""
    if args.K:
        try:
            K = as_K([float(word) for word in args.K.split(",")])
        except ValueError as error:
            raise UserError(f"--K must be four numbers fx,fy,cx,cy, got '{args.K}'") from error
        return lambda frame, size: K
    if args.camera:
        camera = read_camera(args.camera, "give a json with fx, fy, cx, cy, or --K")
        return lambda frame, size: camera.of_images(size, str(args.camera))
    path = None if frames.folder is None else frames.folder / SceneNames(frames.sensor).of(CAMERA_NAME)
    if path is None or not path.is_file():
        raise UserError(f"{args.source} doesn't tell its camera; give --K fx,fy,cx,cy or --camera camera.json")
    entries = entries_by_image(path)
    return lambda frame, size: read_intrinsics(
        require_key(entries, frame.im_id, str(path)), f"{path}, image {frame.im_id}"
    )


def open_boxes(args: argparse.Namespace, estimator: PoseEstimator) -> Boxes:
    """The boxes of a frame: given, found by a detector, or from a file."""
    if args.box:
        fixed = [parse_box(text) for text in args.box]
        return lambda frame, rgb: fixed
    if args.detector:
        return detected_boxes(args, estimator)
    of_image = read_boxes(args, estimator)
    return lambda frame, rgb: of_image.get((frame.scene_id, frame.im_id), [])


def read_boxes(args: argparse.Namespace, estimator: PoseEstimator) -> dict[tuple[int, int], list[Box]]:
    """The boxes of a file by scene and image, those of --topk and --threshold; a warning where none is left.

    Raises `UserError` where all are of objects that the network doesn't know.
    """
    names = {known.obj_id: name for name, known in estimator.objects.items()}
    found = read_detections(args.boxes)
    known = [item for item in found if item.obj_id in names]
    if not known:
        ids = ", ".join(map(str, sorted({item.obj_id for item in found})))
        raise UserError(
            f"{args.boxes} has boxes of objects {ids[:80]}, {args.checkpoint} knows "
            f"{', '.join(f'{obj_id} {name}' for obj_id, name in names.items())[:200]}; give boxes of those"
        )
    of_image: dict[tuple[int, int], list[Box]] = defaultdict(list)
    for item in select_detections(known, args.topk, args.threshold):
        of_image[item.scene_id, item.im_id].append(Box(names[item.obj_id], item.bbox, item.score))
    if not of_image:
        best = max(item.score for item in known)
        logger.warning(
            "%s: none of its %d boxes has a score of --threshold %g, the best has %g; lower it",
            *(args.boxes, len(known), args.threshold, best),
        )
    return dict(of_image)


def detected_boxes(args: argparse.Namespace, estimator: PoseEstimator) -> Boxes:
    """Boxes by a detector, of the objects whose poses are known. `UserError` where there is none of them."""
    from sopose.core.detection.infer import Detector

    detector = Detector.from_checkpoint(args.detector, estimator.device, estimator.amp, args.detector_size)
    found, known = set(detector.facts.objects), set(estimator.objects)
    if not found & known:
        raise UserError(
            f"{args.detector} finds {', '.join(sorted(found))}, {args.checkpoint} knows poses of "
            f"{', '.join(sorted(known))}; give two that were trained on the same objects"
        )
    for missing in sorted(known - found):
        logger.warning("the detector doesn't find '%s'", missing)
    return lambda frame, rgb: [
        Box(item.object, item.box, item.score)
        for item in detector(rgb, args.threshold, args.topk)
        if item.object in known
    ]


def parse_box(text: str) -> Box:
    """A box of the command line, "can,210,140,330,290"."""
    name, *words = text.split(",")
    try:
        return Box(name, [float(word) for word in words])
    except ValueError as error:
        raise UserError(f"--box must be NAME,X1,Y1,X2,Y2, got '{text}'") from error


@dataclass(eq=False)
class Run:
    """What has been found so far, and where it goes."""

    args: argparse.Namespace
    frames: Frames
    painter: PosePainter | None
    estimates: list[Estimate] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    boxes: int = 0
    failures: int = 0
    video: cv2.VideoWriter | None = None
    drawn: set[str] = field(default_factory=set)
    lost_picture: str = ""  # why pictures are missing

    def take(self, frame: Frame, camera: Camera, boxes: Boxes, estimator: PoseEstimator) -> None:
        """Estimate one frame; what goes wrong with it is noted, and the run goes on."""
        started = time.perf_counter()
        entry: dict[str, Any] = {"image": frame.name, "scene_id": frame.scene_id, "im_id": frame.im_id}
        try:
            rgb = frame.read()
            K = camera(frame, (rgb.shape[1], rgb.shape[0]))
            given = boxes(frame, rgb)
            poses = estimator(rgb, K, given)
        except UserError as error:
            self.failures += 1
            logger.warning("%s: %s", frame.name, error)
            self.entries.append({**entry, "error": str(error), "poses": []})
            return
        seconds = time.perf_counter() - started
        self.boxes += len(given)
        self.entries.append({**entry, "seconds": seconds, "poses": [told(pose) for pose in poses]})
        self.estimates += [
            Estimate(frame.scene_id, frame.im_id, pose.obj_id, pose.score, pose.pose, seconds) for pose in poses
        ]
        if self.painter is not None:
            self.show(frame, self.painter(rgb, K, poses))

    def show(self, frame: Frame, picture_bgr: np.ndarray) -> None:
        """Open a picture where asked to, and write it; the first that cannot be written is the last one tried."""
        if self.args.show:
            show_window(picture_bgr)
        if self.args.no_pictures or self.lost_picture:
            return
        try:
            self.draw(frame, picture_bgr)
        except UserError as error:
            self.lost_picture = str(error)
            logger.warning("no more pictures are written: %s", error)

    def draw(self, frame: Frame, picture_bgr: np.ndarray) -> None:
        """Write a picture: a file, or a frame of the video. `UserError` where that can't be."""
        if self.frames.fps == 0:
            stem = Path(frame.name).stem
            name = frame.name if stem in self.drawn else stem  # of cup.png and cup.jpg
            self.drawn.add(stem)
            write_image(self.args.output / "pictures" / f"{name}.jpg", picture_bgr)
            return
        if self.video is None:
            self.video = open_video(self.args.output / VIDEO_NAME, self.frames.fps, picture_bgr.shape[1::-1])
        self.video.write(picture_bgr)

    def write(self) -> None:
        """Write csv and json, and say what was found."""
        folder = self.args.output
        write_results(folder / "poses.csv", self.estimates)
        write_json(folder / "poses.json", finite(self.entries))
        if self.video is not None and not self.lost_picture:
            self.lost_picture = closed_video(self.video, folder / VIDEO_NAME)
        doubtful = sum(bool(pose["warnings"]) for entry in self.entries for pose in entry["poses"])
        print(
            f"{len(self.estimates)} poses in {len(self.entries)} images"
            + (f", {doubtful} of them doubtful (see warnings in poses.json)" if doubtful else "")
            + (f"; {self.failures} images failed (see errors in poses.json)" if self.failures else "")
        )
        print(f"written to {folder}: poses.csv (BOP's form, millimetres), poses.json (metres)")

    def check(self) -> None:
        """Warn where nothing was found. Raises `UserError` where every image failed, or pictures are missing."""
        if self.entries and self.failures == len(self.entries):
            raise UserError(f"no image could be used; the last: {self.entries[-1]['error']}")
        if not self.boxes:
            logger.warning("no box in any image: %s", self.why_no_box())
        poses = [estimate.pose for estimate in self.estimates]
        broken = sum(not np.isfinite([*pose.cam_R_obj.flat, *pose.cam_t_obj]).all() for pose in poses)
        if broken and broken == len(poses):
            raise UserError(
                f"none of the {broken} poses is finite: the weights of {self.args.checkpoint} are damaged, or a "
                "training that diverged left them; give another checkpoint"
            )
        if self.lost_picture:
            raise UserError(f"csv and json are written, not all pictures: {self.lost_picture}")

    def why_no_box(self) -> str:
        """What to look at where no image had a box."""
        if not self.args.boxes:
            return f"the detector found nothing with a score of --threshold {self.args.threshold:g}; lower it"
        scenes = {entry["scene_id"] for entry in self.entries}
        images = [entry["im_id"] for entry in self.entries]
        here = f"{', '.join(map(str, sorted(scenes)))} with ids {min(images, default=0)} to {max(images, default=0)}"
        return f"{self.args.boxes} has none above --threshold of these images, of scene {here}; compare the ids in it"


def show_window(picture_bgr: np.ndarray) -> None:
    """Open or refresh a window. Raises `UserError` where OpenCV was built without them."""
    try:
        cv2.imshow("poses", picture_bgr)
        cv2.waitKey(1)
    except cv2.error as error:
        raise UserError("this OpenCV has no windows; leave --show out, or install opencv-python") from error


def told(pose: ObjectPose) -> dict[str, Any]:
    """A pose in plain values, metres and pixels."""
    return {
        "object": pose.object,
        "score": pose.score,
        **told_pose(pose.pose),
        "box": pose.box.tolist(),
        "warnings": list(pose.warnings),
        **({} if pose.coarse is None else {"before_second_looks": told_pose(pose.coarse)}),
    }


def told_pose(pose: Pose) -> dict[str, Any]:
    """Rotation and translation in plain values, metres."""
    return {"cam_R_obj": pose.cam_R_obj.tolist(), "cam_t_obj": pose.cam_t_obj.tolist()}


if __name__ == "__main__":
    run_cli(main)
