"""What measurements of second looks begin with: settings, a refiner, and the test sets in ground-truth boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from sopose.core.engine.checkpoint import read_checkpoint
from sopose.core.engine.distributed import select_device
from sopose.core.engine.facts import plain_facts
from sopose.core.engine.machine import share_cores
from sopose.core.geometry.pose import Pose
from sopose.core.images.files import image_files, read_image
from sopose.core.utils.errors import UserError
from sopose.data.build import ObjectCache
from sopose.data.eval_set import EvalSet
from sopose.data.mapper import EvalItem, EvalSource
from sopose.inference.checkpoint_facts import knows_middles
from sopose.inference.evaluation import build_plan, build_test_sets, build_trained_model, run_inference
from sopose.inference.onnx_network import SUFFIX, read_onnx
from sopose.inference.refine import LookPlan, PoseRefiner, build_look_plan
from sopose.settings import Settings, load_settings

WORDS = ("TEST.TEST_BBOX_TYPE=gt", "TEST.REFINE.ITERATIONS=0")


@dataclass(frozen=True, eq=False)
class LookTest:
    """What is looked at, and what looks."""

    settings: Settings
    device: torch.device
    refiner: PoseRefiner
    sets: list[EvalSet]

    def plan(self, iterations: int) -> LookPlan:
        """So many looks, else as TEST.REFINE says."""
        return replace(build_look_plan(self.settings.test.refine), iterations=iterations)


def build_look_test(
    config: Path, opts: Sequence[str], refiner: Path | str, images: int | None = None, weights: Path | None = None
) -> LookTest:
    """The sets of DATASETS.TEST of a configuration, the first `images` of each, and the refiner of a file.

    weights: of the network whose poses are asked for, which may know objects in frames of its own.
    Raises `UserError` where DATASETS.TEST is empty.
    """
    settings = load_settings(config, [*opts, *WORDS])
    if not settings.datasets.test:
        raise UserError("DATASETS.TEST is empty; name a split to evaluate on")
    device = select_device(settings.model.device)
    share_cores(0, settings.cpu_threads, computes=device.type == "cpu")
    looks = PoseRefiner.from_file(refiner, str(device))
    centered = weights is None or knows_middles(plain_facts(_state_of(weights)))
    sets = build_test_sets(settings, ObjectCache(settings.datasets, settings.model.pose_net, centered=centered))
    return LookTest(settings, device, looks, sets if images is None else [one.first_images(images) for one in sets])


def network_poses(test: LookTest, weights: Path, test_set: EvalSet) -> list[Pose]:
    """The poses of a network in a test set, in the order of its items."""
    model, _ = build_trained_model(test.settings, weights, test.device)
    plan = replace(build_plan(test.settings), report_cases=0, workers=0)
    return [estimate.pose for estimate in run_inference(model, test_set, plan, test.device).estimates]


def _state_of(weights: Path) -> Mapping[str, Any]:
    """What a checkpoint or an .onnx file holds."""
    return read_onnx(weights, "cpu")[1] if weights.suffix == SUFFIX else read_checkpoint(weights)


class WithoutObjects(EvalSource):
    """The boxes of a test set in photographs that show none of its objects, each stretched to its image's size."""

    def __init__(self, source: EvalSource, folder: Path) -> None:
        super().__init__(source.items, source.objects, source.models, source.format, source.pad_scale)
        self._known, self._paths = source, image_files(folder)
        if not self._paths:
            raise UserError(f"{folder} has no images; name a folder of photographs without the objects")
        self._place = {id(item): place for place, item in enumerate(source.items)}

    def image(self, item: EvalItem) -> np.ndarray:
        """(H, W, 3) uint8 BGR."""
        path = self._paths[self._place[id(item)] % len(self._paths)]
        height, width = self._known.image(item).shape[:2]
        return cv2.resize(read_image(path, cv2.IMREAD_COLOR, "restore it"), (width, height))
