"""The configurations that are shipped, and those of the ancestors."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sopose.core.bop.detections import read_detections
from sopose.core.config.check import is_retired, leaf_keys
from sopose.core.config.load import look_up
from sopose.core.config.typed import field_keys
from sopose.core.engine.checkpoint import read_checkpoint
from sopose.core.utils.errors import UserError
from sopose.data.build import build_backgrounds
from sopose.models.layers.blocks import TrunkConfig
from sopose.models.pnp_net import PnPConfig
from sopose.models.pnp_solvers import PNP_TYPES
from sopose.settings import SCHEMA, Settings, load_settings, plain_settings, save_settings, settings_of
from sopose.settings.load import PNP_CHOICES, keys_without_effect, schema
from sopose.settings.rules import ANCESTOR_TARGETS, RULES
from tests.support.builders import criterion_of, model_of

SHIPPED = sorted(path for path in SCHEMA.parents[1].rglob("*.py") if "_base_" not in path.parts)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_shipped_configurations_build_a_network_and_its_losses(path, caplog):
    with caplog.at_level(logging.WARNING):
        cfg = load_settings(path)
    assert not caplog.records  # none sets a key without effect
    assert "_" not in cfg.exp_name
    model = model_of(cfg, pretrained=False)
    assert sum(parameter.numel() for parameter in model.parameters()) > 1e5
    assert criterion_of(cfg).terms


def nested(flat: dict[str, object]) -> dict[str, object]:
    tree: dict[str, object] = {}
    for name, value in flat.items():
        *groups, key = name.split(".")
        level = tree
        for group in groups:
            level = level.setdefault(group, {})
        level[key] = value
    return tree


@pytest.fixture(scope="module")
def ancestor(real_data: Path) -> dict[str, dict[str, object]]:
    """The ancestor's keys: its defaults ("base") and what its released files change."""
    path = real_data.parent / "parity" / "config_keys.json"
    if not path.is_file():
        pytest.skip(f"no list of the ancestor's keys at {path}")
    return json.loads(path.read_text())


def plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


# Where our default is another one.
OTHER_DEFAULTS = {
    "INPUT.BG_IMGS_ROOT": "a folder of the ancestor's machine; ours draws backgrounds where there is none",
    "DATALOADER.NUM_WORKERS": "4 processes, however many cores there are; ours goes by the cores",
    "VAL.TARGETS_FILENAME": "a file for the ancestor's script; ours takes the data set's own targets",
}


def test_defaults_are_the_ancestors(ancestor):
    ours = dict(leaf_keys(schema()))
    differing = [key for key, value in ancestor["base"].items() if plain(ours[key]) != value]
    assert differing == list(OTHER_DEFAULTS)


@pytest.mark.parametrize("name", ["base", "lmo/gdrn_selfocc_multistep_40E", "ycbv/gdrn_selfocc_multistep_10e"])
def test_files_of_the_ancestor_load_and_their_values_arrive(name, ancestor, tmp_path):
    flat = ancestor[name]
    (tmp_path / "theirs.json").write_text(json.dumps(nested(flat)))
    values, ignored = plain_settings(load_settings(tmp_path / "theirs.json")), keys_without_effect()
    for key, value in flat.items():
        if key == "EXP_NAME" or value == ANCESTOR_TARGETS or key in ignored:
            continue
        assert plain(look_up(values, key)) == value, key


def test_a_released_file_runs_where_its_base_is_not(ancestor, tmp_path, caplog):
    groups = nested(ancestor["lmo/gdrn_selfocc_multistep_40E"])
    groups["SOLVER"]["OPTIMIZER_CFG"] = {"_delete_": True, "type": "Ranger", "lr": 1e-4, "weight_decay": 0}
    lines = [f"{key} = {value!r}" for key, value in groups.items()]
    (tmp_path / "theirs.py").write_text("\n".join(['_base_ = ["../../_base_/gdrn_base.py"]', *lines]))
    with caplog.at_level(logging.INFO):
        cfg = load_settings(tmp_path / "theirs.py")
    assert cfg.solver.optimizer_cfg == {"type": "Ranger", "lr": 1e-4, "weight_decay": 0}
    assert cfg.model.pose_net.pnp_net.init_cfg.act == "gelu"
    assert cfg.model.pose_net.pnp_net.init_cfg.norm == "GN"
    assert "gdrn_base.py takes its place" in caplog.text


def test_the_ancestors_default_targets_are_the_data_sets_own(tmp_path, caplog):
    (tmp_path / "theirs.py").write_text(f"VAL = dict(TARGETS_FILENAME='{ANCESTOR_TARGETS}')")
    with caplog.at_level(logging.INFO):
        assert load_settings(tmp_path / "theirs.py").val.targets_filename == ""
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert load_settings(tmp_path / "theirs.py", ["VAL.TARGETS_FILENAME=x.json"]).val.targets_filename == "x.json"


