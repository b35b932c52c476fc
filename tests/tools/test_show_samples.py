"""The picture of training samples."""

from __future__ import annotations

import pytest

from core.utils.errors import UserError
from core.utils.files import read_image
from tools.show_samples import main


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


def test_a_missing_data_set_leaves_no_picture(arguments, tmp_path):
    with pytest.raises(UserError, match="toy"):
        main([*arguments, "--opts", f"DATASETS.ROOT={tmp_path}"])
    assert not (tmp_path / "samples.png").exists()
