"""A checkpoint, a camera, a box: the poses of an evaluation, and clear words for anything else."""

from __future__ import annotations

import json
from dataclasses import replace
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
from sopose.data.eval_set import EvalSet
from sopose.inference.estimator import BATCH, PoseEstimator
from sopose.inference.found import Box
from sopose.inference.painter import draw
from sopose.inference.second_look import needed_confidence
from sopose.main_gdrn import main
from sopose.settings import load_settings
from tests.support.builders import eval_set_of
from tests.support.command import verb
from tests.support.shared import shared_folder

predict = verb("predict")

TOLERANCE = 1e-4  # of rotation entries and metres


@pytest.fixture(scope="module")
def run(tmp_path_factory, repository, toy_root) -> dict[str, Any]:
    """The demo's weights, and their evaluation on the small toy set."""
    config = repository / "configs" / "gdrn_selfocc" / "toy" / "demo.py"
    weights = config.with_name("demo.safetensors")
    opts = [f"DATASETS.ROOT={toy_root.parent}", f"MODEL.WEIGHTS={weights}", "MODEL.DEVICE=cpu"]
    opts.append("TEST.REFINE.ITERATIONS=0")  # the weights' own configuration has no second looks

    def make(folder: Path) -> None:
        words = ["--eval-only", "--opts", *opts, f"OUTPUT_DIR={folder}", "VAL.REPORT_CASES=0"]
        main(["--config-file", str(config), *words])

    folder = shared_folder(tmp_path_factory, "estimator", make)
    return {"cfg": load_settings(config, opts), "weights": weights, "csv": next(folder.rglob("*.csv"))}


@pytest.fixture(scope="module")
def trained(toy_run) -> dict[str, Path]:
    """The checkpoint of a short run with an average, and its weights alone."""
    output = toy_run["output"]
    return {"checkpoint": last_checkpoint(output), "weights": output / "model_final.safetensors"}


@pytest.fixture(scope="module")
def test_set(run) -> EvalSet:
    return eval_set_of(run["cfg"], "toy_test")


@pytest.fixture(scope="module")
def estimator(run) -> PoseEstimator:
    return PoseEstimator.from_checkpoint(run["weights"])


def head_of(facts: dict[str, Any]) -> dict[str, Any]:
    return facts["settings"]["MODEL"]["POSE_NET"]["GEO_HEAD"]["INIT_CFG"]


def items_by_image(test_set: EvalSet) -> dict[tuple[int, int], list]:
    by_image: dict[tuple[int, int], list] = {}
    for item in test_set.source.items:
        by_image.setdefault((item.record.scene_id, item.record.im_id), []).append(item)
    return by_image


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


def assert_same_pose(found: Pose, wanted: Pose) -> None:
    np.testing.assert_allclose(found.cam_R_obj, wanted.cam_R_obj, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(found.cam_t_obj, wanted.cam_t_obj, rtol=0, atol=TOLERANCE)


def test_the_command_line_gives_the_same(run, test_set, tmp_path, toy_root, capsys):
    items = test_set.source.items
    boxes = [
        {"scene_id": i.record.scene_id, "image_id": i.record.im_id, "category_id": i.obj_id, "score": 1.0, "time": 0.1}
        | {"bbox": [*map(float, i.box[:2]), *map(float, i.box[2:] - i.box[:2])]}
        for i in items
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    scene = sorted((toy_root / "test").iterdir())[0]
    words = ["--checkpoint", str(run["weights"]), "--boxes", str(tmp_path / "boxes.json"), "--topk", "9"]
    predict([str(scene), *words, "--models", str(toy_root / "models"), "--output", str(tmp_path / "out")])
    found, expected = read_results(tmp_path / "out" / "poses.csv"), read_results(run["csv"])
    assert [(e.im_id, e.obj_id) for e in found] == [(e.im_id, e.obj_id) for e in expected]
    for one, other in zip(found, expected, strict=True):
        assert_same_pose(one.pose, other.pose)
    pictures = list((tmp_path / "out" / "pictures").iterdir())
    assert len(pictures) == len(items_by_image(test_set))
    assert "poses in" in capsys.readouterr().out


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


@pytest.fixture(scope="module")
def photo(test_set) -> tuple[np.ndarray, np.ndarray, Box]:
    """An image, its K, and a box in it."""
    item = test_set.source.items[0]
    return (
        read_rgb(item.record)[..., ::-1],
        item.record.K,
        Box(test_set.source.objects[item.obj_id].model.name, item.box),
    )


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
        (lambda facts: facts["models"].append({**facts["models"][0], "name": "one more"}), "for a network of"),
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


def test_a_folder_goes_on_past_a_broken_image(run, photo, tmp_path, capsys):
    rgb, K, box = photo
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), rgb[..., ::-1])
    (tmp_path / "1.png").write_bytes(b"no image")
    camera = f"{K[0, 0]},{K[1, 1]},{K[0, 2]},{K[1, 2]}"
    given = ",".join([box.object, *map(str, map(float, box.xyxy))])
    words = ["--checkpoint", str(run["weights"]), "--K", camera, "--box", given]
    predict([str(tmp_path), *words, "--output", str(tmp_path / "out")])
    entries = json.loads((tmp_path / "out" / "poses.json").read_text())
    assert [len(entry["poses"]) for entry in entries] == [1, 0, 1] and "decoded" in entries[1]["error"]
    assert "1 images failed" in capsys.readouterr().out
    for path in tmp_path.glob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match="no image could be used"):
        predict([str(tmp_path), *words, "--output", str(tmp_path / "other")])


