"""The script that writes a rendered split."""

from __future__ import annotations

import json

import pytest

from core.bop.datasets import resolve_split
from core.bop.scene import load_split
from core.utils.errors import UserError
from gdrn_selfocc_modeling.tools.generate_training_images import main

SMALL = ["--images", "2", "--images-per-scene", "2", "--objects-per-image", "2", "3", "--workers", "1"]
CAMERA = ["CAD.K=(100, 100, 48, 32)", "CAD.IMAGE_SIZE=(96, 64)"]


def test_a_folder_of_models_becomes_a_data_set_with_images(toy_root, tmp_path, capsys):
    output = tmp_path / "mine"
    arguments = [*SMALL, "--dataset-root", str(toy_root), "--output", str(output), "--opts", *CAMERA]
    main(arguments)
    assert "1 scenes written" in capsys.readouterr().out
    records = load_split(resolve_split("mine_train_cad", tmp_path))
    assert len(records) == 2 and (output / "camera.json").is_file()
    assert {path.name for path in (output / "models").iterdir()} == {
        path.name for path in (toy_root / "models").iterdir()
    }
    main(arguments)
    assert "0 scenes written, 1 were finished" in capsys.readouterr().out


def test_a_configuration_says_how_images_look(toy_root, tmp_path, repository):
    config = repository / "configs/gdrn_selfocc/toy/from_cad.py"
    options = [f"DATASETS.ROOT={toy_root.parent}", *CAMERA]
    main([*SMALL, "--config-file", str(config), "--output", str(tmp_path), "--format", "png", "--opts", *options])
    camera = json.loads((tmp_path / "train_cad/000001/scene_camera.json").read_text())
    assert camera["0"]["cam_K"] == [100, 0, 48, 0, 100, 32, 0, 0, 1]
    assert len(list(tmp_path.glob("train_cad/000001/rgb/*.png"))) == 2


@pytest.mark.parametrize("wrong", [("--split", "cad"), ("--split", "a/b"), ("--nothing",)])
def test_wrong_usage_leaves_with_2(toy_root, wrong):
    with pytest.raises(SystemExit) as left:
        main([*SMALL, "--dataset-root", str(toy_root), *wrong])
    assert left.value.code == 2


def test_a_folder_without_models_is_told(tmp_path):
    with pytest.raises(UserError, match="models"):
        main([*SMALL, "--dataset-root", str(tmp_path)])
