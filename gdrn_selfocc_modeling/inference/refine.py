"""Second looks at poses: each is corrected by where the image shows the surface of the object rendered there."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from sopose.batch import LookBatch, collate
from sopose.core.bop.results import Estimates
from sopose.core.data.roi import crop_image
from sopose.core.engine.distributed import current_world, of_all_ranks
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.pose_fit import PoseFit, PosePrior, SeenPoints, fit_poses
from sopose.core.objects.model import ObjectModel
from sopose.data.eval_set import EvalSet
from sopose.data.look import look_format, look_view, make_look
from sopose.inference.onnx_network import SUFFIX
from sopose.inference.onnx_refiner import read_onnx_refiner
from sopose.inference.predictions import Predictions, roi_ids
from sopose.inference.prepare import prepared_refiner
from sopose.models.refiner import seen_points
from sopose.models.refiner_file import RefinerDesign, load_refiner
from sopose.settings import CONFIGS

SHIPPED = {
    "any_object": CONFIGS / "gdrn_selfocc" / "refiner" / "any_object.safetensors"
}  # refiners that come along, by name
BATCH = 32  # looks in a forward pass


@dataclass(frozen=True, eq=False)
class RefinedPose:
    """A pose after its second looks."""

    pose: Pose
    covariance: np.ndarray | None = None  # (6, 6) as of `PoseFit`; None without a look


class PoseRefiner:
    """A trained refiner that takes any object: all it needs is the model.

    Args:
        network: maps looks to displacements.
        design: what it sees.
        device: where it is.
    """

    def __init__(self, network: nn.Module, design: RefinerDesign, device: torch.device | None = None) -> None:
        self.design, self.format = design, look_format(design)
        self.device = device or torch.device("cpu")
        self.network = prepared_refiner(network.eval(), self.device, design.input_res)

    @classmethod
    def from_file(cls, path: Path | str, device: torch.device | str = "cpu") -> PoseRefiner:
        """The refiner of a file that sopose refiner wrote, or of its .onnx; "any_object" comes along.

        Raises `UserError` as `load_refiner`.
        """
        path, device = SHIPPED.get(str(path), Path(path)), torch.device(device)
        if path.suffix == SUFFIX:
            network, design = read_onnx_refiner(path, device)
        else:
            network, design = load_refiner(path)
        return cls(network.to(device), design, device)

    @torch.inference_mode()
    def __call__(
        self,
        image: np.ndarray,
        K: np.ndarray,
        models: Sequence[ObjectModel],
        poses: Sequence[Pose],
        iterations: int,
        coarse: Sequence[Pose] | None = None,
    ) -> list[RefinedPose]:
        """Poses of objects in an image (H, W, 3) uint8 BGR, after so many looks at each, in their order.

        K: (3, 3) pixels. coarse: what is known of them before any look, `poses` by default. What the image shows is
        weighed against that, for a network that sees little of an object says little. A pose that puts its object
        beside the image or not wholly before the camera stays as it is.
        """
        before = poses if coarse is None else coarse
        refined = [RefinedPose(pose) for pose in poses]
        for _ in range(iterations):
            looks = [self._look(image, K, model, one.pose) for model, one in zip(models, refined, strict=True)]
            seen = [place for place, look in enumerate(looks) if look is not None]
            for first in range(0, len(seen), BATCH):
                places = seen[first : first + BATCH]
                prior = _prior(self.design, [(before[place], models[place].diameter) for place in places])
                fit = self._fitted([looks[place] for place in places], prior)
                for row, place in enumerate(places):
                    refined[place] = _checked(fit, row, refined[place])
        return refined

    def _look(self, image: np.ndarray, K: np.ndarray, model: ObjectModel, pose: Pose) -> LookBatch | None:
        size = (image.shape[1], image.shape[0])
        finite = np.isfinite(pose.cam_R_obj).all() and np.isfinite(pose.cam_t_obj).all()
        view = look_view(model, pose, K, size, self.design.pad_scale, self.design.output_res) if finite else None
        if view is None:
            return None
        return make_look(crop_image(image, view.roi, self.design.input_res), model, pose, view, self.format)

    def _fitted(self, looks: list[LookBatch], prior: PosePrior[np.ndarray]) -> PoseFit[np.ndarray]:
        """The poses that looks lead to, solved in double precision on the host."""
        batch = collate(looks)
        moved = self.network(batch.to(self.device)).map(lambda values: values.cpu().double())
        exact = batch.map(lambda values: values.double())
        tensors = vars(seen_points(exact, moved, self.design.correlation))
        seen = SeenPoints(**{name: values.numpy() for name, values in tensors.items()})
        return fit_poses(seen, exact.cam_R_obj.numpy(), exact.cam_t_obj.numpy(), prior=prior)


def _prior(design: RefinerDesign, coarse: Sequence[tuple[Pose, float]]) -> PosePrior[np.ndarray]:
    """Poses before any look, of objects of some diameters, with the errors that the refiner learned to correct."""
    precision = np.array([design.precision(pose, diameter) for pose, diameter in coarse])
    R, t = (np.array([getattr(pose, name) for pose, _ in coarse]) for name in ("cam_R_obj", "cam_t_obj"))
    return PosePrior(R, t, precision)


def refine_predictions(
    refiner: PoseRefiner, test_set: EvalSet, predictions: Predictions, iterations: int
) -> Predictions:
    """The predictions of a test set after so many looks, with the poses before; each rank looks at its share.

    An image's time grows by that of its looks; reading the image is not counted, as with the network.
    """
    world, items = current_world(), test_set.source.items
    own = world.share(len(items))
    mine: dict[int, tuple[Pose, float]] = {}
    with tqdm(total=len(own), desc=f"second looks at {test_set.spec.name}", disable=not world.is_first) as progress:
        for _, numbers in groupby(own, key=lambda number: roi_ids(items[number])[:2]):
            places = list(numbers)
            image, K = test_set.source.image(items[places[0]]), items[places[0]].record.K
            started = time.perf_counter()
            models = [test_set.source.objects[items[place].obj_id].model for place in places]
            poses = [predictions.estimates[place].pose for place in places]
            refined = refiner(image, K, models, poses, iterations)
            seconds = time.perf_counter() - started
            each = seconds / len(places)
            mine |= {place: (one.pose, each) for place, one in zip(places, refined, strict=True)}
            progress.update(len(places))
    found = {place: answer for part in of_all_ranks(mine) for place, answer in part.items()}
    spent: dict[tuple[int, int], float] = defaultdict(float)
    for place, (_, seconds) in found.items():
        spent[roi_ids(items[place])[:2]] += seconds
    estimates = [
        replace(
            estimate,
            pose=found[place][0],
            time=estimate.time + spent[estimate.scene_id, estimate.im_id] if estimate.time >= 0 else estimate.time,
        )
        for place, estimate in enumerate(predictions.estimates)
    ]
    return replace(predictions, estimates=Estimates.of(estimates), coarse=predictions.estimates)


def _checked(fit: PoseFit[np.ndarray], row: int, before: RefinedPose) -> RefinedPose:
    """One fitted pose; the one before where the fit can't be."""
    R, t, covariance = fit.cam_R_obj[row], fit.cam_t_obj[row], fit.covariance[row]
    if not (np.isfinite(R).all() and np.isfinite(t).all() and t[2] > 0):
        return before
    return RefinedPose(Pose(R, t), covariance)
