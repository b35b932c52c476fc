"""Shading: Lambert's law, textures and colours, shadows, and pictures at any pixel positions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from sopose.core.geometry.camera import pixel_grid
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.rotation import random_rotation
from sopose.core.render.ground import Ground, plane_behind
from sopose.core.render.lights import LightRange, Lights
from sopose.core.render.looks import Body, Coats
from sopose.core.render.materials import Material, MaterialRange, recolor_matrix
from sopose.core.render.packed import Scene
from sopose.core.render.shade import Shading, render_rgb, render_scenes, shade
from sopose.core.render.stains import draw_stains
from sopose.core.utils.errors import UserError
from tests.support.shaded import (
    CENTER,
    GREY_LEVEL,
    MATT,
    NO_LAMP,
    K,
    at,
    grey_texture,
    ground_at,
    lamp,
    linear_rgb,
    model_of,
    pack,
    render,
    sheet,
)


def linear(level: float) -> float:
    """Light of a grey level, IEC 61966-2-1."""
    value = level / 255
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def test_what_lies_between_all_pixels_of_the_lattice_is_lit():
    """Lamps and sky are asked at every few pixels of a grid; a thread may pass between them all."""
    grid = pixel_grid(101, 101)
    shading = Shading(shadow_stride=4, sky_stride=4)
    picture = render([sheet(1.5e-3, at(0.002, 0.002, 1.0))], grid, lamp(0, 0, 0, 1), shading)
    seen = picture.owner >= 0
    rows, columns = np.divmod(np.flatnonzero(seen), 101)
    assert seen.any() and not ((rows % 4 == 0) & (columns % 4 == 0)).any()
    assert picture.rgb[seen].min() > 100


def grey(level: int) -> np.ndarray:
    return np.full((4, 3), level, np.uint8)


def test_ambient_light_alone_shows_the_colours_themselves():
    colors = np.array([[250, 10, 60]] * 4, np.uint8)
    picture = render([sheet(0.1, at(0, 0, 1), colors=colors)], CENTER, Lights(np.ones(3), *NO_LAMP))
    assert np.abs(picture.rgb.astype(int) - [250, 10, 60]).max() <= GREY_LEVEL


def test_vertex_colours_are_interpolated_as_light():
    colors = np.array([[0, 0, 0], [255, 255, 255], [255, 255, 255], [0, 0, 0]], np.uint8)
    uv = np.array([[25.0 + 1e-6, 50.0], [50.0, 50.0], [62.5, 50.0]])  # the sheet covers pixels 25 to 75
    shown = linear_rgb([sheet(0.1, at(0, 0, 1), colors=colors)], uv, Lights(np.ones(3), *NO_LAMP))
    np.testing.assert_allclose(shown[:, 0], [0, 0.5, 0.75], atol=1e-6)


@pytest.mark.parametrize("tilt", [0.0, 0.4, 1.0])
def test_a_matt_sheet_follows_lamberts_cosine(tilt):
    body = sheet(0.1, at(0, 0, 1, tilt), colors=grey(188))
    far = linear_rgb([body], CENTER, lamp(0, 0, -1, 0))
    near = linear_rgb([body], CENTER, lamp(0, 0, 0.5, 1))
    np.testing.assert_allclose(far, linear(188) * np.cos(tilt), rtol=1e-5)
    np.testing.assert_allclose(near, far, rtol=1e-5)


def test_a_lamp_behind_a_sheet_does_not_light_its_front():
    assert not linear_rgb([sheet(0.1, at(0, 0, 1))], CENTER, lamp(0, 0, 1, 0), shadows=False).any()


def test_both_sides_of_a_sheet_are_lit_alike():
    front = linear_rgb([sheet(0.1, at(0, 0, 1))], CENTER, lamp(0, 0.3, -1, 0))
    back = linear_rgb([sheet(0.1, at(0, 0, 1, np.pi))], CENTER, lamp(0, 0.3, -1, 0))
    np.testing.assert_allclose(front, back, rtol=1e-5)
    assert front.min() > 0.1


def test_the_highlight_is_brightest_in_the_mirror_direction():
    body = sheet(0.1, at(0, 0, 1), Material(specular=0.04, roughness=0.5), colors=grey(0))
    straight, beside, away = (linear_rgb([body], CENTER, lamp(x, 0, -1, 0))[0, 0] for x in (0, 0.3, 1.5))
    alpha = 0.5**2
    assert straight == pytest.approx(0.04 / (4 * alpha**2 * (0.5 + 0.5)), rel=1e-4)
    assert straight > beside > away


def test_smooth_normals_hide_the_triangles_of_a_sphere():
    import trimesh

    mesh = trimesh.creation.icosphere(subdivisions=2, radius=0.05)
    vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
    uv = 50 + np.random.default_rng(0).uniform(-15, 15, (500, 2))
    pose, light = at(0, 0, 1), lamp(0, 0, -1, 0)
    caster = model_of(vertices, faces).caster
    points = pose.transform(caster.cast(pose, K, uv).points_obj) - pose.cam_t_obj
    exact = -points[:, 2] / np.linalg.norm(points, axis=1) * 0.4
    errors = {}
    for name, normals in (("smooth", vertices / 0.05), ("flat", None)):
        body = Body(model_of(vertices, faces, normals=normals), pose, MATT)
        errors[name] = np.abs(linear_rgb([body], uv, light)[:, 0] - exact).max()
    assert errors["smooth"] < 0.005 < 0.02 < errors["flat"]


def test_normals_without_a_direction_fall_back_to_the_triangle():
    body = sheet(0.1, at(0, 0, 1), normals=np.zeros((4, 3)), colors=grey(188))
    np.testing.assert_allclose(linear_rgb([body], CENTER, lamp(0, 0, -1, 0)), linear(188), rtol=1e-5)


def test_a_texture_is_upright_and_sampled_between_texels():
    texture = np.zeros((2, 2, 3), np.uint8)
    texture[0, 0, 0] = texture[0, 1, 1] = texture[1, 0, 2] = 255  # red, green above blue, black
    uv_map = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], float)  # image y and texture v point opposite ways
    body = sheet(0.1, at(0, 0, 1), texture=texture, uv=uv_map)
    uv = np.array([[37.5, 37.5], [62.5, 37.5], [37.5, 62.5], [62.5, 62.5], [50.0, 50.0]])
    shown = linear_rgb([body], uv, Lights(np.ones(3), *NO_LAMP))
    expected = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [0.25, 0.25, 0.25]]
    np.testing.assert_allclose(shown, expected, atol=1e-6)


def test_a_small_sheet_throws_its_shadow_where_the_lamp_says():
    # Seen from 1 m, the big sheet; the small one half way to it. Sunlight comes at 45° from the left.
    ground = sheet(0.2, at(0, 0, 1.0))
    blocker = sheet(0.01, at(-0.04, 0, 0.95))
    sun = lamp(-1, 0, -1, 0)
    points = np.array([[0.01, 0.0], [0.013, 0.0], [0.017, 0.0], [-0.03, 0.0]])  # shadow: x in (0.005, 0.015)
    uv = 50 + 500 * points
    shown = linear_rgb([ground, blocker], uv, sun)[:, 0]
    open_ = linear_rgb([ground, blocker], uv, sun, shadows=False)[:, 0]
    assert shown[0] == shown[1] == 0
    assert np.array_equal(shown[2:], open_[2:]) and (open_ > 0.1).all()


def test_a_blocker_behind_a_near_lamp_throws_no_shadow():
    bodies = [sheet(0.2, at(0, 0, 1.0)), sheet(0.05, at(0, 0.05, 0.5))]
    between, beyond = lamp(0, 0.07, 0.7, 1), lamp(0, 0.07, 0.4, 1)  # the blocker stands at 0.5
    uv = np.array([[50.0, 61.0]])
    lit = linear_rgb(bodies, uv, between)
    assert lit.all() and np.array_equal(lit, linear_rgb(bodies, uv, between, shadows=False))
    assert linear_rgb(bodies, uv, beyond, shadows=False).all()
    assert not linear_rgb(bodies, uv, beyond).any()


def test_a_convex_body_throws_no_shadow_on_its_lit_side():
    import trimesh

    mesh = trimesh.creation.icosphere(subdivisions=4, radius=0.05)
    body = Body(model_of(mesh.vertices, mesh.faces), at(0, 0, 1), MATT)
    uv = pixel_grid(100, 100).reshape(-1, 2)
    sun = lamp(0.5, 0.2, -1, 0)
    assert np.array_equal(linear_rgb([body], uv, sun), linear_rgb([body], uv, sun, shadows=False))


def test_an_roi_shows_the_same_pixels_as_the_whole_image():
    bodies = [sheet(0.06, at(0.01, 0, 1, 0.5)), sheet(0.1, at(-0.02, 0.01, 1.1, -0.3))]
    lights, ground = LightRange().draw(np.random.default_rng(0)), ground_at(1.2, np.random.default_rng(0))
    grid, shading = pixel_grid(100, 100), Shading(sky_rays=1)
    whole = render(bodies, grid.reshape(-1, 2), lights, shading, ground)
    part = render(bodies, grid[20:60, 30:80].reshape(-1, 2), lights, shading, ground)
    difference = part.rgb.astype(int) - whole.rgb.reshape(100, 100, 3)[20:60, 30:80].reshape(-1, 3)
    assert np.abs(difference).max() <= GREY_LEVEL
    assert np.array_equal(part.owner, whole.owner.reshape(100, 100)[20:60, 30:80].ravel())
    assert set(whole.owner) == {0, 1, 2}


def box_from_inside(side: float, pose: Pose) -> Body:
    import trimesh

    mesh = trimesh.creation.box((side, side, side))
    return Body(model_of(mesh.vertices, mesh.faces), pose, MATT)


@pytest.mark.parametrize("grid", [False, True])
def test_inside_a_closed_box_it_is_dark(grid):
    inside = sheet(0.05, at(0, 0, 1.0))
    room = box_from_inside(0.4, at(0, 0, 1.0))
    lights = Lights(np.full(3, 0.5), np.array([[0.1, 0, 0, 1.0], [0, 0, -1, 0]]), np.ones((2, 3)), np.array([0.1, 0.1]))
    uv = pixel_grid(100, 100) if grid else pixel_grid(100, 100).reshape(-1, 2)
    open_, closed = (pack(Scene(K, bodies, lights), uv) for bodies in ([inside], [inside, room]))
    seen = open_.hits()  # the camera looks through the walls
    assert not shade(closed, seen).any() and shade(open_, seen).any()


def test_an_open_box_is_darker_inside_than_outside():
    import trimesh

    walls = trimesh.creation.box((0.1, 0.1, 0.1))
    open_ = walls.faces[np.abs(walls.face_normals[:, 2] + 1) > 1e-6]  # without the side towards the camera
    tin = Body(model_of(walls.vertices, open_), at(0, 0, 1.0), MATT)
    lid = sheet(0.1, at(0.2, 0, 1.05))
    uv = np.array([[50.0, 50.0], [50 + 500 * 0.2 / 1.05, 50.0]])
    shown = render([tin, lid], uv, Lights(np.ones(3), *NO_LAMP)).rgb.astype(int)
    assert (shown[0] < shown[1] - 20).all() and (shown[1] > 120).all()


def test_the_lattice_of_a_grid_shows_nearly_what_every_pixel_says():
    rng = np.random.default_rng(1)
    bodies = [box_from_inside(0.06, Pose(random_rotation(rng), np.array([x, 0, 1.0]))) for x in (-0.05, 0.04)]
    lights = LightRange(size=(0.05, 0.1)).draw(rng)
    ground = Ground(at(0, 0, 1.06, np.pi), grey_texture(), 1.0)
    grid = pixel_grid(160, 160) - 30
    coarse = render(bodies, grid, lights, Shading(), ground).rgb.astype(int)
    fine = render(bodies, grid, lights, Shading(shadow_rays=4, shadow_stride=1, sky_stride=1), ground).rgb
    off = np.abs(coarse - fine).max(axis=1)
    assert off.mean() < 4 and (off > 40).mean() < 0.02


def test_colours_vary_about_the_model_s():
    colors = np.array([[250, 10, 60]] * 4, np.uint8)
    ambient = Lights(np.ones(3), *NO_LAMP)
    plain = linear_rgb([sheet(0.1, at(0, 0, 1), colors=colors)], CENTER, ambient)[0]
    darker = Material(specular=0.0, recolor=recolor_matrix(0.0, 1.0, 0.5))
    np.testing.assert_allclose(
        linear_rgb([sheet(0.1, at(0, 0, 1), darker, colors=colors)], CENTER, ambient)[0], 0.5 * plain, rtol=1e-5
    )
    np.testing.assert_allclose(recolor_matrix(40.0, 1.7, 1.0) @ np.ones(3), 1.0)  # grey stays grey
    np.testing.assert_allclose(recolor_matrix(120.0, 1.0, 1.0) @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    same = MaterialRange(hue=0, saturation=0, brightness=0).draw(np.random.default_rng(0))
    assert same.recolor is None and same.stains is None


def test_stains_are_the_object_s_own():
    colors = np.array([[128, 128, 128]] * 4, np.uint8)
    ambient = Lights(np.ones(3), *NO_LAMP)
    stained = Material(specular=0.0, stains=draw_stains(0.3, np.random.default_rng(3)))
    uv = pixel_grid(60, 60).reshape(-1, 2) + 20.0
    turned = Pose(Rotation.from_euler("z", 90, degrees=True).as_matrix(), np.array([0.02, 0.01, 0.8]))
    for pose in (at(0, 0, 1), turned):  # they move with it, not with the camera
        body = sheet(0.1, pose, stained, colors=colors)
        shown = linear_rgb([body], uv, ambient)
        plain = linear_rgb([sheet(0.1, pose, colors=colors)], uv, ambient)
        hits = pack(Scene(K, [body], ambient), uv).hits()
        seen = hits.owner == 0
        coats, white = Coats([body], torch.device("cpu")), torch.full((3, int(seen.sum())), 0.1)
        factors = coats.vary(white, hits.owner[seen], hits.points_obj[seen]).T / 0.1
        np.testing.assert_allclose(shown[seen] / plain[seen], factors, rtol=1e-4)
        assert factors.std() > 0.05


def test_a_plane_behind_is_behind_all_and_faces_the_camera():
    rng = np.random.default_rng(0)
    for _ in range(50):
        centers, radii = rng.uniform([-0.2, -0.2, 0.5], [0.2, 0.2, 1.0], (4, 3)), rng.uniform(0.01, 0.1, 4)
        ground = Ground(plane_behind(centers, radii, 0.6, 0.02, rng), grey_texture())
        above = (centers - ground.pose.cam_t_obj) @ ground.normal_cam - radii
        assert above.min() == pytest.approx(0.02, abs=1e-9) and ground.height > 0


def test_scenes_together_look_as_each_does_alone():
    """Windows of all sizes; with and without ground, lamps, stains and texture; some models in several scenes."""
    rng = np.random.default_rng(5)
    texture, uv_map = rng.integers(0, 256, (5, 8, 3), np.uint8), np.array([[0, 0], [1.5, 0], [1.5, 1], [0, 1]], float)
    models = [sheet(0.06, at(0, 0, 1), colors=rng.integers(0, 256, (4, 3), np.uint8)).model]
    models += [sheet(0.05, at(0, 0, 1), texture=texture, uv=uv_map).model, box_from_inside(0.03, at(0, 0, 1)).model]
    scenes, uvs = [], []
    for number in range(6):
        materials = MaterialRange(stains=1.0 if number % 2 else 0.0, hue=20.0 if number % 3 else 0.0)
        bodies = [
            Body(models[name], Pose(random_rotation(rng), rng.uniform([-0.03, -0.03, 0.9], [0.03, 0.03, 1.0])), coat)
            for name, coat in zip(rng.permutation(3)[: number % 4], map(materials.draw, [rng] * 3), strict=False)
        ]
        lights = LightRange(count=(number % 3, number % 3), ambient_slope=0.9).draw(rng)
        ground = ground_at(1.05, rng, 0.2) if number > 1 else None
        scenes.append(Scene(K, bodies, lights, ground))
        uvs.append(pixel_grid(30 + 7 * number, 50 - 3 * number) + np.array([20, 25]))
    for scene, uv, together in zip(scenes, uvs, render_scenes(scenes, uvs), strict=True):
        alone = render_rgb(scene, uv)
        assert np.array_equal(together.owner, alone.owner) and np.array_equal(together.depth, alone.depth)
        assert np.abs(together.rgb.astype(int) - alone.rgb).max() <= GREY_LEVEL


def test_lamps_stand_above_the_ground_they_light():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        up = random_rotation(rng)[:, 0]
        center = np.array([0.1, 0.0, 1.0])
        lights = LightRange(count=(3, 3)).draw(rng, center, up)
        far = lights.positions_cam[:, 3] == 0
        towards = lights.positions_cam[:, :3] - np.where(far[:, None], 0, center)
        assert (towards @ up > 0.1 * np.linalg.norm(towards, axis=1)).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LightRange(count=(3, 1)), "LAMPS"),
        (lambda: LightRange(size=(-1, 0)), "LAMP_SIZE"),
        (lambda: LightRange(tint=1.0), "LAMP_TINT"),
        (lambda: MaterialRange(roughness=(0.5, 2.0)), "ROUGHNESS"),
        (lambda: MaterialRange(brightness=1.0), "BRIGHTNESS"),
        (lambda: MaterialRange(stains=-0.1), "STAINS"),
        (lambda: LightRange(ambient_slope=1.5), "AMBIENT_SLOPE"),
        (lambda: Shading(shadow_stride=0), "at least 1"),
    ],
)
def test_an_impossible_range_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_an_empty_picture_is_black():
    picture = render([], CENTER, Lights(np.ones(3), *NO_LAMP))
    assert picture.rgb.tolist() == [[0, 0, 0]] and picture.owner.tolist() == [-1]


def test_random_lights_repeat_with_their_seed_and_stand_on_the_cameras_side():
    for seed in range(20):
        first, second = (LightRange().draw(np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(first.positions_cam, second.positions_cam)
        assert 1 <= len(first.colors) <= 3
        assert (first.positions_cam[:, 2] <= 0).all() and (first.colors > 0).all()
