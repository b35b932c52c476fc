"""CAD files with origins anywhere: the network learns and says the same, and poses are of the files' own frames."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sopose.core.bop.models import load_models, write_model, write_models_info
from sopose.core.bop.results import read_results
from sopose.core.bop.scene import read_rgb
from sopose.core.bop.splits import resolve_split
from sopose.core.data.sources import SampleSource
from sopose.core.engine.checkpoint import read_checkpoint, save_weights
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.pose_covariance import moved_pose
from sopose.core.geometry.pose_filter import MotionNoise, PoseState
from sopose.core.geometry.rotation import lie_vec_to_matrix
from sopose.core.geometry.symmetry import moved_transforms, symmetry_transforms
from sopose.core.objects.model import OFF_CENTER, ObjectModel
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import read_json, write_json
from sopose.data.build import build_train_dataset, build_training_cache
from sopose.inference.agreement import require_same_models
from sopose.inference.checkpoint_facts import MIDDLE, knows_middles, model_entries, network_facts
from sopose.inference.estimator import PoseEstimator
from sopose.inference.evaluation import build_trained_model
from sopose.inference.found import Box, ObjectPose
from sopose.inference.refine import LookPlan, PoseRefiner
from sopose.inference.torch_networks import OnTorch
from sopose.inference.tracking import _about_middle
from sopose.main_gdrn import main
from sopose.models.refiner_design import RefinerDesign
from sopose.settings import load_settings
from tests.support.builders import eval_set_of
from tests.support.looks import CAMERA, IMAGE_SIZE, Oracle
from tests.support.shared import shared_folder

# One start: RANSAC's poses differ by rounding between the two frames.
LOOKS = ["TEST.REFINE.ITERATIONS=1", "TEST.REFINE.PRIOR_SCALE=1", "TEST.REFINE.STARTS=1"]
SHIFT = np.array([0.35, -0.2, 0.5])  # metres: several times the objects' size


def shifted(model: ObjectModel, shift: np.ndarray) -> ObjectModel:
    """The same object in the parallel frame whose origin is at -shift."""
    motion = np.eye(4)
    motion[:3, 3] = shift
    return replace(
        model,
        vertices=model.vertices + shift,
        bounds_min=model.bounds_min + shift,
        symmetries_discrete=[motion @ one @ np.linalg.inv(motion) for one in model.symmetries_discrete],
        symmetries_continuous=[(axis, offset + shift) for axis, offset in model.symmetries_continuous],
    )


def shift_annotations(path: Path) -> None:
    content = read_json(path)
    for instances in content.values():
        for one in instances:
            R = np.array(one["cam_R_m2c"]).reshape(3, 3)
            one["cam_t_m2c"] = (np.array(one["cam_t_m2c"]) - 1000 * R @ SHIFT).tolist()
    write_json(path, content)


@pytest.fixture(scope="module")
def shifted_root(tmp_path_factory, toy_root) -> Path:
    """The toy set as its maker would have it whose CAD files have other origins."""

    def make(folder: Path) -> None:
        shutil.copytree(toy_root, folder / "toy")
        for models_dir in (folder / "toy").glob("models*"):
            models = [shifted(model, SHIFT) for model in load_models(models_dir).values()]
            for model in models:
                write_model(models_dir / f"obj_{model.obj_id:06d}.ply", model)
            write_models_info(models_dir, models)
        for path in (folder / "toy").rglob("scene_gt.json"):
            shift_annotations(path)

    return shared_folder(tmp_path_factory, "off_center", make) / "toy"


@pytest.fixture(scope="module")
def config(tmp_path_factory, write_tiny_config) -> Path:
    return write_tiny_config(tmp_path_factory.mktemp("off_center_config"))


@pytest.fixture(scope="module")
def demo(repository) -> Path:
    return repository / "configs" / "gdrn_selfocc" / "toy" / "demo.py"


@pytest.fixture(scope="module")
def weights(tmp_path_factory, demo, shifted_root) -> Path:
    """The demo's network as if it had learned from the shifted files."""
    state = read_checkpoint(demo.with_name("demo.safetensors"))
    names = {entry["obj_id"]: entry["name"] for entry in state["facts"]["models"]}
    known = load_models(shifted_root / "models", names=names)
    models = [known[obj_id] for obj_id in names]
    facts = network_facts(state["facts"]["settings"], models, tuple(state["facts"]["focal"]), centered=True)
    path = tmp_path_factory.mktemp("off_center_weights") / "demo.safetensors"
    save_weights(state["model"], path, {**state["facts"], **facts})
    return path


def evaluated(demo: Path, root: Path, weights: Path, output: Path) -> Path:
    words = [f"DATASETS.ROOT={root.parent}", f"OUTPUT_DIR={output}", f"MODEL.WEIGHTS={weights}", "MODEL.DEVICE=cpu"]
    more = ["VAL.REPORT_CASES=2", "DATALOADER.NUM_WORKERS=0"]
    main(["--config-file", str(demo), "--eval-only", "--opts", *words, *LOOKS, *more])
    return output


