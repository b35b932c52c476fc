"""The ground under objects: its plane, its texture, and the shadows between it and them."""

from __future__ import annotations

import numpy as np
import torch

from sopose.core.geometry.camera import pixel_grid, pixel_rays
from sopose.core.render.ground import Ground, Grounds, mirrored
from sopose.core.render.lights import Lights
from sopose.core.render.shade import Shading
from tests.support.shaded import (
    CENTER,
    NO_LAMP,
    K,
    at,
    grey_texture,
    ground_at,
    lamp,
    render,
    sheet,
)


def packed_ground(ground: Ground, pixel_angle: float = 0.0) -> Grounds:
    return Grounds.of([ground], [pixel_angle], torch.device("cpu"))


def albedo(grounds: Grounds, points_cam: np.ndarray) -> np.ndarray:
    """(3, M) at points (3, M) of the first plane."""
    points = torch.from_numpy(points_cam.astype(np.float32))
    return grounds.albedo(torch.zeros(points.shape[1], dtype=torch.long), points).numpy()


def test_the_ground_is_where_its_plane_says():
    ground = ground_at(2.0, np.random.default_rng(0), tilt=0.3)
    uv = pixel_grid(100, 100).reshape(-1, 2)
    rays = pixel_rays(K, uv)
    picture = render([], uv, Lights(np.ones(3), *NO_LAMP), ground=ground)
    assert (picture.owner == 0).all()
    points = picture.depth[:, None] * rays
    assert np.abs((points - ground.pose.cam_t_obj) @ ground.normal_cam).max() < 1e-12
    steep = Ground(at(0, -0.5, 2.0, np.pi / 2), ground.texture)  # its horizon lies in the middle of the image
    assert np.isfinite(render([], uv, Lights(np.ones(3), *NO_LAMP), ground=steep).depth).mean() < 0.5


def test_the_ground_shows_its_texture_without_a_seam():
    texture = mirrored(np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5)
    ground = packed_ground(Ground(at(0, 0, 1, np.pi), texture, 0.04))
    points = np.array([[0.0025, 0.0425, -0.0375], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    colors = albedo(ground, points)
    np.testing.assert_allclose(colors, colors[:, :1].repeat(3, axis=1), atol=1e-3)
    seam = albedo(ground, np.array([[-1e-5, 1e-5], [0.003, 0.003], [1, 1]]))
    np.testing.assert_allclose(seam[:, 0], seam[:, 1], atol=1e-3)


def test_a_texture_too_fine_for_the_pixels_is_even():
    ground = ground_at(1.0, np.random.default_rng(0))
    points = np.concatenate([np.random.default_rng(0).uniform(-1, 1, (2, 500)), np.ones((1, 500))])
    assert albedo(packed_ground(ground), points).std() > 0.01
    assert albedo(packed_ground(ground, pixel_angle=0.1), points).std(axis=1).max() < 1e-5


def test_grounds_of_several_scenes_are_each_their_own_and_some_have_none():
    rng = np.random.default_rng(0)
    alone = [ground_at(z, rng, tilt) for z, tilt in ((1.0, 0.2), (1.4, -0.3))]
    grounds = Grounds.of([alone[0], None, alone[1]], [1e-3] * 3, torch.device("cpu"))
    uv = torch.from_numpy(rng.uniform(0, 100, (60, 2)))
    scene, inverse = torch.arange(60) % 3, torch.from_numpy(np.linalg.inv(K))[..., None]
    depth, rays = grounds.depth(scene, inverse, uv), torch.from_numpy(pixel_rays(K, uv.numpy()).T)
    points = torch.where(depth.isfinite(), rays * depth, 1.0).float()
    shown, up = grounds.albedo(scene, points), torch.zeros_like(points)
    assert (depth[scene == 1] == torch.inf).all() and not grounds.occlude(scene, points, 9 * points)[scene == 1].any()
    for number, ground in ((0, alone[0]), (2, alone[1])):
        mine, single = scene == number, packed_ground(ground, 1e-3)
        first = torch.zeros(int(mine.sum()), dtype=torch.long)
        torch.testing.assert_close(depth[mine], single.depth(first, inverse, uv[mine]), rtol=1e-12, atol=0)
        torch.testing.assert_close(shown[:, mine], single.albedo(first, points[:, mine]), rtol=0, atol=1e-4)
        assert grounds.occlude(scene, points, points)[mine].all()
        assert not grounds.occlude(scene, points / 2, up)[mine].any()


def test_a_body_shades_the_ground_and_the_ground_shades_what_is_under_it():
    ground = Ground(at(0, 0, 1.0, np.pi), grey_texture(), 1.0)
    blocker = sheet(0.01, at(-0.04, 0, 0.95))
    uv = 50 + 500 * np.array([[0.01, 0.0], [0.017, 0.0]])
    bright = Shading(ambient_occlusion=False)
    shown = render([blocker], uv, lamp(-1, 0, -1, 0), bright, ground)
    assert not shown.rgb[0].any() and shown.rgb[1].min() > 100
    below = lamp(0, 0, 1.5, 1)  # under the ground, which is above the blocker's back
    behind = sheet(0.01, at(0, 0, 0.95, np.pi - 0.5))
    assert not render([behind], CENTER, below, bright, ground).rgb.any()
