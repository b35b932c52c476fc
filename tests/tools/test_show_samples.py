"""The picture of training samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from sopose.core.data.replay import Place
from sopose.core.images.files import read_image
from sopose.core.utils.errors import UserError
from sopose.data.build import ObjectCache, build_train_dataset
from sopose.settings import load_settings
from sopose.vis.samples import choose
from tests.support.command import verb

main = verb("samples")


@pytest.fixture
def arguments(repository, toy_root, tmp_path) -> list[str]:
    config = repository / "configs/gdrn_selfocc/toy/demo.py"
    return ["--config-file", str(config), "--output", str(tmp_path / "samples.png"), "--size", "40"]


@pytest.mark.parametrize("split", ["toy_train", "toy_cad"])
def test_a_row_of_seven_pictures_is_drawn_for_each_sample(arguments, toy_root, tmp_path, split):
    main(
        [
            *arguments,
            "--count",
            "3",
            "--opts",
            f"DATASETS.ROOT={toy_root.parent}",
            f"DATASETS.TRAIN=[{split}]",
        ]
    )
    height, width, _ = read_image(tmp_path / "samples.png").shape
    assert height % 3 == 0 and width % 7 == 0 and width > 7 * 40


def test_a_grid_shows_the_crops_alone(arguments, toy_root, tmp_path):
    main([*arguments, "--grid", "5", "--opts", f"DATASETS.ROOT={toy_root.parent}", "DATASETS.TRAIN=[toy_cad]"])
    picture = read_image(tmp_path / "samples.png")
    assert picture.shape == (80, 120, 3)
    assert picture[:, :80].any() and not picture[40:, 80:].any()


def test_uses_of_a_window_are_shown_one_after_another(arguments, toy_root, tmp_path):
    where = [f"DATASETS.ROOT={toy_root.parent}", "DATASETS.TRAIN=[toy_cad]"]
    main([*arguments, "--count", "5", "--opts", *where, "CAD.REUSE=3", "CAD.POOL=8"])
    height, _, _ = read_image(tmp_path / "samples.png").shape
    assert height % 5 == 0
    settings = load_settings(Path(arguments[1]), [*where, "CAD.REUSE=3", "CAD.POOL=8"])
    source = build_train_dataset(settings, ObjectCache(settings.datasets, settings.model.pose_net))
    schedule = source.pool.schedule
    windows = [schedule.thing(Place(0, number)) for number, _ in choose(source, 5, seed=0)]
    assert windows[:3] == [windows[0]] * 3 and windows[3:] == [windows[3]] * 2 and windows[0] != windows[3]


def test_a_missing_data_set_leaves_no_picture(arguments, tmp_path):
    with pytest.raises(UserError, match="toy"):
        main([*arguments, "--opts", f"DATASETS.ROOT={tmp_path}"])
    assert not (tmp_path / "samples.png").exists()


@pytest.mark.parametrize(
    "wrong", [("--size", "0"), ("--count", "0"), ("--grid", "-1"), ("--seed", "-1"), ("--nothing",)]
)
def test_wrong_usage_leaves_with_2(arguments, wrong):
    with pytest.raises(SystemExit) as left:
        main([*arguments, *wrong])
    assert left.value.code == 2


def test_the_picture_s_name_is_checked_before_work(arguments, tmp_path):
    for output in ("a.txt", "samples.png/a.png"):
        (tmp_path / "samples.png").write_text("")
        with pytest.raises(UserError, match=r"choose another|use a"):
            main([*arguments, "--output", str(tmp_path / output)])
