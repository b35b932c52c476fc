"""Written splits: their annotations say what the images show, and a killed run ends with the same bytes."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from sopose.core.bop.models import load_models
from sopose.core.bop.scene import load_split, read_depth, read_mask, read_rgb
from sopose.core.bop.splits import resolve_split
from sopose.core.rays.raycast import RayCaster
from sopose.core.synthesis.many_objects import CrowdRange
from sopose.core.synthesis.rendered_split import HEADER_NAME, SplitPlan, write_split
from sopose.core.synthesis.scene_sampling import PoseRange
from sopose.core.synthesis.scenes import SceneOptions
from sopose.core.utils.errors import UserError

K = np.array([[130.0, 0, 61.0], [0, 132.0, 47.5], [0, 0, 1]])
OPTIONS = SceneOptions(K, (120, 96), PoseRange(rotations="stable"), crowd=CrowdRange(count=(2, 4)))


@pytest.fixture(scope="module")
def plan(toy_root, tmp_path_factory) -> SplitPlan:
    """Seven images in three scenes, not written yet."""
    return SplitPlan(tmp_path_factory.mktemp("bop") / "toy/train_cad", toy_root / "models", OPTIONS, 7, 3, 3)


@pytest.fixture(scope="module")
def written(plan, toy_root) -> SplitPlan:
    root = plan.split_dir.parent
    root.mkdir(parents=True)
    (root / "models").symlink_to(toy_root / "models")
    assert write_split(plan, workers=1, progress=False) == 3
    return plan


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_split_is_whole_and_trains_by_its_name(written):
    spec = resolve_split("toy_train_cad", written.split_dir.parent.parent)
    records = load_split(spec)
    assert [len(list(written.scene_dir(k).glob("rgb/*.jpg"))) for k in (1, 2, 3)] == [3, 3, 1]
    assert len(records) == 7 and all(1 <= len(record.instances) <= 4 for record in records)
    assert all(read_rgb(record).shape == (96, 120, 3) for record in records)
    np.testing.assert_array_equal(records[0].K, K)
    assert not list(written.split_dir.glob(".*"))


def test_annotations_say_what_the_masks_and_the_depth_show(written):
    models = load_models(written.models_dir)
    casters = {k: RayCaster(model.vertices, model.faces) for k, model in models.items()}
    for record in load_split(resolve_split(f"{written.split_dir.parent}:train_cad", Path())):
        infos = json.loads((record.rgb_path.parent.parent / "scene_gt_info.json").read_text())[str(record.im_id)]
        depth = read_depth(record)
        seen = np.zeros(depth.shape, int)
        for instance, info in zip(record.instances, infos, strict=True):
            whole, visible = read_mask(instance.mask_path), read_mask(instance.mask_visib_path)
            seen += visible
            assert whole.sum() == info["px_count_valid"] and visible.sum() == info["px_count_visib"]
            assert info["visib_fract"] == pytest.approx(visible.sum() / info["px_count_all"])
            if info["px_count_all"] == whole.sum():  # wholly in the image
                assert info["visib_fract"] == pytest.approx(visible.sum() / max(whole.sum(), 1))
            rows, columns = visible.nonzero()
            hits = casters[instance.obj_id].cast(instance.pose, record.K, np.stack([columns, rows], axis=1) * 1.0)
            assert len(hits.ray) == len(rows)
            np.testing.assert_allclose(depth[rows, columns], hits.depth, rtol=0, atol=0.51e-4)  # half a step
        assert seen.max() <= 1


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_images_depend_on_their_number_alone(written, tmp_path, workers):
    other = replace(written, split_dir=tmp_path / "train_cad", images=4)
    write_split(other, workers=workers, progress=False)
    for name in ("rgb/000000.jpg", "rgb/000002.jpg", "depth/000001.png", "scene_gt.json"):
        assert (other.scene_dir(1) / name).read_bytes() == (written.scene_dir(1) / name).read_bytes()


def test_finished_scenes_are_left_alone_and_more_images_go_on(written, tmp_path):
    plan = replace(written, split_dir=tmp_path / "train_cad", images=3)
    assert write_split(plan, workers=1, progress=False) == 1
    before = {path: path.stat().st_mtime_ns for path in plan.scene_dir(1).rglob("*")}
    assert write_split(replace(plan, images=6), workers=1, progress=False) == 1
    assert {path: path.stat().st_mtime_ns for path in plan.scene_dir(1).rglob("*")} == before


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 9},
        {"options": replace(OPTIONS, crowd=CrowdRange(count=(3, 3)))},
        {"options": replace(OPTIONS, K=K + np.eye(3) * [1.0, 0, 0])},
        {"rgb_format": "png"},
        {"images": 8},
    ],
)
def test_a_scene_of_other_parameters_is_not_mixed_in(written, change):
    before = digest(written.split_dir)
    with pytest.raises(UserError, match=r"other parameters; remove it, or choose another"):
        write_split(replace(written, **change), workers=1, progress=False)
    assert digest(written.split_dir) == before


def test_fewer_images_than_there_are_is_an_error(written):
    with pytest.raises(UserError, match="beyond 6 images"):
        write_split(replace(written, images=6), workers=1, progress=False)


def test_a_foreign_folder_is_not_touched(written, tmp_path):
    plan = replace(written, split_dir=tmp_path)
    plan.scene_dir(1).mkdir()
    (plan.scene_dir(1) / "scene_gt.json").write_text("{}")
    with pytest.raises(UserError, match="not made by this program"):
        write_split(plan, workers=1, progress=False)


def test_a_run_killed_at_any_moment_goes_on_to_the_same_bytes(written, tmp_path):
    plan = replace(written, split_dir=tmp_path / "train_cad")
    rng = np.random.default_rng(0)
    for _ in range(4):
        run = get_context("fork").Process(target=write_split, args=(plan, 1, None, False))
        run.start()
        time.sleep(rng.uniform(0, 0.3))
        run.kill()
        run.join()
        for scene in plan.split_dir.glob("[0-9]*"):
            assert (scene / HEADER_NAME).is_file() and len(list(scene.glob("rgb/*"))) in (1, 3)
    write_split(plan, workers=1, progress=False)
    assert digest(plan.split_dir) == digest(written.split_dir)
    assert not list(plan.split_dir.glob(".*"))


def test_a_place_that_cannot_be_written_is_reported(written, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        write_split(replace(written, split_dir=tmp_path / "file/train"), workers=1, progress=False)


@pytest.mark.parametrize("wrong", [{"images": 0}, {"images_per_scene": 0}, {"seed": -1}])
def test_impossible_numbers_are_refused(plan, wrong):
    with pytest.raises(UserError, match="at least"):
        replace(plan, **wrong)
