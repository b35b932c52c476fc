"""The configurations that are shipped, and those of the ancestors."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.config.load import read_config
from core.utils.errors import UserError
from gdrn_selfocc_modeling.losses.build import build_criterion
from gdrn_selfocc_modeling.models.build import build_model
from gdrn_selfocc_modeling.settings import SCHEMA, WITHOUT_EFFECT, load_settings

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


@pytest.mark.parametrize("name", ["lmo/gdrn_selfocc_multistep_40E", "ycbv/gdrn_selfocc_multistep_10e"])
def test_losses_are_weighted_as_released(name, real_data: Path, tmp_path):
    path = real_data.parent / "parity" / "config_keys.json"
    if not path.is_file():
        pytest.skip(f"no list of the ancestor's keys at {path}")
    (tmp_path / "theirs.json").write_text(json.dumps(nested(json.loads(path.read_text())[name])))
    ours, theirs = (
        load_settings(SCHEMA.parents[1] / "gdrn_selfocc" / f"{name}.py"),
        load_settings(tmp_path / "theirs.json"),
    )
    assert ours.MODEL.POSE_NET.LOSS_CFG == theirs.MODEL.POSE_NET.LOSS_CFG


def keys_of(section: dict, prefix: str = "") -> Iterator[str]:
    for key, value in section.items():
        if not isinstance(value, dict):
            yield prefix + key
        elif key != "INIT_CFG":  # arguments of a constructor
            yield from keys_of(value, f"{prefix}{key}.")


def test_every_key_is_read_or_said_to_be_without_effect(repository):
    folders = (repository / "core", repository / "gdrn_selfocc_modeling")
    sources = " ".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))
    words = set(re.findall(r"\w+", sources))
    known = [key for key in keys_of(read_config(SCHEMA).to_dict()) if key not in WITHOUT_EFFECT]
    assert [key for key in known if key.rpartition(".")[2] not in words] == []


@pytest.mark.parametrize("override", ["TEST.USE_PNP=True", "SOLVER.REFERENCE_BS=48"])
def test_options_that_are_not_built_yet_are_refused_rather_than_ignored(override):
    with pytest.raises(UserError, match="not available"):
        load_settings(SHIPPED[0], [override])


def test_an_underscore_never_reaches_the_name_of_a_result(tmp_path):
    (tmp_path / "my_own_run.py").write_text("SEED = 1\n")
    assert load_settings(tmp_path / "my_own_run.py").EXP_NAME == "my-own-run"


def test_neither_underscore_nor_slash_of_a_given_name_reaches_it():
    assert load_settings(SHIPPED[0], ["EXP_NAME=a_b/c"]).EXP_NAME == "a-b-c"


@pytest.mark.parametrize(
    "override",
    [
        *("SOLVER.IMS_PER_BATCH=0", "SOLVER.TOTAL_EPOCHS=-3", "TEST.IMS_PER_BATCH=0", "DATALOADER.NUM_WORKERS=-1"),
        *("VAL.REPORT_CASES=-1", "CAD.MAX_OCCLUDERS=-1", "INPUT.DZI_PAD_SCALE=0"),
        *("MODEL.PIXEL_MEAN=[0]", "CAD.Z_RANGE=[1]", "CAD.BLUR=[0.1, 0.2, 0.3]"),
        *("DATASETS.TRAIN=[3]", "DATASETS.OBJS=[null]", "DATASETS.DET_FILES_TEST=[[]]"),
    ],
)
def test_values_that_mean_nothing_are_told_by_their_key(override):
    with pytest.raises(UserError, match=override.partition("=")[0]):
        load_settings(SHIPPED[0], [override])


def test_a_misspelt_argument_of_a_head_is_told():
    with pytest.raises(UserError, match=r"did you mean .*INIT_CFG\.feat_dim"):
        load_settings(SHIPPED[0], ["MODEL.POSE_NET.GEO_HEAD.INIT_CFG.featdims=3"])
