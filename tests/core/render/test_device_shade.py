"""Many scenes at once: they look as each does when the CPU renders it alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from sopose.core.geometry.camera import pixel_grid
from sopose.core.geometry.pose import Pose
from sopose.core.objects.model import ObjectModel
from sopose.core.rays.device_caster import DeviceCaster
from sopose.core.rays.raycast import RayCaster, camera_rays
from sopose.core.render.device_looks import pack_lights, pack_looks, pack_materials
from sopose.core.render.device_scene import cast_scenes, pack_scenes
from sopose.core.render.device_shade import SceneShader
from sopose.core.render.lights import LightRange
from sopose.core.render.materials import MaterialRange
from sopose.core.render.shade import Body, Shading, render_rgb
from sopose.core.render.visibility import cast_scene
from tests.support.ray_cases import icosphere

SIDE = 48
K = np.array([[300.0, 0.0, 23.0], [0.0, 310.0, 25.0], [0.0, 0.0, 1.0]])
GRID = pixel_grid(SIDE, SIDE)


def model_of(vertices: np.ndarray, faces: np.ndarray, **looks: np.ndarray) -> ObjectModel:
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    return ObjectModel(1, "thing", vertices, faces, float(np.linalg.norm(high - low)), low, high - low, **looks)


def make_models() -> list[ObjectModel]:
    """A smooth ball of many colours, a plain faceted one, two textured sheets."""
    rng = np.random.default_rng(0)
    vertices, faces = icosphere(0.05, 3)
    colors = rng.integers(0, 256, (len(vertices), 3), np.uint8)
    colored = model_of(vertices, faces, normals=vertices / 0.05, colors=colors)
    plain = model_of(vertices * [0.5, 1, 0.7], faces)
    corners = np.array([[-0.06, -0.04, 0], [0.06, -0.04, 0], [0.06, 0.04, 0], [-0.06, 0.04, 0]])
    uv = np.array([[0, 0], [1.5, 0], [1.5, 1], [0, 1]], float)
    sheets = [
        model_of(corners, np.array([[0, 1, 2], [0, 2, 3]]), uv=uv, texture=rng.integers(0, 256, (*size, 3), np.uint8))
        for size in ((5, 8), (4, 3))
    ]
    return [colored, plain, *sheets]


@pytest.fixture(scope="module")
def world() -> tuple[list[ObjectModel], list[RayCaster], DeviceCaster]:
    models = make_models()
    casters = [RayCaster(model.vertices, model.faces) for model in models]
    return models, casters, DeviceCaster(casters, "cpu")


def draw_scenes(count: int) -> list[list[tuple[int, Pose]]]:
    """Scenes of one to four bodies, close together."""
    rng = np.random.default_rng(1)
    scenes = []
    for scene in range(count):
        names = rng.permutation(4)[: 1 + scene % 4]
        places = rng.uniform([-0.04, -0.04, 0.5], [0.04, 0.04, 0.65], (len(names), 3))
        poses = [Pose(Rotation.random(rng=rng).as_matrix(), place) for place in places]
        scenes.append(list(zip(names.tolist(), poses, strict=True)))
    return scenes


def as_uv(count: int) -> torch.Tensor:
    return torch.from_numpy(GRID.reshape(1, -1, 2)).expand(count, -1, -1)


def test_scenes_are_met_as_one_by_one(world):
    _, casters, device_caster = world
    scenes = draw_scenes(8)
    hits = cast_scenes(device_caster, pack_scenes([K] * 8, scenes, "cpu"), as_uv(8))
    for index, scene in enumerate(scenes):
        names, poses = zip(*scene, strict=True)
        expected = cast_scene([casters[name] for name in names], poses, K, GRID.reshape(-1, 2))
        np.testing.assert_array_equal(hits.owner[index], expected.owner)
        np.testing.assert_array_equal(hits.face[index], expected.face)
        np.testing.assert_allclose(hits.points_obj[index], expected.points_obj, rtol=0, atol=1e-14)
        np.testing.assert_allclose(hits.depth[index], expected.depth, rtol=1e-13)
    assert set(hits.owner.unique().tolist()) == {-1, 0, 1, 2, 3}


def test_rays_start_at_the_camera_of_a_rounded_rotation_too():
    rng = np.random.default_rng(3)
    poses = [Pose(Rotation.random(rng=rng).as_matrix().round(3), rng.normal(size=3)) for _ in range(5)]
    packed = pack_scenes([K] * 5, [[(0, pose)] for pose in poses], "cpu")
    uv = torch.from_numpy(rng.uniform(0, 100, (5, 20, 2)))
    origins, directions = packed.body_rays(0, uv)
    for index, pose in enumerate(poses):
        origin, expected = camera_rays(pose, K, uv[index].numpy())
        np.testing.assert_allclose(origins[index, 0], origin, rtol=0, atol=1e-15)
        np.testing.assert_allclose(directions[index], expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    "shading",
    [
        Shading(shadows=False, ambient_occlusion=False),
        Shading(shadow_stride=1, shadow_rays=2, sky_stride=1),
        Shading(),
    ],
    ids=["light", "all rays", "lattice"],
)
def test_pictures_are_those_of_the_cpu(world, shading):
    models, casters, device_caster = world
    scenes = draw_scenes(8)
    rng = np.random.default_rng(2)
    plain, stained = MaterialRange(roughness=(0.3, 0.9)), MaterialRange(roughness=(0.3, 0.9), stains=1.0)
    # The target stained, the others not: a batch holds both.
    materials = [[(plain if n else stained).draw(rng) for n in range(len(scene))] for scene in scenes]
    lights = [LightRange(count=(0, 3), ambient_slope=0.9).draw(rng, np.array([0, 0, 0.6])) for _ in scenes]
    packed = pack_scenes([K] * 8, scenes, "cpu")
    shader = SceneShader(device_caster, pack_looks(models, "cpu"), shading)
    hits = cast_scenes(device_caster, packed, as_uv(8))
    rgb = shader.rgb(hits, packed, pack_materials(materials, "cpu"), pack_lights(lights, "cpu"))
    assert {len(item.colors) for item in lights} == {0, 1, 2, 3}
    for index, scene in enumerate(scenes):
        bodies = [
            Body(casters[name], models[name], pose, material)
            for (name, pose), material in zip(scene, materials[index], strict=True)
        ]
        expected = render_rgb(bodies, K, GRID, lights[index], shading).rgb.astype(int)
        seen = hits.owner[index].numpy() >= 0
        assert (rgb[index].numpy()[~seen] == 0).all() and seen.mean() > 0.1
        off = np.abs(rgb[index].numpy().astype(int) - expected)[seen].max(axis=1)
        # Windows of the lattice are cut elsewhere, so that single pixels at outlines differ.
        assert (off > 1).mean() < 0.03
        assert off.mean() < 0.2  # grey levels
