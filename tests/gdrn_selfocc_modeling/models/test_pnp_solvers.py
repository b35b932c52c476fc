"""Laws of the PnP solvers, and of the correspondences that maps are read as."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from sopose.core.geometry.camera import project
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.rotation import random_rotation
from sopose.core.utils.errors import UserError
from sopose.models.map_forms import PnPInput
from sopose.models.pnp_points import MapReader, PoseSolver, cell_positions, poses_of
from sopose.models.pnp_solvers import PNP_TYPES, Correspondences, RansacOptions, solve_pose

K = np.array([[600.0, 0, 320], [0, 590, 240], [0, 0, 1]])
OPTIONS = RansacOptions()
ROBUST = ("ransac_pnp", "net_ransac_pnp", "net_ransac_pnp_rot")
EXACT = RansacOptions(iterations=1000)


def scene(seed: int, count: int = 200, outliers: float = 0.0) -> tuple[Correspondences, Pose]:
    """Points of a box of 20 cm seen from 0.6 m; a share of the pixels lies anywhere in the image."""
    rng = np.random.default_rng(seed)
    pose = Pose(random_rotation(rng), np.array([*rng.uniform(-0.1, 0.1, 2), 0.6]))
    points = rng.uniform(-0.1, 0.1, (count, 3))
    pixels = project(pose.transform(points), K)
    wrong = rng.random(count) < outliers
    pixels[wrong] = rng.uniform([0, 0], [640, 480], (wrong.sum(), 2))
    return Correspondences(points, pixels, K), pose


def nearby(pose: Pose, degrees: float = 8.0, metres: float = 0.02) -> Pose:
    """What a network might say of the pose."""
    turn = Rotation.from_rotvec(np.radians([degrees, 0, 0])).as_matrix()
    return Pose(turn @ pose.cam_R_obj, pose.cam_t_obj + np.array([0, 0, metres]))


def assert_same(pose: Pose, wanted: Pose, tolerance: float) -> None:
    np.testing.assert_allclose(pose.cam_R_obj, wanted.cam_R_obj, rtol=0, atol=tolerance)
    np.testing.assert_allclose(pose.cam_t_obj, wanted.cam_t_obj, rtol=0, atol=tolerance)


@pytest.mark.parametrize("pnp_type", list(PNP_TYPES))
@pytest.mark.parametrize("seed", range(5))
def test_exact_points_give_the_exact_pose(pnp_type, seed):
    found, pose = scene(seed)
    network = nearby(pose)
    wanted = Pose(pose.cam_R_obj, network.cam_t_obj) if pnp_type == "net_ransac_pnp_rot" else pose
    assert_same(solve_pose(pnp_type, found, network, OPTIONS), wanted, 1e-6)  # a micrometre


@pytest.mark.parametrize("pnp_type", ROBUST)
@pytest.mark.parametrize("seed", range(5))
def test_a_third_of_the_points_may_be_anywhere(pnp_type, seed):
    found, pose = scene(seed, outliers=0.3)
    network = nearby(pose)
    solved = solve_pose(pnp_type, found, network, EXACT)
    np.testing.assert_allclose(solved.cam_R_obj, pose.cam_R_obj, rtol=0, atol=2e-3)  # an outlier may fall within 3 px
    wanted = network if pnp_type == "net_ransac_pnp_rot" else pose
    np.testing.assert_allclose(solved.cam_t_obj, wanted.cam_t_obj, rtol=0, atol=5e-4)


@pytest.mark.parametrize("pnp_type", ROBUST)
def test_outliers_that_agree_with_nothing_change_nothing(pnp_type):
    found, pose = scene(3)
    pixels = found.pixels.copy()
    pixels[:60] += np.random.default_rng(0).choice([-1, 1], (60, 2)) * 50.0
    solved = solve_pose(pnp_type, replace(found, pixels=pixels), nearby(pose), EXACT)
    np.testing.assert_allclose(solved.cam_R_obj, pose.cam_R_obj, rtol=0, atol=1e-6)


@pytest.mark.parametrize("pnp_type", list(PNP_TYPES))
@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_points_leave_the_networks_pose(pnp_type, count):
    found, pose = scene(0, count)
    network = nearby(pose)
    assert solve_pose(pnp_type, found, network, OPTIONS) is network


def on_a_line(found: Correspondences) -> Correspondences:
    return replace(found, points_obj=np.outer(np.linspace(-1, 1, len(found)), [0.1, 0.0, 0.0]), pixels=found.pixels)


def not_a_number(found: Correspondences) -> Correspondences:
    return replace(found, points_obj=np.full_like(found.points_obj, np.nan))


@pytest.mark.parametrize("pnp_type", ROBUST)
@pytest.mark.parametrize("damage", [on_a_line, not_a_number])
def test_a_failed_solve_leaves_the_networks_pose(pnp_type, damage):
    found, pose = scene(1, count=40)
    network = nearby(pose)
    assert solve_pose(pnp_type, damage(found), network, OPTIONS) is network


def test_a_pose_far_from_the_networks_is_not_believed():
    found, pose = scene(2)
    network = nearby(pose, metres=1.5)
    assert solve_pose("net_ransac_pnp", found, network, OPTIONS) is network
    assert_same(solve_pose("ransac_pnp", found, network, OPTIONS), pose, 1e-6)  # which knows nothing of the network


def test_the_networks_pose_is_the_start_where_ransac_finds_nothing():
    found, pose = scene(4, outliers=0.3)
    one_try = RansacOptions(iterations=1, reprojection_error=1.0)
    solved = solve_pose("net_ransac_pnp", found, pose, one_try)
    assert_same(solved, pose, 1e-3)


def test_sure_points_outweigh_unsure_ones():
    """Noise of a known size in each point: weights by it leave less of it in the pose, in the middle of many."""
    errors = {"weighted": [], "alike": []}
    for seed in range(20):
        found, pose = scene(seed)
        rng = np.random.default_rng(seed)
        deviation = rng.choice([0.2, 4.0], len(found))
        noisy = replace(found, pixels=found.pixels + deviation[:, None] * rng.normal(size=(len(found), 2)))
        for name, given in (("weighted", replace(noisy, precision=deviation**-2.0)), ("alike", noisy)):
            solved = solve_pose("weighted_pnp", given, nearby(pose, 2.0, 0.005), EXACT)
            errors[name].append(np.linalg.norm(solved.cam_t_obj - pose.cam_t_obj))
    assert np.median(errors["weighted"]) < 0.5 * np.median(errors["alike"])


def test_an_unknown_type_is_reported():
    with pytest.raises(UserError, match=r"TEST\.PNP_TYPE.*did you mean 'ransac_pnp'"):
        solve_pose("ransac_pmp", *scene(0), OPTIONS)


@pytest.fixture
def true_maps(make_ellipsoids, predict_truth):
    rois, targets = make_ellipsoids(4, seed=1)
    return rois, targets, predict_truth(targets)


def reader(**changes: object) -> MapReader:
    return MapReader(PnPInput(mask_type="L1"), **changes)


def test_cells_lie_where_the_crop_was_sampled(true_maps):
    rois, targets, _ = true_maps
    pixels = torch.from_numpy(cell_positions(rois.arrays(), 32)).permute(0, 3, 1, 2)
    torch.testing.assert_close(pixels.float(), targets.pixel, rtol=0, atol=1e-3)  # of float32 centres and sides
    relative = rois.roi_coord_2d * torch.tensor([639.0, 479.0])[:, None, None]
    torch.testing.assert_close(pixels.float(), relative, rtol=0, atol=1e-3)


@pytest.mark.parametrize("layers", ["P", "P+Q"])
def test_correspondences_of_true_maps_project_to_their_own_pixels(true_maps, layers):
    rois, targets, prediction = true_maps
    found = reader(layers=layers)(prediction.arrays(), rois.arrays())
    q_cells = (targets.Q.unflatten(1, (3, 2)) != 0).any(2).sum((1, 2, 3))
    wanted = targets.mask_trunc.sum((1, 2)) + (q_cells if layers == "P+Q" else 0)
    assert [len(points) for points in found] == wanted.int().tolist()
    for points, pose in zip(found, poses_of(prediction.arrays()), strict=True):
        off = np.abs(project(pose.transform(points.points_obj), points.K) - points.pixels)
        assert off.max() < 0.01  # pixels, of float32 maps


@pytest.mark.parametrize("layers", ["P", "P+Q"])
@pytest.mark.parametrize("pnp_type", ["ransac_pnp", "net_iter_pnp", "net_ransac_pnp", "weighted_pnp"])
def test_true_maps_correct_the_network(true_maps, pnp_type, layers):
    rois, targets, prediction = true_maps
    prediction = replace(prediction, cam_t_obj=prediction.cam_t_obj + torch.tensor([0.0, 0.0, 0.03]))
    poses = PoseSolver(pnp_type, reader(layers=layers))(prediction, rois)
    for pose, R, t in zip(poses, targets.cam_R_obj, targets.cam_t_obj, strict=True):
        assert_same(pose, Pose(R.double().numpy(), t.double().numpy()), 1e-4)


def test_without_a_reader_poses_are_the_networks(true_maps):
    rois, targets, prediction = true_maps
    for pose, t in zip(PoseSolver()(prediction, rois), targets.cam_t_obj, strict=True):
        np.testing.assert_array_equal(pose.cam_t_obj, t.double().numpy())


def test_the_mask_decides_which_cells_count(true_maps):
    rois, _, prediction = true_maps
    half = prediction.mask.clone()
    half[..., :16] *= 0.4  # the left half is less certain
    for threshold, left in ((0.3, True), (0.5, False)):
        for points, side, center in zip(
            reader(mask_threshold=threshold)(replace(prediction, mask=half), rois),
            32 / rois.resize_ratio.numpy(),
            rois.box_center.numpy(),
            strict=True,
        ):
            assert (points.pixels[:, 0] < center[0] - 1e-3 * side).any() == left


def test_points_are_as_sure_as_the_network_says(true_maps):
    rois, _, prediction = true_maps
    B, out = len(rois.extent), prediction.mask.shape[-1]
    scaled = replace(
        prediction, xyz_log_scale=torch.full((B, 1, out, out), -3.0), q_log_scale=torch.full((B, 3, out, out), -2.0)
    )
    assert all(points.precision is None for points in reader(layers="P+Q")(prediction.arrays(), rois.arrays()))
    only_P = replace(scaled, q_log_scale=None)
    assert all(points.precision is None for points in reader(layers="P+Q")(only_P.arrays(), rois.arrays()))
    for b, points in enumerate(reader(layers="P+Q")(scaled.arrays(), rois.arrays())):
        # A Laplace law of scale s has the variance 2 s²; what the extent's mean spans at the object's depth, pixels
        span = float(rois.extent[b].mean() * (rois.K[b, 0, 0] + rois.K[b, 1, 1]) / 2 / prediction.cam_t_obj[b, 2])
        wanted = {1 / (2 * (np.exp(scale) * span) ** 2) for scale in (-3.0, -2.0)}
        np.testing.assert_allclose(
            np.unique(points.precision.round(9)), np.sort(np.array([*wanted]).round(9)), rtol=1e-4
        )


def test_predicted_validity_decides_which_Q_counts(true_maps):
    rois, targets, prediction = true_maps
    only_z = torch.zeros_like(targets.q_mask)
    only_z[:, 2] = 1
    found = reader(layers="P+Q")(replace(prediction, q_mask=only_z), rois)
    for points, mask in zip(found, targets.mask_trunc, strict=True):
        Q = points.points_obj[int(mask.sum()) :]
        assert len(Q) > 0 and (Q[:, 2] == 0).all()


def test_bins_of_the_background_give_no_point(true_maps):
    rois, targets, prediction = true_maps
    bins = 8
    labels = (targets.P * bins).long().clamp(0, bins - 1)
    labels[:, 0, :, :16] = bins  # one coordinate of the left half says: background
    logits = 9.0 * torch.nn.functional.one_hot(labels, bins + 1).movedim(-1, 2).flatten(1, 2).float()
    binned = MapReader(PnPInput(bins=bins))
    counts = [len(points) for points in binned(replace(prediction, xyz=logits), rois)]
    assert counts == targets.mask_trunc[..., 16:].sum((1, 2)).int().tolist()
    for points, extent in zip(binned(replace(prediction, xyz=logits), rois), rois.extent, strict=True):
        place = points.points_obj / extent.double().numpy() * bins  # middles of bins
        np.testing.assert_allclose(np.abs(place - np.round(place)), 0.5, rtol=0, atol=1e-5)
