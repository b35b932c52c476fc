"""Masks and scene_gt_info.json from poses: the same as an exact renderer wrote, and only what is missing."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from sopose.core.bop.models import load_models
from sopose.core.bop.scene import load_split, read_image_size, read_mask
from sopose.core.bop.splits import resolve_split
from sopose.core.making.annotate import add_gt_info, annotate_image, images_with_info, lacks_masks

FOLDERS = ("mask", "mask_visib")


@pytest.fixture(scope="module")
def models(toy_root):
    return load_models(toy_root / "models")


@pytest.fixture
def copied_toy(toy_root, tmp_path):
    """The toy data set, to be changed."""
    root = tmp_path / "toy"
    shutil.copytree(toy_root, root)
    return root


def records_of(root, objects=None):
    return load_split(resolve_split("toy_train", root.parent), objects)


@pytest.mark.parametrize("objects", [None, [1]])
def test_a_stripped_data_set_is_completed_as_it_was(copied_toy, toy_root, models, objects):
    """Also where only some objects are wanted: the others occlude, and have masks of their own."""
    scene = copied_toy / "train" / "000001"
    for folder in FOLDERS:
        shutil.rmtree(scene / folder)
    (scene / "scene_gt_info.json").unlink()
    records = records_of(copied_toy, objects)
    assert all(map(lacks_masks, records)) and not images_with_info(scene)
    entries = {record.im_id: annotate_image(record, models, (320, 240)) for record in records}
    add_gt_info(scene, entries)
    assert not any(map(lacks_masks, records_of(copied_toy))) and len(images_with_info(scene)) == 8
    original = toy_root / "train" / "000001"
    assert json.loads((scene / "scene_gt_info.json").read_text()) == json.loads(
        (original / "scene_gt_info.json").read_text()
    )
    for folder in FOLDERS:
        names = sorted(path.name for path in (original / folder).iterdir())
        assert sorted(path.name for path in (scene / folder).iterdir()) == names
        for name in names:
            np.testing.assert_array_equal(read_mask(scene / folder / name), read_mask(original / folder / name))


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_there_stays_unless_it_is_to_be_replaced(copied_toy, models, overwrite):
    scene = copied_toy / "train" / "000001"
    kept, lost = scene / "mask/000000_000000.png", scene / "mask_visib/000000_000001.png"
    whole = read_mask(kept)
    kept.write_bytes((scene / "mask/000000_000001.png").read_bytes())
    other = read_mask(kept)
    lost.unlink()
    records = records_of(copied_toy)
    assert [lacks_masks(record) for record in records] == [True] + [False] * 7
    annotate_image(records[0], models, (320, 240), overwrite)
    assert lost.is_file() and np.array_equal(read_mask(kept), whole if overwrite else other)

    infos = json.loads((scene / "scene_gt_info.json").read_text())
    add_gt_info(scene, {0: [{"mine": 1}], 99: [{"mine": 2}]}, overwrite)
    after = json.loads((scene / "scene_gt_info.json").read_text())
    assert list(map(int, after)) == [*range(8), 99] and after["99"] == [{"mine": 2}]
    assert after["0"] == ([{"mine": 1}] if overwrite else infos["0"]) and after["7"] == infos["7"]


def test_an_images_size_is_read_from_its_header(copied_toy):
    record = records_of(copied_toy)[0]
    assert read_image_size(record, copied_toy / "elsewhere") == (320, 240)
