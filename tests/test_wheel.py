"""The wheel, installed where nothing of the project is: from a CAD file to poses in an empty folder.

The folder has a `core` and a `tools` of its own, whose modules fail when they are imported: the package must not take
them for its own. The packages that it needs are those of the environment that tests run in.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable

import pytest
import trimesh

pytestmark = pytest.mark.slow
QUICK = ["CAD.EPOCH_LENGTH=6", "SOLVER.IMS_PER_BATCH=2", "SOLVER.TOTAL_EPOCHS=1", "DATALOADER.NUM_WORKERS=0"]
TRAP = "raise RuntimeError('the user\\'s own package was imported')\n"
CONFIG = "configs/gdrn_selfocc/custom/cad_only_small.py"
MODEL = "output/gdrn_selfocc/mine/cad_only_small/model_final.safetensors"


@pytest.fixture(scope="module")
def sopose(repository, tmp_path_factory) -> Callable[..., str]:
    """`sopose(*words)`: what the installed command says, in an empty folder."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", str(repository), "--no-deps", "--no-build-isolation", "-w", str(folder)], check=True)
    (wheel,) = folder.glob("sopose-*.whl")
    subprocess.run([*pip, "install", str(wheel), "--no-deps", "--target", str(folder / "site")], check=True)
    place = folder / "place"
    for name in ("core", "tools"):
        (place / name).mkdir(parents=True)
        (place / name / "__init__.py").write_text(TRAP)
    # Paths of PYTHONPATH are searched, their .pth files aren't read: an editable install stays unseen.
    paths = os.pathsep.join([str(folder / "site"), sysconfig.get_path("purelib")])
    environment = {**os.environ, "PYTHONPATH": paths}
    environment.pop("SOPOSE_ROOT", None)
    command = folder / "site" / "bin" / "sopose"

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, str(command), *words], cwd=place, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    run.place = place
    return run


def test_an_installed_wheel_leads_from_a_cad_file_to_poses(sopose):
    base = trimesh.creation.box((60, 40, 8))
    wall = trimesh.creation.box((8, 40, 50), trimesh.transformations.translation_matrix((-26, 0, 25)))
    trimesh.util.concatenate([base, wall]).export(sopose.place / "part.stl")
    assert sopose("--version").startswith("sopose 0.")
    root = "datasets/BOP_DATASETS/mine"
    camera = ["--camera", "615,615,319.5,239.5", "--image-size", "640,480"]
    sopose("new", "--root", root, "--units", "mm", *camera, "part.stl")
    sopose("render", "--dataset-root", root, "--split", "val", "--images", "2", "--workers", "1")
    words = ["CAD.Z_RANGE=0.24,0.95", "DATASETS.TEST=[mine_val]", "INPUT.BG_IMGS_ROOT=", *QUICK]
    sopose("train", "--config-file", CONFIG, "--opts", *words)
    scores = "output/gdrn_selfocc/mine/cad_only_small/inference/mine_val/scores.json"
    (sopose.place / scores).unlink()
    sopose("eval", "--config-file", CONFIG, "--opts", *words)
    assert (sopose.place / scores).is_file()
    box = ["--box", "part,100,100,300,300"]
    said = sopose("predict", f"{root}/val/000001", "--checkpoint", MODEL, *box, "--models", f"{root}/models")
    assert "poses in 2 images" in said
    assert "ADD" in sopose("score", "output/predictions/poses.csv", "--dataset", root, "--split", "val")
    sopose("export", "--checkpoint", MODEL, "--output", "model.onnx")
    assert (sopose.place / "model.onnx").is_file()
