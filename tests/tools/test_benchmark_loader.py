"""The benchmark of rendered samples runs and measures what it says; no time is asserted."""

from __future__ import annotations

import pytest

from sopose.core.render import shade
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import read_json
from tools.benchmarks.loader import PARTS, main


@pytest.fixture
def arguments(repository, toy_root, tmp_path) -> list[str]:
    config = repository / "configs/gdrn_selfocc/toy/from_cad.py"
    sizes = ["--samples", "2", "--images", "1", "--objects", "3", "--rounds", "0"]
    options = [f"DATASETS.ROOT={toy_root.parent}", "DATASETS.TRAIN2=", "DATASETS.TRAIN2_RATIO=0.0"]
    return ["--config-file", str(config), *sizes, "--json", str(tmp_path / "a.json"), "--opts", *options]


def test_numbers_are_measured_and_nothing_stays_patched(arguments, tmp_path):
    before = shade.shade
    main(arguments)
    results = read_json(tmp_path / "a.json")
    shares = {name: results["samples"][f"share_{name}"] for name in PARTS}
    assert 0 < shares["maps"] < shares["picture"] <= 1.2 and results["image"]["cpu_s"] > 0
    assert shade.shade is before


def test_it_is_for_rendered_samples(arguments):
    with pytest.raises(UserError, match="_cad"):
        main([*arguments, "DATASETS.TRAIN=[toy_train]"])
