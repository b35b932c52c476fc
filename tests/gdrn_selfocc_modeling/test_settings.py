"""The configurations that are shipped, and those of the ancestors."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from core.utils.errors import UserError
from gdrn_selfocc_modeling.losses.build import build_criterion
from gdrn_selfocc_modeling.models.build import build_model
from gdrn_selfocc_modeling.settings import SCHEMA, load_settings

SHIPPED = sorted(path for path in SCHEMA.parents[1].rglob("*.py") if "_base_" not in path.parts)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_shipped_configurations_build_a_network_and_its_losses(path, caplog):
    with caplog.at_level(logging.WARNING):
        cfg = load_settings(path)
    assert not caplog.records  # none sets a key without effect
    assert "_" not in cfg.EXP_NAME
    model = build_model(cfg, pretrained=False)
    assert sum(parameter.numel() for parameter in model.parameters()) > 1e5
    assert build_criterion(cfg).terms


def nested(flat: dict[str, object]) -> dict[str, object]:
    tree: dict[str, object] = {}
    for name, value in flat.items():
        *groups, key = name.split(".")
        level = tree
        for group in groups:
            level = level.setdefault(group, {})
        level[key] = value
    return tree


@pytest.mark.parametrize("name", ["base", "lmo/gdrn_selfocc_multistep_40E", "ycbv/gdrn_selfocc_multistep_10e"])
def test_files_of_the_ancestor_load_and_their_values_arrive(name, real_data: Path, tmp_path):
    path = real_data.parent / "parity" / "config_keys.json"
    if not path.is_file():
        pytest.skip(f"no list of the ancestor's keys at {path}")
    flat = json.loads(path.read_text())[name]
    (tmp_path / "theirs.json").write_text(json.dumps(nested(flat)))
    cfg = load_settings(tmp_path / "theirs.json")
    for key, value in flat.items():
        if key == "EXP_NAME":
            continue
        got = cfg
        for part in key.split("."):
            got = got[part]
        assert (list(got) if isinstance(got, tuple) else got) == value, key


@pytest.mark.parametrize("override", ["TEST.USE_PNP=True", "SOLVER.REFERENCE_BS=48"])
def test_options_that_are_not_built_yet_are_refused_rather_than_ignored(override):
    with pytest.raises(UserError, match="not available"):
        load_settings(SHIPPED[0], [override])


def test_an_underscore_never_reaches_the_name_of_a_result(tmp_path):
    (tmp_path / "my_own_run.py").write_text("SEED = 1\n")
    assert load_settings(tmp_path / "my_own_run.py").EXP_NAME == "my-own-run"
