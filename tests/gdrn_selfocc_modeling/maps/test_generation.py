"""Written maps: the laws of P and Q, the same as online maps to their rounding, and when a file is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sopose.core.bop.models import load_models
from sopose.core.bop.splits import resolve_split
from sopose.core.data.roi import Roi, RoiView
from sopose.core.geometry.pose import Pose
from sopose.core.render.visibility import annotate_scene
from sopose.core.utils.errors import UserError
from sopose.data.targets import cast_layers, prepare_objects
from sopose.layers import unpack_Q
from sopose.maps.check import check_maps
from sopose.maps.files import P_MAP, Q_MAP, MapFiles, read_map
from sopose.maps.generation import MapPlan, cast_object, generate, select_records
from sopose.maps.header import model_hash
from sopose.maps.writer import PixelMap, pixel_P, pixel_Q, stored_values, write_map

SIZE = (320, 240)
HALF_STEP = 2.0**-11  # of float16, relative


@pytest.fixture(scope="module")
def objects(toy_root):
    models = load_models(toy_root / "models")
    return prepare_objects(models, {k: i for i, k in enumerate(models)}, num_points=50)


def split_of(root: Path):
    return resolve_split(f"{root}:train", root.parent)


def write_all(root: Path, **options):
    spec = split_of(root)
    records = select_records(spec)
    return [generate(MapPlan(kind, spec, **options), records, workers=1) for kind in (P_MAP, Q_MAP)]


def files_of(root: Path) -> dict[str, bytes]:
    folder = root / "train"
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """Most that values may be off in a file of this type, metres."""
    return np.abs(values) * (HALF_STEP if dtype == "float16" else 2.0**-24) + 6e-8


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("legacy", [False, True])
def test_read_files_are_online_maps_to_their_rounding(make_bare_split, objects, dtype, legacy):
    root = make_bare_split()
    write_all(root, dtype=dtype, legacy=legacy)
    suffixes = {path.suffix for path in (root / "train/xyz_crop").rglob("*-xyz.*")}
    assert suffixes == {".pkl" if legacy else ".npz"}
    hashes = {obj_id: model_hash(target.model) for obj_id, target in objects.items()}
    files = MapFiles(root / "train", model_hashes=hashes)
    for record in select_records(split_of(root)):
        for instance in record.instances:
            center = np.rint((instance.pose.cam_t_obj @ record.K.T / instance.pose.cam_t_obj[2])[:2])
            view = RoiView(record.K, SIZE, Roi(center, 64.0, np.array([9.0, 9.0])), 32)  # every second pixel
            read, cast = (
                files.layers(record, instance, view),
                cast_layers(objects[instance.obj_id], instance.pose, view),
            )
            assert cast.mask.any() and cast.valid.any()
            np.testing.assert_array_equal(read.mask, cast.mask)
            np.testing.assert_array_equal(read.valid, cast.valid)
            assert (np.abs(read.P_obj - cast.P_obj) <= rounded(cast.P_obj, dtype)).all()
            assert (np.abs(read.Q_obj - cast.Q_obj) <= rounded(cast.Q_obj, dtype)).all()


def test_masks_of_files_are_the_whole_masks_of_the_image(make_bare_split, objects):
    root = make_bare_split()
    write_all(root)
    for record in select_records(split_of(root)):
        casters = [objects[item.obj_id].model.caster for item in record.instances]
        masks, _ = annotate_scene(casters, [item.pose for item in record.instances], record.K, SIZE)
        for instance, (whole, _) in zip(record.instances, masks, strict=True):
            P, (x1, y1, x2, y2) = read_map(P_MAP.path(root / "train", record, instance.gt_index), P_MAP, SIZE)
            image = np.zeros_like(whole)
            image[y1 : y2 + 1, x1 : x2 + 1] = (P != 0).any(axis=-1)
            np.testing.assert_array_equal(image, whole)


poses = st.builds(
    lambda turn, t: Pose(Rotation.from_rotvec(turn).as_matrix(), np.array(t)),
    st.tuples(*[st.floats(-3, 3)] * 3),
    st.tuples(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3), st.floats(-0.1, 1.0)),
)
cameras = st.builds(
    lambda f, cx, cy: np.array([[f, 0, cx], [0, 1.1 * f, cy], [0, 0, 1]]),
    st.floats(60, 400),
    st.floats(-20, 100),
    st.floats(-20, 80),
)


@given(pose=poses, K=cameras, obj_id=st.integers(1, 4))
def test_camera_P_and_Q_lie_on_one_line_for_any_pose(objects, pose, K, obj_id):
    """Also for objects partly outside the image, around the camera and behind it."""
    size = (80, 60)
    target = objects[obj_id]
    P = pixel_P(target.model.caster, pose, K, size)
    x1, y1, x2, y2 = P.box
    assert 0 <= x1 <= x2 < size[0] and 0 <= y1 <= y2 < size[1]
    mask = P.valid[..., 0]
    whole = annotate_scene([target.model.caster], [pose], K, size)[0][0][0]
    assert mask.sum() == whole.sum() and (whole[y1 : y2 + 1, x1 : x2 + 1] == mask).all()
    if not mask.any():
        assert P.box == (0, 0, 0, 0) and not P.values.any()
        return
    assert mask[0].any() and mask[-1].any() and mask[:, 0].any() and mask[:, -1].any(), "the box is tight"
    Q = pixel_Q(target.model, pose, K, P.box, mask)
    camera = pose.inverse().cam_t_obj
    points = pose.transform(P.values[mask])
    uv = points @ K.T
    # Points are right to some nanometres; near the camera that is more of a pixel.
    clear = points[:, 2] > 1e-9  # a surface that goes through the camera itself has no pixel
    off = np.abs(uv[clear, :2] / uv[clear, 2:] - P.positions[mask][clear]) * points[clear, 2:] / K[0, 0]
    assert points[:, 2].min() >= 0 and off.max(initial=0) < 1e-9
    for k, points_k in enumerate(np.moveaxis(unpack_Q(Q.values), 2, 0)):
        valid = Q.valid[..., k]
        to_P, to_Q = P.values[valid] - camera, points_k[valid] - camera
        length_P, length_Q = np.linalg.norm(to_P, axis=-1), np.linalg.norm(to_Q, axis=-1)
        # A nanometre; Q may lie in the camera itself, where it has no direction but that of its rounding.
        assert (np.linalg.norm(np.cross(to_P, to_Q), axis=-1) <= 1e-9 * length_Q + 1e-13 * length_P).all()


def test_a_point_that_rounds_to_zero_is_still_there():
    values = np.array([[[1e-9, -1e-9, 1e-10, 0.0, 0.02, 0.0]]])
    for groups, valid in ((2, [True, True]), (3, [True, False, True])):
        flags = np.array(valid).reshape(1, 1, groups)
        stored = stored_values(PixelMap((0, 0, 0, 0), values, flags), "float16").reshape(groups, -1)
        assert stored.dtype == np.float16
        np.testing.assert_array_equal((stored != 0).any(axis=-1) | ~flags[0, 0], True)
        assert np.abs(stored.astype(float).ravel() - values.ravel()).max() < 1e-5


def test_an_instance_outside_the_image_has_a_file_without_points(make_bare_split, objects):
    root = make_bare_split()
    path = root / "train/000001/scene_gt.json"
    content = json.loads(path.read_text())
    content["0"][0]["cam_t_m2c"] = [9000.0, 0.0, 800.0]
    content["0"][1]["cam_t_m2c"] = [0.0, 0.0, -800.0]
    path.write_text(json.dumps(content))
    tally, _ = write_all(root)
    record = select_records(split_of(root))[0]
    for instance in record.instances[:2]:
        view = RoiView(record.K, SIZE, Roi(np.array([16.0, 16.0]), 32.0, np.array([9.0, 9.0])), 32)
        layers = MapFiles(root / "train").layers(record, instance, view)
        assert not layers.mask.any() and not layers.valid.any()
    again, _ = write_all(root)
    assert again.written == 0 and again.fresh == tally.written
    for kind in (P_MAP, Q_MAP):
        found = check_maps(split_of(root), select_records(split_of(root)), kind, 1000)
        assert found.is_rounding and found.mask_pixels == 0


def test_a_second_run_writes_nothing_and_another_one_the_same_bytes(make_bare_split):
    root = make_bare_split()
    first = write_all(root)
    files = files_of(root)
    count = len(files) // 2 - 1  # of both layers, and two json files
    assert [tally.written for tally in first] == [count, count] and first[0].size > 0
    second = write_all(root)
    assert [(tally.written, tally.fresh, tally.size) for tally in second] == [(0, count, 0)] * 2
    assert write_all(root, overwrite=True)[0].written == count and files_of(root) == files


def test_q_is_the_same_with_and_without_files_of_p(make_bare_split):
    root = make_bare_split()
    write_all(root)
    files = files_of(root)
    (root / "train/xyz_crop").rename(root / "elsewhere")
    write_all(root, overwrite=True)
    assert files_of(root) == files


@pytest.mark.parametrize(
    "change",
    [
        lambda gt, camera: gt[0].update(cam_t_m2c=[1.0, 2.0, 800.0]),
        lambda gt, camera: gt[0].update(cam_R_m2c=[1, 0, 0, 0, 1, 0, 0, 0, 1]),
        lambda gt, camera: gt[0].update(obj_id=gt[0]["obj_id"] % 4 + 1),
        lambda gt, camera: camera["cam_K"].__setitem__(0, camera["cam_K"][0] + 1),
    ],
)
def test_stale_files_are_refused_by_training_and_written_again(make_bare_split, objects, change):
    root = make_bare_split()
    write_all(root)
    scene = root / "train/000001"
    gt, camera = (json.loads((scene / name).read_text()) for name in ("scene_gt.json", "scene_camera.json"))
    count = len(gt["0"])
    change(gt["0"], camera["0"])
    for name, content in (("scene_gt.json", gt), ("scene_camera.json", camera)):
        (scene / name).write_text(json.dumps(content))
    record = select_records(split_of(root))[0]
    instance = record.instances[0]
    hashes = {obj_id: model_hash(target.model) for obj_id, target in objects.items()}
    view = RoiView(record.K, SIZE, Roi(np.array([160.0, 120.0]), 64.0, np.array([9.0, 9.0])), 32)
    with pytest.raises(UserError, match=r"000000_000000-xyz\.npz was made from other data .*generate_P\.py") as caught:
        MapFiles(root / "train", model_hashes=hashes).layers(record, instance, view)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="was made from other data"):
        check_maps(split_of(root), [record], P_MAP, 100)
    changed = count if camera["0"]["cam_K"] != camera["1"]["cam_K"] else 1
    assert [tally.written for tally in write_all(root)] == [changed, changed]
    MapFiles(root / "train", model_hashes=hashes).layers(record, instance, view)


def test_another_mesh_makes_files_stale(make_bare_split, toy_root, objects):
    root = make_bare_split()
    total = write_all(root)[0].written
    (root / "models").unlink()
    (root / "models").mkdir()
    for path in (toy_root / "models").iterdir():
        (root / "models" / path.name).write_bytes(path.read_bytes())
    assert write_all(root)[0].written == 0, "the same mesh elsewhere is the same mesh"
    ply = root / "models/obj_000001.ply"
    ply.write_bytes((toy_root / "models/obj_000002.ply").read_bytes())
    known = cast_object(root / "models", 1)
    assert known.digest != model_hash(objects[1].model)
    assert 0 < write_all(root)[0].written < total


def test_damaged_files_are_written_again_and_foreign_ones_stay(make_bare_split):
    root = make_bare_split()
    write_all(root)
    files = files_of(root)
    paths = sorted((root / "train/xyz_crop/000001").iterdir())
    paths[0].write_bytes(paths[0].read_bytes()[:-40])
    paths[1].write_bytes(b"")
    paths[2].unlink()
    (root / "train/xyz_crop/000001" / f".{paths[2].stem}.999999999.part.npz").write_bytes(b"half")
    with np.load(paths[3]) as archive:
        np.savez(paths[3], **{key: archive[key] for key in ("xyz_crop", "xyxy")})
    foreign = paths[3].read_bytes()
    tally = write_all(root)[0]
    assert (tally.written, tally.foreign) == (3, 1) and paths[3].read_bytes() == foreign
    assert write_all(root, overwrite=True)[0].foreign == 0 and files_of(root) == files


def wrong_byte(path: Path) -> None:
    """A bit of the map turned over: its header is as it was, its checksum is not."""
    data = bytearray(path.read_bytes())
    data[len(data) // 8] ^= 1
    path.write_bytes(bytes(data))


def cut_map(path: Path) -> None:
    rewrite(path, lambda crop: crop[1:])


def nan_map(path: Path) -> None:
    rewrite(path, lambda crop: np.full_like(crop, np.nan))


def far_map(path: Path) -> None:
    rewrite(path, lambda crop: np.full_like(crop, np.inf))


def rewrite(path: Path, change) -> None:
    with np.load(path) as archive:
        content = dict(archive)
    content["xyz_crop"] = change(content["xyz_crop"])
    np.savez_compressed(path, **content)


@pytest.mark.parametrize("damage", [wrong_byte, cut_map, nan_map, far_map])
def test_what_training_refuses_is_written_again_whatever_its_header_says(make_bare_split, damage):
    root = make_bare_split()
    write_all(root)
    files = files_of(root)
    path = next((root / "train/xyz_crop").rglob("000000_000000-xyz.npz"))
    damage(path)
    with pytest.raises(UserError, match="generate it"):
        read_map(path, P_MAP, SIZE)
    assert [tally.written for tally in write_all(root)] == [1, 0] and files_of(root) == files


def test_an_object_beyond_what_files_hold_is_refused_before_any_work(make_bare_split, toy_root):
    root = make_bare_split()
    (root / "models").unlink()
    (root / "models").mkdir()
    for path in (toy_root / "models").iterdir():
        (root / "models" / path.name).write_bytes(path.read_bytes())
    infos = json.loads((root / "models/models_info.json").read_text())
    infos["2"].update(min_x=-25_000.0, size_x=50_000.0)
    (root / "models/models_info.json").write_text(json.dumps(infos))
    before = files_of(root)
    with pytest.raises(UserError, match=r"models_info\.json: object 2 reaches 25 m .* 20 m at most"):
        write_all(root)
    assert files_of(root) == before


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("value", [20.1, 1e5, np.inf, np.nan])
def test_no_file_is_written_that_no_reader_takes(tmp_path, dtype, value):
    pixels = PixelMap((0, 0, 0, 0), np.full((1, 1, 3), value), np.ones((1, 1, 1), bool))
    with pytest.raises(UserError, match="map files hold 20 m at most"):
        write_map(tmp_path / "a.npz", P_MAP, pixels, {}, dtype)
    assert not list(tmp_path.iterdir())


def test_scenes_and_objects_are_chosen(make_bare_split):
    spec = split_of(make_bare_split())
    everything = sum(len(record.instances) for record in select_records(spec))
    name = spec.object_names[1]
    for word in ("1", name):
        chosen = [item for record in select_records(spec, [1], [word]) for item in record.instances]
        assert {item.obj_id for item in chosen} == {1} and len(chosen) < everything
    with pytest.raises(UserError, match=r"no scene 7 \(it has 1 to 1, 1 in all\)"):
        select_records(spec, [7])
    with pytest.raises(UserError, match=f"no object '{name}x'; did you mean '{name}'"):
        select_records(spec, [], [f"{name}x"])


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_check_distinguishes_rounding_from_error(make_bare_split, dtype):
    root = make_bare_split()
    write_all(root, dtype=dtype)
    spec, records = split_of(root), select_records(split_of(root))
    for kind in (P_MAP, Q_MAP):
        found = check_maps(spec, records, kind, 10)
        assert found.is_rounding and found.instances == 10 and found.mask_pixels == 0
        limit = 0.2 * HALF_STEP if dtype == "float16" else 1e-7  # metres, of objects of at most 0.2 m about the origin
        assert 0 < found.P < limit and 0 < found.Q < limit and 0 < found.off_line < 4 * limit

    path = sorted((root / "train/xyz_crop/000001").iterdir())[0]
    with np.load(path) as archive:
        content = dict(archive)
    for change in (lambda P: P * np.float16(1.01), lambda P: np.where(P.max() == P, 0, P)):
        np.savez_compressed(path, **{**content, "xyz_crop": change(content["xyz_crop"]).astype(dtype)})
        found = check_maps(spec, records, P_MAP, 1000)
        assert not found.is_rounding
    hole = content["xyz_crop"].copy()
    v, u = np.argwhere((hole != 0).any(axis=-1))[5]
    hole[v, u] = 0
    np.savez_compressed(path, **{**content, "xyz_crop": hole})
    assert check_maps(spec, records, P_MAP, 1000).mask_pixels == 1
    path.unlink()
    with pytest.raises(UserError, match=r"-xyz\.npz is missing"):
        check_maps(spec, records, P_MAP, 1000)


def test_a_mesh_without_area_is_reported_by_its_file(make_bare_split):
    root = make_bare_split()
    info = (root / "models/models_info.json").read_text()
    (root / "models").unlink()
    (root / "models").mkdir()
    (root / "models/models_info.json").write_text(info)
    header = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    header += "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    (root / "models/obj_000001.ply").write_text(header + "0 0 0\n1 1 1\n2 2 2\n3 0 1 2\n")
    with pytest.raises(UserError, match=r"obj_000001\.ply: none of the mesh's 1 triangles has an area"):
        cast_object(root / "models", 1)


def test_masks_are_made_for_scene_folders_only(make_bare_split):
    spec = replace(split_of(make_bare_split()), layout="imgn")
    with pytest.raises(UserError, match="leave out --also-masks"):
        generate(MapPlan(P_MAP, spec, also_masks=True), select_records(split_of(spec.root)), 1)