ABSENT = "/absent/of/another/machine"
PATHS = {
    "INPUT.BG_IMGS_ROOT": lambda cfg: build_backgrounds(cfg.input),
    "MODEL.WEIGHTS": lambda cfg: read_checkpoint(Path(cfg.model.weights)),
    "DATASETS.DET_FILES_TEST": lambda cfg: read_detections(Path(cfg.datasets.det_files_test[0])),
    "MODEL.POSE_NET.BACKBONE.PRETRAINED": lambda cfg: model_of(cfg),
}


@pytest.mark.parametrize("key", PATHS)
def test_paths_of_another_machine_are_reported_when_they_are_needed_and_not_before(key, tmp_path, caplog):
    (tmp_path / "theirs.py").write_text("SEED = 1")
    with caplog.at_level(logging.INFO):
        cfg = load_settings(tmp_path / "theirs.py", [f"{key}={ABSENT}"])
    assert not caplog.records
    with pytest.raises(UserError, match=ABSENT):
        PATHS[key](cfg)


@pytest.mark.parametrize(
    "text",
    [
        "VERSION = 2",
        "MODEL = dict(META_ARCHITECTURE='GDRN', MASK_ON=False, RPN=dict(NMS=[0.5]), ROI_HEADS=dict(NAME='x'))",
        "SOLVER = dict(STEPS=(1, 2), MAX_ITER=100, NESTEROV=False, WEIGHT_DECAY_BIAS=None)",
        "INPUT = dict(CROP=dict(ENABLED=False), MASK_FORMAT='polygon')",
        "TEST = dict(DETECTIONS_PER_IMAGE=100, AUG=dict(ENABLED=False), EXPECTED_RESULTS=[])",
        "USE_HVD = True\nTRAIN = dict(use_adasum=1)\nSOLVER = dict(BytePS=dict(FP16_ALLREDUCE=False))",
        "cudnn_benchmark = True",
        "IM_BACKEND = 'turbojpeg'",
    ],
)
def test_keys_of_older_frameworks_are_accepted_with_one_warning(text, tmp_path, caplog):
    (tmp_path / "theirs.py").write_text(text)
    with caplog.at_level(logging.WARNING):
        cfg = load_settings(tmp_path / "theirs.py")
    assert len(caplog.records) == 1
    assert "no effect any more" in caplog.text
    assert [key for key, _ in leaf_keys(plain_settings(cfg))] == [key for key, _ in leaf_keys(schema())]


def test_no_key_of_the_schema_is_called_retired():
    names = {key for key, _ in leaf_keys(schema())}
    assert not names & set(RULES.retired)
    assert not [key for key in names if is_retired(key, RULES)]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("MODEL.POSE_NET.XYZ_LW=1", "MODEL.POSE_NET.LOSS_CFG.XYZ_LW"),
        ("SOLVER.LR=1", "SOLVER.OPTIMIZER_CFG.lr"),
        ("MODEL.BACKBONE.FREEZE=True", "MODEL.POSE_NET.BACKBONE.FREEZE"),
        ("DATASETS.OBJ=[ape]", "DATASETS.OBJS"),
        ("SOLVER.EPOCHS=3", "SOLVER.TOTAL_EPOCHS"),
        ("MODEL.POSE_NET.ROT_TYPE=x", "MODEL.POSE_NET.PNP_NET.ROT_TYPE"),
    ],
)
def test_an_unknown_key_is_reported_its_nearest(word, meant):
    with pytest.raises(UserError, match=f"did you mean '{re.escape(meant)}'"):
        load_settings(SHIPPED[0], [word])


def test_the_layout_of_the_first_release_is_refused_with_a_way_out(tmp_path):
    (tmp_path / "theirs.py").write_text("MODEL = dict(CDPN=dict(BACKBONE=dict(), ROT_HEAD=dict(), PNP_NET=dict()))")
    with pytest.raises(UserError, match=r"MODEL\.CDPN .* write it as MODEL\.POSE_NET .* configs/gdrn") as caught:
        load_settings(tmp_path / "theirs.py")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["lmo/gdrn_selfocc_multistep_40E", "ycbv/gdrn_selfocc_multistep_10e"])
def test_losses_are_weighted_as_released(name, ancestor, tmp_path):
    (tmp_path / "theirs.json").write_text(json.dumps(nested(ancestor[name])))
    ours, theirs = (
        load_settings(SCHEMA.parents[1] / "gdrn_selfocc" / f"{name}.py"),
        load_settings(tmp_path / "theirs.json"),
    )
    assert ours.model.pose_net.loss_cfg == theirs.model.pose_net.loss_cfg


def test_every_field_has_its_key():
    keys = field_keys(Settings, schema())
    known = {key for key, _ in leaf_keys(schema())}
    assert [key for key in keys if key not in known] == ["SOLVER.OPTIMIZER_CFG"]  # a group of any keys
    assert set(keys_without_effect()) == known - set(keys) - {k for k in known if k.startswith("SOLVER.OPTIMIZER_CFG.")}


