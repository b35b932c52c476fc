"""Poses of known objects in images, folders, videos or a webcam: files and pictures of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from sopose.core.bop.results import Estimate, write_results
from sopose.core.data.frames import Frame, Frames, open_frames
from sopose.core.data.video_file import closed_video, open_video
from sopose.core.evaluation.scores import finite
from sopose.core.geometry.pose import Pose
from sopose.core.images.files import write_image
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import require_writable_dir, write_json
from sopose.inference.estimator import PoseEstimator
from sopose.inference.found import ObjectPose
from sopose.inference.painter import draw_poses
from sopose.inference.pose_inputs import (
    Boxes,
    Camera,
    PredictOptions,
    Senses,
    look_words,
    open_boxes,
    open_camera,
    open_depth,
    open_distortion,
)
from sopose.inference.tracking import PoseTracker
from sopose.inference.views import Sighting, fuse_sightings, fused_entry, fused_estimates, read_views

logger = logging.getLogger(__name__)
VIDEO_NAME = "poses.mp4"
Painter = Callable[[np.ndarray, list[ObjectPose]], np.ndarray]


@dataclass(eq=False)
class Run:
    """What has been found so far, and where it goes."""

    options: PredictOptions
    frames: Frames
    senses: Senses
    painter: Painter | None
    estimates: list[Estimate] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    sightings: list[Sighting] = field(default_factory=list)
    boxes: int = 0
    absent: int = 0  # of these, what second looks say isn't there
    failures: int = 0
    video: cv2.VideoWriter | None = None
    drawn: set[str] = field(default_factory=set)
    lost_picture: str = ""  # why pictures are missing

    def take(
        self,
        frame: Frame,
        camera: Camera,
        boxes: Boxes | None,
        estimator: PoseEstimator,
        tracker: PoseTracker | None = None,
    ) -> None:
        """Estimate one frame, in boxes or those of the detector; what goes wrong is noted, and the run continues."""
        started = time.perf_counter()
        entry: dict[str, Any] = {"image": frame.name, "scene_id": frame.scene_id, "im_id": frame.im_id}
        entry |= {} if frame.time is None else {"time": frame.time}
        try:
            rgb = frame.read()
            K = camera(frame, (rgb.shape[1], rgb.shape[0]))
            lens, depth = self.senses.distortion, self.senses.depth(frame)
            if tracker is not None:
                own = self.options.threshold, self.options.topk
                every = poses = tracker(rgb, K, frame.time, *own, lens, depth)
            elif boxes is None:
                own = self.options.threshold, self.options.topk
                every = estimator.predict(rgb, K, *own, lens, depth, absent=True)
                poses = list(filter(estimator.is_there, every))
            else:
                every = poses = estimator(rgb, K, boxes(frame), lens, depth)
        except UserError as error:
            self.failures += 1
            logger.warning("%s: %s", frame.name, error)
            self.entries.append({**entry, "error": str(error), "poses": []})
            return
        seconds = time.perf_counter() - started
        self.boxes += len(every)
        self.absent += len(every) - len(poses)
        self.entries.append({**entry, "seconds": seconds, "poses": [pose_entry(pose) for pose in poses]})
        self.estimates += [
            Estimate(frame.scene_id, frame.im_id, pose.obj_id, pose.score, pose.pose, seconds) for pose in poses
        ]
        self.sightings += [Sighting(frame.scene_id, frame.im_id, pose) for pose in poses]
        if self.painter is not None:
            self.show(frame, self.painter(rgb, poses))

    def show(self, frame: Frame, picture_bgr: np.ndarray) -> None:
        """Open a picture where asked to, and write it; the first that cannot be written is the last one tried."""
        if self.options.show:
            show_window(picture_bgr)
        if self.options.no_pictures or self.lost_picture:
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
            write_image(self.options.output / "pictures" / f"{name}.jpg", picture_bgr)
            return
        if self.video is None:
            self.video = open_video(self.options.output / VIDEO_NAME, self.frames.fps, picture_bgr.shape[1::-1])
        self.video.write(picture_bgr)

    def write(self) -> None:
        """Write csv and json, and say what was found."""
        folder = self.options.output
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
        if self.absent:
            keep = "--opts TEST.REFINE.CONFIDENCE_AT_THRESHOLD=0 keeps them"
            print(f"{self.absent} boxes got no pose: by their scores and the looks none is likely there; {keep}")
        print(f"written to {folder}: poses.csv (BOP's form, millimetres), poses.json (metres)")

    def fuse(self, views: Mapping[int, Pose]) -> None:
        """Write one pose of each object, from all images. Raises `UserError` as `fuse_sightings`."""
        folder, found = self.options.output, fuse_sightings(self.sightings, views)
        write_json(folder / "fused.json", finite([fused_entry(one) for one in found]))
        write_results(folder / "poses_fused.csv", fused_estimates(found, views))
        for one in found:
            print(f"{one.object}: one pose from {len(one.agree)} of {len(one.images)} images")
        print(f"written to {folder}: fused.json (world frame, metres), poses_fused.csv (as each camera sees them)")

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
                f"none of the {broken} poses is finite: the weights of {self.options.checkpoint} are damaged, or a "
                "training that diverged left them; give another checkpoint"
            )
        if self.lost_picture:
            raise UserError(f"csv and json are written, not all pictures: {self.lost_picture}")

    def why_no_box(self) -> str:
        """What to look at where no image had a box."""
        if self.options.track:
            return "no object was seen surely enough to be followed; look at what is found without --track"
        if not self.options.boxes:
            least = "its own threshold" if self.options.threshold is None else f"--threshold {self.options.threshold:g}"
            return f"the detector found nothing with a score of {least}; give a lower --threshold"
        scenes = {entry["scene_id"] for entry in self.entries}
        images = [entry["im_id"] for entry in self.entries]
        here = f"{', '.join(map(str, sorted(scenes)))} with ids {min(images, default=0)} to {max(images, default=0)}"
        return (
            f"{self.options.boxes} has none above --threshold of these images, of scene {here}; compare the ids in it"
        )


def run_predict(options: PredictOptions) -> None:
    """Estimate, write and draw."""
    require_writable_dir(options.output, "name another --output")
    frames = open_frames(options.source)
    if options.track and not frames.fps:
        raise UserError(f"{options.source} is no video; leave --track out, or make one of the images")
    camera = open_camera(options, frames)
    views = None if options.views is None else read_views(options.views)
    estimator = PoseEstimator.from_checkpoint(
        options.checkpoint,
        options.device,
        [*options.opts, *look_words(options)],
        options.runtime,
        options.models,
        None if options.box else options.detector,
        options.detector_size,
    )
    if options.starts is not None and estimator.second_look is None:
        raise UserError("--starts says where second looks begin, and the network's file asks for none; add --looks 2")
    tracker = PoseTracker(estimator) if options.track else None
    boxes = open_boxes(options, estimator)
    painter = None if options.no_pictures and not options.show else draw_poses
    run = Run(options, frames, Senses(open_distortion(options), open_depth(options, frames)), painter)
    try:
        with tqdm(total=frames.count, desc="poses", unit="image") as bar:
            for number, frame in enumerate(frames):
                if options.limit and number >= options.limit:
                    break
                run.take(frame, camera, boxes, estimator, tracker)
                bar.update()
    finally:  # a webcam is ended by an interrupt; what was found is not lost
        run.write()
    run.check()
    if views is not None:
        run.fuse(views)


def show_window(picture_bgr: np.ndarray) -> None:
    """Open or refresh a window. Raises `UserError` where OpenCV was built without them."""
    try:
        cv2.imshow("poses", picture_bgr)
        cv2.waitKey(1)
    except cv2.error as error:
        raise UserError("this OpenCV has no windows; leave --show out, or install opencv-python") from error


def pose_entry(pose: ObjectPose) -> dict[str, Any]:
    """A pose in plain values, metres and pixels."""
    return {
        "object": pose.object,
        **({} if pose.track is None else {"track": pose.track}),
        "score": pose.score,
        **plain_pose(pose.pose),
        "box": pose.box.tolist(),
        "warnings": list(pose.warnings),
        **({} if pose.coarse is None else {"before_second_looks": plain_pose(pose.coarse)}),
        **({} if pose.confidence is None else {"confidence": pose.confidence, "box_score": pose.box_score}),
        **({} if pose.covariance is None else {"covariance": pose.covariance.tolist()}),
    }


def plain_pose(pose: Pose) -> dict[str, Any]:
    """Rotation and translation in plain values, metres."""
    return {"cam_R_obj": pose.cam_R_obj.tolist(), "cam_t_obj": pose.cam_t_obj.tolist()}
