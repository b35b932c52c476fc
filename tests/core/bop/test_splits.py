"""Names of data sets: every row of the table, folders without a row, and paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from sopose.core.bop.catalog import DATASETS, LM, LMO, YCBV, dataset_name
from sopose.core.bop.splits import ANCESTOR_SPLITS, has_test_images, resolve_split, training_split
from sopose.core.utils.errors import UserError

TABLE = {  # name: (folder of images, kind, number of objects, list of the first object or of all)
    "lm_13_train": ("lm/test", "real", 13, "lm/image_set/ape_train.txt"),
    "lm_13_test": ("lm/test", "real", 13, "lm/image_set/ape_test.txt"),
    "lm_real_cat_all": ("lm/test", "real", 1, "lm/image_set/cat_all.txt"),
    "lmo_train": ("lm/test", "real", 8, "lm/image_set/ape_all.txt"),
    "lmo_test": ("lmo/test", "real", 8, "lmo/image_set/lmo_test.txt"),
    "lmo_bop_test": ("lmo/test", "real", 8, "lmo/image_set/lmo_bop_test.txt"),
    "lm_pbr_13_train": ("lm/train_pbr", "pbr", 13, None),
    "lm_pbr_duck_train": ("lm/train_pbr", "pbr", 1, None),
    "lmo_pbr_train": ("lmo/train_pbr", "pbr", 8, None),
    "lm_blender_13_train": ("lm_renders_blender/renders", "syn", 13, None),
    "lmo_blender_train": ("lm_renders_blender/renders", "syn", 8, None),
    "lm_imgn_13_train_1k_per_obj": ("lm_imgn/imgn", "syn", 13, "lm_imgn/image_set/train_ape.txt"),
    "lm_imgn_13_ape_train_1k": ("lm_imgn/imgn", "syn", 1, "lm_imgn/image_set/train_ape.txt"),
    "ycbv_train_real": ("ycbv/train_real", "real", 21, "ycbv/image_sets/train.txt"),
    "ycbv_train_real_uw": ("ycbv/train_real", "real", 21, "ycbv/image_sets/train_real_uw.txt"),
    "ycbv_train_real_uw_every10": (
        "ycbv/train_real",
        "real",
        21,
        "ycbv/image_sets/train_real_uw_every10.txt",
    ),
    "ycbv_train_real_cmu": ("ycbv/train_real", "real", 21, "ycbv/image_sets/train_real_cmu.txt"),
    "ycbv_train_synt": ("ycbv/train_synt", "syn", 21, "ycbv/image_sets/train_synt.txt"),
    "ycbv_train_synt_50k": ("ycbv/train_synt", "syn", 21, "ycbv/image_sets/train_synt_50k.txt"),
    "ycbv_train_synt_30k": ("ycbv/train_synt", "syn", 21, "ycbv/image_sets/train_synt_30k.txt"),
    "ycbv_train_synt_100": ("ycbv/train_synt", "syn", 21, "ycbv/image_sets/train_synt_100.txt"),
    "ycbv_train_pbr": ("ycbv/train_pbr", "pbr", 21, None),
    "ycbv_test": ("ycbv/test", "real", 21, "ycbv/image_sets/keyframe.txt"),
    "ycbv_bop_test": ("ycbv/test", "real", 21, None),
    "ycbv_024_bowl_train_real_uw": ("ycbv/train_real", "real", 1, "ycbv/image_sets/train_real_uw.txt"),
    "ycbv_024_bowl_test": ("ycbv/test", "real", 1, "ycbv/image_sets/keyframe.txt"),
    "tless_train_pbr": ("tless/train_pbr", "pbr", 30, None),
    "tless_test": ("tless/test_primesense", "real", 30, None),
    "tudl_train_real": ("tudl/train_real", "real", 3, None),
}


@pytest.fixture(scope="module")
def empty_folders(tmp_path_factory) -> Path:
    """The folders of the table without images."""
    root = tmp_path_factory.mktemp("bop")
    for folder, *_ in TABLE.values():
        (root / folder).mkdir(parents=True, exist_ok=True)
        scene = root / folder / "000001"
        scene.mkdir(exist_ok=True)
        (scene / "scene_camera.json").write_text("{}")
    return root


@pytest.mark.parametrize("name", TABLE)
def test_a_name_means_its_folder_objects_and_list(name, empty_folders):
    folder, kind, objects, image_list = TABLE[name]
    spec = resolve_split(name, empty_folders)
    assert spec.name == name
    assert spec.images_dir == empty_folders / folder
    assert (spec.kind, len(spec.object_names)) == (kind, objects)
    lists = [item.path for item in spec.image_lists]
    assert lists[:1] == ([empty_folders / image_list] if image_list else [])
    assert set(spec.symmetric_ids) <= set(spec.object_names)


def test_every_name_of_the_ancestor_resolves(empty_folders):
    for name in ANCESTOR_SPLITS:
        assert resolve_split(name, empty_folders).object_names


def test_facts():
    assert LM.object_names[1] == "ape" and LM.object_names[15] == "phone" and len(LM.object_names) == 15
    assert [LMO.object_names[k] for k in (1, 5, 10, 12)] == ["ape", "can", "eggbox", "holepuncher"]
    assert list(LMO.object_names) == [1, 5, 6, 8, 9, 10, 11, 12]
    assert YCBV.object_names[1] == "002_master_chef_can" and YCBV.object_names[21] == "061_foam_brick"
    assert {"lm", "lmo", "ycbv", "tless", "tudl", "icbin", "itodd", "hb", "hope", "toy"} <= set(DATASETS)


def test_splits_named_test_are_those_with_test_images(empty_folders):
    """LINEMOD keeps its training images in the folder test; every name in the table says what it is for."""
    found = {name: has_test_images(resolve_split(name, empty_folders)) for name in TABLE}
    assert found == {name: name.endswith("test") for name in TABLE}


@pytest.mark.parametrize("name", ["lmo_bop_test", "tless_test", "ycbv_024_bowl_test", "{root}/lmo:test"])
def test_test_images_are_not_learned_from_unless_forced(name, empty_folders):
    name = name.format(root=empty_folders)
    with pytest.raises(UserError, match=r"has the test images .*or set DATA=True") as caught:
        training_split(name, empty_folders, allow_test=False, key="DATA")
    assert "\n" not in str(caught.value)
    assert training_split(name, empty_folders, allow_test=True, key="DATA") == resolve_split(name, empty_folders)


def test_lmo_trains_on_lm_images_with_its_own_models(empty_folders):
    (empty_folders / "lmo" / "models").mkdir()
    spec = resolve_split("lmo_train", empty_folders)
    assert spec.scene_is_object and spec.models_dir == empty_folders / "lmo" / "models"


def test_bop_test_reads_the_target_file(empty_folders):
    spec = resolve_split("ycbv_bop_test", empty_folders)
    assert spec.targets_path == empty_folders / "ycbv" / "test_targets_bop19.json"


def test_a_folder_without_a_row_is_read_from_its_files(tiny_bop):
    spec = resolve_split("mini_test", tiny_bop.parent)
    assert spec.object_names == {1: "obj_000001", 2: "obj_000002"}
    assert spec.symmetric_ids == (2,) and spec.kind == "real"
    assert resolve_split("mini_cad", tiny_bop.parent).kind == "cad"


def test_a_path_with_a_split(tiny_bop):
    for name in (f"{tiny_bop}:test", "mini:test"):
        assert resolve_split(name, tiny_bop.parent).images_dir.resolve() == tiny_bop / "test"
    assert resolve_split(f"{tiny_bop}:cad", Path("nowhere")).kind == "cad"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lmo_test", ["lmo", "missing", "download"]),
        ("tless_train_pbr", ["tless", "missing"]),
        ("mini_tset", ["did you mean 'test'", "cad"]),
        ("nonsense", ["unknown data set 'nonsense'", "<folder>_<split>"]),
        ("lmo-test", ["did you mean 'lmo_test'"]),
        ("/nowhere:test", ["/nowhere:test", "existing folder"]),
        (":test", ["existing folder"]),
    ],
)
def test_a_wrong_name_is_reported(name, words, tiny_bop):
    with pytest.raises(UserError) as caught:
        resolve_split(name, tiny_bop.parent)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_folder_that_is_a_link_keeps_the_name_it_is_given_by(tmp_path):
    for real, given, name in (("LM-O", "lmo", "lmo"), ("ycbv", "mine", "ycbv"), ("parts", "gears", "gears")):
        (tmp_path / "disk" / real).mkdir(parents=True)
        (tmp_path / given).symlink_to(tmp_path / "disk" / real)
        assert dataset_name(tmp_path / given) == dataset_name(tmp_path / given / "x" / "..") == name
    (tmp_path / "disk/LM-O/test").mkdir()
    (tmp_path / "disk/T-LESS/models_cad").mkdir(parents=True)
    (tmp_path / "disk/T-LESS/test_primesense/000001").mkdir(parents=True)
    (tmp_path / "disk/T-LESS/test_primesense/000001/scene_camera.json").write_text("{}")
    (tmp_path / "tless").symlink_to("disk/T-LESS")
    tless = resolve_split("tless_test", tmp_path)
    assert (tless.split, tless.models_dir.name, len(tless.object_names)) == ("test_primesense", "models_cad", 30)
    spec = resolve_split("lmo_test", tmp_path)
    assert spec.object_names == LMO.object_names and spec.symmetric_ids == LMO.symmetric_ids
