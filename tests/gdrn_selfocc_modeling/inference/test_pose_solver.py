"""Ways from a network's output to poses, as settings name them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sopose.core.bop.scene import read_rgb
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.rotation import geodesic_distance
from sopose.inference.estimator import PoseEstimator
from sopose.inference.evaluation import build_plan, build_trained_model, run_inference
from sopose.inference.found import Box
from sopose.inference.pose_solver import build_other_solvers
from sopose.settings import load_settings
from tests.support.found_poses import items_by_image

CPU = torch.device("cpu")
SEVERAL = ("TEST.REFINE.ITERATIONS=1", "TEST.REFINE.STARTS=4", "TEST.REFINE.PRIOR_SCALE=1")


def ways(config, *opts: str, has_maps: bool = True) -> list[tuple[str, str]]:
    """Kind and layers of the other ways."""
    settings = load_settings(config, opts)
    solvers = build_other_solvers(settings.test, settings.model.pose_net, has_maps)
    return [(one.pnp_type, one.reader.layers if one.reader else "") for one in solvers]


@pytest.fixture
def config(repository):
    return repository / "configs" / "gdrn_selfocc" / "toy" / "demo.py"


def test_the_other_ways_are_those_that_the_pose_itself_is_not_by(config):
    all_of_pnp = [("weighted_pnp", "P"), ("ransac_pnp", "P"), ("weighted_pnp", "P+Q")]
    assert ways(config, *SEVERAL, "TEST.USE_PNP=False") == all_of_pnp
    by_pnp = ways(config, *SEVERAL, "TEST.USE_PNP=True", "TEST.PNP_TYPE=ransac_pnp")
    assert by_pnp == [("", ""), ("weighted_pnp", "P"), ("weighted_pnp", "P+Q")]
    one_layer = ways(config, *SEVERAL, "TEST.USE_PNP=False", "MODEL.POSE_NET.SELFOCC_HEAD.ENABLED=False")
    assert one_layer == all_of_pnp[:2]


def test_one_start_no_look_or_no_maps_need_none(config):
    assert ways(config, "TEST.REFINE.ITERATIONS=1", "TEST.REFINE.STARTS=1") == []
    assert ways(config, "TEST.REFINE.ITERATIONS=0", "TEST.REFINE.STARTS=4") == []
    assert ways(config, *SEVERAL, has_maps=False) == []


def test_several_starts_give_the_poses_of_an_evaluation(run, test_set, config):
    """The estimator and the evaluation try the same poses; they aren't those of one start."""
    settings = load_settings(config, [*run["opts"], *SEVERAL, "DATALOADER.NUM_WORKERS=0"])
    model, _ = build_trained_model(settings, run["weights"], CPU)
    wanted = iter(run_inference(model, test_set, build_plan(settings), CPU).estimates)
    models = test_set.spec.models_dir
    estimators = [
        PoseEstimator.from_checkpoint(run["weights"], overrides=[*words, "MODEL.DEVICE=cpu"], models=models)
        for words in (SEVERAL, ("TEST.REFINE.ITERATIONS=1", "TEST.REFINE.STARTS=1"))
    ]
    agree, differ = [], []
    for items in items_by_image(test_set).values():
        record = items[0].record
        boxes = [Box(test_set.spec.object_names[item.obj_id], item.box) for item in items]
        several, single = (one(read_rgb(record)[..., ::-1], record.K, boxes) for one in estimators)
        for found, alone in zip(several, single, strict=True):
            agree.append(degrees_between(found.pose, next(wanted).pose))
            differ.append(degrees_between(found.pose, alone.pose))
    # RANSAC makes much of rounding, and of nearly equal confidences either may be the larger.
    assert np.mean(np.array(agree) < 1) > 0.9
    assert max(differ) > 1


def degrees_between(first: Pose, second: Pose) -> float:
    return float(np.degrees(geodesic_distance(first.cam_R_obj, second.cam_R_obj)))
