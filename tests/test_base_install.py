"""Without torch, scipy and what else the extra `train` brings: poses by exported networks are those of torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from sopose.core.bop.detections import Detection, write_detections
from sopose.core.bop.scene import load_split
from sopose.core.bop.splits import resolve_split
from sopose.core.detection.facts import DetectorDesign, DetectorFacts
from sopose.core.detection.model import build_detector
from sopose.core.detection.on_torch import save_detector
from tests.support.command import verb
from tests.support.only_base import BASE

NAMES = ("bracket", "mug", "cross", "bottle")
IMPORTED_AS = {"opencv-python-headless": "cv2", "pyyaml": "yaml"}
DEGREES, METRES, SCORE = 0.1, 5e-4, 5e-3


def only_base(*words: object) -> subprocess.CompletedProcess[str]:
    """What the command says where only the base packages are."""
    script = Path(__file__).parent / "support" / "only_base.py"
    return subprocess.run([sys.executable, str(script), *map(str, words)], capture_output=True, text=True)


def test_the_list_of_base_packages_is_that_of_the_project(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    names = [text.partition(">")[0] for text in project["dependencies"]]
    assert {IMPORTED_AS.get(name, name) for name in names} <= set(BASE)


@pytest.mark.parametrize("words", [["train", "--config-file", "a.py"], ["score", "a.csv", "--dataset", "b"]])
def test_a_verb_that_needs_more_says_what_to_install(words):
    done = only_base(*words)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search(r"sopose (train|score) needs the package \w+, which is missing; pip install", done.stderr)


def test_weights_of_torch_are_answered_by_what_to_do(repository, toy_root):
    weights = repository / "configs" / "gdrn_selfocc" / "toy" / "demo.safetensors"
    done = only_base("predict", next((toy_root / "test").iterdir()), "--checkpoint", weights, "--box", "mug,1,1,20,20")
    assert done.returncode == 1
    assert "runs by torch, which is not installed; pip install 'sopose[train]', or give a file that" in done.stderr


@pytest.fixture(scope="module")
def networks(repository, tmp_path_factory) -> dict[str, Path]:
    """The demo's network and a detector with random weights, each by torch and as .onnx."""
    pytest.importorskip("onnxscript", reason="exports need onnxscript")
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    facts = DetectorFacts(NAMES, (1, 2, 3, 4), DetectorDesign(side=320))
    network = build_detector(len(NAMES), facts.design).eval()
    torch.nn.init.normal_(network.head.classification_head.cls_logits.bias)
    save_detector(network, facts, folder / "detector.safetensors")
    weights = repository / "configs" / "gdrn_selfocc" / "toy" / "demo.safetensors"
    found = {"pose.safetensors": weights, "detector.safetensors": folder / "detector.safetensors"}
    for name in ("pose", "detector"):
        found[f"{name}.onnx"] = folder / f"{name}.onnx"
        verb("export")(["--checkpoint", str(found[f"{name}.safetensors"]), "--output", str(found[f"{name}.onnx"])])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("looks", [False, True], ids=["detected", "true boxes, refined"])
def test_images_to_poses_without_torch(networks, toy_root, tmp_path, looks):
    """Once with all packages, once with the base alone; the detector has learned nothing, its boxes are anywhere."""
    scene = next((toy_root / "test").iterdir())
    words = [scene, "--models", toy_root / "models", "--threshold", "0.01", "--limit", "3"]
    if looks:
        records = load_split(resolve_split("toy_test", toy_root.parent))
        boxes = [
            Detection(record.scene_id, record.im_id, instance.obj_id, instance.bbox_obj, 0.9, 0.0)
            for record in records
            for instance in record.instances
            if instance.visib_fract > 0.5
        ]
        write_detections(tmp_path / "boxes.json", boxes)
        words += ["--boxes", tmp_path / "boxes.json", "--looks", "2"]
    found = {}
    for kind, run in {"safetensors": verb("predict"), "onnx": None}.items():
        own = ["--checkpoint", networks[f"pose.{kind}"], "--output", tmp_path / kind]
        everything = [*words, *own, *([] if looks else ["--detector", networks[f"detector.{kind}"]])]
        if run is not None:
            run([str(word) for word in everything])
        else:
            done = only_base("predict", *everything)
            assert done.returncode == 0, done.stderr[-2000:]
        entries = json.loads((tmp_path / kind / "poses.json").read_text())
        found[kind] = [(entry["image"], pose) for entry in entries for pose in entry["poses"]]
        assert len(list((tmp_path / kind / "pictures").iterdir())) == 3
    assert len(found["onnx"]) == len(found["safetensors"]) > 2
    for (image, one), (other_image, other) in zip(*found.values(), strict=True):
        assert image == other_image and one["object"] == other["object"]
        assert one["score"] == pytest.approx(other["score"], abs=SCORE)
        turn = np.array(one["cam_R_obj"]) @ np.array(other["cam_R_obj"]).T
        assert np.degrees(Rotation.from_matrix(turn).magnitude()) < DEGREES
        assert np.linalg.norm(np.subtract(one["cam_t_obj"], other["cam_t_obj"])) < METRES


def test_the_refiner_comes_along_in_both_forms(repository):
    """The .onnx file is of the weights beside it."""
    from sopose.core.engine.onnx_runtimes import open_session
    from sopose.export.refiner_graph import made_up_look
    from sopose.models.refiner_file import load_refiner

    path = repository / "configs" / "gdrn_selfocc" / "refiner" / "any_object.safetensors"
    network, design = load_refiner(path)
    seen = made_up_look(design, 2)
    with torch.inference_mode():
        wanted = network.eval().displacements(**seen)
    session = open_session(path.with_suffix(".onnx"), "cpu")
    given = session.run({name: values.numpy() for name, values in seen.items()})
    for name, values in zip(session.outputs, given, strict=True):
        np.testing.assert_allclose(values, getattr(wanted, name).numpy(), atol=1e-2)  # cells


def page_script(repository: Path) -> str:
    """The Python code of docs/poses.md, "From Python"."""
    page = (repository / "docs" / "poses.md").read_text()
    return re.search(r"^## From Python\n+```python\n(.*?)^```", page, re.M | re.S)[1]


def test_ten_lines_from_an_image_to_poses(repository):
    lines = [line for line in page_script(repository).splitlines() if line.strip()]
    assert len(lines) <= 10


@pytest.mark.slow
def test_the_page_s_lines_run_without_torch(networks, repository, toy_root, tmp_path):
    scene = next((toy_root / "test").iterdir())
    photo = sorted((scene / "rgb").iterdir())[0]
    for name, path in {"photo.jpg": photo, "models": toy_root / "models"}.items():
        (tmp_path / name).symlink_to(path)
    for name in ("pose.onnx", "detector.onnx"):
        (tmp_path / name).symlink_to(networks[name])
    script = page_script(repository).replace("(572.4, 573.6, 325.3, 242.0)", "(300.0, 300.0, 159.5, 119.5)")
    (tmp_path / "ten.py").write_text(script.replace('"photo.jpg", K)', '"photo.jpg", K, threshold=0.01)'))
    script = Path(__file__).parent / "support" / "only_base.py"
    done = subprocess.run([sys.executable, str(script), "ten.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() and (tmp_path / "poses.jpg").is_file()


def test_importing_the_package_imports_no_torch():
    code = "import sys, sopose; assert not {'torch', 'cv2', 'numpy'} & set(sys.modules); sopose.PoseEstimator; "
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
