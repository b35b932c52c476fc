"""Second looks at poses: each is corrected by where the image shows the surface of the object rendered there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sopose.batch import Displacements, LookBatch, collate
from sopose.core.data.roi import crop_image
from sopose.core.engine.machine import WITHOUT_TORCH, has_torch
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.pose_covariance import moved_pose, scaled_covariance
from sopose.core.geometry.pose_fit import PosePrior, fit_poses
from sopose.core.geometry.rotation import lie_vec_to_matrix
from sopose.core.objects.model import ObjectModel
from sopose.core.utils.errors import UserError
from sopose.data.look import look_format, look_view, make_look
from sopose.inference.onnx_network import SUFFIX
from sopose.inference.onnx_refiner import read_onnx_refiner
from sopose.models.confidence import best_of, look_evidence, read_confidence
from sopose.models.refiner_design import RefinerDesign, seen_points
from sopose.settings import CONFIGS
from sopose.settings.groups import TestRefineSettings

SHIPPED = {
    "any_object": CONFIGS / "gdrn_selfocc" / "refiner" / "any_object.safetensors"
}  # refiners that come along, by name
BATCH = 32  # looks in a forward pass
# What poses that are tried as well differ in: shares of the distance, then degrees about the camera's axes.
DISTANCES = (0.93, 1.07)
TURNS = (25.0, 50.0)
ROUNDING = 1e-9  # rotation entries and metres


@dataclass(frozen=True, eq=False)
class RefinedPose:
    """A pose after its second looks."""

    pose: Pose
    covariance: np.ndarray | None = None  # (6, 6) as of `PoseFit`; None without a look
    evidence: np.ndarray | None = None  # (10,) as of `EVIDENCE`; None without a look
    # Probability that the pose is right, as the surest of those tried; None where the refiner doesn't know
    confidence: float | None = None


@dataclass(frozen=True)
class LookPlan:
    """How looks go on, as TEST.REFINE says."""

    iterations: int  # looks at each pose
    # Above 1 for poses that are off by more than a look corrects: looks begin at so many of `tried_poses`, and the most
    # confident one after them is looked at again.
    starts: int = 1
    # Errors that poses have before any look, over those that the refiner learned to correct: a pose goes further from
    # where it began the larger it is, and follows more of what a look gets wrong.
    prior_scale: float = 1.0


class PoseRefiner:
    """A trained refiner that takes any object: all it needs is the model.

    Args:
        network: maps looks to displacements, arrays to arrays.
        design: what it sees.
    """

    def __init__(self, network: Callable[[LookBatch], Displacements], design: RefinerDesign) -> None:
        self.network, self.design, self.format = network, design, look_format(design)
        self.confidence = read_confidence(design.confidence, "the refiner's confidence")

    @classmethod
    def from_file(cls, path: Path | str, device: str = "cpu") -> PoseRefiner:
        """The refiner of a file that sopose refiner wrote, or of its .onnx; "any_object" comes along as both.

        Raises `UserError` as `load_refiner` and `read_onnx_refiner`.
        """
        path = SHIPPED[str(path)] if str(path) in SHIPPED else Path(path)
        if path.suffix != SUFFIX and not has_torch():
            beside = path.with_suffix(SUFFIX)
            if not beside.is_file():
                raise UserError(f"{path} runs by torch, which is not installed; {WITHOUT_TORCH}")
            path = beside
        if path.suffix == SUFFIX:
            return cls(*read_onnx_refiner(path, device))
        from sopose.inference.torch_networks import refiner_on_torch

        return cls(*refiner_on_torch(path, device))

    def __call__(
        self,
        image: np.ndarray,
        K: np.ndarray,
        models: Sequence[ObjectModel],
        poses: Sequence[Pose],
        plan: LookPlan,
        coarse: Sequence[Pose] | None = None,
        others: Sequence[Sequence[Pose]] = (),
    ) -> list[RefinedPose]:
        """Poses of objects in an image (H, W, 3) uint8 BGR, after looks at each, in their order.

        A pose that puts its object beside the image or not wholly before the camera stays as it is.

        Args:
            image: the photograph.
            K: (3, 3) pixels.
            models: of the objects.
            poses: where looks begin.
            plan: how often, from where, and how far poses may go.
            coarse: what is known of the poses before any look, `poses` by default. What the image shows is weighed
                against that, for a network that sees little of an object says little.
            others: lists of poses of the same objects, found in other ways, that plans with several starts try first.

        Raises:
            UserError: several starts, of a refiner that doesn't know how sure it is.
        """
        # Looks are learned in the frames at the objects' middles.
        middles, own = [model.middle for model in models], [model.centered for model in models]

        def centered(given: Sequence[Pose]) -> list[Pose]:
            return [pose.with_origin(middle) for pose, middle in zip(given, middles, strict=True)]

        first, counts = centered(poses), [1] * len(poses)
        if plan.starts > 1:
            ways = zip(first, *map(centered, others), strict=True)
            tried = [tried_poses(pose, plan.starts, more) for pose, *more in ways]
            first, counts = self._best_starts(image, K, own, tried, replace(plan, starts=1))
        before = first if coarse is None else centered(coarse)
        found = [RefinedPose(pose) for pose in first]
        for _ in range(plan.iterations):
            found = self._looked_again(image, K, own, found, before, plan.prior_scale)
        found = [_chosen(one, count) for one, count in zip(found, counts, strict=True)]
        return [_with_origin(one, -middle) for one, middle in zip(found, middles, strict=True)]

    def _looked_again(
        self,
        image: np.ndarray,
        K: np.ndarray,
        models: Sequence[ObjectModel],
        found: Sequence[RefinedPose],
        before: Sequence[Pose],
        prior_scale: float,
    ) -> list[RefinedPose]:
        """The poses `found` after one look more; what can't be looked at stays. before: the poses before any look."""
        looks = [self._look(image, K, model, one.pose) for model, one in zip(models, found, strict=True)]
        seen = [place for place, look in enumerate(looks) if look is not None]
        found = list(found)
        for first in range(0, len(seen), BATCH):
            places = seen[first : first + BATCH]
            diameters = np.array([models[place].diameter for place in places])
            prior = _prior(self.design, [before[place] for place in places], diameters)
            moved = self._refined([looks[place] for place in places], prior, diameters, prior_scale)
            for place, one in zip(places, moved, strict=True):
                found[place] = one if one.pose.is_ahead else found[place]  # what a fit can't be
        return found

    def _best_starts(
        self,
        image: np.ndarray,
        K: np.ndarray,
        models: Sequence[ObjectModel],
        tried: Sequence[Sequence[Pose]],
        plan: LookPlan,
    ) -> tuple[list[Pose], list[int]]:
        """Of several poses tried for each object, after the looks the most confident; and of how many it is.

        Those that can't be looked at don't count.
        """
        if self.confidence is None:
            raise UserError("TEST.REFINE.STARTS takes the most confident pose, and this refiner knows no confidence")
        best, counts = [], []
        for model, own in zip(models, tried, strict=True):
            found = self(image, K, [model] * len(own), own, plan)
            best.append(max(found, key=lambda one: -1.0 if one.confidence is None else one.confidence).pose)
            counts.append(max(sum(one.confidence is not None for one in found), 1))
        return best, counts

    def _look(self, image: np.ndarray, K: np.ndarray, model: ObjectModel, pose: Pose) -> LookBatch | None:
        size = (image.shape[1], image.shape[0])
        if not pose.is_finite:
            return None
        view = look_view(model, pose, K, size, self.design.pad_scale, self.design.output_res)
        if view is None:
            return None
        return make_look(crop_image(image, view.roi, self.design.input_res), model, pose, view, self.format)

    def _refined(
        self, looks: list[LookBatch], prior: PosePrior[np.ndarray], diameters: np.ndarray, scale: float
    ) -> list[RefinedPose]:
        """The poses that looks lead to, solved in double precision; scale: as `LookPlan.prior_scale`.

        How far a pose went counts for its confidence as it did where that was learned, whatever was allowed.
        """
        batch = collate(looks)
        moved, exact = self.network(batch).map(np.float64), batch.map(np.float64)
        seen = seen_points(exact, moved, self.design.correlation)
        allowed = replace(prior, precision=prior.precision / scale**2)
        fit = fit_poses(seen, exact.cam_R_obj, exact.cam_t_obj, prior=allowed)
        evidence = look_evidence(exact, moved, fit, prior, scale, diameters)
        sure = [None] * len(evidence) if self.confidence is None else self.confidence(evidence).tolist()
        poses = [Pose(R, t) for R, t in zip(fit.cam_R_obj, fit.cam_t_obj, strict=True)]
        factors, fitted = self.design.inflation, zip(fit.covariance, fit.cam_t_obj, strict=True)
        covariances = [scaled_covariance(covariance, t, factors) for covariance, t in fitted]
        columns = zip(poses, covariances, evidence, sure, strict=True)
        return [RefinedPose(*column) for column in columns]


