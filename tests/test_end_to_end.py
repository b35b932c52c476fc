"""From a data set to a trained network, scores and a report, by the command line; and what goes wrong on the way."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sopose.core.bop.detections import Detection, write_detections
from sopose.core.bop.results import Estimate, read_results, write_results
from sopose.core.bop.scene import load_split
from sopose.core.bop.splits import resolve_split
from sopose.core.doctor.examine import examine
from sopose.core.engine.checkpoint import read_checkpoint
from sopose.core.engine.checkpointer import last_checkpoint
from sopose.core.evaluation.evaluator import evaluate
from sopose.core.geometry.pose import Pose
from sopose.core.utils.errors import UserError
from sopose.inference.estimator import PoseEstimator
from sopose.inference.predictions import read_predictions
from sopose.main_gdrn import main
from sopose.settings import load_settings
from tests.support.builders import eval_set_of
from tests.support.command import verb

score = verb("score")
export_weights = verb("weights")


def test_a_run_leaves_everything_it_promises(toy_run):
    output = toy_run["output"]
    for name in ("config.py", "metrics.json", "last_checkpoint", "tensorboard", "inference"):
        assert (output / name).exists(), name
    results = output / "inference" / "toy_test"
    assert (results / "tiny_toy-test.csv").is_file()
    report = (results / "report.html").read_text()
    assert "estimate and truth" in report and "Q_x truth" in report
    scores = json.loads((results / "scores.json").read_text())
    assert scores["found"] == scores["targets"] > 0
    assert not list(output.rglob("*.part*"))


def poses(csv: Path) -> np.ndarray:
    """(N, 12) rotations and translations (metres) of a results file."""
    return np.stack([[*e.pose.cam_R_obj.ravel(), *e.pose.cam_t_obj] for e in read_results(csv)])


def test_accumulated_batches_make_as_many_steps_as_their_reference(toy_run, tmp_path):
    opts = ["SOLVER.IMS_PER_BATCH=2", "SOLVER.REFERENCE_BS=6", "DATASETS.TEST=", f"OUTPUT_DIR={tmp_path}"]
    main(["--config-file", str(toy_run["config"]), "--opts", *opts, "SOLVER.TOTAL_EPOCHS=1"])
    steps = read_checkpoint(last_checkpoint(tmp_path))["iteration"]
    assert 2 * steps == read_checkpoint(last_checkpoint(toy_run["output"]))["iteration"]


def test_batches_rendered_on_a_device_train(toy_run, tmp_path):
    opts = ["DATASETS.TRAIN=toy_cad", "DATASETS.TRAIN2=", "DATASETS.TEST=", "CAD.DEVICE=cpu", "CAD.EPOCH_LENGTH=4"]
    args = [
        "--config-file",
        str(toy_run["config"]),
        "--opts",
        *opts,
        "SOLVER.IMS_PER_BATCH=2",
        f"OUTPUT_DIR={tmp_path}",
    ]
    main([*args, "SOLVER.TOTAL_EPOCHS=1"])
    main([*args, "--resume"])
    rows = [json.loads(row) for row in (tmp_path / "metrics.json").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [1, 2, 3, 4]
    with pytest.raises(UserError, match=r"CAD.DEVICE=cpu renders one split.*toy_train"):
        main([*args, "DATASETS.TRAIN=toy_train", f"OUTPUT_DIR={tmp_path / 'other'}"])


def test_evaluation_alone_gives_the_same_poses(toy_run, tmp_path):
    weights = last_checkpoint(toy_run["output"])
    opts = [f"OUTPUT_DIR={tmp_path}", f"MODEL.WEIGHTS={weights}"]
    main(["--config-file", str(toy_run["config"]), "--eval-only", "--opts", *opts])
    csv = Path("inference", "toy_test", "tiny_toy-test.csv")
    assert poses(tmp_path / csv) == pytest.approx(poses(toy_run["output"] / csv), abs=1e-5)  # 10 micrometres


def test_an_evaluation_is_reported_again_from_its_predictions(toy_run, tmp_path):
    kept = Path("inference", "toy_test", "predictions.npz")
    (tmp_path / kept).parent.mkdir(parents=True)
    shutil.copy(toy_run["output"] / kept, tmp_path / kept)
    main(["--config-file", str(toy_run["config"]), "--report-only", "--opts", f"OUTPUT_DIR={tmp_path}"])
    for name in ("scores.json", "table.txt"):
        path = kept.with_name(name)
        assert (tmp_path / path).read_bytes() == (toy_run["output"] / path).read_bytes()
    assert "Q_x truth" in (tmp_path / kept.with_name("report.html")).read_text()
    with pytest.raises(SystemExit):
        main(["--config-file", str(toy_run["config"]), "--report-only", "--eval-only"])


def test_exported_weights_are_as_good(toy_run, tmp_path):
    weights = tmp_path / "weights.safetensors"
    export_weights([str(weights), "--config-file", str(toy_run["config"])])
    opts = [f"OUTPUT_DIR={tmp_path / 'out'}", f"MODEL.WEIGHTS={weights}"]
    main(["--config-file", str(toy_run["config"]), "--eval-only", "--opts", *opts])
    csv = Path("inference", "toy_test", "tiny_toy-test.csv")
    assert poses(tmp_path / "out" / csv) == pytest.approx(poses(toy_run["output"] / csv), abs=1e-5)


def test_exported_weights_hold_the_configuration_they_are_exported_with(toy_run, tmp_path):
    weights = tmp_path / "weights.safetensors"
    words = ["DATASETS.ROOT=elsewhere", "TEST.USE_PNP=True"]
    checkpoint = [str(last_checkpoint(toy_run["output"]))]
    export_weights([*checkpoint, str(weights), "--config-file", str(toy_run["config"]), "--opts", *words])
    settings = read_checkpoint(weights)["facts"]["settings"]
    assert settings["TEST"]["USE_PNP"] and settings["DATASETS"]["ROOT"] == "elsewhere"
    assert PoseEstimator.from_checkpoint(weights, "cpu").solver.pnp_type == "ransac_pnp"


def test_a_resumed_run_continues_and_an_accidental_restart_is_refused(toy_run, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(toy_run["output"], output)
    before = read_checkpoint(last_checkpoint(output))["iteration"]
    args = ["--config-file", str(toy_run["config"]), "--opts", f"OUTPUT_DIR={output}", "SOLVER.TOTAL_EPOCHS=3"]
    with pytest.raises(UserError, match="add --resume"):
        main(args)
    main([*args, "--resume"])
    assert read_checkpoint(last_checkpoint(output))["iteration"] == 3 * before // 2
    rows = (output / "metrics.json").read_text().splitlines()
    assert [json.loads(row)["iteration"] for row in rows] == list(range(1, 3 * before // 2 + 1))


def test_a_folder_of_any_name_without_masks_and_info_is_scored_by_its_path(toy_run, toy_root, tmp_path):
    root = tmp_path / "my-own_parts"
    shutil.copytree(toy_root, root)
    for path in [*root.glob("*/*/scene_gt_info.json"), *root.glob("*/*/mask*/*"), *root.glob("*.json")]:
        path.unlink()
    opts = [
        f"OUTPUT_DIR={tmp_path / 'out'}",
        f"MODEL.WEIGHTS={last_checkpoint(toy_run['output'])}",
        "VAL.REPORT_CASES=1",
    ]
    opts += ["DATASETS.TRAIN=[]", "DATASETS.TRAIN2=[]", f"DATASETS.TEST=[{root}:test]"]
    main(["--config-file", str(toy_run["config"]), "--eval-only", "--opts", *opts])
    assert [path.name for path in (tmp_path / "out").rglob("*.csv")] == ["tiny_myownparts-test.csv"]


def without_truth(toy_root: Path, root: Path) -> Path:
    """The toy test images as a BOP test set: two scenes, the second grey as ITODD's, and neither with ground truth."""
    shutil.copytree(toy_root, root, ignore=shutil.ignore_patterns("train", "scene_gt*", "mask*"))
    second = Path(shutil.copytree(root / "test/000001", root / "test/000002"))
    (second / "rgb").rename(second / "gray")
    for path in (second / "gray").iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    return root


