"""Laws of the metrics: what a camera's motion, an object's symmetry, a worse pose and another order change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sopose.core.bop.targets import Target
from sopose.core.evaluation.bop19 import VSD_TAUS
from sopose.core.evaluation.error_model import ErrorModel
from sopose.core.evaluation.metrics import METRICS
from sopose.core.evaluation.pairs import PosePairs
from sopose.core.evaluation.recall import area_of_groups, hits_of_groups
from sopose.core.evaluation.vsd import cast_distance, vsd_errors
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.rotation import random_rotation
from sopose.core.rays.raycast import RayCaster
from tests.support.evaluation_scene import World, box_model, random_pose

SPACE = ("add", "adi", "ad", "mssd", "re", "re_sym", "te", "deg_cm", "deg_cm_sym")
IMAGE = ("mspd", "proj", "proj_sym")
OWN_SYMMETRY = ("adi", "mssd", "mspd", "re_sym", "deg_cm_sym", "proj_sym")
# The box has 6 x 6 x 6 points on its faces, which both half turns carry onto themselves.
HALF_TURNS = [np.diag([-1.0, -1, 1, 1]), np.diag([1.0, -1, -1, 1]), np.diag([-1.0, 1, -1, 1])]
MODEL = ErrorModel(box_model(1, "box", symmetries_discrete=HALF_TURNS), symmetric=True)
SQUARE = np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]])
# The arc cosine resolves 1e-6 degrees near 0; everything else is right to the last digits.
TOLERANCE = {"rel": 1e-9, "abs": 1e-5}
seeds = st.integers(0, 2**32 - 1)


def errors(est: Pose, gt: Pose, K: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
    return {name: float(values[0]) for name, values in MODEL.errors(PosePairs.of([(est, gt, K)]), names).items()}


@given(seeds)
def test_errors_in_space_are_the_same_from_every_camera(seed):
    rng = np.random.default_rng(seed)
    est, gt = random_pose(rng), random_pose(rng)
    motion = Pose(random_rotation(rng), rng.normal(size=3))
    assert errors(motion @ est, motion @ gt, SQUARE, SPACE) == pytest.approx(
        errors(est, gt, SQUARE, SPACE), **TOLERANCE
    )


@given(seeds)
def test_errors_in_the_image_bear_a_turn_about_the_optical_axis_of_square_pixels(seed):
    # No other motion: a picture from elsewhere is another picture.
    rng = np.random.default_rng(seed)
    est, gt = random_pose(rng), random_pose(rng)
    roll = Pose(Rotation.from_rotvec([0, 0, rng.uniform(-3, 3)]).as_matrix(), np.zeros(3))
    assert errors(roll @ est, roll @ gt, SQUARE, IMAGE) == pytest.approx(errors(est, gt, SQUARE, IMAGE), **TOLERANCE)


@given(seeds)
def test_errors_in_the_image_are_those_of_the_rays_whatever_the_camera_is_turned(seed):
    # Turned about its centre with K turned back, the camera sees the same pixels.
    rng = np.random.default_rng(seed)
    est, gt = random_pose(rng), random_pose(rng)
    turn = Pose(random_rotation(rng), np.zeros(3))
    same = errors(turn @ est, turn @ gt, SQUARE @ turn.cam_R_obj.T, IMAGE)
    assert same == pytest.approx(errors(est, gt, SQUARE, IMAGE), **TOLERANCE)


@given(seeds, st.integers(0, 2), st.integers(0, 2))
def test_an_objects_own_symmetry_changes_nothing(seed, of_estimate, of_truth):
    rng = np.random.default_rng(seed)
    est, gt = random_pose(rng), random_pose(rng)
    turned = [
        pose @ Pose(HALF_TURNS[index][:3, :3], np.zeros(3)) for pose, index in ((est, of_estimate), (gt, of_truth))
    ]
    assert errors(*turned, SQUARE, OWN_SYMMETRY) == pytest.approx(errors(est, gt, SQUARE, OWN_SYMMETRY), **TOLERANCE)


@given(seeds)
@settings(max_examples=10)
def test_vsd_does_not_see_a_symmetry_either(seed):
    rng = np.random.default_rng(seed)
    gt = random_pose(rng)
    est = Pose(Rotation.from_rotvec(0.1 * rng.normal(size=3)).as_matrix() @ gt.cam_R_obj, gt.cam_t_obj)
    caster, measured, size = _solid_box(), np.zeros((60, 80)), (80, 60)
    K = np.array([[75.0, 0, 40], [0, 75, 30], [0, 0, 1]])
    found = []
    for turn in (np.eye(4), *HALF_TURNS):
        patches = [cast_distance(caster, pose, K, size) for pose in (est @ Pose(turn[:3, :3], np.zeros(3)), gt)]
        found.append(vsd_errors(*patches, measured, MODEL.model.diameter))
    np.testing.assert_allclose(found, np.tile(found[0], (4, 1)), rtol=0, atol=1e-12)
    assert (np.diff(found[0]) <= 0).all() and len(found[0]) == len(VSD_TAUS)


def _solid_box() -> RayCaster:
    import trimesh

    box = trimesh.creation.box(extents=[0.06, 0.08, 0.10])
    return RayCaster(np.asarray(box.vertices), np.asarray(box.faces))


@given(seeds, st.floats(0.01, 1), st.floats(1, 3))
def test_twice_the_shift_is_twice_the_error(seed, size, factor):
    # For a shift every point moves alike, so ADD, te and (without symmetries) MSSD are its length.
    rng = np.random.default_rng(seed)
    gt, shift = random_pose(rng), size * rng.normal(size=3)
    plain = ErrorModel(box_model(1, "box"), symmetric=False)
    pairs = PosePairs.of([(Pose(gt.cam_R_obj, gt.cam_t_obj + k * shift), gt, SQUARE) for k in (1, factor)])
    for name in ("add", "mssd", "te"):
        first, second = plain.errors(pairs, (name,))[name]
        assert second == pytest.approx(factor * first, rel=1e-9)


@given(seeds, st.floats(0.01, 3.1), st.floats(0.01, 3.1))
def test_a_larger_turn_about_the_same_axis_is_a_larger_error(seed, one, other):
    # A point moves by 2 sin(angle / 2) times its distance from the axis, which grows up to half a turn.
    rng = np.random.default_rng(seed)
    gt, axis = random_pose(rng), rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    plain = ErrorModel(box_model(1, "box"), symmetric=False)
    turns = [Pose(Rotation.from_rotvec(angle * axis).as_matrix(), np.zeros(3)) for angle in sorted((one, other))]
    found = plain.errors(PosePairs.of([(gt @ turn, gt, SQUARE) for turn in turns]), ("add", "mssd", "re"))
    for values in found.values():
        assert values[0] <= values[1] + 1e-9


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8))
def test_larger_errors_never_find_more(values):
    small, more = np.array(values).T
    better = [np.array([[error]]) for error in small]
    worse = [np.array([[error]]) for error in small + more]
    thresholds = np.linspace(0, 1, 11)
    assert (hits_of_groups(better, thresholds) >= hits_of_groups(worse, thresholds)).all()
    assert (area_of_groups(better, 0.5) >= area_of_groups(worse, 0.5)).all()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(near=st.floats(0, 0.6), more=st.floats(0, 0.6))
def test_a_larger_shift_never_scores_better(world: World, near: float, more: float):
    # One instance an image: there is no neighbour that a shift could bring an estimate to. ADI is left to
    # the symmetric object, whose ADD(-S) need not grow with the shift.
    targets = [target for target in world.targets if target.im_id > 0 and target.obj_id == 1]
    better, worse = (world.score(world.shifted(d), targets=targets).overall for d in (near, near + more))
    for column in better:
        assert worse[column] <= better[column] + 1e-12, column


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=5)
@given(seed=seeds)
def test_the_order_of_rows_changes_nothing(world: World, seed: int):
    rng = np.random.default_rng(seed)
    estimates = [*world.shifted(0.07), *world.truth(), *world.shifted(0.3)]
    scores = rng.permutation(len(estimates)) / len(estimates)  # equal scores keep the order of the file, as in BOP
    estimates = [replace(e, score=float(score)) for e, score in zip(estimates, scores, strict=True)]
    shuffled = [estimates[index] for index in rng.permutation(len(estimates))]
    assert world.score(estimates, metrics=tuple(METRICS)) == world.score(shuffled, metrics=tuple(METRICS))


def test_a_target_more_or_less_is_counted(world):
    one = world.score(world.truth(), targets=[Target(3, 1, 1, 1)])
    assert (one.targets, one.found) == (1, 1)
