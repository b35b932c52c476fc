"""The script that writes a rendered split."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from sopose.core.bop.scene import load_split
from sopose.core.bop.splits import resolve_split
from sopose.core.utils.errors import UserError
from sopose.tools.generate_training_images import main

SMALL = ["--images", "2", "--images-per-scene", "2", "--objects-per-image", "2", "3", "--workers", "1"]
CAMERA = ["CAD.K=(100, 100, 48, 32)", "CAD.IMAGE_SIZE=(96, 64)"]


def test_a_folder_of_models_becomes_a_data_set_with_images(toy_root, tmp_path, capsys):
    output = tmp_path / "mine"
    arguments = [*SMALL, "--dataset-root", str(toy_root), "--output", str(output), "--opts", *CAMERA]
    main(arguments)
    assert "1 scenes written" in capsys.readouterr().out
    records = load_split(resolve_split("mine_train_cad", tmp_path))
    assert len(records) == 2 and (output / "camera.json").is_file()
    names = [resolve_split(split, tmp_path).object_names for split in (f"{toy_root}:train", "mine_train_cad")]
    assert names[0] == names[1]
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


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_writes_the_bytes_of_one_process(toy_root, tmp_path):
    distributed = pytest.importorskip("distributed")
    arguments = ["--images", "16", "--images-per-scene", "2", "--objects-per-image", "2", "3"]
    arguments += ["--dataset-root", str(toy_root), "--opts", *CAMERA]
    main([*arguments, "--workers", "1", "--output", str(tmp_path / "alone")])
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        victim, scenes = next(iter(cluster.workers.values())).pid, tmp_path / "cluster/train_cad"

        def finished() -> int:
            return len(list(scenes.glob("00*/scene_gt.json")))

        def half_written() -> list[Path]:
            return list(scenes.glob(f".*.{victim}.part/rgb/*"))

        def kill_amid_the_work() -> None:
            end = time.monotonic() + 120
            while not (finished() and half_written()) and time.monotonic() < end:
                time.sleep(0.002)
            os.kill(victim, signal.SIGKILL)
            killed_at.append(finished())

        killed_at: list[int] = []
        killer = threading.Thread(target=kill_amid_the_work)
        killer.start()
        main([*arguments, "--cluster", cluster.scheduler_address, "--output", str(tmp_path / "cluster")])
        killer.join()
    assert 0 < killed_at[0] < 8, "the worker died amid the work"
    assert files_of(tmp_path / "cluster") == files_of(tmp_path / "alone")


@pytest.mark.parametrize("wrong", [("--split", "cad"), ("--split", "a/b"), ("--nothing",)])
def test_wrong_usage_leaves_with_2(toy_root, wrong):
    with pytest.raises(SystemExit) as left:
        main([*SMALL, "--dataset-root", str(toy_root), *wrong])
    assert left.value.code == 2


def test_a_folder_without_models_is_reported(tmp_path):
    with pytest.raises(UserError, match="models"):
        main([*SMALL, "--dataset-root", str(tmp_path)])