def opts_of(toy_run: dict[str, Path], root: Path) -> list[str]:
    """The run's network on the split `test` of another folder, by that one's own names of objects."""
    names = ["DATASETS.TRAIN=[]", "DATASETS.TRAIN2=[]", f"DATASETS.TEST=[{root}:test]"]
    return [*names, f"MODEL.WEIGHTS={last_checkpoint(toy_run['output'])}"]


def test_a_test_set_without_ground_truth_gives_the_csv_that_bop_takes(toy_run, toy_root, tmp_path, capsys):
    """Its rules: METHOD_DATASET-SPLIT.csv, all target images, rotations, millimetres, one time an image."""
    root = without_truth(toy_root, tmp_path / "parts")
    truth = load_split(resolve_split("toy_test", toy_root.parent))
    found = [
        Detection(scene_id, record.im_id, item.obj_id, item.bbox_visib, 0.9, 100.0 * scene_id)
        for scene_id in (1, 2)
        for record in truth
        for item in record.instances
        if item.bbox_visib is not None
    ]
    write_detections(tmp_path / "found.json", found)
    images = sorted({(item.scene_id, item.im_id) for item in found})
    (root / "test_targets_bop24.json").write_text(json.dumps([dict(scene_id=s, im_id=i) for s, i in images]))
    more = [f"OUTPUT_DIR={tmp_path / 'out'}", "EXP_NAME=mine", "TEST.TEST_BBOX_TYPE=est", "DATASETS.DET_TOPK_PER_OBJ=9"]
    opts = [*opts_of(toy_run, root), *more, f"DATASETS.DET_FILES_TEST=[{tmp_path / 'found.json'}]"]
    for more in ([], ["VAL.TARGETS_FILENAME=test_targets_bop24.json"]):
        main(["--config-file", str(toy_run["config"]), "--eval-only", "--opts", *opts, *more])
        assert "8 of 8 images have no ground truth" in capsys.readouterr().out
    (path,) = (tmp_path / "out").rglob("*.csv")
    assert path.name == "mine_parts-test.csv" and not list((tmp_path / "out").rglob("scores.json"))
    estimates = read_results(path)
    ids = sorted(map(tuple, estimates.ids.tolist()))
    assert ids == sorted((item.scene_id, item.im_id, item.obj_id) for item in found)
    R = estimates.cam_R_obj
    assert np.abs(R @ R.transpose(0, 2, 1) - np.eye(3)).max() < 1e-6 and np.linalg.det(R).min() > 0
    assert path.read_text().splitlines()[0] == "scene_id,im_id,obj_id,score,R,t,time"
    t = np.array([line.split(",")[5].split() for line in path.read_text().splitlines()[1:]], float)
    kept = read_predictions(path.with_name("predictions.npz")).estimates
    assert t == pytest.approx(1000 * kept.cam_t_obj, rel=1e-9, abs=1e-12)  # metres inside, millimetres in the csv
    of_image = {key: {e.time for e in estimates if (e.scene_id, e.im_id) == key} for key in images}
    assert all(len(times) == 1 and 0 < min(times) - 100 * scene < 50 for (scene, _), times in of_image.items())
    main(["--config-file", str(toy_run["config"]), "--report-only", "--opts", *opts])
    assert "no ground truth" in capsys.readouterr().out
    for name in ("scene_gt.json", "scene_gt_info.json"):
        shutil.copy(toy_root / "test/000001" / name, root / "test/000001" / name)
    main(["--config-file", str(toy_run["config"]), "--report-only", "--opts", *opts])
    assert "4 of 8 images have no ground truth (scene_gt.json); the scores are of the others" in capsys.readouterr().out
    (scores,) = (tmp_path / "out").rglob("scores.json")
    assert json.loads(scores.read_text())["targets"] == 14


