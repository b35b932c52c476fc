"""What measurements of second looks begin with: settings, a refiner, and the test sets in ground-truth boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sopose.core.engine.distributed import select_device
from sopose.core.engine.machine import share_cores
from sopose.core.geometry.pose import Pose
from sopose.core.utils.errors import UserError
from sopose.data.build import ObjectCache
from sopose.data.eval_set import EvalSet
from sopose.inference.evaluation import build_plan, build_test_sets, build_trained_model, run_inference
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


def build_look_test(config: Path, opts: Sequence[str], refiner: Path | str, images: int | None = None) -> LookTest:
    """The sets of DATASETS.TEST of a configuration, the first `images` of each, and the refiner of a file.

    Raises `UserError` where DATASETS.TEST is empty.
    """
    settings = load_settings(config, [*opts, *WORDS])
    if not settings.datasets.test:
        raise UserError("DATASETS.TEST is empty; name a split to evaluate on")
    device = select_device(settings.model.device)
    share_cores(0, settings.cpu_threads, computes=device.type == "cpu")
    looks = PoseRefiner.from_file(refiner, str(device))
    sets = build_test_sets(settings, ObjectCache(settings.datasets, settings.model.pose_net))
    return LookTest(settings, device, looks, sets if images is None else [one.first_images(images) for one in sets])


def network_poses(test: LookTest, weights: Path, test_set: EvalSet) -> list[Pose]:
    """The poses of a network in a test set, in the order of its items."""
    model, _ = build_trained_model(test.settings, weights, test.device)
    plan = replace(build_plan(test.settings), report_cases=0, workers=0)
    return [estimate.pose for estimate in run_inference(model, test_set, plan, test.device).estimates]
