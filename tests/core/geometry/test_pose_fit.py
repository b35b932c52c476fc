"""Fitted poses: the truth from exact points, its scatter from noisy ones, and no harm by wild or missing points."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sopose.core.geometry.camera import project
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.pose_fit import (
    NEAREST,
    PoseFit,
    PosePrior,
    SeenPoints,
    first_step,
    fit_poses,
    moved,
    pose_precision,
)
from sopose.core.geometry.rotation import lie_vec_to_matrix, random_rotation

K = np.array([[600.0, 2.0, 320.0], [0.0, 580.0, 240.0], [0.0, 0.0, 1.0]])
Case = tuple[SeenPoints, np.ndarray, np.ndarray]


def case(seed: int, count: int = 1, points: int = 60) -> Case:
    """Points of objects of 10 cm, half a metre away, with where they are seen, and their poses."""
    rng = np.random.default_rng(seed)
    points_obj = rng.uniform(-0.05, 0.05, (count, points, 3))
    R = np.stack([random_rotation(rng) for _ in range(count)])
    t = rng.uniform([-0.1, -0.1, 0.4], [0.1, 0.1, 0.8], (count, 3))
    cameras = np.repeat(K[None], count, 0)
    pixels = project(points_obj @ R.mT + t[:, None], cameras[:, None])
    return SeenPoints(points_obj, pixels, np.full((count, points), 1.0), cameras), R, t


def perturbed(R: np.ndarray, t: np.ndarray, seed: int, by: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return moved(R, t, by * rng.uniform(-1, 1, (len(t), 6)) * [0.02, 0.02, 0.05, 0.2, 0.2, 0.2])


def as_tensors(seen: SeenPoints, dtype: torch.dtype = torch.float64) -> SeenPoints:
    return SeenPoints(*(torch.from_numpy(value).to(dtype) for value in vars(seen).values()))


def degrees(R: np.ndarray, other: np.ndarray) -> float:
    trace = np.einsum("bij,bij->b", R, other)
    return float(np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1))).max())


@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3))
def test_exact_points_give_the_exact_pose(seed, scale):
    seen, R, t = case(seed, count=2)
    found = fit_poses(replace(seen, precision=scale * seen.precision), *perturbed(R, t, seed), iterations=25)
    np.testing.assert_allclose(found.cam_t_obj, t, atol=1e-8)  # metres
    np.testing.assert_allclose(found.cam_R_obj, R, atol=1e-7)
    np.testing.assert_allclose(found.cam_R_obj @ found.cam_R_obj.mT, np.broadcast_to(np.eye(3), (2, 3, 3)), atol=1e-9)
    assert (found.residual < 1e-3).all()


def test_tensors_and_arrays_give_the_same():
    seen, R, t = case(1, count=3)
    start = perturbed(R, t, 2)
    rng = np.random.default_rng(3)
    seen = replace(seen, pixels=seen.pixels + rng.normal(0, 2, seen.pixels.shape))
    arrays = fit_poses(seen, *start)
    tensors = fit_poses(as_tensors(seen), *map(torch.from_numpy, start))
    for name, value in vars(arrays).items():
        np.testing.assert_allclose(getattr(tensors, name).numpy(), value, rtol=1e-6, atol=1e-9)
    single = fit_poses(as_tensors(seen, torch.float32), *(torch.from_numpy(value).float() for value in start))
    np.testing.assert_allclose(single.cam_t_obj.numpy(), arrays.cam_t_obj, atol=1e-4)  # a tenth of a millimetre


def test_the_derivatives_are_those_of_finite_differences():
    seen, R, t = case(4)
    moves = 1e-6 * np.eye(6)
    shifted = [project(seen.points_obj @ r.mT + s[:, None], K) for r, s in (moved(R, t, row[None]) for row in moves)]
    wanted = np.stack([(pixels - seen.pixels).reshape(-1) / 1e-6 for pixels in shifted], -1)
    # At the exact pose the covariance is the inverse of J^T W J.
    found = np.linalg.inv(fit_poses(seen, R, t, iterations=0).covariance[0])
    np.testing.assert_allclose(found, wanted.T @ wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted.T @ wanted).max())


@pytest.mark.parametrize("sigma", [0.3, 2.0])
def test_the_covariance_is_the_scatter_of_poses_from_noisy_points(sigma):
    """400 fits of the same points with other noise: in each direction as far apart as the covariance says."""
    seen, R, t = case(5, points=40)
    rng, count = np.random.default_rng(6), 400
    many = SeenPoints(*(np.repeat(value, count, 0) for value in vars(seen).values()))
    noisy = replace(
        many,
        pixels=many.pixels + rng.normal(0, sigma, many.pixels.shape),
        precision=many.precision / sigma**2,
    )
    found = fit_poses(noisy, np.repeat(R, count, 0), np.repeat(t, count, 0), huber=1e9)
    turns = found.cam_R_obj @ R.mT
    rotvec = np.stack(
        [turns[:, 2, 1] - turns[:, 1, 2], turns[:, 0, 2] - turns[:, 2, 0], turns[:, 1, 0] - turns[:, 0, 1]]
    )
    motions = np.concatenate([found.cam_t_obj - t, rotvec.T / 2], 1)
    distances = np.einsum("ni,nij,nj->n", motions, np.linalg.inv(found.covariance), motions)
    assert np.mean(distances) == pytest.approx(6, rel=0.1)  # chi² of six degrees of freedom
    assert np.mean(distances < 7.04) == pytest.approx(0.68, abs=0.07)
    assert np.mean(found.residual) == pytest.approx(np.sqrt(74 / 80), rel=0.05)


def test_wild_points_hardly_count():
    seen, R, t = case(7, points=100)
    pixels = seen.pixels.copy()
    pixels[:, :25] += np.random.default_rng(8).uniform(30, 90, (1, 25, 2))
    found = fit_poses(replace(seen, pixels=pixels), *perturbed(R, t, 9), iterations=30)
    plain = fit_poses(replace(seen, pixels=pixels), *perturbed(R, t, 9), iterations=30, huber=1e9)
    assert np.linalg.norm(found.cam_t_obj - t) < 0.01 < np.linalg.norm(plain.cam_t_obj - t)
    assert degrees(found.cam_R_obj, R) < 3


@given(seed=st.integers(0, 1000), unseen=st.floats(-1e4, 1e4))
def test_points_that_are_not_seen_do_not_count(seed, unseen):
    seen, R, t = case(seed, points=30)
    pixels, precision = seen.pixels.copy(), seen.precision.copy()
    pixels[:, ::3], precision[:, ::3] = unseen, 0
    found = fit_poses(replace(seen, pixels=pixels, precision=precision), *perturbed(R, t, seed), iterations=25)
    np.testing.assert_allclose(found.cam_t_obj, t, atol=1e-7)


def test_without_points_a_pose_stays_where_it_is_and_knows_nothing():
    seen, R, t = case(10, count=2)
    precision = seen.precision.copy()
    precision[1] = 0
    start = perturbed(R, t, 11)
    found = fit_poses(replace(seen, precision=precision), *start)
    np.testing.assert_array_equal(found.cam_t_obj[1], start[1][1])
    np.testing.assert_array_equal(found.cam_R_obj[1], start[0][1])
    assert found.residual[1] == 0 and (np.diag(found.covariance[1]) > 1e9).all()
    np.testing.assert_allclose(found.cam_t_obj[0], t[0], atol=1e-6)


def test_one_point_leaves_depth_and_turn_open():
    seen, R, t = case(12, points=1)
    found = fit_poses(replace(seen, pixels=seen.pixels + 5), R, t, iterations=20)
    reached = project(found.cam_t_obj[:, None] + seen.points_obj @ found.cam_R_obj.mT, K)
    np.testing.assert_allclose(reached, seen.pixels + 5, atol=1e-3)
    assert np.isfinite(found.cam_t_obj).all() and np.linalg.eigvalsh(found.covariance[0])[-1] > 1e6


@given(seed=st.integers(0, 1000))
def test_no_step_leads_behind_the_camera_and_the_cost_never_rises(seed):
    seen, R, t = case(seed)
    rng = np.random.default_rng(seed)
    wild = replace(seen, pixels=rng.uniform(-3000, 3000, seen.pixels.shape))
    start = perturbed(R, t, seed)
    found = fit_poses(wild, *start)
    assert ((found.cam_t_obj[:, None] + seen.points_obj @ found.cam_R_obj.mT)[..., 2] > NEAREST).all()
    before, after = (
        fit_poses(wild, *pose, iterations=0, huber=1.5) for pose in (start, (found.cam_R_obj, found.cam_t_obj))
    )
    assert cost_of(wild, after) <= cost_of(wild, before) + 1e-6


def cost_of(seen: SeenPoints, pose: PoseFit) -> float:
    size = np.linalg.norm(
        project(pose.cam_t_obj[:, None] + seen.points_obj @ pose.cam_R_obj.mT, K) - seen.pixels, axis=-1
    )
    return float(np.where(size > 1.5, 1.5 * (size - 0.75), size**2 / 2).sum())


def test_gradients_flow_to_pixels_and_precision():
    seen, R, t = case(13)
    tensors = as_tensors(seen)
    shift = torch.zeros_like(tensors.pixels, requires_grad=True)
    weight = torch.ones_like(tensors.precision, requires_grad=True)
    noisy = tensors.pixels + torch.randn(tensors.pixels.shape, generator=torch.Generator().manual_seed(0)).double()
    found = fit_poses(
        replace(tensors, pixels=noisy + shift, precision=weight), torch.from_numpy(R), torch.from_numpy(t)
    )
    found.cam_t_obj.sum().backward()
    assert shift.grad.isfinite().all() and shift.grad.abs().max() > 0
    assert weight.grad.isfinite().all() and weight.grad.abs().max() > 0


@given(seed=st.integers(0, 1000), size=st.sampled_from([0.0, 1e-9, 1e-4, 1.0, 3.1]))
def test_the_exponential_is_a_rotation_by_the_vector_s_length(seed, size):
    axis = np.random.default_rng(seed).normal(size=3)
    axis /= np.linalg.norm(axis)
    R = lie_vec_to_matrix(size * axis)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(R @ axis, axis, atol=1e-12)
    assert np.trace(R) == pytest.approx(1 + 2 * np.cos(size), abs=1e-9)
    np.testing.assert_allclose(lie_vec_to_matrix(torch.from_numpy(size * axis)).numpy(), R, atol=1e-12)


def normal_prior(R: np.ndarray, t: np.ndarray, deviations: np.ndarray) -> PosePrior:
    return PosePrior(R, t, np.repeat(np.diag(1 / np.asarray(deviations) ** 2)[None], len(t), 0))


def test_a_prior_alone_is_the_answer_where_no_point_is_seen():
    seen, R, t = case(4, count=2)
    before = perturbed(R, t, 5, by=0.3)
    deviations = np.array([0.01, 0.02, 0.03, 0.1, 0.2, 0.3])
    unseen = replace(seen, precision=0 * seen.precision)
    found = fit_poses(unseen, R, t, iterations=40, prior=normal_prior(*before, deviations))
    np.testing.assert_allclose(found.cam_t_obj, before[1], atol=1e-7)  # metres
    assert degrees(found.cam_R_obj, before[0]) < 1e-4
    np.testing.assert_allclose(found.covariance, np.repeat(np.diag(deviations**2)[None], 2, 0), rtol=1e-4, atol=1e-9)


def test_a_vague_prior_changes_nothing_and_a_certain_one_lets_nothing_change():
    seen, R, t = case(6)
    before = perturbed(R, t, 7, by=0.5)
    free = fit_poses(seen, *before, iterations=25)
    vague = fit_poses(seen, *before, iterations=25, prior=normal_prior(*before, np.full(6, 1e4)))
    np.testing.assert_allclose(vague.cam_t_obj, free.cam_t_obj, atol=1e-9)
    certain = fit_poses(seen, *before, iterations=25, prior=normal_prior(*before, np.full(6, 1e-7)))
    np.testing.assert_allclose(certain.cam_t_obj, before[1], atol=1e-8)


def test_what_the_points_show_badly_is_left_to_the_prior():
    """Depth of a small object far away: the fit with a prior is nearer to the truth than points or prior alone."""
    rng, errors = np.random.default_rng(8), {"points": [], "prior": [], "both": []}
    for seed in range(40):
        seen, R, t = case(100 + seed)
        noisy = replace(seen, pixels=seen.pixels + rng.normal(0, 4, seen.pixels.shape), precision=seen.precision / 16)
        before = R, t + np.array([0, 0, 1]) * rng.normal(0, 0.01)
        translations = {
            "points": fit_poses(noisy, *before).cam_t_obj,
            "prior": before[1],
            "both": fit_poses(noisy, *before, prior=normal_prior(*before, [1e-4, 1e-4, 0.01, 1, 1, 1])).cam_t_obj,
        }
        for name, value in translations.items():
            errors[name].append(float((value - t)[0, 2]))
    spread = {name: float(np.sqrt(np.mean(np.square(values)))) for name, values in errors.items()}
    assert spread["both"] < min(spread["points"], spread["prior"])


def test_tensors_and_arrays_give_the_same_with_a_prior():
    seen, R, t = case(9, count=2)
    before = perturbed(R, t, 10, by=0.5)
    prior = normal_prior(*before, [0.01, 0.01, 0.02, 0.1, 0.1, 0.1])
    found = fit_poses(seen, *before, prior=prior)
    of_tensors = fit_poses(
        as_tensors(seen),
        *map(torch.from_numpy, before),
        prior=PosePrior(*(torch.from_numpy(value) for value in vars(prior).values())),
    )
    np.testing.assert_allclose(of_tensors.cam_t_obj, found.cam_t_obj, atol=1e-9)
    np.testing.assert_allclose(of_tensors.covariance, found.covariance, rtol=1e-6, atol=1e-12)


@given(seed=st.integers(0, 10**6))
def test_the_first_step_from_the_truth_is_the_error_of_the_fit(seed):
    seen, R, t = case(seed, count=2)
    rng = np.random.default_rng(seed)
    seen = replace(seen, pixels=seen.pixels + rng.normal(0, 0.3, seen.pixels.shape))
    start = perturbed(R, t, seed, by=0.1)
    prior = PosePrior(*start, np.repeat(np.diag([1e3, 1e3, 1e3, 100, 100, 100.0])[None], 2, 0))
    step, covariance = first_step(seen, R, t, prior)
    fit = fit_poses(seen, R, t, prior=prior)
    assert np.abs(fit.cam_t_obj - t - step[:, :3]).max() < 1e-4  # metres
    turned, _ = moved(R, t, step)
    assert degrees(fit.cam_R_obj, turned) < 0.1
    np.testing.assert_allclose(
        np.sqrt(np.einsum("bii->bi", covariance)), np.sqrt(np.einsum("bii->bi", fit.covariance)), rtol=0.05
    )


@given(seed=st.integers(0, 10**6), depth=st.floats(0.01, 0.1), across=st.floats(0.01, 0.1))
def test_the_precision_of_a_pose_is_that_of_its_errors(seed, depth, across):
    _, R, t = case(seed)
    covariance = np.linalg.inv(pose_precision(Pose(R[0], t[0]), 0.2, 0.1, depth, across))
    ray = t[0] / np.linalg.norm(t[0])
    aside = np.cross(ray, [0.3, 0.5, 0.1])
    aside /= np.linalg.norm(aside)
    assert ray @ covariance[:3, :3] @ ray == pytest.approx((depth * np.linalg.norm(t[0])) ** 2)
    assert aside @ covariance[:3, :3] @ aside == pytest.approx((0.2 * across) ** 2)
    assert np.trace(covariance[3:, 3:]) == pytest.approx(0.1**2)  # radians²