def test_what_cannot_be_done_without_ground_truth_is_said(toy_run, toy_root, tmp_path):
    root = without_truth(toy_root, tmp_path / "parts")
    (absent,) = (worst for kind, _, worst in examine(root, images=1).findings if kind.code == "absent")
    assert any("can be tested on, not trained or scored" in finding.what for finding in absent)
    (root / "test/000001/scene_gt.json").write_text("{}")  # as good as none
    opts = [*opts_of(toy_run, root), f"OUTPUT_DIR={tmp_path / 'out'}"]
    with pytest.raises(UserError, match=r"no ground truth .scene_gt\.json.*DET_FILES_TEST"):
        main(["--config-file", str(toy_run["config"]), "--eval-only", "--opts", *opts])
    csv = toy_run["output"] / "inference/toy_test/tiny_toy-test.csv"
    with pytest.raises(UserError, match=r"no ground truth .scene_gt\.json"):
        score([str(csv), "--dataset", str(root)])


def shifted(pose: Pose, metres: float) -> Pose:
    return Pose(pose.cam_R_obj, pose.cam_t_obj + np.array([0, 0, metres]))


def test_ground_truth_as_prediction_is_perfect_and_a_shift_of_0_11_d_fails_add(toy_run, tmp_path):
    test_set = eval_set_of(load_settings(toy_run["config"]), "toy_test")

    def score(shift_in_diameters: float, symmetric_ids: set[int]):
        estimates = [
            Estimate(r.scene_id, r.im_id, i.obj_id, 1.0, shifted(i.pose, shift_in_diameters * d), 0.0)
            for r in test_set.records
            for i in r.instances
            for d in [test_set.models_eval[i.obj_id].diameter]
        ]
        write_results(tmp_path / "e.csv", estimates)
        return evaluate(
            read_results(tmp_path / "e.csv"), test_set.records, test_set.targets, test_set.models_eval, symmetric_ids
        )

    perfect = score(0.0, test_set.symmetric_ids(()))
    for row in perfect.objects:
        recalls = {name: value for name, value in row.values.items() if name not in ("re_deg", "te_cm")}
        assert set(recalls.values()) == {1.0}, (row.name, recalls)
        assert row.values["re_deg"] < 1e-5 and row.values["te_cm"] < 1e-9
    # ADD of a pure shift is its length; ADI, to the nearest vertex, is shorter, so it isn't asked for here.
    for row in score(0.11, set()).objects:
        assert row.values["ad_0.10"] == 0.0, row.name


