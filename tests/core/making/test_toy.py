"""The toy data set: its models' symmetries, annotations against masks, equal bytes for equal seeds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree

from sopose.core.bop.models import load_models
from sopose.core.bop.scene import load_split, read_depth, read_mask, read_rgb
from sopose.core.bop.splits import resolve_split
from sopose.core.bop.targets import load_targets, make_targets
from sopose.core.geometry.camera import backproject, project
from sopose.core.making import toy
from sopose.core.making.toy import make_toy_dataset
from sopose.core.making.toy_models import toy_models
from sopose.core.objects.model import measure
from sopose.core.rays.raycast import RayCaster
from sopose.core.utils.errors import UserError
from tests.support.command import verb

MILLIMETRE = 1e-3
SMALL = {"num_train": 2, "num_test": 1, "image_size": (96, 72)}


@pytest.fixture(scope="module")
def models():
    return toy_models()


@pytest.fixture(scope="module")
def records(toy_root):
    return [
        record for split in ("train", "test") for record in load_split(resolve_split(f"toy_{split}", toy_root.parent))
    ]


def turned(points: np.ndarray, transform: np.ndarray) -> np.ndarray:
    return points @ transform[:3, :3].T + transform[:3, 3]


def test_models_are_closed_and_as_large_as_a_hand(models):
    assert len(models) >= 4
    for model in models.values():
        mesh = trimesh.Trimesh(model.vertices, model.faces, process=False)
        assert mesh.is_watertight and mesh.is_winding_consistent
        assert all(part.volume > 0 for part in mesh.split(only_watertight=False)), "normals point outwards"
        assert 0.06 <= model.diameter <= 0.16
        np.testing.assert_allclose(model.bounds_min, -model.extent / 2, atol=1e-6)
        assert len(np.unique(model.colors, axis=0)) >= 5


def test_a_discrete_symmetry_maps_vertices_and_colours_onto_themselves(models):
    cross = models[3]
    assert len(cross.symmetry_transforms) == 4
    tree = cKDTree(cross.vertices)
    for transform in cross.symmetry_transforms:
        distance, index = tree.query(turned(cross.vertices, transform))
        assert distance.max() < 1e-9
        assert len(np.unique(index)) == len(index)
        np.testing.assert_array_equal(cross.colors[index], cross.colors)


def test_a_continuous_symmetry_maps_the_surface_onto_itself(models):
    bottle = models[4]
    assert len(bottle.symmetry_transforms) == 315
    caster = RayCaster(bottle.vertices, bottle.faces)
    sides = bottle.vertices[np.abs(bottle.vertices[:, 2]) < bottle.extent[2] / 2 - 1e-6]
    axis = sides * [0, 0, 1]
    sagitta = 33 * MILLIMETRE * (1 - np.cos(np.pi / 96))  # of a side of the polygon that stands for the circle
    for transform in bottle.symmetry_transforms[::40]:
        outwards = turned(sides, transform) - axis
        hits = caster.first_hit(axis, outwards / np.linalg.norm(outwards, axis=1, keepdims=True))
        assert len(hits.ray) == len(sides)
        radius = np.linalg.norm(outwards, axis=1)
        assert np.abs(hits.depth - radius).max() < 1.01 * sagitta


def test_symmetric_models_look_the_same_from_every_symmetric_side(models):
    """Rings only: the colour of a bottle's vertex depends on its height alone."""
    bottle = models[4]
    heights = np.round(bottle.vertices[:, 2], 9)
    for height in np.unique(heights):
        assert len(np.unique(bottle.colors[heights == height], axis=0)) == 1


@pytest.mark.parametrize("obj_id", [1, 2])
def test_the_other_models_have_no_half_turn(models, obj_id):
    model = models[obj_id]
    assert not model.is_symmetric
    tree = cKDTree(model.vertices)
    for axis in range(3):
        half_turn = -np.ones(3)
        half_turn[axis] = 1
        assert tree.query(model.vertices * half_turn)[0].max() > 5 * MILLIMETRE


def test_the_bracket_hides_much_of_itself(models):
    """Seen from twenty sides, its rays meet it again behind the first hit more often than not."""
    bracket = models[1]
    caster = RayCaster(bracket.vertices, bracket.faces)
    again = []
    for eye in trimesh.creation.icosahedron().vertices * 0.6:
        hits = caster.first_hit(eye, bracket.vertices - eye)
        again.append(np.mean(hits.depth < 1 - 1e-3))
    assert np.mean(again) > 0.5


def test_files_hold_the_models(toy_root, models):
    for folder in ("models", "models_eval"):
        loaded = load_models(toy_root / folder)
        assert sorted(loaded) == sorted(models)
        for obj_id, model in models.items():
            np.testing.assert_allclose(loaded[obj_id].vertices, model.vertices, atol=1e-9)
            assert loaded[obj_id].diameter == pytest.approx(measure(model.vertices)[0], abs=1e-12)
            np.testing.assert_allclose(loaded[obj_id].symmetry_transforms, model.symmetry_transforms, atol=1e-12)


