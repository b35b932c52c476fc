"""Q: planes, box, the line through camera, P and Q, and an ellipsoid known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation

from sopose.core.geometry.pose import Pose
from sopose.core.rays.raycast import RayCaster, camera_rays
from sopose.layers import (
    cast_P,
    denormalise_Q,
    normalise_Q,
    pack_Q,
    plane_channels,
    plane_hits,
    unpack_Q,
    unpack_Q_maps,
)

K = np.array([[572.4, 0.0, 325.3], [0.0, 573.6, 242.0], [0.0, 0.0, 1.0]])
SEMI_AXES = np.array([0.05, 0.03, 0.08])


def positions_around(pose: Pose, side: float, out: int = 32) -> np.ndarray:
    center = (K @ pose.cam_t_obj)[:2] / pose.cam_t_obj[2]
    steps = (np.arange(out) - out / 2) * side / out
    return center + np.stack(np.meshgrid(steps, steps), axis=-1)


def random_pose(seed: int) -> Pose:
    return Pose(Rotation.random(rng=np.random.default_rng(seed)).as_matrix(), np.array([0.1, -0.05, 0.8]))


def everywhere(positions: np.ndarray) -> np.ndarray:
    return np.ones(positions.shape[:2], bool)


@pytest.mark.parametrize("seed", range(5))
def test_points_lie_on_their_plane_and_inside_the_box(seed):
    pose = random_pose(seed)
    positions = positions_around(pose, 120)
    Q, valid = plane_hits(pose, K, positions, everywhere(positions), -SEMI_AXES, 2 * SEMI_AXES)
    assert valid.any(axis=(0, 1)).all()
    for k in range(3):
        assert np.array_equal(Q[..., k, k], np.zeros_like(Q[..., k, k]))
    assert (np.abs(Q[valid]) < SEMI_AXES).all()
    assert (Q[~valid] == 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_camera_P_and_Q_are_collinear(seed):
    import trimesh

    mesh = trimesh.creation.icosphere(subdivisions=4)
    pose = random_pose(seed)
    positions = positions_around(pose, 120)
    P, mask = cast_P(RayCaster(mesh.vertices * SEMI_AXES, mesh.faces), pose, K, positions)
    Q, valid = plane_hits(pose, K, positions, mask, -SEMI_AXES, 2 * SEMI_AXES)
    assert valid.sum() > 100
    P_cam, Q_cam = pose.transform(P)[:, :, None], pose.transform(Q)
    lengths = np.linalg.norm(P_cam, axis=-1) * np.linalg.norm(Q_cam, axis=-1)
    assert (np.linalg.norm(np.cross(P_cam, Q_cam), axis=-1) / lengths)[valid].max() <= 1e-12


@pytest.mark.parametrize("seed", range(5))
def test_an_ellipsoid_seen_through_its_planes(seed):
    """Inside an ellipsoid each plane crossing is an ellipse; the chord is entered at P and left behind Q."""
    pose = random_pose(seed)
    positions = positions_around(pose, 120)
    origin, directions = camera_rays(pose, K, positions)
    o, d = origin / SEMI_AXES, directions / SEMI_AXES  # the unit sphere's frame
    a, b, c = (d**2).sum(-1), d @ o, o @ o - 1
    on_object = b**2 > a * c
    root = np.sqrt(np.where(on_object, b**2 - a * c, 0))
    enters, leaves = (-b - root) / a, (-b + root) / a
    Q, valid = plane_hits(pose, K, positions, on_object, -SEMI_AXES, 2 * SEMI_AXES)
    for k in range(3):
        crossing = -origin[k] / directions[..., k]
        through = on_object & (crossing > enters) & (crossing < leaves)
        assert valid[..., k][through].all()  # what lies inside the ellipsoid lies inside its box
        expected = origin + crossing[..., None] * directions
        np.testing.assert_allclose(Q[..., k, :][through], expected[through], rtol=0, atol=1e-15)
        inside = ((Q[..., k, :] / SEMI_AXES) ** 2).sum(-1) < 1
        assert np.array_equal(inside & valid[..., k], through)


def test_a_camera_facing_the_z_plane_sees_it_undistorted():
    pose = Pose(np.eye(3), np.array([0.0, 0.0, 1.0]))
    positions = positions_around(pose, 40)
    mask = everywhere(positions)
    mask[:5] = False
    Q, valid = plane_hits(pose, K, positions, mask, np.full(3, -0.02), np.full(3, 0.04))
    x = (positions[..., 0] - K[0, 2]) / K[0, 0]
    y = (positions[..., 1] - K[1, 2]) / K[1, 1]
    inside = (np.abs(x) < 0.02) & (np.abs(y) < 0.02) & mask
    assert np.array_equal(valid[..., 2], inside)
    np.testing.assert_allclose(Q[inside][:, 2, 0], x[inside], rtol=0, atol=1e-15)
    np.testing.assert_allclose(Q[inside][:, 2, 1], y[inside], rtol=0, atol=1e-15)


def test_a_ray_along_a_plane_does_not_cross_it():
    pose = Pose(np.eye(3), np.array([0.0, 0.0, 1.0]))
    positions = K[:2, 2] + np.array([[[0.0, 0.0], [5e-4, 1.0]]])  # the slopes are 0 and 9e-7
    _, valid = plane_hits(pose, K, positions, everywhere(positions), np.full(3, -1.0), np.full(3, 2.0))
    assert not valid[..., 0].any()
    assert valid[..., 2].all()


def test_planes_behind_the_camera_are_not_seen():
    pose = Pose(np.eye(3), np.array([0.0, 0.0, -1.0]))
    positions = positions_around(Pose(np.eye(3), np.array([0.0, 0.0, 1.0])), 40)
    _, valid = plane_hits(pose, K, positions, everywhere(positions), np.full(3, -5.0), np.full(3, 10.0))
    assert not valid[..., 2].any()


def test_the_box_need_not_be_centred_and_its_faces_are_outside():
    pose = Pose(np.eye(3), np.array([0.0, 0.0, 1.0]))
    positions = K[:2, 2] + K[[0, 1], [0, 1]] * np.array([[[0.0, 0.0], [0.25, 0.25], [0.5, 0.25], [-0.1, 0.25]]])
    bounds_min, extent = np.array([0.0, 0.0, -1.0]), np.array([0.5, 0.5, 2.0])
    _, valid = plane_hits(pose, K, positions, everywhere(positions), bounds_min, extent)
    assert valid[0, :, 2].tolist() == [False, True, False, False]


def test_channels_are_yz_xz_xy_and_unpacking_restores_the_points():
    Q = np.arange(9.0).reshape(3, 3)  # row = plane, column = xyz
    assert pack_Q(Q).tolist() == [1, 2, 3, 5, 6, 7]
    on_planes = np.random.default_rng(0).normal(size=(4, 5, 3, 3)) * (1 - np.eye(3))
    assert np.array_equal(unpack_Q(pack_Q(on_planes)), on_planes)


def test_normalising_uses_each_channels_own_axis_and_keeps_invalid_zero():
    extent = np.array([0.1, 0.2, 0.4])
    corners = np.broadcast_to(extent / 2, (3, 3)) * (1 - np.eye(3))
    valid = np.array([True, False, True])
    assert normalise_Q(pack_Q(corners), extent, valid).tolist() == [1, 1, 0, 0, 1, 1]


METRES = st.floats(-1, 1, allow_subnormal=False)


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 4), st.just(6)), elements=METRES),
    hnp.arrays(np.float64, 3, elements=st.floats(0.01, 1)),
)
def test_numpy_and_torch_have_one_order_of_planes_axes_and_channels(Q6, extent):
    """(h, w, 6) of the loader and (B, 6, H, W) of the network name the same numbers, normalised or not."""
    points = unpack_Q(Q6)
    maps = torch.from_numpy(Q6).permute(2, 0, 1)[None]
    as_maps = unpack_Q_maps(maps)[0].permute(2, 3, 0, 1).numpy()
    assert np.array_equal(points, as_maps) and np.array_equal(pack_Q(points), Q6)
    for plane in range(3):
        kept = [axis for axis in range(3) if axis != plane]
        assert np.array_equal(Q6[..., plane_channels(plane)], points[..., plane, kept])
        assert not points[..., plane, plane].any()
    known = np.ones((*Q6.shape[:2], 3), bool)
    q = torch.from_numpy(normalise_Q(Q6, extent, known)).permute(2, 0, 1)[None]
    back = denormalise_Q(q, torch.from_numpy(extent)[None])[0].permute(2, 3, 0, 1).numpy()
    np.testing.assert_allclose(back, points, rtol=0, atol=1e-15)  # metres