def test_a_video_gives_a_video(run, photo, tmp_path):
    rgb, K, box = photo
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, rgb.shape[1::-1])
    for _ in range(3):
        writer.write(np.ascontiguousarray(rgb[..., ::-1]))
    writer.release()
    camera = f"{K[0, 0]},{K[1, 1]},{K[0, 2]},{K[1, 2]}"
    given = ",".join([box.object, *map(str, map(float, box.xyxy))])
    words = ["--checkpoint", str(run["weights"]), "--K", camera, "--box", given, "--output", str(tmp_path / "out")]
    predict([str(tmp_path / "a.avi"), *words])
    assert cv2.VideoCapture(str(tmp_path / "out" / "poses.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert len(read_results(tmp_path / "out" / "poses.csv")) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--box", "mug,1,2,3"], "four finite numbers"),
        (["--box", "mug,a,2,3,4"], "--box must be NAME"),
        (["--box", "mug,1,2,30,40", "--K", "1,2"], "K must be"),
        (["--box", "mug,1,2,30,40", "--K", "a,b,c,d"], "--K must be four numbers"),
        (["--box", "mug,1,2,30,40", "--models", "nowhere"], "nowhere is missing"),
        (["--boxes", "none.json"], "none.json is missing"),
    ],
)
def test_wrong_words_are_reported(run, photo, tmp_path, words, message):
    cv2.imwrite(str(tmp_path / "a.png"), photo[0][..., ::-1])
    camera = [] if "--K" in words else ["--K", "600,600,160,120"]
    with pytest.raises(UserError, match=message):
        predict(
            [str(tmp_path / "a.png"), "--checkpoint", str(run["weights"]), *words, *camera, "--output", str(tmp_path)]
        )


def test_an_image_without_a_camera_is_reported(run, photo, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), photo[0][..., ::-1])
    with pytest.raises(UserError, match="doesn't state its camera"):
        predict([str(tmp_path / "a.png"), "--checkpoint", str(run["weights"]), "--box", "mug,1,2,30,40"])


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


class OneBox:
    """A detector that always finds the same."""

    threshold = 0.35

    def __init__(self, box: Box) -> None:
        self.box = box

    def __call__(self, rgb: np.ndarray, threshold: float | None, topk: int) -> list[Box]:
        return [self.box]


def test_a_surer_box_needs_less_confidence():
    needed = [needed_confidence(0.5, score, 0.35) for score in (0.0, 0.1, 0.35, 0.6, 0.9, 1.0)]
    assert needed == sorted(needed, reverse=True) and 0 <= needed[-1] < 1e-6 and 1 - 1e-6 < needed[0] <= 1
    assert needed[2] == pytest.approx(0.5)
    odds = needed[3] / (1 - needed[3])
    assert odds == pytest.approx(((0.35 / 0.65) / (0.6 / 0.4)) ** 2)
    assert needed_confidence(0.0, 0.01, 0.9) == 0.0 and needed_confidence(1.0, 0.99, 0.1) == 1.0  # all, and none


def test_what_isnt_there_gets_no_pose_from_a_detectors_box(run, test_set):
    estimator = PoseEstimator.from_checkpoint(
        run["weights"],
        overrides=["TEST.REFINE.ITERATIONS=1", "TEST.REFINE.CONFIDENCE_AT_THRESHOLD=0.5"],
        models=test_set.spec.models_dir,
    )
    item = test_set.source.items[0]
    name, K = test_set.spec.object_names[item.obj_id], item.record.K
    estimator.finder = OneBox(Box(name, item.box, 0.4))
    nothing = np.full((480, 640, 3), 127, np.uint8)
    (doubtful,) = estimator.predict(nothing, K, absent=True)
    assert doubtful.confidence < 0.2
    assert estimator.predict(nothing, K) == [] and estimator.predict_all([nothing] * 2, K) == [[], []]
    estimator.finder = OneBox(Box(name, item.box, 0.999))
    assert len(estimator.predict(nothing, K)) == 1  # the detector is sure
    estimator.finder = OneBox(Box(name, item.box, 0.4))
    assert len(estimator(nothing, K, [Box(name, item.box)])) == 1  # a box of the caller's always gets one
    estimator.second_look = replace(estimator.second_look, confidence_at_threshold=0.0)
    assert len(estimator.predict(nothing, K)) == 1
    estimator.second_look = None  # nothing says that it isn't there
    assert len(estimator.predict(nothing, K)) == 1


def test_the_command_line_says_what_isnt_there(run, test_set, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sopose.inference.estimator.PoseEstimator.is_there", lambda self, found: False)
    item = test_set.source.items[0]
    finder = OneBox(Box(test_set.spec.object_names[item.obj_id], item.box, 0.9))
    original = PoseEstimator.from_checkpoint

    def opened(*words, **more):
        estimator = original(*words, **more)
        estimator.finder = finder
        return estimator

    monkeypatch.setattr("sopose.inference.pose_files.PoseEstimator.from_checkpoint", opened)
    monkeypatch.setattr("sopose.inference.pose_files.open_boxes", lambda options, estimator: None)
    image = str(item.record.rgb_path)
    words = ["--checkpoint", str(run["weights"]), "--K", "300,300,160,120", "--box", "mug,1,1,9,9"]
    predict([image, *words, "--output", str(tmp_path)])
    out = capsys.readouterr().out
    assert "0 poses in 1 images" in out and "1 boxes got no pose: by their scores and the looks none is likely" in out
    assert json.loads((tmp_path / "poses.json").read_text())[0]["poses"] == []
