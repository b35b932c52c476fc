"""Scenes of posed meshes: both casters see the same, scene by scene and all at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from sopose.core.geometry.pose import Pose
from sopose.core.rays.bvh_caster import BvhCaster, BvhMeshes
from sopose.core.rays.casters import Caster, EmbreeCaster, PosedMeshes, cast_scene
from sopose.core.rays.raycast import RayCaster
from tests.support.ray_cases import icosphere

K = np.array([[300.0, 0.0, 23.0], [0.0, 310.0, 25.0], [0.0, 0.0, 1.0]])
MakeCaster = Callable[[list[PosedMeshes]], Caster]


@pytest.fixture(scope="module")
def meshes() -> list[RayCaster]:
    """A ball, an egg, and two sheets."""
    vertices, faces = icosphere(0.05, 3)
    corners = np.array([[-0.06, -0.04, 0], [0.06, -0.04, 0], [0.06, 0.04, 0], [-0.06, 0.04, 0]])
    halves = np.array([[0, 1, 2], [0, 2, 3]])
    sheets = [RayCaster(corners * scale + [0.01, 0, 0], halves) for scale in (1.0, 0.7)]
    return [RayCaster(vertices, faces), RayCaster(vertices * [0.5, 1, 0.7], faces), *sheets]


@pytest.fixture(scope="module")
def scenes(meshes) -> list[PosedMeshes]:
    """Scenes of none to four meshes, close together."""
    rng, scenes = np.random.default_rng(1), []
    for count in (1, 0, 3, 4, 2, 4):
        names = rng.permutation(4)[:count]
        places = rng.uniform([-0.04, -0.04, 0.5], [0.04, 0.04, 0.65], (count, 3))
        poses = [Pose(Rotation.random(rng=rng).as_matrix(), place) for place in places]
        scenes.append(PosedMeshes(K + 3 * rng.random() * np.eye(3, k=2), [meshes[name] for name in names], poses))
    return scenes


@pytest.fixture(params=["embree", "bvh"])
def make_caster(request, meshes) -> MakeCaster:
    packed = BvhMeshes(meshes, "cpu")
    return EmbreeCaster if request.param == "embree" else lambda scenes: BvhCaster(packed, scenes)


def pixels(scenes: list[PosedMeshes]) -> tuple[torch.Tensor, torch.Tensor]:
    """Scene numbers and pixels, of every scene another count."""
    counts = [200 + 50 * number for number in range(len(scenes))]
    uv = np.random.default_rng(2).uniform(0, 50, (sum(counts), 2))
    return torch.from_numpy(np.repeat(np.arange(len(scenes)), counts)), torch.from_numpy(uv)


def test_many_scenes_are_met_as_one_by_one(scenes, make_caster):
    scene, uv = pixels(scenes)
    hits = make_caster(scenes).first_hits(scene, uv)
    first = 0
    for number, item in enumerate(scenes):
        mine = scene == number
        expected = cast_scene(item.meshes, item.poses, item.K, uv[mine].numpy())
        np.testing.assert_array_equal(hits.owner[mine], np.where(expected.owner < 0, -1, expected.owner + first))
        np.testing.assert_array_equal(hits.face[mine], expected.face)
        np.testing.assert_allclose(hits.points_obj[mine], expected.points_obj, rtol=0, atol=1e-14)
        np.testing.assert_allclose(hits.depth[mine], expected.depth, rtol=1e-13)
        first += len(item.meshes)
    assert set(hits.owner.tolist()) == set(range(-1, first))


def test_facets_are_where_the_hits_are_and_face_the_camera(scenes, make_caster):
    scene, uv = pixels(scenes)
    caster = make_caster(scenes)
    hits = caster.first_hits(scene, uv)
    seen = (hits.owner >= 0).nonzero()[:, 0]
    facets = caster.facets(hits.owner[seen], hits.face[seen], hits.points_obj[seen])
    placed = [pair for item in scenes for pair in zip(item.meshes, item.poses, strict=True)]
    for place, at in enumerate(seen[::7].tolist()):
        mesh, pose = placed[hits.owner[at]]
        corners = pose.transform(mesh.vertices[mesh.faces[hits.face[at]]])
        point, normal = facets.points_cam[:, 7 * place].numpy(), facets.normals_cam[:, 7 * place].numpy()
        np.testing.assert_allclose(facets.weights[7 * place].numpy() @ corners, point, rtol=0, atol=1e-6)
        assert point[2] == pytest.approx(float(hits.depth[at]), rel=1e-6) and normal @ point < 0
        np.testing.assert_allclose((corners - corners[0]) @ normal, 0, rtol=0, atol=1e-7)
        assert np.linalg.norm(normal) == pytest.approx(1, rel=1e-6)


def test_segments_are_blocked_by_their_own_scene_alone_and_where_asked(scenes, make_caster):
    rng = np.random.default_rng(3)
    scene = torch.from_numpy(rng.integers(0, len(scenes), 3000))
    starts = torch.from_numpy(rng.uniform([-0.1, -0.1, 0.4], [0.1, 0.1, 0.75], (3000, 3)).T.astype(np.float32))
    towards = torch.from_numpy(rng.normal(scale=0.1, size=(3, 3000)).astype(np.float32))
    asked = torch.from_numpy(rng.random(3000) < 0.8)
    found = make_caster(scenes).occluded(scene, starts, towards, asked)
    expected = np.zeros(3000, bool)
    for number, item in enumerate(scenes):
        for mesh, pose in zip(item.meshes, item.poses, strict=True):
            origins = (starts.numpy().T - pose.cam_t_obj) @ pose.cam_R_obj
            hit = mesh.occluded(origins, towards.numpy().T.astype(float) @ pose.cam_R_obj, 1.0)
            expected |= hit & (scene.numpy() == number)
    assert not found[~asked].any() and 100 < found.sum() < 2000
    assert (found.numpy() != expected)[asked.numpy()].sum() <= 1  # one that ends on a surface


def test_rays_start_at_the_camera_of_a_rounded_rotation_too(meshes, make_caster):
    rng = np.random.default_rng(4)
    poses = [Pose(Rotation.random(rng=rng).as_matrix().round(3), np.array([0.0, 0, 0.5])) for _ in range(4)]
    scenes = [PosedMeshes(K, [meshes[1]], [pose]) for pose in poses]
    scene, uv = torch.arange(4).repeat_interleave(50), torch.from_numpy(rng.uniform(0, 50, (200, 2)))
    hits = make_caster(scenes).first_hits(scene, uv)
    for number, pose in enumerate(poses):
        mine = (scene == number) & (hits.owner >= 0)
        assert mine.sum() > 10
        centre, rays = -pose.cam_R_obj.T @ pose.cam_t_obj, np.concatenate([uv[mine], np.ones((mine.sum(), 1))], axis=1)
        expected = centre + hits.depth[mine, None].numpy() * (rays @ np.linalg.inv(K).T @ pose.cam_R_obj)
        np.testing.assert_allclose(hits.points_obj[mine], expected, rtol=0, atol=1e-14)