def test_gt_info_states_what_the_masks_show(records):
    for record in records:
        height, width = read_rgb(record).shape[:2]
        info = json.loads((record.rgb_path.parents[1] / "scene_gt_info.json").read_text())[str(record.im_id)]
        for instance in record.instances:
            mask, visible = read_mask(instance.mask_path), read_mask(instance.mask_visib_path)
            entry = info[instance.gt_index]
            assert not (visible & ~mask).any()
            assert instance.px_count_visib == entry["px_count_visib"] == visible.sum()
            assert entry["px_count_valid"] == mask.sum()
            assert instance.visib_fract == pytest.approx(visible.sum() / entry["px_count_all"], abs=1e-12)
            x, y, w, h = entry["bbox_obj"]
            leaves = x < 0 or y < 0 or x + w >= width or y + h >= height
            assert (entry["px_count_all"] > mask.sum()) == leaves
            rows, columns = visible.nonzero()
            if len(rows):
                box = [
                    columns.min(),
                    rows.min(),
                    columns.max(),
                    rows.max(),
                ]  # w = xmax - xmin, as BOP's scripts
                np.testing.assert_array_equal(instance.bbox_visib, box)


def test_visible_parts_are_disjoint_and_some_are_hidden(records):
    visibility = []
    for record in records:
        visible = np.sum([read_mask(item.mask_visib_path) for item in record.instances], axis=0)
        assert visible.max() == 1
        visibility += [item.visib_fract for item in record.instances]
    assert min(visibility) < 0.8 and np.median(visibility) > 0.8


def test_depth_lies_on_the_objects(records, models):
    """Half a step of the depth file (0.05 mm), along a ray up to 30° aslant, is the most a point is off."""
    for record in records[:4]:
        points_cam = backproject(read_depth(record), record.K)
        for instance in record.instances:
            model = models[instance.obj_id]
            visible = read_mask(instance.mask_visib_path)
            points_obj = instance.pose.inverse().transform(points_cam[visible])
            beyond = np.maximum(model.bounds_min - points_obj, points_obj - model.bounds_min - model.extent)
            assert beyond.max(initial=-1) < 0.1 * MILLIMETRE


def test_objects_stand_apart_in_the_image(records, models):
    for record in records:
        height, width = read_rgb(record).shape[:2]
        centers = np.array([item.pose.cam_t_obj for item in record.instances])
        assert ((centers[:, 2] >= 0.4) & (centers[:, 2] <= 0.9)).all()
        uv = project(centers, record.K)
        assert ((uv > 0) & (uv < [width, height])).all()
        for i, first in enumerate(record.instances):
            for second in record.instances[:i]:
                reach = (models[first.obj_id].diameter + models[second.obj_id].diameter) / 2
                assert np.linalg.norm(first.pose.cam_t_obj - second.pose.cam_t_obj) > reach


def test_targets_are_those_of_the_test_split(toy_root):
    targets = load_targets(toy_root / "test_targets_bop19.json")
    assert targets == make_targets(load_split(resolve_split("toy_bop_test", toy_root.parent)))


def tree_hash(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_equal_seeds_give_equal_bytes_with_any_number_of_workers(tmp_path):
    for name, seed, workers in (("one", 3, 1), ("two", 3, 2), ("other", 4, 1)):
        assert make_toy_dataset(tmp_path / name, **SMALL, seed=seed, workers=workers)
    one, two, other = (tree_hash(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    differing = {name for name in one if one[name] != other.get(name)}
    assert "train/000001/rgb/000000.png" in differing and "models/obj_000001.ply" not in differing
    assert one["train/000001/rgb/000000.png"] != one["test/000001/rgb/000000.png"]
    assert not make_toy_dataset(tmp_path / "one", **SMALL, seed=3), "already there"
    with pytest.raises(UserError, match="other parameters"):
        make_toy_dataset(tmp_path / "one", **SMALL, seed=5)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="no toy data set"):
        make_toy_dataset(tmp_path, **SMALL)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(toy, "_write_image", fail)
    with pytest.raises(KeyboardInterrupt):
        make_toy_dataset(tmp_path / "toy", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_nonsense_sizes_are_reported(tmp_path):
    for wrong in ({"num_train": 0}, {"image_size": (8, 8)}):
        with pytest.raises(UserError, match="needs"):
            make_toy_dataset(tmp_path / "toy", **{**SMALL, **wrong})


def test_the_verb_says_where_it_is(toy_root, capsys):
    parameters = json.loads((toy_root / "dataset_info.json").read_text())
    words = [f"--{key}={parameters[f'num_{key}']}" for key in ("train", "test")]
    verb("toy")([f"--root={toy_root}", *words, f"--seed={parameters['seed']}"])
    printed = capsys.readouterr().out
    assert str(toy_root) in printed and "already" in printed
    assert (toy_root / "overview.png").is_file()
