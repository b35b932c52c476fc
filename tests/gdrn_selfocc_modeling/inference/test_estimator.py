"""A checkpoint, a camera, a box: the poses of an evaluation, and clear words for anything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from sopose.core.bop.results import read_results
from sopose.core.bop.scene import read_depth, read_rgb
from sopose.core.engine.checkpoint import read_checkpoint
from sopose.core.engine.checkpointer import last_checkpoint
from sopose.core.geometry.distortion import undistorted, undistorted_box
from sopose.core.geometry.pose import Pose
from sopose.core.utils.errors import UserError
from sopose.inference.estimator import BATCH, PoseEstimator
from sopose.inference.found import Box
from sopose.inference.painter import draw
from tests.support.found_poses import TOLERANCE, assert_same_pose, items_by_image


@pytest.fixture(scope="module")
def trained(toy_run) -> dict[str, Path]:
    """The checkpoint of a short run with an average, and its weights alone."""
    output = toy_run["output"]
    return {"checkpoint": last_checkpoint(output), "weights": output / "model_final.safetensors"}


@pytest.fixture(scope="module")
def estimator(run) -> PoseEstimator:
    return PoseEstimator.from_checkpoint(run["weights"])


def head_of(facts: dict[str, Any]) -> dict[str, Any]:
    return facts["settings"]["MODEL"]["POSE_NET"]["GEO_HEAD"]["INIT_CFG"]


def test_the_poses_are_those_of_an_evaluation(run, test_set, estimator):
    expected = read_results(run["csv"])  # in the order of the items
    names = {known.obj_id: name for name, known in estimator.objects.items()}
    place = 0
    for items in items_by_image(test_set).values():
        record = items[0].record
        poses = estimator(read_rgb(record)[..., ::-1], record.K, [Box(names[i.obj_id], i.box) for i in items])
        for item, pose in zip(items, poses, strict=True):
            wanted = expected[place]
            assert (wanted.im_id, wanted.obj_id) == (item.record.im_id, item.obj_id) == (record.im_id, pose.obj_id)
            assert pose.object == names[item.obj_id]
            assert_same_pose(pose.pose, wanted.pose)
            place += 1
    assert place == len(expected) > 5


def test_a_checkpoint_knows_what_it_was_trained_with(trained, test_set):
    facts = read_checkpoint(trained["checkpoint"])["facts"]
    assert facts["settings"]["MODEL"]["POSE_NET"]["INPUT_RES"] == 64
    json.dumps(facts)
    estimator, other = (PoseEstimator.from_checkpoint(path) for path in trained.values())
    for name, value in estimator.network.model.state_dict().items():
        torch.testing.assert_close(other.network.model.state_dict()[name], value, rtol=0, atol=0)
    for known in estimator.objects.values():
        model = test_set.source.objects[known.obj_id].model
        assert known.name == model.name and known.diameter == model.diameter and len(known.mesh_hash) == 16
        np.testing.assert_array_equal(known.extent, model.extent)
        assert len(known.symmetries_discrete) == len(model.symmetries_discrete)


def test_no_box_gives_no_pose_and_many_give_as_many(estimator, photo):
    rgb, K, box = photo
    assert estimator(rgb, K, []) == []
    many = estimator(rgb, K, [box] * (2 * BATCH + 3))
    assert len(many) == 2 * BATCH + 3
    np.testing.assert_allclose(many[-1].cam_t_obj, many[0].cam_t_obj, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("xyxy", "message"),
    [
        ((5000, 5000, 5100, 5100), "outside of the image"),
        ((-300, -300, -200, -200), "outside of the image"),
        ((50, 50, 51, 51), "too small"),
        ((50, 50, 50, 50), "no area"),
        ((90, 90, 50, 50), "no area"),
    ],
)
def test_a_box_that_shows_nothing_is_answered_with_a_warning(estimator, photo, xyxy, message):
    rgb, K, box = photo
    good, odd = estimator(rgb, K, [box, Box(box.object, xyxy)])
    assert good.reliable
    assert not odd.reliable and message in " ".join(odd.warnings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"object": "mugg"}, "did you mean 'mug'"),
        ({"object": 3}, "doesn't know '3'"),
        ({"xyxy": (1, 2, 3)}, "four finite numbers"),
        ({"xyxy": (1, 2, np.nan, 4)}, "four finite numbers"),
    ],
)
def test_a_box_that_is_none_is_reported(estimator, photo, change, message):
    rgb, K, box = photo
    with pytest.raises(UserError, match=message):
        estimator(rgb, K, [Box(**{"object": box.object, "xyxy": box.xyxy} | change)])


def test_any_image_and_any_camera(estimator, photo):
    rgb, K, box = photo
    (expected,) = estimator(rgb, K, [box])
    deep, alpha = rgb.astype(np.uint16) * 257, np.dstack([rgb, rgb[..., 0]])
    for image in (deep, alpha, rgb.astype(np.float64) / 255):
        (pose,) = estimator(image, K, [box])
        np.testing.assert_allclose(pose.cam_t_obj, expected.cam_t_obj, rtol=0, atol=TOLERANCE)
    (grey,) = estimator(rgb[..., 0], K, [box])
    assert np.isfinite(grey.cam_t_obj).all()
    for odd in (K * np.nan, K[:2], "K"):
        with pytest.raises(UserError, match=r"^K must be"):
            estimator(rgb, odd, [box])
    doubled = K * np.array([[2.0], [2.0], [1.0]])
    with pytest.raises(UserError, match="another resolution"):
        estimator(rgb, doubled, [box])


def test_an_image_and_its_enlargement_have_the_same_pose(estimator, photo):
    """Twice the pixels with twice the K: the same camera, up to the resampling of the picture."""
    rgb, K, box = photo
    large = cv2.resize(rgb, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    K_large = K.copy()
    K_large[:2] *= 2
    K_large[:2, 2] += 0.5  # pixel centres lie at integers
    (one,) = estimator(rgb, K, [box])
    (other,) = estimator(large, K_large, [Box(box.object, 2 * np.asarray(box.xyxy) + 0.5)])
    assert np.linalg.norm(one.cam_t_obj - other.cam_t_obj) < 0.03 * np.linalg.norm(one.cam_t_obj)


def test_another_focal_length_is_the_same_picture_enlarged(estimator, photo):
    """The crops stay; depth follows the focal length exactly where the ray stays."""
    rgb, K, box = photo
    longer = K.copy()
    longer[[0, 1], [0, 1]] *= 3
    one, other = estimator.make_rois(rgb, K, [box]), estimator.make_rois(rgb, longer, [box])
    torch.testing.assert_close(one.image, other.image, rtol=0, atol=0)
    torch.testing.assert_close(other.K[0, 0, 0], one.K[0, 0, 0], rtol=1e-6, atol=0)
    (near,), (far,) = estimator(rgb, K, [box]), estimator(rgb, longer, [box])
    assert far.cam_t_obj[2] == pytest.approx(3 * near.cam_t_obj[2], rel=1e-4)


def add_an_object(facts: dict[str, Any]) -> None:
    """One more than a class-aware network has outputs for."""
    facts["settings"]["MODEL"]["POSE_NET"]["GEO_HEAD"]["XYZ_CLASS_AWARE"] = True
    facts["models"].append({**facts["models"][0], "name": "one more"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda facts: facts.pop("models"), "doesn't say what it needs to run alone"),
        (lambda facts: facts.update(models=3), "of other types"),
        (lambda facts: facts["models"][0].update(extent=[0.1, 0.1]), "damaged"),
        (lambda facts: facts["models"][0].update(extent=[0.1, 0.1, -1]), "has no size"),
        (lambda facts: facts["settings"].update(NO_SUCH=1), "NO_SUCH"),
        (lambda facts: facts["settings"]["MODEL"]["POSE_NET"].update(INPUT_RES="x"), "INPUT_RES"),
        (lambda facts: facts["models"][0].update(obj_id=float("inf")), "damaged"),
        (lambda facts: facts["models"][0].update(obj_id=-1), "ids of objects must be"),
        (lambda facts: facts["models"][0].update(diameter=10**400), "damaged"),
        (lambda facts: facts["models"][0].update(diameter=float("nan")), "damaged"),
        (lambda facts: facts["models"][0].update(extent=[10**400, 1, 1]), "damaged"),
        (lambda facts: facts["models"][0].update(name="a\x1b[2J"), "must be names"),
        (lambda facts: facts["models"].extend([facts["models"][0]] * 10_000), "at most 10000"),
        (add_an_object, "for a network of"),
        (lambda facts: facts.update(focal=[10**400, 10**401]), "focal must be two numbers"),
        (lambda facts: head_of(facts).update(feat_dim=2**40), "feat_dim must be at most"),
        (lambda facts: head_of(facts).update(num_conv_per_block=10**9), "num_conv_per_block must be at most"),
        (lambda facts: facts["settings"]["MODEL"]["POSE_NET"].update(INPUT_RES=10**9), "INPUT_RES must be at most"),
        (lambda facts: facts["settings"]["SOLVER"].update(GAMMA=float("inf")), "GAMMA must be finite"),
        # 154 GB, were the network made before the shapes are compared.
        (lambda facts: head_of(facts).update(feat_dim=2**16), "does not fit"),
    ],
)
def test_a_checkpoint_of_other_words_is_reported(trained, tmp_path, change, message):
    state = read_checkpoint(trained["checkpoint"])
    change(state["facts"])
    torch.save({"model": state["model"], "facts": state["facts"]}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=message) as caught:
        PoseEstimator.from_checkpoint(tmp_path / "a.pth")
    assert "\n" not in str(caught.value)


def test_a_network_with_one_output_for_all_has_any_number_of_objects(trained, tmp_path):
    state = read_checkpoint(trained["checkpoint"])
    net = state["facts"]["settings"]["MODEL"]["POSE_NET"]
    assert len(state["facts"]["models"]) > 1
    net["NUM_CLASSES"] = 1
    torch.save({"model": state["model"], "facts": state["facts"]}, tmp_path / "a.pth")
    PoseEstimator.from_checkpoint(tmp_path / "a.pth")


LENS = (-0.2, 0.05, 0.001, -0.0005)


def test_a_lens_is_taken_out_of_image_and_boxes(trained, test_set):
    """The same answer as for the undistorted image, in which the poses are drawn."""
    item = test_set.source.items[0]
    rgb, K, name = read_rgb(item.record)[..., ::-1], item.record.K, test_set.spec.object_names[item.obj_id]
    estimator = PoseEstimator.from_checkpoint(trained["checkpoint"], "cpu")
    (found,) = estimator(rgb, K, [Box(name, item.box)], distortion=LENS)
    straight = undistorted(np.ascontiguousarray(rgb), K, np.array(LENS))
    (wanted,) = estimator(straight, K, [Box(name, undistorted_box(item.box, K, np.array(LENS)))])
    np.testing.assert_allclose(found.cam_t_obj, wanted.cam_t_obj, atol=1e-9)
    np.testing.assert_array_equal(draw(rgb, [found]), draw(straight, [wanted]))


def test_depth_needs_models_and_the_images_size(trained, test_set):
    item = test_set.source.items[0]
    rgb, K, name = read_rgb(item.record)[..., ::-1], item.record.K, test_set.spec.object_names[item.obj_id]
    estimator = PoseEstimator.from_checkpoint(trained["checkpoint"], "cpu")
    with pytest.raises(UserError, match="give the folder of their models"):
        estimator(rgb, K, [Box(name, item.box)], depth=np.ones(rgb.shape[:2]))
    with pytest.raises(UserError, match="must have the image's size"):
        estimator(rgb, K, [Box(name, item.box)], depth=np.ones((3, 3)))


def test_measured_depth_corrects_distances(trained, test_set):
    """Of objects whose surface was measured, the median distance is nearer to the truth."""
    estimator = PoseEstimator.from_checkpoint(trained["checkpoint"], "cpu", models=test_set.spec.models_dir)
    before, after = [], []
    for item in test_set.source.items:
        rgb, K, name = read_rgb(item.record)[..., ::-1], item.record.K, test_set.spec.object_names[item.obj_id]
        pose = Pose(item.truth.pose.cam_R_obj, 1.05 * item.truth.pose.cam_t_obj)
        estimator.solver = lambda prediction, rois, pose=pose: [pose]
        (found,) = estimator(rgb, K, [Box(name, item.box)], depth=read_depth(item.record))
        before.append(abs(pose.cam_t_obj[2] - item.truth.pose.cam_t_obj[2]))
        after.append(abs(found.cam_t_obj[2] - item.truth.pose.cam_t_obj[2]))
    assert np.median(after) < 0.1 * np.median(before)


def test_several_images_are_answered_as_each_alone(run, test_set):
    class AllBoxes:
        """Finds what is annotated in the image whose pixels these are."""

        def __init__(self) -> None:
            names = test_set.spec.object_names
            self.boxes = {
                read_rgb(items[0].record)[..., ::-1].tobytes(): [Box(names[item.obj_id], item.box) for item in items]
                for items in items_by_image(test_set).values()
            }

        threshold = 0.3

        def __call__(self, rgb: np.ndarray, threshold: float | None, topk: int) -> list[Box]:
            return self.boxes[np.ascontiguousarray(rgb).tobytes()]

    records = [items[0].record for items in items_by_image(test_set).values()]
    estimator = PoseEstimator.from_checkpoint(run["weights"])
    with pytest.raises(UserError, match="has no detector"):
        estimator.predict_all([], records[0].K)
    estimator.finder = AllBoxes()
    images = [np.ascontiguousarray(read_rgb(record)[..., ::-1]) for record in records]
    together = estimator.predict_all(images, records[0].K)
    assert len(together) == len(images) > 1
    for image, found in zip(images, together, strict=True):
        alone = estimator.predict(image, records[0].K)
        assert len(found) == len(alone)
        for one, other in zip(found, alone, strict=True):
            assert one.object == other.object
            assert_same_pose(one.pose, other.pose)
