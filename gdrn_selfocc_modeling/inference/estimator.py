"""Poses in any image: a checkpoint, a camera, and boxes are all it takes.

estimator = PoseEstimator.from_checkpoint("model_final.safetensors", detector="detector.safetensors")
for pose in estimator.predict("photo.jpg", K):
    print(pose.object, pose.score, pose.cam_R_obj, pose.cam_t_obj)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from sopose.batch import Prediction, RegressedPose, RoiBatch, collate
from sopose.core.data.roi import ImageSize, RoiView, eval_roi
from sopose.core.detection.infer import Detector
from sopose.core.engine.machine import WITHOUT_TORCH, has_torch
from sopose.core.geometry.camera import check_camera
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.rolls import agreed_and_single, from_roll
from sopose.core.objects.model import ObjectModel
from sopose.core.render.depth_fit import at_measured_depth
from sopose.core.utils.errors import UserError, nearest
from sopose.data.roi_input import make_roi_batch, seen_crop
from sopose.inference.checkpoint_facts import (
    KnownObject,
    known_models,
    read_network_facts,
)
from sopose.inference.crops import CropFormat, Photo, build_crop_format, enlarged
from sopose.inference.finder import ObjectFinder, open_finder
from sopose.inference.found import Box, ObjectPose
from sopose.inference.onnx_network import SUFFIX, read_onnx
from sopose.inference.pose_solver import build_other_solvers, build_pose_solver
from sopose.inference.refine import RefinedPose
from sopose.inference.second_look import SecondLook, build_second_look, needed_confidence
from sopose.models.pnp_points import PoseSolver

logger = logging.getLogger(__name__)
SURE = 0.5  # confidence below which a pose is doubtful
SMALL = 8.0  # pixels; a shorter side of a box holds nothing to see a pose by
BATCH = 32  # ROIs in a forward pass
NO_DETECTOR = "the estimator has no detector; give its file: from_checkpoint(…, detector=…)"


class PoseEstimator:
    """A trained network with what it knows of its objects.

    Args:
        network: from arrays to arrays.
        objects: in the order of the network's classes.
        crops: what the network sees of a box.
        solver: how poses come from its output.
        other_solvers: other ways to poses, which second looks with several starts try as well.
        rolls: degrees by which the camera is rolled about the line of sight to a box, for further crops of it: the
            answer is the pose that all agree on, and second looks with several starts try each.
        second_look: what corrects the poses then.
        finder: what finds objects, for `predict`.
        models: of the objects by name, which go with the poses.
    """

    def __init__(
        self,
        network: Callable[[RoiBatch], Prediction | RegressedPose],
        objects: Sequence[KnownObject],
        crops: CropFormat,
        solver: PoseSolver | None = None,
        second_look: SecondLook | None = None,
        finder: ObjectFinder | None = None,
        models: Mapping[str, ObjectModel] | None = None,
        other_solvers: Sequence[PoseSolver] = (),
        rolls: Sequence[float] = (),
    ) -> None:
        self.network, self.finder, self.models = network, finder, models or {}
        self.objects = {known.name: known for known in objects}
        self._index = {known.name: index for index, known in enumerate(objects)}
        self.crops, self.second_look = crops, second_look
        self.solver, self.other_solvers, self.rolls = solver or PoseSolver(), other_solvers, tuple(rolls)

    @classmethod
    def from_checkpoint(
        cls,
        path: Path | str,
        device: str | None = None,
        overrides: Sequence[str] = (),
        runtime: str | None = None,
        models: Path | str | None = None,
        detector: Path | str | None = None,
        detector_size: int | None = None,
    ) -> PoseEstimator:
        """The network of a checkpoint (.pth, .safetensors) that a run of this software left, or of an .onnx file of it.

        device: by default a GPU where there is one. overrides: keys of its configuration, such as "TEST.USE_PNP=True".
        runtime: of an .onnx file, one of `onnx_runtimes.RUNTIMES`, by default onnxruntime.
        models: a BOP folder of the objects' models, for pictures and for the second looks that TEST.REFINE asks for.
        detector: a detector's file; detector_size: longer side of its input, pixels, by default that of its training.
        Raises `UserError` where the file is damaged, or does not say what it needs to run alone.
        """
        path = Path(path)
        if path.suffix == SUFFIX:
            network, state = read_onnx(path, device, runtime or "onnxruntime")
            facts, has_maps = read_network_facts(state, path, overrides), network.has_maps
        elif runtime is not None:
            raise UserError(f"{path} runs by torch; export it by sopose export for {runtime}, or name none")
        elif not has_torch():
            raise UserError(f"{path} runs by torch, which is not installed; {WITHOUT_TORCH}")
        else:
            from sopose.inference.torch_networks import pose_network_on_torch

            network, facts = pose_network_on_torch(path, device, overrides)
            device, has_maps = str(network.device), True
        test = facts.settings.test
        given = test, facts.settings.model.pose_net, has_maps
        found = None if models is None else known_models(facts.objects, Path(models))
        second_look = build_second_look(facts, found, device or "cpu")
        finder = None
        if detector is not None:
            boxes = Detector.from_checkpoint(detector, device or "cpu", test.amp_test, detector_size)
            finder = open_finder(Path(detector), [known.name for known in facts.objects], boxes)
        solver, others = build_pose_solver(*given), build_other_solvers(*given)
        crops = build_crop_format(facts)
        return cls(network, facts.objects, crops, solver, second_look, finder, found, others, test.rolls)

    def predict(
        self,
        image: np.ndarray | Path | str,
        K: np.ndarray | Sequence[float],
        threshold: float | None = None,
        topk: int = 1,
        distortion: Sequence[float] | np.ndarray | None = None,
        depth: np.ndarray | None = None,
        absent: bool = False,
    ) -> list[ObjectPose]:
        """The poses of the objects that the detector finds: at most `topk` of each, with scores from `threshold` on,
        by default the detector's own.

        What second looks say isn't there is left out, see `is_there`, unless `absent` keeps it. Other arguments as of
        `__call__`. Raises `UserError` as that, and without a detector.
        """
        if self.finder is None:
            raise UserError(NO_DETECTOR)
        photo = Photo.of(image, K, distortion, depth)
        poses = self.of_boxes(photo, self.finder(photo.rgb, threshold, topk))
        return poses if absent else list(filter(self.is_there, poses))

    def is_there(self, found: ObjectPose) -> bool:
        """Whether second looks leave it possible, see `needed_confidence`; without them all is.

        Without a detector, boxes count as just good enough.
        """
        if self.second_look is None or found.confidence is None:
            return True
        threshold = found.box_score if self.finder is None else self.finder.threshold
        at_threshold = self.second_look.confidence_at_threshold
        return found.confidence >= needed_confidence(at_threshold, found.box_score, threshold)

    def __call__(
        self,
        image: np.ndarray | Path | str,
        K: np.ndarray | Sequence[float],
        boxes: Iterable[Box],
        distortion: Sequence[float] | np.ndarray | None = None,
        depth: np.ndarray | None = None,
    ) -> list[ObjectPose]:
        """One pose for each box, in their order.

        A box that shows too little, or a result that can't be, is answered with `warnings`. Raises `UserError` for an
        image, K, lens or depth that is none, a box that is not four numbers, or an unknown object.

        Args:
            image: see `core.images.photo.as_rgb`; an array's channels are RGB.
            K: (3, 3) or (fx, fy, cx, cy), pixels of this image.
            boxes: in the image as it is.
            distortion: OpenCV's coefficients of the lens.
            depth: (H, W) metres, what a depth camera measured at the image's pixels, 0 or nan where nothing: distances
                are corrected by it, which takes the objects' models.
        """
        photo = Photo.of(image, K, distortion, depth)
        return self.of_boxes(photo, [photo.straight(self._checked(box)) for box in boxes])

    def predict_all(
        self,
        images: Sequence[np.ndarray | Path | str],
        K: np.ndarray | Sequence[float],
        threshold: float | None = None,
        topk: int = 1,
        distortion: Sequence[float] | np.ndarray | None = None,
    ) -> list[list[ObjectPose]]:
        """`predict` of several images of one camera, in their order: the network sees their objects together.

        All images are in memory at once. Raises `UserError` as `predict`.
        """
        if self.finder is None:
            raise UserError(NO_DETECTOR)
        photos = [Photo.of(image, K, distortion, None) for image in images]
        found = self.of_photos(photos, [self.finder(photo.rgb, threshold, topk) for photo in photos])
        return [list(filter(self.is_there, own)) for own in found]

    def look(self, photo: Photo, poses: Sequence[tuple[str, Pose]]) -> list[ObjectPose]:
        """Poses of objects, by name, that are about known in an image, after second looks; none is found anew.

        Each look begins at one pose, so that its confidence is not that of the surest of several.

        Raises `UserError` without second looks.
        """
        if self.second_look is None:
            raise UserError("there are no second looks; ask for them by TEST.REFINE.ITERATIONS, with the models")
        plan, odd = replace(self.second_look.plan, starts=1), check_camera(photo.K, *photo.size)
        second_look = replace(self.second_look, plan=plan)
        found = second_look(photo.rgb, photo.K, [name for name, _ in poses], [pose for _, pose in poses])
        return [
            self._answer(photo, self.outlined(photo, name, one.pose), self._at_depth(photo, name, one), None, odd)
            for (name, _), one in zip(poses, found, strict=True)
        ]

    def outlined(self, photo: Photo, name: str, pose: Pose) -> Box:
        """The box of what a pose's outline covers of the image; an empty one where that is nothing."""
        limits = self.models[name].caster.image_box(pose, photo.K) if pose.is_finite else None
        if limits is None:
            return Box(name, np.zeros(4))
        size = np.tile(photo.size, 2)
        return Box(name, np.clip(limits, 0, size - 1))

    def of_boxes(self, photo: Photo, boxes: Sequence[Box]) -> list[ObjectPose]:
        """Poses of boxes of an undistorted image."""
        return self.of_photos([photo], [boxes])[0]

    def of_photos(self, photos: Sequence[Photo], boxes: Sequence[Sequence[Box]]) -> list[list[ObjectPose]]:
        """Poses of the boxes of each of some undistorted images; the network sees those of all together."""
        if any(photo.depth is not None for photo in photos) and any(boxes) and not self.models:
            raise UserError("depth is compared with rendered objects; give the folder of their models: models=…")
        asked = list(zip(photos, boxes, strict=True))
        coarse = iter(self._first_poses([(photo, box) for photo, own in asked for box in own]))
        return [self._second_poses(photo, own, list(islice(coarse, len(own)))) for photo, own in asked]

    def _first_poses(self, asked: Sequence[tuple[Photo, Box]]) -> list[tuple[Pose, ...]]:
        """What the network says of each box, as poses of the model's frame: the answer, then those of other ways."""
        poses: list[tuple[Pose, ...]] = []
        rolls = (0.0, *self.rolls)
        size = max(BATCH // len(rolls), 1)
        for first in range(0, len(asked), size):
            part = asked[first : first + size]
            rois = collate([self._roi(photo.rgb, photo.K, box, roll) for photo, box in part for roll in rolls])
            prediction = self.network(rois)
            answers = self.solver(prediction, rois)
            straight = [one.map(lambda values: values[:: len(rolls)]) for one in (prediction, rois)]
            others = [solver(*straight) for solver in self.other_solvers]
            views = [answers[place : place + len(rolls)] for place in range(0, len(answers), len(rolls))]
            for (photo, box), seen, *ways in zip(part, views, *others, strict=True):
                known = self.objects[box.object]
                turned = [from_roll(pose, photo.K, box.xyxy, roll) for pose, roll in zip(seen, rolls, strict=True)]
                agreed, singles = agreed_and_single(turned, known.own_symmetries)
                poses.append(tuple(pose.with_origin(-known.middle) for pose in (agreed, *ways, *singles)))
        return poses

    def _second_poses(self, photo: Photo, boxes: Sequence[Box], ways: Sequence[tuple[Pose, ...]]) -> list[ObjectPose]:
        """The answers of an image's boxes, of poses as of `_first_poses`."""
        poses, *others = zip(*ways, strict=True) if ways else ((),)
        odd, before = check_camera(photo.K, *photo.size), [None] * len(poses)
        found = [RefinedPose(pose) for pose in poses]
        if self.second_look is not None:
            found = self.second_look(photo.rgb, photo.K, [box.object for box in boxes], poses, others)
            before = list(poses)
        return [
            self._answer(photo, box, self._at_depth(photo, box.object, one), coarse, odd)
            for box, one, coarse in zip(boxes, found, before, strict=True)
        ]

    def _at_depth(self, photo: Photo, name: str, found: RefinedPose) -> RefinedPose:
        """A pose corrected by the measured depth, where there is one and the pose is possible."""
        if photo.depth is None:
            return found
        return replace(found, pose=at_measured_depth(self.models[name], found.pose, photo.depth, photo.K))

    def make_rois(self, rgb: np.ndarray, K: np.ndarray, boxes: Sequence[Box]) -> RoiBatch:
        """What the network sees of some boxes of an image (H, W, 3) uint8 RGB, in arrays."""
        return collate([self._roi(rgb, K, box) for box in boxes])

    def _roi(self, rgb: np.ndarray, K: np.ndarray, box: Box, roll: float = 0.0) -> RoiBatch:
        """What it sees of one box, without a batch dimension; roll: of the camera, degrees."""
        form, size = self.crops.roi, (rgb.shape[1], rgb.shape[0])
        view = RoiView(K, size, eval_roi(np.asarray(box.xyxy), size, self.crops.pad_scale), form.output_res)
        # The crop is turned to BGR, not the image: each channel is resampled by itself.
        crop = seen_crop(rgb, view, form.input_res, roll)[..., ::-1]
        roi = make_roi_batch(crop, view, self.objects[box.object].extent, self._index[box.object], form)
        factor = self.crops.enlargement(K)
        return roi if factor == 1 else enlarged(roi, factor)

    def _checked(self, box: Box) -> Box:
        if box.object not in self.objects:
            known = list(self.objects)
            raise UserError(
                f"the network doesn't know '{box.object}'{nearest(str(box.object), known)} (known: {', '.join(known)})"
            )
        xyxy = np.asarray(box.xyxy, np.float64)
        if xyxy.shape != (4,) or not np.isfinite(xyxy).all():
            raise UserError(f"a box must be four finite numbers x1, y1, x2, y2, got {str(box.xyxy)[:80]}")
        return Box(box.object, xyxy, float(box.score))

    def _answer(
        self, photo: Photo, box: Box, found: RefinedPose, coarse: Pose | None, odd: Sequence[str]
    ) -> ObjectPose:
        known, pose = self.objects[box.object], found.pose
        return ObjectPose(
            object=box.object,
            obj_id=known.obj_id,
            score=box.score if found.confidence is None else found.confidence,
            cam_R_obj=pose.cam_R_obj,
            cam_t_obj=pose.cam_t_obj,
            box=np.asarray(box.xyxy),
            warnings=(*odd, *_doubts(box, pose.with_origin(known.middle), photo.size), *_unsure(found.confidence)),
            coarse=coarse,
            fitted=found.covariance,
            image_error=0.0 if self.second_look is None else self.second_look.image_error,
            confidence=found.confidence,
            box_score=box.score,
            K=photo.K,
            distortion=photo.distortion,
            known=known,
            model=self.models.get(box.object),
        )


def _unsure(confidence: float | None) -> list[str]:
    """Why an answer is not to be relied on, of one whose probability to be right is known."""
    if confidence is None or confidence >= SURE:
        return []
    return [f"it is probably wrong: confidence {confidence:.2f}"]


def _doubts(box: Box, pose: Pose, size: ImageSize) -> list[str]:
    """Why an answer is not to be relied on."""
    x1, y1, x2, y2 = box.xyxy
    doubts = []
    if x2 <= x1 or y2 <= y1:
        doubts.append(f"the box {x1:.0f}, {y1:.0f}, {x2:.0f}, {y2:.0f} has no area; boxes are x1, y1, x2, y2")
    elif min(x2 - x1, y2 - y1) < SMALL:
        doubts.append(f"the box is {x2 - x1:.0f} x {y2 - y1:.0f} pixels, too small to see a pose")
    if x2 <= 0 or y2 <= 0 or x1 >= size[0] - 1 or y1 >= size[1] - 1:
        doubts.append("the box lies outside of the image")
    if not pose.is_finite:
        doubts.append("the network's answer is not finite")
    elif pose.cam_t_obj[2] <= 0:
        doubts.append("the network puts the object behind the camera")
    return doubts
