"""Every data-set name on minimal folders: which images it reads, and which of their objects."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from sopose.core.bop.catalog import DATASETS, LM, LMO
from sopose.core.bop.scene import load_split
from sopose.core.bop.splits import ANCESTOR_SPLITS, resolve_split
from sopose.core.utils.errors import UserError
from tests.support.bop_files import K, R

LM13 = [k for k in LM.object_names if k not in (3, 7)]
LMO_IDS = list(LMO.object_names)
YCBV_LISTS = {  # list: image of scene 1 that it names
    "train": 1,
    "train_real_uw": 2,
    "train_real_uw_every10": 3,
    "train_real_cmu": 4,
    "train_synt": 1,
    "train_synt_50k": 2,
    "train_synt_30k": 3,
    "train_synt_100": 4,
    "keyframe": 2,
}
FOLDERS = (  # split folder, scene, objects in each of the images 1-5, where an image lies
    ("lm/train_pbr", 0, (1, 3, 15), "rgb/{:06d}.jpg"),
    ("lmo/test", 2, (1, 8, 12), "rgb/{:06d}.png"),
    ("lmo/train_pbr", 0, (1, 8, 12), "rgb/{:06d}.jpg"),
    *((f"ycbv/{split}", 1, (1, 13, 21), "rgb/{:06d}.png") for split in ("train_real", "train_synt", "test")),
    ("ycbv/train_pbr", 0, (1, 13, 21), "rgb/{:06d}.jpg"),
    *((f"tless/{split}", 1, (1, 30), "rgb/{:06d}.png") for split in ("train_primesense", "test_primesense")),
    ("tless/test_kinect", 9, (2,), "rgb/{:06d}.png"),
    ("tless/train_pbr", 0, (1, 30), "rgb/{:06d}.jpg"),
    *((f"itodd/{split}", 1, (1, 28), "gray/{:06d}.tif") for split in ("val", "test")),
    ("itodd/train_pbr", 0, (1, 28), "rgb/{:06d}.jpg"),
    *((f"hb/{split}", 3, (1, 33), "rgb/{:06d}.png") for split in ("val_primesense", "test_primesense")),
    *((f"hb/{split}", 9, (2,), "rgb/{:06d}.png") for split in ("val_kinect", "test_kinect")),
    ("hb/train_pbr", 0, (1, 33), "rgb/{:06d}.jpg"),
    *((f"tudl/{split}", 1, (1, 3), "rgb/{:06d}.png") for split in ("train_real", "train_render", "test")),
    *((f"icbin/{split}", 1, (1, 2), "rgb/{:06d}.png") for split in ("train", "test")),
    *((f"hope/{split}", 1, (1, 28), "rgb/{:06d}.png") for split in ("val", "test")),
)


def write_scene(folder: Path, scene_id: int, objects: Iterable[int], image: str) -> None:
    """Images 1-5 of a scene, each with these objects."""
    scene = folder / f"{scene_id:06d}"
    gt = [{"obj_id": k, "cam_R_m2c": R, "cam_t_m2c": [0, 0, 500]} for k in objects]
    for name, entry in (("scene_camera", {"cam_K": K}), ("scene_gt", gt)):
        scene.mkdir(parents=True, exist_ok=True)
        (scene / f"{name}.json").write_text(json.dumps({str(im): entry for im in range(1, 6)}))
    for im_id in range(1, 6):
        path = scene / image.format(im_id)
        path.parent.mkdir(exist_ok=True)
        path.touch()


def write_list(path: Path, *lines: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A folder with every data set of the tables, each as small as can be."""
    root = tmp_path_factory.mktemp("bop")
    for folder, scene_id, objects, image in FOLDERS:
        write_scene(root / folder, scene_id, objects, image)
        if folder.endswith(("/test", "/test_primesense")):
            target = {"im_id": 5, "inst_count": 1, "obj_id": objects[0], "scene_id": scene_id}
            (root / folder).with_name("test_targets_bop19.json").write_text(json.dumps([target]))
    for obj_id, name in LM.object_names.items():
        write_scene(root / "lm/test", obj_id, (obj_id, 1 + obj_id % 15), "rgb/{:06d}.png")
        for which, image in (("train", 1), ("test", 2)):
            write_list(root / f"lm/image_set/{name}_{which}.txt", f"{image:06d}")
        write_list(root / f"lm/image_set/{name}_all.txt", "000001", "000002")
        renders, imgn = root / f"lm_renders_blender/renders/{name}", root / f"lm_imgn/imgn/{name}"
        renders.mkdir(parents=True)
        (renders / "3.jpg").touch()
        entry = {"cam_R_m2c": R, "cam_t_m2c": [0, 0, 500], "cam_K": K}
        (renders / f"{name}_gt.json").write_text(json.dumps({"3": entry}))
        imgn.mkdir(parents=True)
        (imgn / "000004-color.png").touch()
        (imgn / "000004-pose.txt").write_text("1 0 0 0\n0 1 0 0\n0 0 1 0.5\n")
        write_list(root / f"lm_imgn/image_set/train_{name}.txt", "000004")
    camera = {"fx": 1, "fy": 1, "cx": 0, "cy": 0, "width": 4, "height": 4}
    (root / "lm/camera.json").write_text(json.dumps(camera))
    write_list(root / "lmo/image_set/lmo_test.txt", 1, 2)
    write_list(root / "lmo/image_set/lmo_bop_test.txt", 3)
    for name, image in YCBV_LISTS.items():
        write_list(root / f"ycbv/image_sets/{name}.txt", f"0001/{image:06d}")
    return root


