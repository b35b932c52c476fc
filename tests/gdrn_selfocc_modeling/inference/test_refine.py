"""Second looks: they lead to the pose that the displacements give, and are used wherever a pose comes out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from sopose.core.bop.results import Estimate, Estimates
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.rotation import geodesic_distance
from sopose.core.rays import raycast
from sopose.core.utils.errors import UserError
from sopose.data.eval_set import EvalSet
from sopose.data.look import nearest_equal_pose
from sopose.inference.evaluation import build_plan
from sopose.inference.predictions import Predictions, read_predictions, roi_ids, write_predictions
from sopose.inference.prepare import prepared_refiner
from sopose.inference.refine import LookPlan, PoseRefiner, tried_poses
from sopose.inference.refine_predictions import refine_predictions
from sopose.inference.torch_networks import OnTorch
from sopose.models.confidence import EVIDENCE, Confidence, best_of
from sopose.models.refiner_design import RefinerDesign
from sopose.models.refiner_file import build_refiner, save_refiner
from tests.support.builders import eval_set_of
from tests.support.looks import CAMERA, IMAGE_SIZE, Oracle

DESIGN = RefinerDesign(channels=8, input_res=64, output_res=32, correlation=1.0)
TRUTH = Pose(Rotation.from_euler("xyz", [20, -35, 60], degrees=True).as_matrix(), np.array([0.03, -0.02, 0.7]))
PICTURE = np.zeros((*IMAGE_SIZE[::-1], 3), np.uint8)


def asked(network: torch.nn.Module) -> OnTorch:
    """A network of torch as what refines asks it."""
    return OnTorch(network, torch.device("cpu"))


def wrong(pose: Pose, degrees: float = 8.0, metres: float = 0.02) -> Pose:
    turn = Rotation.from_rotvec(np.deg2rad(degrees) * np.array([0.6, 0.0, 0.8])).as_matrix()
    return Pose(turn @ pose.cam_R_obj, pose.cam_t_obj + metres * np.array([0.6, -0.3, 1.0]))


def test_true_displacements_lead_to_the_true_pose(models):
    model = models[min(models)]
    refined = PoseRefiner(asked(Oracle(TRUTH)), DESIGN)(PICTURE, CAMERA, [model], [wrong(TRUTH)], LookPlan(2))[0]
    angle = Rotation.from_matrix(refined.pose.cam_R_obj @ TRUTH.cam_R_obj.T).magnitude()
    assert np.degrees(angle) < 0.01
    assert np.linalg.norm(refined.pose.cam_t_obj - TRUTH.cam_t_obj) < 1e-4  # metres
    assert refined.covariance.shape == (6, 6)
    assert np.linalg.eigvalsh(refined.covariance).min() > 0


def test_who_is_unsure_leaves_the_pose_as_it_was(models):
    """Displacements that are predicted without knowing them weigh nothing against the pose before."""
    model, start = models[min(models)], wrong(TRUTH)
    unsure = Oracle(TRUTH, scale=50.0)
    (refined,) = PoseRefiner(asked(unsure), replace(DESIGN, correlation=250.0))(
        PICTURE, CAMERA, [model], [start], LookPlan(3)
    )
    assert np.linalg.norm(refined.pose.cam_t_obj - start.cam_t_obj) < 1e-3  # metres
    assert np.degrees(Rotation.from_matrix(refined.pose.cam_R_obj @ start.cam_R_obj.T).magnitude()) < 0.5
    deviations = np.sqrt(np.diag(refined.covariance))
    assert deviations[2] == pytest.approx(DESIGN.start_depth * np.linalg.norm(start.cam_t_obj), rel=0.1)
    assert deviations[0] == pytest.approx(DESIGN.start_across * model.diameter, rel=0.1)
    assert deviations[3] == pytest.approx(np.deg2rad(DESIGN.start_rotation) / np.sqrt(3), rel=0.1)


def test_looks_one_by_one_are_those_of_one_call(models):
    model, start = models[min(models)], wrong(TRUTH)
    refiner = PoseRefiner(asked(Oracle(TRUTH, scale=1.0)), replace(DESIGN, correlation=100.0))
    (whole,) = refiner(PICTURE, CAMERA, [model], [start], LookPlan(3))
    pose = start
    for _ in range(3):
        (one,) = refiner(PICTURE, CAMERA, [model], [pose], LookPlan(1), coarse=[start])
        pose = one.pose
    np.testing.assert_allclose(pose.cam_t_obj, whole.pose.cam_t_obj, atol=1e-9)
    np.testing.assert_allclose(one.covariance, whole.covariance, rtol=1e-6)


def test_every_iteration_looks_once_at_each_and_none_looks_at_none(models):
    model = models[min(models)]
    for count in (0, 1, 3):
        oracle = Oracle(TRUTH)
        refined = PoseRefiner(asked(oracle), DESIGN)(
            PICTURE, CAMERA, [model] * 2, [wrong(TRUTH), TRUTH], LookPlan(count)
        )
        assert oracle.looks == 2 * count
        assert (refined[0].covariance is None) == (count == 0)


@pytest.mark.parametrize(
    "cam_t_obj", [(0, 0, -0.7), (3.0, 0, 0.7), (0, 0, 0.01), (np.nan, 0, 1)], ids=["behind", "beside", "around", "nan"]
)
def test_a_pose_that_shows_nothing_stays_as_it_is(models, cam_t_obj):
    pose = Pose(TRUTH.cam_R_obj, np.array(cam_t_obj, float))
    oracle = Oracle(TRUTH)
    poses = PoseRefiner(asked(oracle), DESIGN)(
        PICTURE, CAMERA, [models[min(models)]] * 2, [pose, wrong(TRUTH)], LookPlan(1)
    )
    assert oracle.looks == 1
    np.testing.assert_array_equal(poses[0].pose.cam_t_obj, pose.cam_t_obj)
    assert poses[0].covariance is None and poses[1].covariance is not None


@pytest.fixture(scope="module")
def base(toy_root) -> list[str]:
    return [
        *("DATASETS.TRAIN=", "DATASETS.TRAIN2=", "DATASETS.TEST=[toy_test]", f"DATASETS.ROOT={toy_root.parent}"),
        *("MODEL.POSE_NET.NUM_CLASSES=4", "MODEL.POSE_NET.LOSS_CFG.NUM_PM_POINTS=16", "DATALOADER.NUM_WORKERS=0"),
        *("TEST.TEST_BBOX_TYPE=gt", "VAL.REPORT_CASES=0", "MODEL.DEVICE=cpu"),
    ]


@pytest.fixture(scope="module")
def test_set(make_small_config, base) -> EvalSet:
    return eval_set_of(make_small_config(*base), "toy_test")


def predictions_of(test_set: EvalSet) -> Predictions:
    items = test_set.source.items
    coarse = [Estimate(*roi_ids(item), 0.5, wrong(item.truth.pose), 0.25) for item in items]
    box = np.array([item.box for item in items])
    return Predictions("toy_test", Estimates.of(coarse), box, np.zeros(0, np.int64), None, {})


class Still(Oracle):
    """Sees every surface point where it is rendered."""

    def forward(self, look):
        predicted = super().forward(look)
        return replace(predicted, shift=torch.zeros_like(predicted.shift))


def test_predictions_keep_the_poses_before_and_the_time_of_looks(test_set, tmp_path):
    coarse = predictions_of(test_set)
    refined = refine_predictions(PoseRefiner(asked(Still(TRUTH)), DESIGN), test_set, coarse, LookPlan(1))
    np.testing.assert_allclose(refined.estimates.cam_t_obj, coarse.estimates.cam_t_obj, atol=1e-5)  # metres
    np.testing.assert_array_equal(refined.coarse.cam_t_obj, coarse.estimates.cam_t_obj)
    assert (refined.estimates.time > 0.25).all() and (refined.estimates.score == 0.5).all()
    sure = replace(DESIGN, confidence=(*[0.0] * len(EVIDENCE), 2.0))
    scored = refine_predictions(PoseRefiner(asked(Still(TRUTH)), sure), test_set, coarse, LookPlan(1))
    np.testing.assert_allclose(scored.estimates.score, 1 / (1 + np.exp(-2.0)))
    for im_id in set(refined.estimates.ids[:, 1]):  # BOP wants one time an image
        assert len(set(refined.estimates.time[refined.estimates.ids[:, 1] == im_id])) == 1
    write_predictions(tmp_path / "predictions.npz", refined)
    again = read_predictions(tmp_path / "predictions.npz")
    np.testing.assert_array_equal(again.coarse.cam_R_obj, coarse.estimates.cam_R_obj)
    np.testing.assert_array_equal(again.estimates.cam_t_obj, refined.estimates.cam_t_obj)
    write_predictions(tmp_path / "predictions.npz", coarse)
    assert read_predictions(tmp_path / "predictions.npz").coarse is None


def test_looks_are_asked_for_by_configuration(make_small_config, base, tmp_path):
    path = tmp_path / "refiner.safetensors"
    words = ["TEST.REFINE.ITERATIONS=2", f"TEST.REFINE.WEIGHTS={path}"]
    with pytest.raises(UserError, match=r"refiner.safetensors.*sopose refiner"):
        build_plan(make_small_config(*base, *words))
    design = replace(DESIGN, output_res=16)
    save_refiner(build_refiner(design), design, ["x"], path)
    assert build_plan(make_small_config(*base, *words)).refiner.design == design
    assert build_plan(make_small_config(*base, *words[1:])).refiner is None
    assert build_plan(make_small_config(*base, *words[:1])).refiner.design.input_res == 128  # the one that comes along


def test_a_refiner_says_the_same_without_its_batch_norms():
    design = replace(DESIGN, output_res=16)
    torch.manual_seed(0)
    network = build_refiner(design).train()
    for _ in range(3):  # statistics that are not those of the start
        network.displacements(torch.randn(4, 3, 64, 64), torch.randn(4, 7, 64, 64))
    torch.nn.init.normal_(network.head.weight, std=0.05)
    ready = prepared_refiner(network.eval(), torch.device("cpu"), design.input_res)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in ready.modules())
    seen = torch.randn(2, 3, 64, 64), torch.randn(2, 7, 64, 64)
    with torch.no_grad():
        wanted = network.eval().displacements(*seen)
        found = ready.displacements(*seen)
    torch.testing.assert_close(found.shift, wanted.shift, rtol=1e-4, atol=1e-4)  # cells


def test_the_refiner_that_comes_along_brings_unknown_objects_nearer(test_set, tmp_path, monkeypatch):
    """Toy objects, which it has never seen, from wrong poses: surface points lie nearer to where they are."""
    monkeypatch.chdir(tmp_path)  # wherever it is asked for
    refiner = PoseRefiner.from_file("any_object")
    before, after = [], []
    for item in test_set.source.items:
        model, truth, start = test_set.source.objects[item.obj_id].model, item.truth.pose, wrong(item.truth.pose)
        (refined,) = refiner(test_set.source.image(item), item.record.K, [model], [start], LookPlan(2))
        for pose, errors in ((start, before), (refined.pose, after)):
            equal = nearest_equal_pose(model, truth, pose)
            off = pose.transform(model.vertices) - equal.transform(model.vertices)
            errors.append(np.linalg.norm(off, axis=1).mean() / model.diameter)
    assert np.median(after) < 0.75 * np.median(before)


def test_looks_without_embree_lead_to_the_same_poses(models, monkeypatch):
    """Objects are drawn in numpy then: within 0.1 degrees and 0.1 mm."""
    model, start = models[min(models)], wrong(TRUTH)
    refiner = PoseRefiner(asked(Oracle(TRUTH, scale=1.0)), replace(DESIGN, correlation=100.0))
    (with_rays,) = refiner(PICTURE, CAMERA, [model], [start], LookPlan(2))
    monkeypatch.setattr(raycast, "has_embree", lambda: False)
    (drawn,) = refiner(PICTURE, CAMERA, [model], [start], LookPlan(2))
    turn = Rotation.from_matrix(drawn.pose.cam_R_obj @ with_rays.pose.cam_R_obj.T).magnitude()
    assert np.degrees(turn) < 0.1
    assert np.linalg.norm(drawn.pose.cam_t_obj - with_rays.pose.cam_t_obj) < 1e-4  # metres


def test_evidence_tells_a_pose_that_the_image_agrees_with(models):
    """The oracle's own pose shows no displacement any more; a file's model makes a probability of it."""
    model, start = models[min(models)], wrong(TRUTH)
    left = EVIDENCE.index("left")
    sure = Confidence(tuple(-1.0 if k == left else 0.0 for k in range(len(EVIDENCE))), -1.0)
    for confidence in (None, sure):
        design = DESIGN if confidence is None else replace(DESIGN, confidence=confidence.numbers)
        refiner = PoseRefiner(asked(Oracle(TRUTH)), design)
        (once,), (twice,) = (refiner(PICTURE, CAMERA, [model], [start], LookPlan(count)) for count in (1, 2))
        assert twice.evidence[left] < once.evidence[left] - 1  # logarithms of cells
        assert (once.confidence is None) == (confidence is None)
        if confidence is not None:
            assert once.confidence < twice.confidence == pytest.approx(float(sure(twice.evidence)))
    (none,) = refiner(PICTURE, CAMERA, [model], [start], LookPlan(0))
    assert none.evidence is None and none.confidence is None


def test_how_sure_a_refiner_is_goes_with_its_file(tmp_path):
    design = replace(DESIGN, output_res=16, confidence=(0.5, *[-1.0] * len(EVIDENCE)))
    save_refiner(build_refiner(design), design, ["x"], tmp_path / "a.safetensors")
    assert PoseRefiner.from_file(tmp_path / "a.safetensors").confidence.numbers == design.confidence
    with pytest.raises(UserError, match="confidence must be 11 finite numbers"):
        replace(design, confidence=(1.0,))


def test_a_wider_prior_lets_a_pose_go_further(models):
    """An unsure image moves a pose the further, the less is known of it; without limit all the way."""
    model, start = models[min(models)], wrong(TRUTH)
    refiner = PoseRefiner(asked(Oracle(TRUTH, scale=1.0)), replace(DESIGN, correlation=1e4))
    left = []
    for scale in (0.1, 1.0, 10.0, 100.0):
        (found,) = refiner(PICTURE, CAMERA, [model], [start], LookPlan(4, prior_scale=scale))
        left.append(np.degrees(geodesic_distance(found.pose.cam_R_obj, TRUTH.cam_R_obj)))
    assert left == sorted(left, reverse=True)
    assert left[0] > 0.9 * np.degrees(geodesic_distance(start.cam_R_obj, TRUTH.cam_R_obj)) and left[-1] < 0.5


def test_how_far_poses_may_go_says_nothing_of_how_sure_they_are(models):
    """From the true pose, which no look moves, evidence is the same whatever a plan allows."""
    model = models[min(models)]
    refiner = PoseRefiner(asked(Oracle(TRUTH, scale=1.0)), replace(DESIGN, correlation=1e4))
    plans = [LookPlan(1, prior_scale=scale) for scale in (1.0, 4.0, 50.0)]
    found = [refiner(PICTURE, CAMERA, [model], [TRUTH], plan)[0] for plan in plans]
    for one in found[1:]:
        np.testing.assert_allclose(one.evidence, found[0].evidence, rtol=1e-3, atol=1e-3)
    assert np.trace(found[2].covariance) > 1.5 * np.trace(found[0].covariance)


def test_poses_that_are_tried_begin_with_the_pose_itself():
    poses = tried_poses(TRUTH, 15)
    angles = [np.degrees(geodesic_distance(pose.cam_R_obj, TRUTH.cam_R_obj)) for pose in poses]
    np.testing.assert_allclose(angles, [0, 0, 0, *[25] * 6, *[50] * 6], atol=1e-5)
    shares = [pose.cam_t_obj / TRUTH.cam_t_obj for pose in poses]  # on one line of sight
    np.testing.assert_allclose(shares, np.array([1, 0.93, 1.07, *[1] * 12])[:, None] * np.ones(3), atol=1e-12)
    assert len(tried_poses(TRUTH, 9)) == 9 and len(tried_poses(TRUTH, 1)) == 1
    # Poses that say nothing new, to rounding, aren't tried again; the rest come first.
    again = Pose(poses[5].cam_R_obj + 1e-12, poses[5].cam_t_obj)
    tried = tried_poses(TRUTH, 5, [TRUTH, *poses[5:7], again])
    assert tried[:3] == [TRUTH, *poses[5:7]]
    np.testing.assert_allclose([pose.cam_t_obj[2] / TRUTH.cam_t_obj[2] for pose in tried[3:]], [0.93, 1.07], atol=1e-12)


class Near(Oracle):
    """Sees where an object is from near its pose alone; from far it says that nothing moves, and is unsure."""

    def forward(self, look):
        seen = super().forward(look)
        R = torch.from_numpy(np.float32(self.truth.cam_R_obj))
        far = torch.rad2deg(geodesic_distance(look.cam_R_obj, R.expand_as(look.cam_R_obj))) > 20
        shift = torch.where(far[:, None, None, None], 0.0, seen.shift)
        unsure = torch.where(far[:, None, None], 2.0, seen.log_spread)
        return replace(seen, shift=shift, log_scale=unsure, log_spread=unsure)


def test_the_most_confident_of_several_starts_is_taken(models):
    model = models[min(models)]
    spread = EVIDENCE.index("spread")
    sure = replace(DESIGN, confidence=(*(-1.0 if k == spread else 0.0 for k in range(len(EVIDENCE))), 0.0))
    turn = Rotation.from_rotvec(np.deg2rad(35) * np.array([0.0, 0.0, 1.0])).as_matrix()
    start = Pose(turn @ TRUTH.cam_R_obj, TRUTH.cam_t_obj)
    refiner = PoseRefiner(asked(Near(TRUTH)), sure)
    off = []
    for starts in (1, 9):
        (found,) = refiner(PICTURE, CAMERA, [model], [start], LookPlan(2, starts=starts))
        off.append(np.degrees(geodesic_distance(found.pose.cam_R_obj, TRUTH.cam_R_obj)))
    assert off[0] > 30 and off[1] < 1
    near = [found.pose]  # as another way might find it
    (alone,) = refiner(PICTURE, CAMERA, [model], near, LookPlan(2))
    assert found.confidence == pytest.approx(best_of(alone.confidence, 9), abs=1e-3)
    (found,) = refiner(PICTURE, CAMERA, [model], [start], LookPlan(2, starts=2), others=[near])
    assert np.degrees(geodesic_distance(found.pose.cam_R_obj, TRUTH.cam_R_obj)) < 1
    with pytest.raises(UserError, match="knows no confidence"):
        PoseRefiner(asked(Near(TRUTH)), DESIGN)(PICTURE, CAMERA, [model], [start], LookPlan(2, starts=9))


def test_what_cannot_be_looked_at_is_none_of_several(models):
    model, near = models[min(models)], [wrong(TRUTH)]
    refiner = PoseRefiner(asked(Oracle(TRUTH)), replace(DESIGN, confidence=(*[0.0] * len(EVIDENCE), 1.0)))
    behind = [Pose(TRUTH.cam_R_obj, -TRUTH.cam_t_obj)]
    (alone,) = refiner(PICTURE, CAMERA, [model], near, LookPlan(1))
    (found,) = refiner(PICTURE, CAMERA, [model], behind, LookPlan(1, starts=2), others=[near])
    assert found.confidence == alone.confidence
    (two,) = refiner(PICTURE, CAMERA, [model], [TRUTH], LookPlan(1, starts=2), others=[near])
    assert two.confidence == pytest.approx(best_of(alone.confidence, 2))
    (none,) = refiner(PICTURE, CAMERA, [model], behind, LookPlan(1, starts=2), others=[behind])
    assert none.confidence is None and none.pose.cam_t_obj[2] < 0


def test_predictions_in_other_ways_are_tried(test_set):
    """Each object's own: one way has one of them right, and that one alone is right after the looks."""
    items, coarse = test_set.source.items, predictions_of(test_set)
    spread = EVIDENCE.index("spread")
    sure = replace(DESIGN, confidence=(*(-1.0 if k == spread else 0.0 for k in range(len(EVIDENCE))), 0.0))
    truth = items[3].truth.pose
    turn = Rotation.from_rotvec(np.deg2rad(35) * np.array([0.0, 0.0, 1.0])).as_matrix()
    wrong = [replace(one, pose=Pose(turn @ truth.cam_R_obj, truth.cam_t_obj)) for one in coarse.estimates]
    right = [replace(one, pose=truth) if place == 3 else one for place, one in enumerate(wrong)]
    given = replace(coarse, estimates=Estimates.of(wrong))
    refiner = PoseRefiner(asked(Near(truth)), sure)
    found = refine_predictions(refiner, test_set, given, LookPlan(1, starts=2), [Estimates.of(right)])
    off = [np.degrees(geodesic_distance(one.pose.cam_R_obj, truth.cam_R_obj)) for one in found.estimates]
    assert off[3] < 1 and min(off[:3] + off[4:]) > 30
