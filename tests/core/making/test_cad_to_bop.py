"""A BOP folder made of CAD files: sizes, units, names, symmetries, and never half of it."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import trimesh
from trimesh.transformations import translation_matrix

from sopose.core.bop.fields import read_camera
from sopose.core.bop.models import load_models
from sopose.core.bop.splits import resolve_split
from sopose.core.geometry.camera import Camera, as_K
from sopose.core.making import new_dataset
from sopose.core.making.cad_dataset import CadDatasetOptions, make_dataset, suggested_range
from sopose.core.making.new_dataset import (
    COMMON_CAMERA,
    FEWEST_VERTICES,
    add_to_dataset,
    object_names,
    read_object,
    require_place,
    with_found_symmetries,
    write_dataset,
)
from sopose.core.symmetry.tolerance import Tolerance
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import remove_parts

SIDES = np.array([30.0, 20.0, 10.0])
METERS = {"mm": 1e-3, "cm": 1e-2, "m": 1.0, "inch": 0.0254}


@pytest.fixture
def write_box(tmp_path: Path):
    """`write_box(name, scale=1, offset=(0, 0, 0))`: a file of a box of SIDES times scale."""

    def write(name: str, scale: float = 1.0, offset=(0.0, 0.0, 0.0)) -> Path:
        trimesh.creation.box(scale * SIDES, transform=translation_matrix(offset)).export(tmp_path / name)
        return tmp_path / name

    return write


@pytest.mark.parametrize("unit", METERS)
@pytest.mark.parametrize("suffix", ["stl", "obj", "ply", "glb", "off"])
def test_sizes_survive_every_format_and_unit(write_box, tmp_path, suffix, unit):
    path = write_box(f"part.{suffix}", 1e-3 / METERS[unit])
    new = read_object(path, "part", unit)
    write_dataset(tmp_path / "set", [new], None, Tolerance())
    model = load_models(tmp_path / "set" / "models")[1]
    assert 1000 * model.extent == pytest.approx(SIDES, rel=1e-6)
    assert 1000 * np.ptp(model.vertices, axis=0) == pytest.approx(SIDES, rel=1e-6)
    assert 1000 * model.diameter == pytest.approx(np.linalg.norm(SIDES), rel=1e-6)
    assert len(model.vertices) >= FEWEST_VERTICES and model.normals is not None
    contradiction = [note for note in new.notes if "UNITS" in note]
    assert bool(contradiction) == (suffix == "glb" and unit != "m")


@pytest.mark.parametrize(
    "unit, scale, likely",
    [
        ("mm", 1e-3, "37.4 mm in m: give --units m"),
        ("m", 1.0, "37.4 mm in mm, 950 mm in inch, 374 mm in cm: give the --units whose size is"),
        ("m", 10.0, "374 mm in mm, 3.74 m in cm: give the --units whose size is"),
    ],
)
def test_a_wrong_unit_is_reported_with_the_likely_one(write_box, unit, scale, likely):
    path = write_box("part.stl", scale)
    with pytest.raises(UserError, match=rf"part\.stl is .* if its unit is {unit}; it would be {likely}"):
        read_object(path, "part", unit)
    assert read_object(path, "part", unit, force=True).model.diameter > 0


def test_what_the_file_says_is_the_likely_unit(write_box):
    with pytest.raises(UserError, match="--units m, "):
        read_object(write_box("part.glb", 0.06), "part", "mm")  # 2.2 mm, 22 mm in cm, 57 mm in inches, 2.2 m as it says


def test_no_unit_helps_what_is_out_of_all_bounds(write_box):
    with pytest.raises(UserError, match="no unit makes it likely"):
        read_object(write_box("part.stl", 1e-6), "part", "m")


def test_a_fine_mesh_is_simplified_on_request_and_the_note_says_how_far_it_moved(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(new_dataset, "MANY_FACES", 10_000)
    trimesh.creation.icosphere(5, 20.0).export(tmp_path / "ball.ply")  # 20,480 triangles
    whole = read_object(tmp_path / "ball.ply", "ball", "mm")
    assert len(whole.model.faces) == 20_480 and "--max-faces 10000 simplifies it" in "\n".join(whole.notes)
    fewer = read_object(tmp_path / "ball.ply", "ball", "mm", max_faces=8000)
    assert 4000 < len(fewer.model.faces) <= 8000 and fewer.model.normals is not None
    (note,) = [note for note in fewer.notes if "the surface moved by about" in note]
    moved = float(note.split("by about ")[1].removesuffix(" mm"))
    assert 0 < moved < 0.1  # mm
    assert 1000 * fewer.model.extent == pytest.approx([40, 40, 40], abs=0.2)
    assert "ball" in capsys.readouterr().err  # a progress bar


def test_a_far_origin_is_reported_and_can_be_moved_into_the_object(write_box, tmp_path):
    path = write_box("part.stl", 1.0, (500, 0, 0))
    kept, moved = (read_object(path, "part", "mm", center=center) for center in (False, True))
    assert any("the origin is 500 mm from the middle" in note for note in kept.notes)
    assert 1000 * moved.origin == pytest.approx([500, 0, 0], abs=1e-4)
    assert moved.model.bounds_min == pytest.approx(-moved.model.extent / 2, abs=1e-9)
    write_dataset(tmp_path / "set", [moved], None, Tolerance())
    source = json.loads((tmp_path / "set" / "dataset_info.json").read_text())["sources"]["1"]
    assert source["file"] == "part.stl" and source["units"] == "mm"
    assert source["origin_mm"] == pytest.approx([500, 0, 0], abs=1e-4)


def test_the_folder_is_a_data_set_with_names_symmetries_and_camera(write_box, tmp_path):
    objects = [read_object(write_box("a.stl"), "lid", "mm"), read_object(write_box("b.ply", 2.0), "part.v2", "mm")]
    objects = [with_found_symmetries(objects[0], Tolerance()), objects[1]]
    camera = Camera(as_K((500, 510, 300.5, 200.25)), (600, 400))
    written = write_dataset(tmp_path / "set", objects, camera, Tolerance())
    assert [new.model.obj_id for new in written] == [1, 2]
    spec = resolve_split(f"{tmp_path / 'set'}:cad", tmp_path)
    assert spec.object_names == {1: "lid", 2: "part.v2"} and spec.symmetric_ids == (1,)
    models = load_models(spec.models_dir, spec.object_names, spec.object_names)
    turns = sorted(np.diag(motion[:3, :3]).tolist() for motion in models[1].symmetries_discrete)
    assert turns == [[-1, -1, 1], [-1, 1, -1], [1, -1, -1]]
    assert load_models(spec.models_eval_dir).keys() == {1, 2} and spec.models_eval_dir.name == "models_eval"
    again = read_camera(spec.root / "camera.json")
    assert again.K.tolist() == [[500, 0, 300.5], [0, 510, 200.25], [0, 0, 1]] and again.size == (600, 400)
    assert (spec.root / "overview.png").is_file() and (spec.root / "symmetries.png").is_file()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("sides", [(1000, 10, 0.5), (1000, 0.01, 0.01)], ids=["ruler", "wire"])
def test_objects_too_thin_for_a_pixel_are_taken(tmp_path, sides):
    trimesh.creation.box(sides).export(tmp_path / "thin.stl")
    new = with_found_symmetries(read_object(tmp_path / "thin.stl", "thin", "mm"), Tolerance())
    write_dataset(tmp_path / "set", [new], None, Tolerance())
    assert 1000 * load_models(tmp_path / "set" / "models")[1].extent == pytest.approx(sides, rel=1e-4)
    assert (tmp_path / "set" / "symmetries.png").is_file()


def test_colours_are_kept_and_left_out_of_models_eval(tmp_path):
    box = trimesh.creation.box(SIDES)
    box.visual.face_colors = [[255, 0, 0, 255]] * 6 + [[0, 0, 255, 255]] * 6
    box.export(tmp_path / "a.ply")
    write_dataset(tmp_path / "set", [read_object(tmp_path / "a.ply", "a", "mm")], None, Tolerance())
    model, bare = (load_models(tmp_path / "set" / folder)[1] for folder in ("models", "models_eval"))
    assert set(map(tuple, model.colors.tolist())) == {(255, 0, 0), (0, 0, 255)} and bare.colors is None
    assert np.array_equal(model.vertices, bare.vertices)


def test_objects_are_added_behind_those_that_are_there(write_box, tmp_path):
    root = tmp_path / "set"
    write_dataset(root, [read_object(write_box("a.stl"), "a", "mm")], None, Tolerance())
    path = root / "models" / "models_info.json"
    path.write_text(json.dumps({"1": json.loads(path.read_text())["1"] | {"remark": "mine"}}))
    (root / "test").mkdir()
    camera = (root / "camera.json").read_bytes()
    require_place(root, overwrite=False, add=True)
    more = read_object(write_box("b.stl", 3.0), "b", "mm")
    (added,) = add_to_dataset(root, [more], COMMON_CAMERA, Tolerance())
    assert added.model.obj_id == 2
    assert json.loads(path.read_text())["1"]["remark"] == "mine"
    assert resolve_split(f"{root}:cad", tmp_path).object_names == {1: "a", 2: "b"}
    assert (root / "camera.json").read_bytes() == camera and (root / "test").is_dir()
    with pytest.raises(UserError, match="an object called 'b' already"):
        add_to_dataset(root, [more], None, Tolerance())


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("step", range(12))
def test_adding_can_be_repeated_after_a_kill_at_any_step(write_box, tmp_path, monkeypatch, step):
    """A step is a file that is put in its place; the last of them make the objects part of the data set."""
    objects = {name: read_object(write_box(f"{name}.stl", scale), name, "mm") for scale, name in enumerate("abc", 1)}
    for name in ("set", "undisturbed"):
        write_dataset(tmp_path / name, [objects["a"]], None, Tolerance())
    add_to_dataset(tmp_path / "undisturbed", [objects["b"]], None, Tolerance())
    root, left = tmp_path / "set", step
    before = load_models(root / "models").keys()
    real = os.replace

    class Killed(BaseException):
        pass

    def replace_until_killed(source, target):
        nonlocal left
        if Path(target).parent in (root, root / "models", root / "models_eval"):
            if left == 0:
                raise Killed
            left -= 1
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_until_killed)
        patch.setattr(new_dataset.shutil, "rmtree", lambda *_, **__: None)  # a killed program tidies nothing up
        with contextlib.suppress(Killed):
            add_to_dataset(root, [objects["b"], objects["c"]], None, Tolerance())
    if load_models(root / "models").keys() == before:
        add_to_dataset(root, [objects["b"]], None, Tolerance())
        monkeypatch.setattr("sopose.core.utils.files._is_running", lambda pid: False)
        remove_parts(root)
        assert tree(root) == tree(tmp_path / "undisturbed")
    else:
        assert load_models(root / "models").keys() == load_models(root / "models_eval").keys() == {1, 2, 3}


def test_what_is_there_is_replaced_only_if_asked_and_only_if_it_is_ours(write_box, tmp_path):
    root = tmp_path / "set"
    new = read_object(write_box("a.stl"), "a", "mm")
    for overwrite in (False, True):
        require_place(root, overwrite, add=False)  # nothing is there yet
    write_dataset(root, [new, read_object(write_box("b.stl"), "b", "mm")], None, Tolerance())
    with pytest.raises(UserError, match="--add adds objects to it, --overwrite replaces it"):
        require_place(root, overwrite=False, add=False)
    require_place(root, overwrite=True, add=False)
    write_dataset(root, [new], None, Tolerance())
    assert load_models(root / "models").keys() == {1} and not (root / "models" / "obj_000002.ply").exists()
    (root / "train").mkdir()
    with pytest.raises(UserError, match=r"more than models \(train\)"):
        require_place(root, overwrite=True, add=False)
    with pytest.raises(UserError, match="to add to"):
        require_place(tmp_path / "other", overwrite=False, add=True)
    with pytest.raises(UserError, match="is a file"):
        require_place(tmp_path / "a.stl", overwrite=True, add=False)
    with pytest.raises(UserError, match="known data set"):
        require_place(tmp_path / "lmo", overwrite=False, add=False)


@pytest.mark.parametrize("there", [False, True])
def test_a_broken_run_leaves_what_was_there(write_box, tmp_path, monkeypatch, there):
    root = tmp_path / "set"
    new = read_object(write_box("a.stl"), "a", "mm")
    if there:
        write_dataset(root, [new], None, Tolerance())
    before = sorted(path.name for path in tmp_path.rglob("*"))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(new_dataset, "overview", full)
    with pytest.raises(UserError, match="No space left"):
        write_dataset(root, [new], None, Tolerance())
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_names_come_from_the_files_or_are_given():
    files = [Path("a/big part (2).stl"), Path("b/lid.obj")]
    assert object_names(files, None) == ["big_part_2_", "lid"]
    assert object_names(files, ["one", "two"]) == ["one", "two"]
    for names, word in ((["one"], "2 files and 1 names"), (["one", "one"], "two objects"), (["a,b", "c"], "'a,b'")):
        with pytest.raises(UserError, match=word):
            object_names(files, names)
    with pytest.raises(UserError, match="'lid'"):
        object_names([files[1], Path("lid.stl")], None)


def test_a_data_set_is_made_from_python_with_the_distances_to_train_for(write_box, tmp_path):
    camera = Camera(as_K((500.0, 500.0, 319.5, 239.5)), (640, 480))
    files = [write_box("small.ply"), write_box("large.ply", 2.0)]
    made = make_dataset(CadDatasetOptions(tmp_path / "set", files, "mm", camera=camera))
    assert [(new.model.obj_id, new.model.name) for new in made] == [(1, "small"), (2, "large")]
    np.testing.assert_array_equal(read_camera(tmp_path / "set" / "camera.json").K, camera.K)
    near, far = suggested_range(made, camera)
    # There the larger box, twice SIDES, takes up a half and an eighth of 480 pixels.
    assert 500 * 2e-3 * np.linalg.norm(SIDES) / np.array([near, far]) == pytest.approx([240, 60])