def each(objects: Iterable[int], *images: int) -> dict[tuple[int, int], tuple[int, ...]]:
    """Expected images where a scene is its object: {(scene, image): objects}."""
    return {(k, im): (k,) for k in objects for im in images}


def scene(scene_id: int, objects: tuple[int, ...], *images: int) -> dict[tuple[int, int], tuple[int, ...]]:
    """Expected images of one scene, by default all five."""
    return {(scene_id, im): objects for im in images or range(1, 6)}


YCBV_SCENE = (1, (1, 13, 21))
NAMES = {  # name: (kind, {(scene, image): objects})
    "lm_13_train": ("real", each(LM13, 1)),
    "lm_13_test": ("real", each(LM13, 2)),
    "lm_real_cup_train": ("real", each([7], 1)),
    "lm_real_cup_test": ("real", each([7], 2)),
    "lm_real_ape_all": ("real", each([1], 1, 2)),
    "lmo_train": ("real", each(LMO_IDS, 1, 2)),
    "lmo_driller_train": ("real", each([8], 1, 2)),
    "lmo_test": ("real", scene(2, (1, 8, 12), 1, 2)),
    "lmo_bop_test": ("real", scene(2, (1, 8, 12), 3)),
    "lmo_driller_test": ("real", scene(2, (8,), 1, 2)),
    "lmo_driller_bop_test": ("real", scene(2, (8,), 3)),
    "lm_pbr_13_train": ("pbr", scene(0, (1, 15))),
    "lm_pbr_phone_train": ("pbr", scene(0, (15,))),
    "lmo_pbr_train": ("pbr", scene(0, (1, 8, 12))),
    "lmo_pbr_driller_train": ("pbr", scene(0, (8,))),
    "lmo_driller_train_pbr": ("pbr", scene(0, (8,))),
    "lm_train_pbr": ("pbr", scene(0, (1, 3, 15))),
    "lm_blender_13_train": ("syn", each(LM13, 3)),
    "lm_blender_lamp_train": ("syn", each([14], 3)),
    "lmo_blender_train": ("syn", each(LMO_IDS, 3)),
    "lmo_blender_glue_train": ("syn", each([11], 3)),
    "lm_imgn_13_train_1k_per_obj": ("syn", each(LM13, 4)),
    "lm_imgn_13_iron_train_1k": ("syn", each([13], 4)),
    "ycbv_train_real": ("real", scene(*YCBV_SCENE, 1)),
    "ycbv_train_real_uw": ("real", scene(*YCBV_SCENE, 2)),
    "ycbv_train_real_uw_every10": ("real", scene(*YCBV_SCENE, 3)),
    "ycbv_train_real_cmu": ("real", scene(*YCBV_SCENE, 4)),
    "ycbv_train_synt": ("syn", scene(*YCBV_SCENE, 1)),
    "ycbv_train_synt_50k": ("syn", scene(*YCBV_SCENE, 2)),
    "ycbv_train_synt_30k": ("syn", scene(*YCBV_SCENE, 3)),
    "ycbv_train_synt_100": ("syn", scene(*YCBV_SCENE, 4)),
    "ycbv_train_pbr": ("pbr", scene(0, (1, 13, 21))),
    "ycbv_test": ("real", scene(*YCBV_SCENE, 2)),
    "ycbv_bop_test": ("real", scene(*YCBV_SCENE, 5)),
    "ycbv_024_bowl_train_real": ("real", scene(1, (13,), 1)),
    "ycbv_024_bowl_train_real_uw": ("real", scene(1, (13,), 2)),
    "ycbv_024_bowl_train_synt": ("syn", scene(1, (13,), 1)),
    "ycbv_024_bowl_train_pbr": ("pbr", scene(0, (13,))),
    "ycbv_024_bowl_test": ("real", scene(1, (13,), 2)),
    "ycbv_024_bowl_bop_test": ("real", scene(1, (13,), 5)),
    "tless_train_primesense": ("real", scene(1, (1, 30))),
    "tless_train": ("real", scene(1, (1, 30))),
    "tless_test_primesense": ("real", scene(1, (1, 30))),
    "tless_test": ("real", scene(1, (1, 30))),
    "tless_test_kinect": ("real", scene(9, (2,))),
    "tless_train_pbr": ("pbr", scene(0, (1, 30))),
    "tless_obj_000030_train_pbr": ("pbr", scene(0, (30,))),
    "itodd_val": ("real", scene(1, (1, 28))),
    "itodd_test": ("real", scene(1, (1, 28))),
    "itodd_train_pbr": ("pbr", scene(0, (1, 28))),
    "hb_val_primesense": ("real", scene(3, (1, 33))),
    "hb_val": ("real", scene(3, (1, 33))),
    "hb_test": ("real", scene(3, (1, 33))),
    "hb_test_kinect": ("real", scene(9, (2,))),
    "hb_train_pbr": ("pbr", scene(0, (1, 33))),
    "tudl_train_real": ("real", scene(1, (1, 3))),
    "tudl_train_render": ("syn", scene(1, (1, 3))),
    "tudl_test": ("real", scene(1, (1, 3))),
    "tudl_can_test": ("real", scene(1, (3,))),
    "icbin_train": ("syn", scene(1, (1, 2))),
    "icbin_test": ("real", scene(1, (1, 2))),
    "icbin_bop_test": ("real", scene(1, (1, 2), 5)),
    "hope_val": ("real", scene(1, (1, 28))),
    "hope_test": ("real", scene(1, (1, 28))),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_chooses_its_images_and_objects(name, world):
    kind, expected = NAMES[name]
    spec = resolve_split(name, world)
    assert spec.kind == kind
    found = {
        (record.scene_id, record.im_id): tuple(item.obj_id for item in record.instances) for record in load_split(spec)
    }
    assert found == expected


def test_every_name_of_the_ancestor_has_images(world):
    for name in ANCESTOR_SPLITS:
        records = load_split(resolve_split(name, world))
        assert all(record.rgb_path.is_file() for record in records)


def test_the_sensor_of_the_targets_is_found(world):
    for name in ("tless", "hb"):
        spec = resolve_split(f"{name}_bop_test", world)
        assert spec.split == "test_primesense" and spec.targets_path.name == "test_targets_bop19.json"
        assert DATASETS[name].sensor == "primesense"


def test_one_object_of_lm_needs_its_own_list_only(world, tmp_path):
    write_scene(tmp_path / "lm/test", 8, (8,), "rgb/{:06d}.png")
    write_list(tmp_path / "lm/image_set/driller_all.txt", 1)
    assert len(load_split(resolve_split("lmo_driller_train", tmp_path))) == 1
    with pytest.raises(UserError, match=r"ape_all\.txt is missing"):
        load_split(resolve_split("lmo_train", tmp_path))


def test_an_object_that_a_split_leaves_out_is_reported(world):
    with pytest.raises(UserError, match="'lm_13_train' doesn't have that object"):
        resolve_split("lm_cup_13_train", world)