def cli(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "gdrn_selfocc_modeling/main_gdrn.py", *map(str, arguments)]
    root = Path(__file__).resolve().parents[1]
    return subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)


def test_the_command_line_leaves_with_one_line_and_1_or_2(toy_run):
    wrong_key = cli("--config-file", toy_run["config"], "--opts", "SOLVER.IMS_PER_BATSH=3")
    assert wrong_key.returncode == 1
    assert wrong_key.stderr.splitlines()[-1].startswith("error: --opts: unknown configuration key")
    assert cli("--no-such-option").returncode == 2


@pytest.mark.parametrize("worker_count", [0, 1])
def test_a_corrupt_image_ends_the_run_in_one_line(toy_run, toy_root, tmp_path, worker_count):
    root = tmp_path / "bop"
    shutil.copytree(toy_root, root / "toy")
    for image in (root / "toy" / "train").glob("*/rgb/*"):
        image.write_bytes(b"no image")
    opts = [f"DATASETS.ROOT={root}", f"OUTPUT_DIR={tmp_path / 'out'}", f"DATALOADER.NUM_WORKERS={worker_count}"]
    opts += ["DATASETS.TRAIN2="]
    with pytest.raises(UserError, match=r"rgb.*cannot be decoded") as caught:
        main(["--config-file", str(toy_run["config"]), "--opts", *opts])
    assert "\n" not in str(caught.value)


def edit_json(path: Path, change) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


