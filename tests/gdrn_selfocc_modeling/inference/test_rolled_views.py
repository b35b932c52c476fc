"""Boxes seen by rolled cameras too: the same poses everywhere, and errors that cancel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sopose.batch import Prediction, RoiBatch
from sopose.core.bop.results import Estimate, Estimates
from sopose.core.bop.scene import read_rgb
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.rolls import roll_about
from sopose.core.geometry.rotation import lie_vec_to_matrix
from sopose.core.utils.errors import UserError
from sopose.data.mapper import EvalItem, EvalSource
from sopose.inference.estimator import PoseEstimator
from sopose.inference.evaluation import build_plan, build_trained_model, run_inference
from sopose.inference.found import Box
from sopose.inference.predictions import roi_ids
from sopose.inference.refine import PoseRefiner, RefinedPose
from sopose.inference.rolls import estimates_with_rolls
from sopose.settings import load_settings
from tests.support.found_poses import assert_same_pose, items_by_image

CPU = torch.device("cpu")
ROLLS = (-20.0, 20.0)
WORDS = ("TEST.ROLLS=[-20,20]", "TEST.REFINE.ITERATIONS=0", "MODEL.DEVICE=cpu")


def test_rolled_views_give_the_poses_of_an_evaluation(run, test_set, repository):
    config = repository / "configs" / "gdrn_selfocc" / "toy" / "demo.py"
    settings = load_settings(config, [*run["opts"], *WORDS, "DATALOADER.NUM_WORKERS=0"])
    model, _ = build_trained_model(settings, run["weights"], CPU)
    several = run_inference(model, test_set, build_plan(settings), CPU).estimates
    plan = build_plan(replace(settings, test=replace(settings.test, rolls=())))
    alone = run_inference(model, test_set, plan, CPU).estimates
    estimator = PoseEstimator.from_checkpoint(run["weights"], overrides=WORDS)
    wanted = iter(several)
    for items in items_by_image(test_set).values():
        record = items[0].record
        boxes = [Box(test_set.spec.object_names[item.obj_id], item.box) for item in items]
        for found in estimator(read_rgb(record)[..., ::-1], record.K, boxes):
            assert_same_pose(found.pose, next(wanted).pose)
    assert np.abs(several.cam_R_obj - alone.cam_R_obj).max() > 0.01


def test_the_detectors_time_counts_once(test_set):
    items = [replace(item, time=0.25) for item in test_set.source.items]
    detected = replace(test_set, source=test_set.source.of_items(items))
    pose = Pose(np.eye(3), np.array([0, 0, 1.0]))
    own, rolled = (
        Estimates.of(Estimate(*roi_ids(item), 1.0, pose, 0.25 + network) for item in items) for network in (0.1, 0.2)
    )
    agreed, singles = estimates_with_rolls(detected, own, (30.0, -30.0), lambda views: rolled)
    np.testing.assert_allclose(agreed.time, 0.25 + 0.1 + 2 * 0.2)
    assert len(singles) == 3
    unknown = replace(own, time=np.full(len(items), -1.0))
    agreed, _ = estimates_with_rolls(detected, unknown, (30.0,), lambda views: unknown)
    np.testing.assert_array_equal(agreed.time, -1)


class Grey(EvalSource):
    """A source of other images."""

    def image(self, item: EvalItem) -> np.ndarray:
        return np.full_like(super().image(item), 128)


def test_rolled_views_are_of_the_sources_own_images(test_set):
    source = test_set.source
    grey = Grey(source.items, source.objects, source.models, source.format, source.pad_scale)
    seen, _, _ = grey.rolled(30.0).sample(0)
    middle = seen.image.shape[-1] // 2
    crop = grey.format.image_array(seen.image.numpy())
    assert (crop[middle, middle] == 128).all()
    assert grey.roll == 0 and grey.rolled(30.0).of_items(source.items).roll == 30


class Leaning:
    """Stands for a network that is right in the first view, and errs to opposite sides in the next two."""

    def __init__(self, estimator: PoseEstimator, box: Box, K: np.ndarray, true: Pose) -> None:
        self.inner, self.box, self.K, self.true = estimator.network, box, K, true

    def __call__(self, rois: RoiBatch) -> Prediction:
        prediction = self.inner(rois).arrays()
        pixel = np.asarray(self.box.xyxy).reshape(2, 2).mean(axis=0)
        errors = lie_vec_to_matrix(np.deg2rad([[0.0, 0, 0], [9, 0, 0], [-9, 0, 0]]))
        rolled = [roll_about(self.K, pixel, roll) for roll in (0.0, *ROLLS)]
        R = np.stack([A @ error @ self.true.cam_R_obj for A, error in zip(rolled, errors, strict=True)])
        t = np.stack([A @ self.true.cam_t_obj for A in rolled])
        return replace(prediction, cam_R_obj=R, cam_t_obj=t)


def test_errors_of_views_cancel(run, photo):
    image, K, box = photo
    estimator = PoseEstimator.from_checkpoint(run["weights"], overrides=WORDS)
    true = Pose(lie_vec_to_matrix(np.array([0.3, -0.4, 0.5])), np.array([0.05, 0.02, 0.8]))
    estimator.network = Leaning(estimator, box, K, true)
    middle = estimator.objects[box.object].middle
    (found,) = estimator(image, K, [box])
    assert_same_pose(found.pose, true.with_origin(-middle))


def test_rolls_that_are_none_are_refused(repository):
    config = repository / "configs" / "gdrn_selfocc" / "toy" / "demo.py"
    for wrong in ("[nan]", "[181]", "[" + ",".join(["1"] * 25) + "]"):
        with pytest.raises(UserError, match=r"TEST\.ROLLS"):
            load_settings(config, [f"TEST.ROLLS={wrong}"])


def test_looks_begin_at_the_same_poses_as_in_an_evaluation(run, test_set, repository, monkeypatch):
    """The mean, three ways of PnP, each rolled view and that of the camera as it is, in this order in both."""
    words = ("TEST.ROLLS=[-20,20]", "TEST.REFINE.ITERATIONS=1", "TEST.REFINE.STARTS=7", "MODEL.DEVICE=cpu")
    begun: list[list[tuple[Pose, ...]]] = []

    def recorded(self, image, K, models, poses, plan, coarse=None, others=()) -> list[RefinedPose]:
        begun.append(list(zip(poses, *others, strict=True)))
        return [RefinedPose(pose) for pose in poses]

    monkeypatch.setattr(PoseRefiner, "__call__", recorded)
    config = repository / "configs" / "gdrn_selfocc" / "toy" / "demo.py"
    settings = load_settings(config, [*run["opts"], *words, "DATALOADER.NUM_WORKERS=0"])
    model, _ = build_trained_model(settings, run["weights"], CPU)
    run_inference(model, test_set, build_plan(settings), CPU)
    evaluated = [ways for of_image in begun for ways in of_image]
    begun.clear()
    estimator = PoseEstimator.from_checkpoint(run["weights"], overrides=words, models=test_set.spec.models_dir)
    for items in items_by_image(test_set).values():
        boxes = [Box(test_set.spec.object_names[item.obj_id], item.box) for item in items]
        estimator(read_rgb(items[0].record)[..., ::-1], items[0].record.K, boxes)
    estimated = [ways for of_image in begun for ways in of_image]
    ransac = 2  # makes much of rounding
    for ways, wanted in zip(estimated, evaluated, strict=True):
        assert len(ways) == len(wanted) == 7
        for place in set(range(7)) - {ransac}:
            assert_same_pose(ways[place], wanted[place])


def test_a_file_of_before_has_one_view(run):
    assert PoseEstimator.from_checkpoint(run["weights"]).rolls == ()
