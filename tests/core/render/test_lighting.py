"""The laws of light at points, before anything is cast by Embree."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sopose.core.render.lighting import (
    LightSet,
    Surface,
    disk_pattern,
    hemisphere_pattern,
    interleaved,
    lamp_openness,
    lamps_faced,
    reflect,
    sky_openness,
)


def unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=0)


def surface_of(points: Tensor, normals: Tensor, albedo: float = 0.5, specular: float = 0.0) -> Surface:
    count = points.shape[1]
    same = [torch.full((count,), value) for value in (specular, 0.5, 1e-4)]
    return Surface(points, normals, normals, torch.full((3, count), albedo), *same)


def plane(count: int = 200, seed: int = 0) -> Surface:
    """Points of the plane z = 1, seen straight on."""
    points = torch.rand(3, count, generator=torch.Generator().manual_seed(seed)) - 0.5
    points[2] = 1.0
    return surface_of(points, torch.tensor([[0.0], [0.0], [-1.0]]).expand(3, count))


def lamps(*positions: tuple[float, ...], size: float = 0.0, ambient: float = 0.0) -> LightSet:
    count = len(positions)
    return LightSet(
        torch.full((3, 1), ambient),
        torch.tensor(positions).reshape(count, 4, 1),
        torch.ones(count, 3, 1),
        torch.full((count, 1), size),
    )


def nothing(starts: Tensor, towards: Tensor, asked: Tensor) -> Tensor:
    return torch.zeros(starts.shape[1], dtype=torch.bool)


def everything(starts: Tensor, towards: Tensor, asked: Tensor) -> Tensor:
    return ~nothing(starts, towards, asked)


def half_plane(edge: float, z: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The sheet x > edge at depth z."""

    def occluded(starts: Tensor, towards: Tensor, asked: Tensor) -> Tensor:
        share = (z - starts[2]) / towards[2]
        return (share > 0) & (share < 1) & (starts[0] + share * towards[0] > edge)

    return occluded


def test_black_stays_black_and_without_light_all_is():
    lit = lamps((0.3, 0.2, 0.0, 1.0), (0.0, 0.6, -0.8, 0.0), ambient=0.5)
    black = surface_of(plane().points_cam, plane().normals, albedo=0.0)
    assert not reflect(black, lit, None, None).any()
    assert not reflect(plane(), lamps(), None, None).any()
    assert reflect(plane(), lit, None, None).min() > 0.1


@given(st.floats(0, 1), st.floats(0, 1))
def test_more_openness_is_never_darker(first, second):
    light = lamps((0.3, 0.2, 0.0, 1.0), ambient=0.5)
    shares = [torch.full((1, 200), share) for share in sorted((first, second))]
    dark, bright = (reflect(plane(), light, share, share[0]) for share in shares)
    assert (bright >= dark - 1e-6).all()


def test_a_point_in_a_closed_box_gets_no_outside_light():
    light = lamps((0.3, 0.2, 0.0, 1.0), (0.0, 0.6, -0.8, 0.0), ambient=0.5)
    openness = lamp_openness(plane(), light, everything, disk_pattern(4)[..., None])
    sky = sky_openness(plane(), everything, hemisphere_pattern(16)[..., None])
    assert not reflect(plane(), light, openness, sky).any()


def test_a_plane_alone_sees_the_whole_sky():
    def below(starts: Tensor, towards: Tensor, asked: Tensor) -> Tensor:
        return starts[2] + towards[2] > 1.0

    assert (sky_openness(plane(), below, hemisphere_pattern(16)[..., None]) == 1).all()


def test_a_wall_takes_half_of_the_sky_at_its_foot():
    def wall(starts: Tensor, towards: Tensor, asked: Tensor) -> Tensor:
        return towards[0] > 0

    assert sky_openness(plane(), wall, hemisphere_pattern(256)[..., None]).sub(0.5).abs().max() < 0.02


@pytest.mark.parametrize("size", [0.0, 1e-6])
def test_a_soft_shadow_tends_to_the_hard_one(size):
    lamp = (0.0, 0.0, 0.0, 1.0)
    blocker = half_plane(0.01, 0.5)  # its shadow begins at x = 0.02
    openness = lamp_openness(plane(2000), lamps(lamp, size=size), blocker, disk_pattern(16)[..., None])[0]
    away = (plane(2000).points_cam[0] - 0.02).abs() > 1e-3
    assert torch.equal(openness[away].round(decimals=4), (plane(2000).points_cam[0] < 0.02).float()[away])