def _with_origin(found: RefinedPose, point_obj: np.ndarray) -> RefinedPose:
    """The same in the parallel frame at a point (3,) of the object's, metres; its covariance is of motions about it."""
    if not point_obj.any():
        return found
    if found.covariance is None:
        return replace(found, pose=found.pose.with_origin(point_obj))
    pose, covariance = moved_pose(found.pose, found.covariance, point_obj)
    return replace(found, pose=pose, covariance=covariance)


def _chosen(found: RefinedPose, count: int) -> RefinedPose:
    """The same, as the most confident of `count` poses."""
    return found if found.confidence is None else replace(found, confidence=best_of(found.confidence, count))


def _prior(design: RefinerDesign, coarse: Sequence[Pose], diameters: np.ndarray) -> PosePrior[np.ndarray]:
    """Poses before any look, of objects of some diameters, with the errors that the refiner learned to correct."""
    pairs = zip(coarse, diameters.tolist(), strict=True)
    precision = np.array([design.precision(pose, diameter) for pose, diameter in pairs])
    R, t = (np.array([getattr(pose, name) for pose in coarse]) for name in ("cam_R_obj", "cam_t_obj"))
    return PosePrior(R, t, precision)


def tried_poses(pose: Pose, count: int, others: Sequence[Pose] = ()) -> list[Pose]:
    """At most `count` poses: the given one, others of the same object that differ from it, and the given one moved.

    The moved ones are nearer and farther by `DISTANCES`, then turned by `TURNS` about the object's origin.
    """
    different: list[Pose] = []
    for one in others:  # a PnP that fails leaves the network's pose
        if not any(_is_same(one, known) for known in (pose, *different)):
            different.append(one)
    moved = [Pose(pose.cam_R_obj, share * pose.cam_t_obj) for share in DISTANCES]
    axes = np.concatenate([np.eye(3), -np.eye(3)])
    turns = np.concatenate([np.deg2rad(degrees) * axes for degrees in TURNS])
    turned = [Pose(R @ pose.cam_R_obj, pose.cam_t_obj) for R in lie_vec_to_matrix(turns)]
    return [pose, *different, *moved, *turned][:count]


def _is_same(first: Pose, second: Pose) -> bool:
    """To rounding, which other frames on the way leave."""
    pairs = (first.cam_R_obj, second.cam_R_obj), (first.cam_t_obj, second.cam_t_obj)
    return all(np.allclose(one, other, rtol=0, atol=ROUNDING) for one, other in pairs)


def build_look_plan(test: TestRefineSettings) -> LookPlan:
    """What TEST.REFINE says of looks."""
    return LookPlan(test.iterations, test.starts, test.prior_scale)


def build_pose_refiner(test: TestRefineSettings, device: str) -> PoseRefiner | None:
    """The refiner that TEST.REFINE asks for; None without iterations."""
    if not test.iterations:
        return None
    return PoseRefiner.from_file(Path(test.weights), device)
