"""What tests are made of trains nothing: no image of a test split, and no photograph that is left out.

All training programs run on toy data while every file that is read as an image is noted, by its path and by the hash of
its content: a copy under another name would be found too.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sopose.core.images import files
from sopose.core.images.files import image_files, write_image
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.utils.errors import UserError
from sopose.main_gdrn import main as train
from sopose.settings import load_settings
from sopose.tools.generate_training_images import main as render
from tests.support.command import verb

train_detector = verb("detector")
train_refiner = verb("refiner")

LEFT_OUT = "*[89].jpg"


def content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Twenty photographs; those that end in 8 or 9 are for tests."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(20):
        image = np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8)
        write_image(folder / f"{number:04d}.jpg", image)
    return folder


@pytest.fixture
def read(monkeypatch) -> list[Path]:
    """The image files that are read, all through one function."""
    noted: list[Path] = []
    original: Callable[[Path, str], bytes] = files._read_bytes

    def note(path: Path, remedy: str) -> bytes:
        noted.append(Path(path).resolve())
        return original(path, remedy)

    monkeypatch.setattr(files, "_read_bytes", note)
    return noted


def small(toy_root: Path, photos: Path, output: Path) -> list[str]:
    return [
        f"DATASETS.ROOT={toy_root.parent}",
        f"INPUT.BG_IMGS_ROOT={photos}",
        f"INPUT.BG_LEFT_OUT=['{LEFT_OUT}']",
        "INPUT.CHANGE_BG_PROB=1.0",
        "DATALOADER.NUM_WORKERS=0",
        f"OUTPUT_DIR={output}",
    ]


def check(read: list[Path], toy_root: Path, photos: Path, seen: Path | None = None) -> None:
    """Nothing that tests are made of was read; images of a folder were, by default the photographs."""
    kept_away = {*image_files(toy_root / "test", deep=True), *photos.glob(LEFT_OUT)}
    hashes = {content(path) for path in kept_away}
    assert len(kept_away) > 4
    assert not {path for path in read if path in {one.resolve() for one in kept_away}}
    assert not {path for path in set(read) if content(path) in hashes}
    assert [path for path in read if path.is_relative_to((seen or photos).resolve())], "the test would see nothing"


@pytest.mark.parametrize("split", ["train", "cad"])
def test_networks_learn_from_no_test_image(split, toy_run, toy_root, photos, read, tmp_path):
    opts = [
        f"DATASETS.TRAIN=[toy_{split}]",
        "DATASETS.TRAIN2=[]",
        "DATASETS.TEST=[]",
        "CAD.EPOCH_LENGTH=4",
        "CAD.GROUND_PROB=1.0",
    ]
    opts += ["SOLVER.TOTAL_EPOCHS=1", "SOLVER.IMS_PER_BATCH=2", "CAD.HIDE_PROB=1.0"]
    train(["--config-file", str(toy_run["config"]), "--opts", *opts, *small(toy_root, photos, tmp_path)])
    check(read, toy_root, photos, toy_root / "train" if split == "train" else photos)


@pytest.mark.slow
def test_detectors_learn_from_no_test_image(toy_root, photos, read, tmp_path):
    opts = [one for one in small(toy_root, photos, tmp_path) if not one.startswith("OUTPUT_DIR")]
    words = f"--config-file configs/gdrn_selfocc/toy/demo.py --output {tmp_path} --epochs 1 --workers 0"
    train_detector(
        [*words.split(), "--opts", *opts, "DATASETS.TRAIN=[toy_cad]", "CAD.EPOCH_LENGTH=8", "DATASETS.TEST=[]"]
    )
    check(read, toy_root, photos)


@pytest.mark.slow
def test_refiners_learn_from_no_test_image(toy_root, photos, read, tmp_path):
    opts = ["SOLVER.TOTAL_EPOCHS=1", "SOLVER.IMS_PER_BATCH=2", "CAD.EPOCH_LENGTH=4", "CAD.HIDE_PROB=1.0", "CAD.REUSE=1"]
    opts += ["MODEL.REFINE.PRETRAINED="]
    arguments = ["--config-file", "configs/gdrn_selfocc/refiner/toy.py"]
    train_refiner([*arguments, "--opts", *small(toy_root, photos, tmp_path), *opts])
    check(read, toy_root, photos)


def test_rendered_images_show_no_test_image(toy_root, photos, read, tmp_path):
    arguments = ["--dataset-root", str(toy_root), "--output", str(tmp_path), "--images", "4", "--workers", "1"]
    render([*arguments, "--opts", *small(toy_root, photos, tmp_path)])
    check(read, toy_root, photos)


def test_photographs_are_left_out_in_folders_too(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "more" / "deep")
    (tmp_path / "a9.jpg").write_bytes((photos / "0001.jpg").read_bytes())
    names = {path.name for path in Backgrounds(tmp_path / "more", left_out=["deep/*9.jpg"]).paths}
    assert names == {f"{number:04d}.jpg" for number in range(20) if number % 10 != 9}
    with pytest.raises(UserError, match=r"BG_LEFT_OUT leaves out all 21 images"):
        Backgrounds(tmp_path, left_out=["*"])


def test_our_configurations_leave_the_same_photographs_out(repository):
    for name in ("lmo/cad_only_cpu.py", "lmo/cad_only_lite.py", "lmo/cad_only_eight.py", "refiner/any_object.py"):
        settings = load_settings(repository / "configs" / "gdrn_selfocc" / name, [])
        assert settings.input.bg_left_out == ("*8.jpg", "*9.jpg"), name