SCENE = "test/000001"
FAULTS = {
    "folder": (lambda root: shutil.rmtree(root), "toy"),
    "split": (lambda root: shutil.rmtree(root / "test"), "test"),
    "model": (lambda root: (root / "models" / "obj_000001.ply").unlink(), r"obj_000001\.ply"),
    "models_info": (lambda root: (root / "models" / "models_info.json").unlink(), r"models_info\.json"),
    "ply": (lambda root: (root / "models" / "obj_000002.ply").write_bytes(b"ply\nno"), r"obj_000002\.ply"),
    "targets": (lambda root: (root / "test_targets_bop19.json").write_text("{"), "test_targets_bop19"),
    "no key": (
        lambda root: edit_json(
            next(iter((root / "test").iterdir())) / "scene_gt.json",
            lambda data: next(iter(data.values()))[0].pop("cam_t_m2c"),
        ),
        "cam_t_m2c",
    ),
    "no annotation": (
        lambda root: next((root / "test").glob("*/scene_gt.json")).unlink(),
        r"scene_gt\.json is missing",
    ),
    "two targets": (
        lambda root: edit_json(root / "test_targets_bop19.json", lambda data: data.append(data[0])),
        "twice",
    ),
    "size": (
        lambda root: edit_json(root / "models" / "models_info.json", lambda data: data["1"].update(size_x=-1)),
        "size_x",
    ),
    "entry": (
        lambda root: edit_json(root / "models" / "models_info.json", lambda data: data.pop("1")),
        r"no entry for the objects \[1\]",
    ),
    "flat": (
        lambda root: edit_json(root / "models" / "models_info.json", lambda data: data["1"].update(size_x=0)),
        "size_x",
    ),
    "camera": (lambda root: edit_json(root / "camera.json", lambda data: data.update(fx="abc")), r"camera\.json: fx"),
    "diameter": (
        lambda root: edit_json(root / "models" / "models_info.json", lambda data: data["1"].pop("diameter")),
        "diameter",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_data_set_is_reported_before_anything_is_written(toy_run, toy_root, tmp_path, fault):
    root = tmp_path / "bop"
    shutil.copytree(toy_root, root / "toy")
    damage, message = FAULTS[fault]
    damage(root / "toy")
    opts = [f"DATASETS.ROOT={root}", f"OUTPUT_DIR={tmp_path / 'out'}", "DATASETS.TEST=[toy_bop_test]"]
    args = ["--config-file", str(toy_run["config"]), "--opts", *opts]
    with pytest.raises(UserError, match=message) as caught:
        main(args)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_bad_input_leaves_existing_results_alone(toy_run, toy_root, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(toy_run["output"], output)
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file() and path.name != ".lock"}
    torch.save({"model": {"other.weight": torch.zeros(2)}}, tmp_path / "other.pth")
    (tmp_path / "empty.json").write_text("{}")
    weights, damaged = last_checkpoint(output), tmp_path / "bop"
    shutil.copytree(toy_root, damaged / "toy")
    for image in (damaged / "toy" / "test").glob("*/rgb/*"):
        image.write_bytes(b"no image")
    for opts, message in (
        ([f"MODEL.WEIGHTS={tmp_path / 'other.pth'}"], "another network"),
        ([f"MODEL.WEIGHTS={tmp_path / 'absent.pth'}"], "missing"),
        (["TEST.TEST_BBOX_TYPE=est"], "DET_FILES_TEST"),
        (["TEST.TEST_BBOX_TYPE=est", f"DATASETS.DET_FILES_TEST=[{tmp_path / 'empty.json'}]"], "empty"),
        (["DATASETS.OBJS=[mugg]"], "mugg"),
        ([f"OUTPUT_DIR={tmp_path / 'empty.json'}", f"MODEL.WEIGHTS={weights}"], "cannot be written"),
        ([f"DATASETS.ROOT={damaged}"], r"rgb.*cannot be decoded"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            main(["--config-file", str(toy_run["config"]), "--eval-only", "--opts", f"OUTPUT_DIR={output}", *opts])
        assert "\n" not in str(caught.value)
    assert before == {path: path.read_bytes() for path in output.rglob("*") if path.is_file() and path.name != ".lock"}
