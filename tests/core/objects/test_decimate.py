"""Fewer triangles: as many as asked for, the surface where it was, colours with it."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from sopose.core.geometry.surface import face_areas
from sopose.core.objects.cad_mesh import CadMesh
from sopose.core.objects.decimate import decimated, surface_moved

RADIUS, FINE = 0.05, 6  # metres; halvings of a ball's edges


@pytest.fixture(scope="module")
def ball() -> CadMesh:
    mesh = trimesh.creation.icosphere(FINE, RADIUS)
    return CadMesh(np.asarray(mesh.vertices), np.asarray(mesh.faces))


@pytest.mark.parametrize("most", [2000, 30_000])
def test_a_ball_of_fewer_triangles_is_the_ball(ball, most):
    found = decimated(ball, most)
    assert most / 2 < len(found.faces) <= most
    edge = np.sqrt(4 * np.pi * RADIUS**2 / len(found.faces))
    np.testing.assert_allclose(np.linalg.norm(found.vertices, axis=1), RADIUS, atol=edge**2 / RADIUS)  # metres
    moved = surface_moved(ball, found)
    assert 0 < moved < edge**2 / RADIUS  # the height of an arc above its chord grows with the square
    assert decimated(found, most) is found


def test_flat_faces_stay_where_they_are():
    box = trimesh.creation.box((0.03, 0.02, 0.01))
    for _ in range(6):
        box = box.subdivide()
    fine = CadMesh(np.asarray(box.vertices), np.asarray(box.faces))
    found = decimated(fine, 1000)
    assert len(found.faces) <= 1000
    assert surface_moved(fine, found) < 3e-5  # metres
    np.testing.assert_allclose(np.ptp(found.vertices, axis=0), (0.03, 0.02, 0.01), atol=3e-5)


def test_colours_and_textures_stay_where_they_are(ball):
    corners = ball.vertices[ball.faces]
    right = corners[..., 0] > 0
    colored = CadMesh(ball.vertices, ball.faces, colors=np.where(right[..., None], [200.0, 10, 10], [10.0, 10, 200]))
    texture = np.zeros((2, 2, 3), np.uint8)
    texture[:, 0], texture[:, 1] = (10, 10, 200), (200, 10, 10)
    uv = np.stack([np.where(right, 0.75, 0.25), np.full(right.shape, 0.5)], axis=-1)
    textured = CadMesh(ball.vertices, ball.faces, uv=uv, texture=texture)
    for mesh in (colored, textured):
        found = decimated(mesh, 3000)
        x = found.vertices[found.faces][..., 0]
        sure = abs(x) > RADIUS / 20
        np.testing.assert_allclose(found.colors[sure][:, 0], np.where(x[sure] > 0, 200, 10), atol=1)
        assert found.uv is None and found.texture is None


def test_one_sharp_edge_parts_two_colours():
    box = trimesh.creation.box((0.03, 0.02, 0.01))
    for _ in range(6):
        box = box.subdivide()
    vertices, faces = np.asarray(box.vertices), np.asarray(box.faces)
    red = np.isclose(vertices[faces][..., 2], 0.005).all(axis=1)  # one side
    colors = np.where(red[:, None, None], [200.0, 10, 10], [10.0, 10, 200]) * np.ones((1, 3, 1))
    found = decimated(CadMesh(vertices, faces, colors=colors), 5000)
    corners = found.vertices[found.faces]
    top = np.isclose(corners[..., 2], 0.005, atol=1e-5).all(axis=1)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    wrong = (found.colors[:, :, 0] > 100) != top[:, None]
    assert (area[:, None] * wrong).sum() / (3 * area.sum()) < 0.02


def test_a_noisy_scan_becomes_as_small_as_asked(ball):
    rng = np.random.default_rng(0)
    noisy = CadMesh(ball.vertices * (1 + rng.normal(0, 0.004, (len(ball.vertices), 1))), ball.faces)  # 0.2 mm
    for most in (5000, 20_000, 80_000, 81_500):
        found = decimated(noisy, most)
        assert most / 2 < len(found.faces) <= most
    assert surface_moved(noisy, found) < 1e-3


def test_no_triangle_is_left_that_is_none(ball):
    found = decimated(ball, 8000)
    assert (face_areas(found.vertices, found.faces) > 0).all()
    assert set(found.faces.reshape(-1)) == set(range(len(found.vertices)))


def test_lost_bodies_are_seen_in_how_far_the_surface_moved():
    apart, many = 0.01, 300
    bodies = [trimesh.creation.icosphere(0, 0.001).apply_translation((apart * k, 0, 0)) for k in range(many)]
    mesh = trimesh.util.concatenate(bodies)
    before = CadMesh(np.asarray(mesh.vertices), np.asarray(mesh.faces))
    assert surface_moved(before, before) < 1e-9
    after = decimated(before, many // 2)
    assert 0 < len(after.faces) <= many // 2 and surface_moved(before, after) > apart / 2
    one_less = before.only(np.arange(len(before.faces)) >= 20)  # an icosahedron of a thousandth of the surface
    for pair in ((before, one_less), (one_less, before)):
        assert surface_moved(*pair) == pytest.approx(apart, abs=0.002)
