"""Maps from files: the same targets as cast ones where cells are pixels, and one line for what is damaged."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sopose.core.bop.models import load_models
from sopose.core.bop.scene import load_split
from sopose.core.bop.splits import resolve_split
from sopose.core.data.roi import Roi, RoiView
from sopose.core.utils.errors import UserError
from sopose.data.mapper import select_instances
from sopose.data.targets import cast_layers, make_targets, prepare_objects
from sopose.layers import cast_P, pack_Q, plane_hits
from sopose.maps.files import P_MAP, Q_MAP, MapFiles
from sopose.maps.header import model_hash
from tests.support.builders import train_dataset_of
from tests.support.laws import assert_lawful

SIZE = (320, 240)


@pytest.fixture(scope="module")
def objects(toy_root):
    models = load_models(toy_root / "models")
    return prepare_objects(models, {k: i for i, k in enumerate(models)}, num_points=50)


@pytest.fixture(scope="module")
def items(toy_root, objects):
    return select_instances(load_split(resolve_split("toy_train", toy_root.parent)), objects, min_visib=0.1)


def image_maps(record, instance, target) -> dict[str, np.ndarray]:
    """P and Q at every pixel of the box of the whole object inside the image, as a generator writes them."""
    columns, rows = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    positions = np.stack([columns, rows], axis=-1).astype(float)
    P, mask = cast_P(target.model.caster, instance.pose, record.K, positions)
    Q, _ = plane_hits(instance.pose, record.K, positions, mask, target.model.bounds_min, target.model.extent)
    v, u = np.nonzero(mask)
    box = slice(v.min(), v.max() + 1), slice(u.min(), u.max() + 1)
    xyxy = np.array([u.min(), v.min(), u.max(), v.max()])
    return {"xyz_crop": P[box].astype(np.float32), "occ_crop": pack_Q(Q)[box].astype(np.float32), "xyxy": xyxy}


def write(folder: Path, record, instance, maps: dict[str, Any], pickled: bool = False, header: bool = True) -> None:
    for kind in (P_MAP, Q_MAP):
        path = kind.path(folder, record, instance.gt_index)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {key: maps[key] for key in (kind.key, "xyxy") if key in maps}
        if pickled:
            content["xyxy"] = content["xyxy"].tolist()
            path.with_suffix(".pkl").write_bytes(pickle.dumps(content, 2))
        else:
            np.savez_compressed(path, **content, **({"version": np.array("1"), "K": record.K} if header else {}))


def integer_view(record, instance, step: int, out: int = 32) -> RoiView:
    """An ROI about an instance whose cells lie on pixels, `step` apart."""
    box = instance.bbox_visib
    return RoiView(record.K, SIZE, Roi(np.rint((box[:2] + box[2:]) / 2), float(step * out), box[2:] - box[:2]), out)


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("step", [1, 2, 4])
def test_at_pixels_the_targets_are_those_of_cast_maps(items, objects, tmp_path, step, pickled):
    for record, instance in items[:6]:
        target = objects[instance.obj_id]
        write(tmp_path, record, instance, image_maps(record, instance, target), pickled)
        view = integer_view(record, instance, step)
        visib = np.ones((view.out, view.out), bool)
        layers = MapFiles(tmp_path).layers(record, instance, view)
        read = make_targets(target, instance.pose, view, layers, visib)
        cast = make_targets(target, instance.pose, view, cast_layers(target, instance.pose, view), visib)
        assert read.mask_obj.any() and read.q_mask.any()
        for name in set(vars(cast)) - {"region"}:
            # float32 metres against float64: a few units of the last place of values about 1.
            np.testing.assert_allclose(getattr(read, name), getattr(cast, name), rtol=0, atol=5e-7, err_msg=name)
        # Rounding decides between two centres that are equally near, as those of a symmetric object can be.
        np.testing.assert_array_equal(read.region > 0, cast.region > 0)
        seen, centers = layers.mask, target.region_centers
        distances = [np.linalg.norm(layers.P_obj[seen] - centers[t.region[seen] - 1], axis=-1) for t in (read, cast)]
        np.testing.assert_allclose(*distances, rtol=0, atol=1e-7)  # metres


def test_a_cell_takes_the_pixel_nearest_to_it(items, objects, tmp_path):
    record, instance = items[0]
    maps = image_maps(record, instance, objects[instance.obj_id])
    write(tmp_path, record, instance, maps)
    view = RoiView(record.K, SIZE, Roi(np.array([160.3, 119.6]), 400.0, np.array([9, 9])), 32)
    layers = MapFiles(tmp_path).layers(record, instance, view)
    x1, y1, x2, y2 = maps["xyxy"]
    canvas = np.zeros((SIZE[1], SIZE[0], 3))
    canvas[y1 : y2 + 1, x1 : x2 + 1] = maps["xyz_crop"]
    for row, column in np.ndindex(32, 32):
        u, v = (int(np.floor(x + 0.5)) for x in view.positions[row, column])
        on_image = 0 <= u < SIZE[0] and 0 <= v < SIZE[1]
        np.testing.assert_array_equal(layers.P_obj[row, column], canvas[v, u] if on_image else 0)
    assert layers.mask.any() and not layers.mask[0].any()


def test_q_is_valid_where_one_of_its_numbers_is_not_zero(items, objects, tmp_path):
    record, instance = items[0]
    maps = image_maps(record, instance, objects[instance.obj_id])
    maps["occ_crop"][:] = [0, 0, 0, 0.01, 0.02, 0]
    write(tmp_path, record, instance, maps)
    layers = MapFiles(tmp_path).layers(record, instance, integer_view(record, instance, 2))
    np.testing.assert_array_equal(layers.valid, layers.mask[..., None] & [False, True, True])


def test_a_single_layer_needs_no_folder_of_q(items, objects, tmp_path):
    record, instance = items[0]
    write(tmp_path, record, instance, image_maps(record, instance, objects[instance.obj_id]))
    (tmp_path / "Q0").rename(tmp_path / "elsewhere")
    view = integer_view(record, instance, 2)
    layers = MapFiles(tmp_path, two_layers=False).layers(record, instance, view)
    assert layers.mask.any() and not layers.valid.any() and not layers.Q_obj.any()
    with pytest.raises(UserError, match=r"Q0 is missing; .*XYZ_SOURCE=online"):
        MapFiles(tmp_path)


def change(key: str, value: Any):
    return lambda maps: maps.update({key: value(maps[key]) if callable(value) else value})


def with_nan(array: np.ndarray) -> np.ndarray:
    return np.where(array == array.max(), np.nan, array)


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (change("xyz_crop", lambda a: a[1:]), "xyz_crop must be float"),
        (change("xyz_crop", lambda a: a[..., :2]), "xyz_crop must be float"),
        (change("xyz_crop", lambda a: a.astype(np.int32)), "int32"),
        (change("xyz_crop", with_nan), "finite metres"),
        (change("xyz_crop", lambda a: 1000 * a), "finite metres"),
        (change("occ_crop", lambda a: a[..., :3]), "occ_crop must be float"),
        (change("occ_crop", lambda a: np.full_like(a, np.inf)), "finite metres"),
        (change("xyxy", lambda a: a + np.array([0, 0, 1, 0])), "must be float"),
        (change("xyxy", lambda a: a[:3]), "4 whole numbers"),
        (change("xyxy", lambda a: a + 0.5), "4 whole numbers"),
        (change("xyxy", lambda a: np.full(4, np.inf)), "4 whole numbers"),
        (change("xyxy", lambda a: a + 1000), "320 x 240"),
        (change("xyxy", lambda a: a[[2, 3, 0, 1]]), "320 x 240"),
        (change("xyxy", lambda a: -a), "320 x 240"),
        (lambda maps: maps.pop("xyz_crop"), "needs the key 'xyz_crop'"),
    ],
)
def test_a_damaged_file_is_reported_in_one_line(items, objects, tmp_path, damage, words, pickled):
    record, instance = items[0]
    maps = image_maps(record, instance, objects[instance.obj_id])
    damage(maps)
    write(tmp_path, record, instance, maps, pickled)
    with pytest.raises(UserError, match=words) as caught:
        MapFiles(tmp_path).layers(record, instance, integer_view(record, instance, 2))
    assert "\n" not in str(caught.value) and f"{record.im_id:06d}_{instance.gt_index:06d}-" in str(caught.value)


@pytest.mark.parametrize("header", ["no json", "[1, 2]", "null", 7, [1, 2]])
def test_a_damaged_header_is_reported(items, objects, tmp_path, header):
    record, instance = items[0]
    target = objects[instance.obj_id]
    maps = image_maps(record, instance, target)
    write(tmp_path, record, instance, maps)
    path = P_MAP.path(tmp_path, record, instance.gt_index)
    np.savez(path, xyz_crop=maps["xyz_crop"], xyxy=maps["xyxy"], header=np.array(header))
    view = integer_view(record, instance, 2)
    assert MapFiles(tmp_path).layers(record, instance, view).mask.any(), "nothing is asked of headers"
    with pytest.raises(UserError, match=r"was made from other data \(header differ\)"):
        MapFiles(tmp_path, model_hashes={instance.obj_id: model_hash(target.model)}).layers(record, instance, view)


class _Call:
    def __reduce__(self):
        return os.system, ("false",)


def test_missing_cut_and_hostile_files_are_reported(items, objects, tmp_path):
    record, instance = items[0]
    write(tmp_path, record, instance, image_maps(record, instance, objects[instance.obj_id]))
    maps, view = MapFiles(tmp_path), integer_view(record, instance, 2)
    path = P_MAP.path(tmp_path, record, instance.gt_index)
    whole = path.read_bytes()
    for content in (whole[:-30], whole[: len(whole) // 2], b"", b"text"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="cannot be read as arrays") as caught:
            maps.layers(record, instance, view)
        assert "\n" not in str(caught.value)
    np.savez(path, xyz_crop=np.array([{}]), xyxy=np.zeros(4))
    with pytest.raises(UserError, match="cannot be read as arrays"):
        maps.layers(record, instance, view)
    path.unlink()
    with pytest.raises(UserError, match=r"-xyz\.npz is missing; generate it, or set INPUT\.XYZ_SOURCE=online"):
        maps.layers(record, instance, view)
    path.with_suffix(".pkl").write_bytes(pickle.dumps({"xyz_crop": _Call()}))
    with pytest.raises(UserError, match="system, which is not opened"):
        maps.layers(record, instance, view)


@pytest.fixture
def written_toy(toy_root, items, objects, tmp_path) -> Path:
    """A copy of the toy data set with map files of its training split."""
    root = tmp_path / "toy"
    root.mkdir()
    for path in toy_root.iterdir():
        if path.name != "train":
            (root / path.name).symlink_to(path)
    (root / "train").mkdir()
    for path in (toy_root / "train").iterdir():
        (root / "train" / path.name).symlink_to(path)
    for record, instance in items:
        write(root / "train", record, instance, image_maps(record, instance, objects[instance.obj_id]))
    return root


def sources(make_small_config, root: Path, *overrides: str):
    data = (f"DATASETS.ROOT={root.parent}", "DATASETS.TRAIN=['toy_train']", "DATASETS.TRAIN2=[]")
    fixed = ("INPUT.COLOR_AUG_PROB=0.0", "INPUT.CHANGE_BG_PROB=0.0", "DATALOADER.FILTER_VISIB_THR=0.1")
    return train_dataset_of(make_small_config(*data, *fixed, *overrides))


def test_files_are_read_where_the_option_says_so(make_small_config, written_toy, items, objects):
    files = sources(make_small_config, written_toy, "INPUT.XYZ_SOURCE=files")
    online = sources(make_small_config, written_toy)
    read, cast = (source.sample(0, np.random.default_rng(3)) for source in (files, online))
    np.testing.assert_array_equal(read[0].image, cast[0].image)
    near = (read[1].mask_obj > 0) & (cast[1].mask_obj > 0)
    assert near.sum() > 0.8 * (cast[1].mask_obj > 0).sum()
    assert (read[1].P != cast[1].P).any()  # cells lie between pixels

    record, instance = items[0]
    maps = image_maps(record, instance, objects[instance.obj_id])
    maps["xyz_crop"][:] = 0
    maps["xyz_crop"][3, 2] = 0.01
    write(written_toy / "train", record, instance, maps)
    changed = files.sample(0, np.random.default_rng(3))[1]
    assert changed.mask_obj.sum() < 3 and not changed.q_mask.any()
    again = online.sample(0, np.random.default_rng(3))
    np.testing.assert_array_equal(again[1].P, cast[1].P)
    assert_lawful(again, objects[instance.obj_id])


def test_a_single_layer_network_trains_without_q_files(make_small_config, written_toy):
    (written_toy / "train/Q0").rename(written_toy / "elsewhere")
    with pytest.raises(UserError, match="Q0 is missing"):
        sources(make_small_config, written_toy, "INPUT.XYZ_SOURCE=files")
    single = "MODEL.POSE_NET.SELFOCC_HEAD.ENABLED=False"
    source = sources(make_small_config, written_toy, "INPUT.XYZ_SOURCE=files", single)
    assert source.sample(0, np.random.default_rng(0))[1].mask_obj.any()


def test_a_rendered_source_casts_whatever_the_option_says(make_small_config, toy_root):
    overrides = ("INPUT.XYZ_SOURCE=files", "DATASETS.TRAIN=['toy_cad']", "CAD.Z_RANGE=(0.4, 0.9)")
    source = sources(make_small_config, toy_root, *overrides)
    assert source.sample(0, np.random.default_rng(0))[1].mask_obj.any()


def test_another_word_is_reported_at_the_start(make_small_config, toy_root):
    with pytest.raises(UserError, match=r"XYZ_SOURCE 'file'; did you mean 'files'\? \(known: online, files\)"):
        sources(make_small_config, toy_root, "INPUT.XYZ_SOURCE=file")
