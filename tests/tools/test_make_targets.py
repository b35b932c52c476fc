"""Targets of a data set of one's own, with and without annotations of what is seen."""

from __future__ import annotations

import json
import shutil

import pytest

from sopose.core.bop.catalog import TARGETS_NAME
from sopose.core.bop.targets import load_targets
from sopose.core.images.files import read_image
from sopose.core.utils.errors import UserError
from tests.support.bop_files import name_sensor
from tests.support.command import verb

main = verb("targets")


@pytest.fixture
def mine(toy_root, tmp_path):
    """The toy set without targets, masks and scene_gt_info.json."""
    root = tmp_path / "mine"
    shutil.copytree(toy_root, root, ignore=shutil.ignore_patterns("mask*", "scene_gt_info.json", TARGETS_NAME, "train"))
    return root


def run(root, *words: str) -> None:
    main(["--dataset", root.name, "--datasets-root", str(root.parent), "--workers", "1", *words])


def test_what_is_missing_is_computed_and_the_targets_are_the_toy_sets(mine, toy_root):
    run(mine)
    assert load_targets(mine / TARGETS_NAME) == load_targets(toy_root / TARGETS_NAME)
    for scene in (toy_root / "test").iterdir():
        theirs, ours = (
            json.loads((root / "test" / scene.name / "scene_gt_info.json").read_text()) for root in (toy_root, mine)
        )
        assert theirs == ours
        for path in scene.glob("mask*/*.png"):
            found = read_image(mine / path.relative_to(toy_root))
            assert (found == read_image(path)).all()


def test_what_is_computed_of_a_sensor_is_called_by_it(mine, toy_root):
    name_sensor(mine / "test/000001", "cam1")
    run(mine, "--split", "test_cam1")
    assert load_targets(mine / TARGETS_NAME) == load_targets(toy_root / TARGETS_NAME)
    scene = mine / "test/000001"
    assert len(list((scene / "mask_visib_cam1").iterdir())) == len(list((scene / "mask_cam1").iterdir())) > 4
    assert (scene / "scene_gt_info_cam1.json").is_file() and not (scene / "scene_gt_info.json").exists()


def test_masks_can_be_left_out_and_targets_chosen(mine):
    run(mine, "--no-masks", "--min-visib", "0.9", "--output", str(mine / "easy.json"))
    run(mine, "--no-masks", "--min-visib", "0", "--output", str(mine / "all.json"))
    easy, everything = (sum(t.inst_count for t in load_targets(mine / f"{name}.json")) for name in ("easy", "all"))
    assert 0 < easy < everything
    assert not list(mine.glob("test/*/mask*"))
    run(mine, "--no-masks", "--objects", "3", "--output", str(mine / "three.json"))
    assert {target.obj_id for target in load_targets(mine / "three.json")} == {3}


def test_annotations_that_are_there_are_believed(mine):
    run(mine)
    path = next(mine.glob("test/*/scene_gt_info.json"))
    info = json.loads(path.read_text())
    hidden = {im: [{**entry, "visib_fract": 0.0} for entry in entries] for im, entries in info.items()}
    path.write_text(json.dumps(hidden))
    with pytest.raises(UserError, match="no instance"):
        run(mine, "--overwrite")
    assert json.loads(path.read_text()) == hidden


def test_a_targets_file_is_not_written_over_unasked(mine):
    (mine / TARGETS_NAME).write_text("[]")
    with pytest.raises(UserError, match="there already"):
        run(mine)
    assert (mine / TARGETS_NAME).read_text() == "[]"
    run(mine, "--overwrite", "--no-masks")
    assert load_targets(mine / TARGETS_NAME)


def test_a_missing_model_is_reported_before_anything_is_written(mine):
    (mine / "models/obj_000002.ply").unlink()
    with pytest.raises(UserError, match="obj_000002"):
        run(mine)
    assert not list(mine.glob("test/*/mask*"))


@pytest.mark.parametrize("words", [("--min-visib", "1.5"), ("--nothing",)])
def test_wrong_usage_leaves_with_2(mine, words):
    with pytest.raises(SystemExit) as left:
        run(mine, *words)
    assert left.value.code == 2