def test_a_penumbra_is_as_wide_as_the_lamp_says():
    size = 0.05
    blocker = half_plane(0.0, 0.5)  # as far from the lamp as from the plane: the penumbra is as wide as the lamp
    surface = plane(4000)
    openness = lamp_openness(surface, lamps((0, 0, 0, 1.0), size=size), blocker, disk_pattern(64)[..., None])[0]
    x = surface.points_cam[0]
    assert (openness[x < -size] > 0.9999).all() and (openness[x > size] == 0).all()
    part = openness[x.abs() < size / 2]
    assert 0.3 < part.mean() < 0.7 and part.std() > 0.05


def test_a_lamp_behind_is_not_seen_and_costs_no_ray():
    cast = []

    def counting(starts: Tensor, towards: Tensor, asked: Tensor) -> Tensor:
        cast.append(int(asked.sum()))
        return nothing(starts, towards, asked)

    light = lamps((0.0, 0.0, 2.0, 1.0))
    assert not lamp_openness(plane(), light, counting, torch.zeros(1, 3, 1)).any() and sum(cast) == 0
    assert not lamps_faced(plane(), light).any()


@pytest.mark.parametrize("roughness", [0.3, 0.5, 0.9])
def test_a_highlight_is_brightest_in_the_mirror_direction_and_sharper_when_smooth(roughness):
    point = torch.tensor([[0.0], [0.0], [1.0]])
    normal = torch.tensor([[0.0], [0.0], [-1.0]])

    def shine(angle: float, rough: float = roughness) -> float:
        shiny = Surface(point, normal, normal, torch.zeros(3, 1), *(torch.tensor([v]) for v in (0.04, rough, 1e-4)))
        lamp = lamps((math.sin(angle), 0.0, -math.cos(angle), 0.0))
        return float(reflect(shiny, lamp, None, None)[0])

    assert shine(0.0) > shine(0.2) > shine(0.6) > 0
    assert shine(0.2) / shine(0.0) > shine(0.2, roughness / 2) / shine(0.0, roughness / 2)


def test_ambient_light_comes_more_from_the_side_of_its_slope():
    surface, slope = plane(5), torch.tensor([[0.4], [0.1], [-0.6]])  # normals are (0, 0, -1)
    even = lamps((0.0, 0.0, 0.0, 1.0), ambient=0.5)
    dark = replace(even, colors=torch.zeros(1, 3, 1))
    shown = reflect(surface, replace(dark, slope=slope), None, None)
    torch.testing.assert_close(shown, 1.6 * reflect(surface, dark, None, None))
    assert (reflect(surface, replace(dark, slope=-2 * slope), None, None) == 0).all()  # never less than no light


def test_many_scenes_at_once_are_each_by_itself():
    surface, scene = plane(20), torch.arange(20) % 2
    lights = [lamps((0.3, 0.2, 0.0, 1.0), size=0.1, ambient=0.3), lamps((0.0, 0.6, -0.8, 0.0), size=0.2, ambient=0.6)]
    lights = [replace(light, slope=torch.rand(3, 1) - 0.5) for light in lights]
    names = [field.name for field in fields(LightSet)]
    packed = LightSet(*(torch.cat([getattr(light, name) for light in lights], dim=-1) for name in names))
    both = reflect(surface, packed.take(scene), None, None)
    for number, light in enumerate(lights):
        alone = reflect(surface, light, None, None)
        torch.testing.assert_close(both[:, scene == number], alone[:, scene == number], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("sets", [1, 2, 4])
def test_four_neighbours_see_all_points(sets):
    points = disk_pattern(4 * sets)
    taken = interleaved(points, torch.arange(4))  # (S, 3, 4)
    assert {tuple(p) for p in taken.movedim(1, -1).reshape(-1, 3).tolist()} == {tuple(p) for p in points.tolist()}


def test_patterns_are_spread_evenly():
    disk, sky = disk_pattern(64), hemisphere_pattern(64)
    assert disk.norm(dim=1).max() <= 1 and disk.mean(dim=0).abs().max() < 0.05
    torch.testing.assert_close(sky.norm(dim=1), torch.ones(64))
    assert sky[:, :2].mean(dim=0).abs().max() < 0.05
    assert sky[:, 2].mean() == pytest.approx(2 / 3, abs=0.01)  # of the cosine law


def test_a_far_lamp_has_one_direction_everywhere():
    surface = surface_of(unit(torch.randn(3, 50)) * 5, torch.tensor([[0.0], [0.0], [-1.0]]).expand(3, 50))
    shown = reflect(surface, lamps((0.0, 0.6, -0.8, 0.0)), None, None)
    torch.testing.assert_close(shown, torch.full((3, 50), 0.4), rtol=1e-5, atol=1e-6)