def samples_of(config: Path, root: Path, *more: str) -> SampleSource:
    settings = load_settings(config, [f"DATASETS.ROOT={root.parent}", "DATASETS.TRAIN2=[]", *more])
    return build_train_dataset(settings, build_training_cache(settings))


@pytest.mark.parametrize("split", ["toy_train", "toy_cad"])
@pytest.mark.parametrize("canonical", ["True", "False"])
def test_training_samples_are_those_of_centered_files(config, toy_root, shifted_root, split, canonical):
    more = f"DATASETS.TRAIN=[{split}]", f"MODEL.POSE_NET.LOSS_CFG.CANONICAL_SYM={canonical}"
    sources = [samples_of(config, root, *more) for root in (toy_root, shifted_root)]
    for index in range(4):
        (rois, targets, _), (other, moved, _) = (one.sample(index, np.random.default_rng(index)) for one in sources)
        apart = (rois.image - other.image).abs()
        assert (apart > 2 / 255).float().mean() < 0.01  # an edge may fall into the neighbouring pixel
        assert torch.equal(rois.extent, other.extent) or torch.allclose(rois.extent, other.extent, atol=1e-6)
        for name, tolerance in (("P", 1e-4), ("cam_R_obj", 1e-6), ("cam_t_obj", 1e-6), ("trans_ratio", 1e-5)):
            one, two = getattr(targets, name), getattr(moved, name)
            assert ((one - two).abs() > tolerance).float().mean() < 0.01, name
        assert (targets.mask_obj != moved.mask_obj).float().mean() < 0.01
        assert ((targets.Q - moved.Q).abs() > 1e-3).float().mean() < 0.02


def test_files_of_maps_stay_in_the_frames_of_the_models(config, shifted_root):
    settings = load_settings(config, [f"DATASETS.ROOT={shifted_root.parent}", "INPUT.XYZ_SOURCE=files"])
    assert not build_training_cache(settings).centered


def test_poses_are_in_the_files_frame_and_otherwise_the_same(demo, weights, toy_root, shifted_root, tmp_path):
    given = ((shifted_root, weights), (toy_root, demo.with_name("demo.safetensors")))
    folders = [evaluated(demo, *one, tmp_path / name) for one, name in zip(given, ("ours", "theirs"), strict=True)]
    ours, theirs = (read_results(next(folder.rglob("*.csv"))) for folder in folders)
    assert len(ours) == len(theirs) > 5
    for one, other in zip(ours, theirs, strict=True):
        moved = one.pose.with_origin(SHIFT)
        np.testing.assert_allclose(moved.cam_R_obj, other.pose.cam_R_obj, atol=1e-3)
        np.testing.assert_allclose(moved.cam_t_obj, other.pose.cam_t_obj, atol=1e-3)
        assert one.score == pytest.approx(other.score, abs=0.01)
    score, same = (read_json(next(folder.rglob("scores.json"))) for folder in folders)
    for name in ("ad_0.02", "ad_0.05", "ad_0.10", "AR_MSSD", "AR_MSPD", "re_deg"):  # VSD and te take the origins
        assert score["mean"][name] == pytest.approx(same["mean"][name], abs=0.01), name

    estimator = PoseEstimator.from_checkpoint(weights, overrides=LOOKS, models=shifted_root / "models")
    names = {known.obj_id: name for name, known in estimator.objects.items()}
    items = eval_set_of(load_settings(demo, [f"DATASETS.ROOT={shifted_root.parent}"]), "toy_test").source.items
    for item, expected in list(zip(items, ours, strict=True))[:3]:
        image = read_rgb(item.record)[..., ::-1]
        (found,) = estimator(image, item.record.K, [Box(names[item.obj_id], item.box)])
        np.testing.assert_allclose(found.cam_R_obj, expected.pose.cam_R_obj, atol=1e-3)
        np.testing.assert_allclose(found.cam_t_obj, expected.pose.cam_t_obj, atol=1e-3)