def test_every_field_is_read(repository):
    folders = (repository / "core", repository / "gdrn_selfocc_modeling", repository / "tools")
    sources = " ".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))
    read = set(re.findall(r"\.([a-z_0-9]+)\b", sources)) | {
        key.lower() for key in re.findall(r'"([A-Z_0-9]+)"', sources)
    }
    # Arguments of a head or of the network of the pose are passed on by their names.
    passed_on = {name for kind in (TrunkConfig, PnPConfig) for name in kind.__dataclass_fields__}
    names = {key.rpartition(".")[2].lower() for key in field_keys(Settings, schema())}
    assert names - read - passed_on == set()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_settings_survive_checkpoints_and_files(path, tmp_path):
    settings = load_settings(path)
    values = json.loads(json.dumps(plain_settings(settings)))  # of plain types
    assert settings_of(values, str(path)) == settings
    save_settings(settings, tmp_path / "config.py")
    assert load_settings(tmp_path / "config.py") == settings


def test_a_checkpoint_of_an_older_schema_takes_defaults_for_newer_keys(caplog):
    values = plain_settings(load_settings(SHIPPED[0]))
    del values["CAD"], values["MODEL"]["POSE_NET"]["NECK"]
    values["INPUT"]["COLOR_AUG_PROB"] = 0.25
    read = settings_of(values, "model.pth")
    assert read.cad == settings_of({}, "x").cad and read.input.color_aug_prob == 0.25 and not caplog.records
    with pytest.raises(UserError, match=r"^model\.pth: unknown configuration key 'INPUTS\.FORMAT'; did you mean"):
        settings_of({"INPUTS": {"FORMAT": "RGB"}}, "model.pth")


def test_reading_settings_does_not_load_torch(repository):
    code = "import sys; from sopose.settings import *; load_settings(SCHEMA); print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_the_ways_to_a_pose_are_those_that_exist():
    assert PNP_CHOICES["PNP_TYPE"] == tuple(PNP_TYPES)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("TEST.PNP_TYPE=ransac_pmp", "did you mean 'ransac_pnp'"),
        ("TEST.PNP_LAYERS=Q", r"known: P, P\+Q"),
        ("TEST.PNP_CONFIDENCE=1.0", "between 0 and 1"),
        ("TEST.PNP_ITERATIONS=0", "at least 1"),
    ],
)
def test_a_pnp_that_does_not_exist_is_reported_before_the_run(override, message):
    with pytest.raises(UserError, match=f"{override.partition('=')[0]}.*{message}"):
        load_settings(SHIPPED[0], ["TEST.USE_PNP=True", override])


def test_pnp_from_a_layer_that_the_network_lacks_is_refused():
    words = ["TEST.USE_PNP=True", "TEST.PNP_LAYERS=P+Q"]
    baseline = next(path for path in SHIPPED if path.name == "lmo_single_layer.py")
    with pytest.raises(UserError, match="there is no Q"):
        load_settings(baseline, words)
    assert load_settings(baseline, words[:1]).test.pnp_type == "ransac_pnp"


def test_an_underscore_never_reaches_the_name_of_a_result(tmp_path):
    (tmp_path / "my_own_run.py").write_text("SEED = 1\n")
    assert load_settings(tmp_path / "my_own_run.py").exp_name == "my-own-run"


def test_neither_underscore_nor_slash_of_a_given_name_reaches_it():
    assert load_settings(SHIPPED[0], ["EXP_NAME=a_b/c"]).exp_name == "a-b-c"


@pytest.mark.parametrize(
    "override",
    [
        *("SOLVER.IMS_PER_BATCH=0", "SOLVER.TOTAL_EPOCHS=-3", "TEST.IMS_PER_BATCH=0", "DATALOADER.NUM_WORKERS=-2"),
        *("VAL.REPORT_CASES=-1", "CAD.MAX_OCCLUDERS=-1", "INPUT.DZI_PAD_SCALE=0"),
        *("MODEL.PIXEL_MEAN=[0]", "CAD.Z_RANGE=[1]", "CAD.BLUR=[0.1, 0.2, 0.3]"),
        *("DATASETS.TRAIN=[3]", "DATASETS.OBJS=[null]", "DATASETS.DET_FILES_TEST=[[]]"),
    ],
)
def test_values_that_mean_nothing_are_reported_by_their_key(override):
    with pytest.raises(UserError, match=override.partition("=")[0]):
        load_settings(SHIPPED[0], [override])


def test_a_misspelt_argument_of_a_head_is_reported():
    with pytest.raises(UserError, match=r"did you mean .*INIT_CFG\.feat_dim"):
        load_settings(SHIPPED[0], ["MODEL.POSE_NET.GEO_HEAD.INIT_CFG.featdims=3"])
