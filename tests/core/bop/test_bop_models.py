"""Object models: units, files of both kinds, and what damaged ones say."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh

from sopose.core.bop.models import load_models, write_model, write_models_info
from sopose.core.objects.model import ObjectModel, measure
from sopose.core.utils.errors import UserError
from tests.support.bop_files import edit_json, tetrahedron

MICRON = 1e-6  # metres; files hold float32 millimetres


def reload(model: ObjectModel, folder: Path) -> ObjectModel:
    write_model(folder / f"obj_{model.obj_id:06d}.ply", model)
    write_models_info(folder, [model])
    return load_models(folder)[model.obj_id]


def test_a_model_survives_its_file(tmp_path):
    rng = np.random.default_rng(0)
    model = tetrahedron(
        7,
        normals=rng.normal(size=(4, 3)),
        colors=rng.integers(0, 256, (4, 3), np.uint8),
        uv=rng.random((4, 2)),
        texture=rng.integers(0, 256, (8, 8, 3), np.uint8),
        symmetries_discrete=[np.array([[-1, 0, 0, 0.01], [0, -1, 0, 0.02], [0, 0, 1, 0], [0, 0, 0, 1.0]])],
        symmetries_continuous=[(np.array([0, 1.0, 0]), np.array([0.001, 0, 0]))],
    )
    again = reload(model, tmp_path)
    np.testing.assert_allclose(again.vertices, model.vertices, atol=MICRON)
    np.testing.assert_array_equal(again.faces, model.faces)
    np.testing.assert_allclose(again.normals, model.normals, atol=1e-6)
    np.testing.assert_array_equal(again.colors, model.colors)
    np.testing.assert_allclose(again.uv, model.uv, atol=1e-6)
    np.testing.assert_array_equal(again.texture, model.texture)
    np.testing.assert_allclose(again.symmetries_discrete, model.symmetries_discrete, atol=1e-15)
    np.testing.assert_allclose(again.symmetries_continuous[0], model.symmetries_continuous[0], atol=1e-15)
    np.testing.assert_allclose(
        [again.diameter, *again.bounds_min, *again.extent],
        [model.diameter, *model.bounds_min, *model.extent],
        atol=1e-15,
    )


def test_millimetres_in_the_file_are_metres_inside(tmp_path):
    (tmp_path / "obj_000001.ply").write_text(
        "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
        "element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n30 0 0\n0 40 0\n3 0 1 2\n"
    )
    (tmp_path / "models_info.json").write_text(
        '{"1": {"diameter": 50, "min_x": 0, "min_y": 0, "min_z": 0, "size_x": 30, "size_y": 40, "size_z": 0}}'
    )
    model = load_models(tmp_path)[1]
    np.testing.assert_allclose(model.vertices[1:], [[0.03, 0, 0], [0, 0.04, 0]], atol=1e-15)
    assert model.diameter == pytest.approx(0.05, rel=1e-15)
    assert model.name == "obj_000001"
    assert not model.is_symmetric and model.normals is None and model.colors is None and model.uv is None


def test_the_order_of_vertices_is_the_file_s_even_with_texture_coordinates(tmp_path):
    rng = np.random.default_rng(1)
    sphere = trimesh.creation.icosphere(subdivisions=2)
    order = rng.permutation(len(sphere.vertices))
    faces = np.argsort(order)[sphere.faces]
    vertices = 0.05 * sphere.vertices[order]
    model = ObjectModel(1, "ball", vertices, faces, *measure(vertices), uv=rng.random((len(order), 2)))
    again = reload(model, tmp_path)
    np.testing.assert_allclose(again.vertices, vertices, atol=MICRON)
    np.testing.assert_array_equal(again.faces, faces)


def test_a_texture_is_found_beside_the_mesh_and_nowhere_else(tmp_path):
    texture = np.zeros((4, 4, 3), np.uint8)
    model = tetrahedron(1, uv=np.zeros((4, 2)), texture=texture)
    folder = tmp_path / "models"
    reload(model, folder)
    (folder / "obj_000001.png").rename(tmp_path / "outside.png")
    mesh = folder / "obj_000001.ply"
    mesh.write_bytes(mesh.read_bytes().replace(b"TextureFile obj_000001.png", b"TextureFile ../outside.png"))
    assert load_models(folder)[1].texture is None


@pytest.mark.parametrize("flat", [[1, 1, 0], [1, 0, 0]])
def test_flat_and_straight_points_have_a_diameter_too(flat):
    points = np.random.default_rng(3).normal(size=(60, 3)) * flat @ np.linalg.qr(np.ones((3, 3)) + np.eye(3))[0]
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    assert measure(points)[0] == pytest.approx(distances.max(), rel=1e-12)


def test_a_symmetry_written_column_by_column_is_reported(tiny_bop):
    columns = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 5, 0, 0, 1]
    edit_json(tiny_bop / "models/models_info.json", lambda c: c["1"].update(symmetries_discrete=[columns]))
    with pytest.raises(UserError, match=r"object 1: symmetries_discrete must have 0 0 0 1 .* written column by column"):
        load_models(tiny_bop / "models")


def test_an_object_that_is_there_twice_is_reported(tiny_bop):
    edit_json(tiny_bop / "models/models_info.json", lambda c: c.update({"000001": c["1"]}))
    with pytest.raises(UserError, match="the id 1 twice"):
        load_models(tiny_bop / "models")


def test_diameter_is_the_largest_distance_of_two_vertices():
    points = np.random.default_rng(2).normal(size=(200, 3))
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    diameter, low, extent = measure(points)
    assert diameter == pytest.approx(distances.max(), rel=1e-12)
    np.testing.assert_allclose(low + extent, points.max(axis=0), atol=1e-12)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda d: (d / "models_info.json").unlink(), ["models_info.json", "missing", "sopose new"]),
        (lambda d: (d / "models_info.json").write_text("{"), ["models_info.json", "json"]),
        (lambda d: (d / "models_info.json").write_text("[]"), ["models_info.json", "object ids"]),
        (
            lambda d: edit_json(d / "models_info.json", lambda c: c["1"].pop("diameter")),
            ["diameter", "object 1"],
        ),
        (lambda d: edit_json(d / "models_info.json", lambda c: c["2"].pop("size_y")), ["size_y", "object 2"]),
        (lambda d: edit_json(d / "models_info.json", lambda c: c["1"].update(diameter=-1)), ["above zero"]),
        (lambda d: edit_json(d / "models_info.json", lambda c: c["1"].update(min_x="a")), ["min_x"]),
        (
            lambda d: edit_json(d / "models_info.json", lambda c: c["1"].update(symmetries_discrete=[[1, 0, 0]])),
            ["symmetries_discrete", "16 numbers"],
        ),
        (
            lambda d: edit_json(
                d / "models_info.json",
                lambda c: c["1"].update(symmetries_continuous=[{"axis": [0, 0, 0], "offset": [0, 0, 0]}]),
            ),
            ["axis", "zero"],
        ),
        (
            lambda d: edit_json(d / "models_info.json", lambda c: c["1"].update(symmetries_discrete=7)),
            ["symmetries_discrete", "must be a list"],
        ),
        (
            lambda d: edit_json(
                d / "models_info.json", lambda c: c["1"].update(symmetries_discrete=[np.eye(4).ravel().tolist()] * 501)
            ),
            ["symmetries_discrete", "501 entries, at most 500"],
        ),
        (
            lambda d: edit_json(
                d / "models_info.json", lambda c: c["1"].update(symmetries_continuous=[{"axis": [0, 0, 1]}] * 7)
            ),
            ["symmetries_continuous", "7 entries, at most 6"],
        ),
        (lambda d: (d / "models_info.json").write_text('{"1": {}, "2": {}, "1": {}}'), ["the key '1' is there twice"]),
        (lambda d: (d / "obj_000001.ply").unlink(), ["obj_000001.ply", "missing"]),
        (lambda d: (d / "obj_000001.ply").write_bytes(b""), ["obj_000001.ply", "not a PLY"]),
        (lambda d: (d / "obj_000001.ply").write_bytes(b"\x89PNG garbage"), ["obj_000001.ply", "not a PLY"]),
        (
            lambda d: (d / "obj_000001.ply").write_bytes((d / "obj_000001.ply").read_bytes()[:-20]),
            ["obj_000001.ply", "cannot be read"],
        ),
        (
            lambda d: (d / "obj_000001.ply").write_bytes((d / "obj_000001.ply").read_bytes()[:-4] + b"\xff\xff\0\0"),
            ["obj_000001.ply", "faces without vertices"],
        ),
    ],
)
def test_a_damaged_models_folder_is_reported_in_one_line(tiny_bop, damage, words):
    damage(tiny_bop / "models")
    with pytest.raises(UserError) as caught:
        load_models(tiny_bop / "models")
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), caught.value


def test_missing_folder_and_unknown_object(tiny_bop):
    with pytest.raises(UserError, match="nowhere is missing"):
        load_models(tiny_bop / "nowhere")
    with pytest.raises(UserError, match=r"no object 5 \(it has: 1, 2\)"):
        load_models(tiny_bop / "models", [5])


def test_lmo_models(real_data):
    models = load_models(real_data / "lmo" / "models", names={10: "eggbox"})
    assert sorted(models) == [1, 5, 6, 8, 9, 10, 11, 12]
    assert models[10].name == "eggbox" and models[1].name == "obj_000001"
    assert [k for k, model in models.items() if model.is_symmetric] == [10, 11]
    ape = models[1]
    assert ape.vertices.shape == (5841, 3) and ape.faces.shape == (11678, 3)
    assert ape.colors.shape == ape.normals.shape == (5841, 3)
    # BOP rounds the sizes to a micron.
    np.testing.assert_allclose(ape.bounds_min, ape.vertices.min(axis=0), atol=MICRON)
    assert measure(ape.vertices)[0] == pytest.approx(ape.diameter, abs=MICRON)


def test_ycbv_textured_model(real_data):
    folder = real_data / "ycbv" / "models"
    banana = load_models(folder, [10], info_name="models_info_derived.json")[10]
    assert banana.uv.shape == (len(banana.vertices), 2) and banana.texture.ndim == 3


def test_a_model_in_use_is_given_again_with_its_caster_and_read_anew_when_its_file_changes(tiny_bop):
    folder = tiny_bop / "models"
    first = load_models(folder)[1]
    assert load_models(folder, [1])[1] is first and load_models(folder, names={1: "cup"})[1].name == "cup"
    again = pickle.loads(pickle.dumps(first))
    assert first.caster is first.caster and "caster" not in again.__dict__
    path = folder / "obj_000001.ply"
    write_model(path, replace(first, vertices=2 * first.vertices))
    np.testing.assert_allclose(load_models(folder)[1].vertices, 2 * first.vertices, atol=MICRON)