def test_other_starts_are_of_the_files_frame(toy_root):
    """The pose given lies behind the camera: what is found comes from the other."""
    model = load_models(toy_root / "models")[1]
    design = RefinerDesign(channels=8, input_res=64, output_res=32, confidence=(*[0.0] * 10, 1.0))
    truth = Pose(np.eye(3), np.array([0.02, -0.01, 0.7]))
    near, behind = Pose(np.eye(3), np.array([0.03, 0.0, 0.72])), Pose(np.eye(3), np.array([0.0, 0.0, -0.7]))
    refiner = PoseRefiner(OnTorch(Oracle(truth.with_origin(model.middle)), torch.device("cpu")), design)
    picture, found = np.zeros((*IMAGE_SIZE[::-1], 3), np.uint8), []
    for shift, one in ((np.zeros(3), model), (SHIFT, shifted(model, SHIFT))):
        start, other = (pose.with_origin(-shift) for pose in (behind, near))
        (looked,) = refiner(picture, CAMERA, [one], [start], LookPlan(1, starts=2), others=[[other]])
        found.append(looked.pose.with_origin(shift))
    np.testing.assert_allclose(found[1].cam_t_obj, found[0].cam_t_obj, atol=1e-5)  # metres
    np.testing.assert_allclose(found[1].cam_R_obj, found[0].cam_R_obj, atol=1e-4)
    assert np.linalg.norm(found[0].cam_t_obj - truth.cam_t_obj) < 0.01


def test_older_networks_keep_the_frames_of_the_files(demo, shifted_root, tmp_path):
    """Weights that say nothing of middles learned about the origins: nothing is moved for them."""
    state, older = read_checkpoint(demo.with_name("demo.safetensors")), tmp_path / "older.safetensors"
    models = [{key: value for key, value in entry.items() if key != MIDDLE} for entry in state["facts"]["models"]]
    save_weights(state["model"], older, {**state["facts"], "models": models})
    assert not knows_middles(read_checkpoint(older)["facts"])
    settings = load_settings(demo, [f"DATASETS.ROOT={shifted_root.parent}"])
    _, cache = build_trained_model(settings, older, torch.device("cpu"))
    assert not cache.centered
    target = next(iter(cache.get(resolve_split("toy_test", shifted_root.parent)).trained.values()))
    pose = Pose(np.eye(3), np.array([0.1, 0.2, 0.9]))
    assert target.centered is target.model and target.model_pose(pose) is pose


def test_a_run_is_not_continued_in_another_frame(weights, shifted_root):
    state = read_checkpoint(weights)
    names = {entry["obj_id"]: entry["name"] for entry in state["facts"]["models"]}
    models = list(load_models(shifted_root / "models", names=names).values())
    require_same_models(state["facts"], model_entries(models, centered=True), weights)
    with pytest.raises(UserError, match=r"knows bracket about the point \(350, -200, 500\) mm .* about \(0, 0, 0\) mm"):
        require_same_models(state["facts"], model_entries(models), weights)


def test_what_is_followed_and_fused_moves_about_its_middle(shifted_root):
    """A turn about the middle, which moves a far origin by much, is nearly no motion there."""
    model = load_models(shifted_root / "models")[1]
    covariance = np.diag([1e-6, 1e-6, 1e-4, 1e-2, 1e-2, 1e-2])
    pose = Pose(np.eye(3), np.array([0.0, 0, 0.8]))
    own, about_origin = moved_pose(pose, covariance, -model.middle)
    assert np.trace(about_origin[:3, :3]) > 50 * np.trace(covariance[:3, :3])
    found = ObjectPose("x", 1, 0.9, own.cam_R_obj, own.cam_t_obj, np.zeros(4), fitted=about_origin, model=model)
    state = PoseState.of(*_about_middle(found), MotionNoise())
    np.testing.assert_allclose(state.pose.cam_t_obj, pose.cam_t_obj, atol=1e-9)
    np.testing.assert_allclose(state.covariance[:6, :6], covariance, atol=1e-9)
    transforms = symmetry_transforms([], [(np.array([0.0, 0, 1]), model.middle)])
    np.testing.assert_allclose(moved_transforms(transforms, model.middle)[:, :3, 3], 0, atol=1e-9)


def test_a_training_says_that_it_learned_in_the_middle(toy_run):
    facts = read_checkpoint(toy_run["output"] / "model_final.safetensors")["facts"]
    assert knows_middles(facts) and all(entry["middle"] == [0.0] * 3 for entry in facts["models"])


def test_a_little_off_is_left_as_it_is(toy_root):
    model = load_models(toy_root / "models")[1]
    near, far = (shifted(model, np.array([share * model.diameter, 0, 0])) for share in (OFF_CENTER - 0.01, 0.5))
    assert near.centered is near and not near.middle.any()
    assert far.centered is not far
    np.testing.assert_allclose(far.centered.vertices, model.vertices, atol=1e-9)
    np.testing.assert_allclose(far.centered.symmetry_transforms, model.symmetry_transforms, atol=1e-9)


@given(seed=st.integers(0, 2**16))
def test_a_frame_at_another_point_sees_the_same(seed: int):
    rng = np.random.default_rng(seed)
    pose = Pose(lie_vec_to_matrix(rng.normal(size=3)), rng.normal(size=3))
    point, points = rng.normal(size=3), rng.normal(size=(5, 3))
    np.testing.assert_allclose(pose.with_origin(point).transform(points - point), pose.transform(points), atol=1e-12)
