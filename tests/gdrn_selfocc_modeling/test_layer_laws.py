"""What P and Q obey, wherever they come from: cast by Embree, cast on a torch device, or read from files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation

from sopose.core.bop.records import ImageRecord, Instance
from sopose.core.data.roi import Roi, RoiView
from sopose.core.geometry.pose import Pose
from sopose.core.objects.model import ObjectModel
from sopose.core.rays.bvh_caster import BvhMeshes
from sopose.core.rays.raycast import camera_rays
from sopose.data.targets import TrainedObject, cast_layers
from sopose.layers import Layers, cast_both, cast_P, cast_Q, unpack_Q
from sopose.maps.files import P_MAP, Q_MAP, MapFiles
from sopose.maps.header import map_header, model_hash
from sopose.maps.writer import pixel_P, pixel_Q, write_map
from tests.support.ray_cases import brute_force, distance_to_triangles

SIDE = 24  # of the maps, at integer pixels, where files have them too


class Case(NamedTuple):
    """A mesh, how it stands before a camera, and the pixels that are looked at."""

    model: ObjectModel
    pose: Pose
    view: RoiView

    @property
    def target(self) -> TrainedObject:
        return TrainedObject(
            self.model, self.model, 0, None, np.zeros((1, 3), np.float32), np.eye(3, dtype=np.float32)[None]
        )


MESHES = ("closed", "inverted", "open", "soup")


def make_mesh(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (metres) of about unit size and faces, some of them without area."""
    points = rng.uniform(-0.5, 0.5, (20, 3))
    if kind == "soup":
        faces = rng.integers(0, 20, (30, 3))
    else:
        hull = ConvexHull(points)
        faces = hull.simplices.copy()
        sides = (points[faces[:, k]] - points[faces[:, 0]] for k in (1, 2))
        outward = np.einsum("fi,fi->f", np.cross(*sides), hull.equations[:, :3])
        faces[outward < 0] = faces[outward < 0][:, ::-1]
        if kind == "inverted":
            faces = faces[:, ::-1]
        if kind == "open":
            faces = faces[rng.random(len(faces)) < 0.6]
    flat = np.array([[0, 0, 1], [2, 2, 2]])
    return points, np.concatenate([flat, faces, flat])


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Objects of 2 mm to 1 m, near and far, off their origin, partly outside the image or behind the camera."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.sampled_from([0.002, 0.1, 1.0]))
    vertices, faces = make_mesh(draw(st.sampled_from(MESHES)), rng)
    vertices = size * (vertices + draw(st.sampled_from([0.0, 0.3, 2.0])) * rng.uniform(-1, 1, 3))
    f = draw(st.sampled_from([20.0, 600.0]))
    K = np.array([[f, 0, 320 + draw(st.sampled_from([0.0, -500.0, 400.25]))], [0, 1.02 * f, 240.5], [0, 0, 1]])
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    R = Rotation.random(rng=rng).as_matrix()
    center_cam = size * draw(st.sampled_from([0.2, 1.5, 10.0])) * np.array([*rng.uniform(-0.3, 0.3, 2), 1.0])
    pose = Pose(R, center_cam - R @ ((low + high) / 2))
    seen = np.rint((K @ center_cam)[:2] / center_cam[2] + rng.uniform(-SIDE / 2, SIDE / 2, 2))
    corner = seen - SIDE / 2
    # The image ends somewhere about the window, so that some of its cells are outside.
    image_size = tuple(int(x) for x in np.maximum(corner + rng.integers(SIDE // 2, 2 * SIDE, 2), 8))
    model = ObjectModel(1, "thing", vertices, faces, float(np.linalg.norm(high - low)), low, high - low)
    return Case(model, pose, RoiView(K, image_size, Roi(seen, float(SIDE), np.full(2, 10.0)), SIDE))


def online(case: Case) -> Layers:
    """Cast by Embree at the crop's own positions."""
    return cast_layers(case.target, case.pose, case.view)


def on_device(case: Case) -> Layers:
    """Cast by the device caster, here on the CPU."""
    origin, directions = camera_rays(case.pose, case.view.K, case.view.positions.reshape(-1, 2))
    caster = BvhMeshes([case.model.caster], "cpu")
    hits = caster.cast(
        torch.tensor([0]), torch.from_numpy(origin)[None], torch.from_numpy(np.ascontiguousarray(directions))
    )
    mask = hits.hit.numpy().reshape(SIDE, SIDE) & case.view.inside
    P_obj = hits.points_obj.numpy().reshape(SIDE, SIDE, 3) * mask[..., None]
    Q_obj, valid = cast_Q(case.pose, case.view.K, case.view.positions, mask, case.model.bounds_min, case.model.extent)
    return Layers(P_obj, mask, Q_obj, valid)


def from_files(case: Case) -> Layers:
    """Written for the whole image in float32, and read back."""
    K, size = case.view.K, case.view.image_size
    record = ImageRecord(1, 2, Path("absent.png"), None, 1.0, K, (Instance(1, 0, case.pose),))
    with tempfile.TemporaryDirectory() as folder:
        P = pixel_P(case.model.caster, case.pose, K, size)
        Q = pixel_Q(case.model, case.pose, K, P.box, P.valid[..., 0])
        for kind, pixels in ((P_MAP, P), (Q_MAP, Q)):
            header = map_header(record.instances[0], K, size, model_hash(case.model))
            write_map(kind.path(Path(folder), record, 0), kind, pixels, header, "float32")
        return MapFiles(Path(folder)).layers(record, record.instances[0], case.view)


# relative error of a stored number
SOURCES: dict[str, tuple[Callable[[Case], Layers], float]] = {
    "online": (online, 1e-15),
    "device": (on_device, 1e-15),
    "files": (from_files, 2.0**-23),
}


@pytest.mark.parametrize("source", SOURCES)
@settings(max_examples=40)
@given(case=cases())
def test_layers_obey_their_laws(source: str, case: Case):
    make, precision = SOURCES[source]
    layers, model, view = make(case), case.model, case.view
    reach = np.abs(model.vertices).max()
    origin, directions = camera_rays(case.pose, view.K, view.positions)
    seen = layers.mask
    rounding = 4 * precision * reach  # metres

    # P is a point of the surface, on its pixel's ray, and the first one there.
    expected, clearness = brute_force(model.vertices, model.faces, origin, directions.reshape(-1, 3))
    expected, clear = expected.reshape(SIDE, SIDE), clearness.reshape(SIDE, SIDE) > 1e-5
    assert np.array_equal(seen[clear], (np.isfinite(expected) & view.inside)[clear])
    on_ray = origin + expected[..., None] * directions
    both = seen & clear
    slack = 1e-12 * np.linalg.norm(on_ray, axis=-1) + 1e-12 * np.linalg.norm(origin) + rounding
    assert (np.linalg.norm(layers.P_obj - on_ray, axis=-1) <= slack)[both].all()
    assert (layers.P_obj[~seen] == 0).all()
    if seen.any():
        corners = model.vertices[model.faces]
        corners = corners[
            np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) > 0
        ]
        points = layers.P_obj[seen][:50]
        distances = distance_to_triangles(np.repeat(points, len(corners), 0), np.tile(corners, (len(points), 1, 1)))
        assert distances.reshape(len(points), -1).min(axis=1).max() <= 1e-9 * max(reach, 1) + 2 * rounding

    # Q lies on its planes, inside the box, only where P is, and on one line with P and the camera.
    Q = unpack_Q(layers.Q_obj)
    assert not layers.valid[~seen].any()
    assert (Q[~layers.valid] == 0).all()
    inside = np.abs(Q - model.bounds_min - model.extent / 2) <= model.extent / 2 + rounding
    inside[..., np.arange(3), np.arange(3)] = True
    assert inside[layers.valid].all()
    to_P, to_Q = (layers.P_obj - origin)[:, :, None], Q - origin
    lengths = np.linalg.norm(to_P, axis=-1) * np.linalg.norm(to_Q, axis=-1)
    sine = np.linalg.norm(np.cross(to_P, to_Q), axis=-1) / np.maximum(lengths, 1e-300)
    shortest = np.minimum(np.linalg.norm(to_P, axis=-1), np.linalg.norm(to_Q, axis=-1))
    allowed = 1e-12 * (1 + np.linalg.norm(origin) / shortest) + 4 * rounding / shortest
    assert (sine <= allowed)[layers.valid].all()


@settings(max_examples=25)
@given(case=cases())
def test_all_sources_say_the_same(case: Case):
    reference = online(case)
    reach = np.abs(case.model.vertices).max()
    for name, (make, precision) in SOURCES.items():
        layers = make(case)
        assert np.array_equal(layers.mask, reference.mask), name
        assert np.abs(layers.P_obj - reference.P_obj).max() <= 4 * precision * reach + 1e-12 * reach, name
        assert np.array_equal(layers.valid, reference.valid), name


@settings(max_examples=25)
@given(case=cases())
def test_both_layers_at_once_are_each_alone(case: Case):
    view, model = case.view, case.model
    P_obj, hit = cast_P(model.caster, case.pose, view.K, view.positions)
    both = cast_both(model, case.pose, view.K, view.positions)
    Q_obj, valid = cast_Q(case.pose, view.K, view.positions, hit, model.bounds_min, model.extent)
    for one, alone in zip(vars(both).values(), (P_obj, hit, Q_obj, valid), strict=True):
        np.testing.assert_allclose(one, alone, rtol=0, atol=1e-15 * np.linalg.norm(case.pose.cam_t_obj))
    within = cast_both(model, case.pose, view.K, view.positions, view.inside)
    for part, whole in zip(vars(within).values(), vars(both).values(), strict=True):
        assert np.array_equal(part, whole * view.inside.reshape(view.inside.shape + (1,) * (whole.ndim - 2)))
