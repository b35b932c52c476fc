"""Configurations: defaults, bases, overrides, and what is said about mistakes."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from core.config.load import load_config, parse_override, read_config, save_config
from core.utils.errors import UserError

SCHEMA = """
SEED = -1
NAME = ""
SOLVER = dict(LR=1e-4, STEPS=(0.5, 0.75), ENABLED=False, BATCH=6,
              OPTIMIZER_CFG=dict(type="RMSprop", lr=1e-4, momentum=0.5))
"""


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    path = tmp_path / "base.py"
    path.write_text(SCHEMA)
    return path


def write(folder: Path, text: str, name: str = "mine.py") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_file_is_laid_over_the_defaults(schema, tmp_path):
    config = load_config(write(tmp_path, "SOLVER = dict(BATCH=2)"), schema)
    assert config.SOLVER.BATCH == 2
    assert config.SOLVER.LR == 1e-4


def test_a_file_may_name_a_base_and_yaml_is_as_good(schema, tmp_path):
    write(tmp_path, '_base_ = ["./base.py"]\nSEED = 5', "middle.py")
    config = load_config(write(tmp_path, '_base_ = ["./middle.py"]\nNAME = "x"'), schema)
    assert (config.SEED, config.NAME) == (5, "x")
    config = load_config(write(tmp_path, "SOLVER:\n  LR: 0.5\n", "mine.yaml"), schema)
    assert config.SOLVER.LR == 0.5


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("(1, 2)", (1, 2)),
        ("[ape, can]", ["ape", "can"]),
        ("['ape']", ["ape"]),
        ("true", True),
        ("True", True),
        ("a/b.pth", "a/b.pth"),
        ("", ""),
        ("__import__('os')", "__import__('os')"),
    ],
)
def test_override_values(text, value):
    assert parse_override(f"A.B={text}") == ("A.B", value)


def test_overrides_win_and_whole_numbers_serve_as_numbers(schema, tmp_path):
    config = load_config(write(tmp_path, "SEED = 1"), schema, ["SEED=2", "SOLVER.LR=1", "SOLVER.STEPS=[0.1]"])
    assert (config.SEED, config.SOLVER.LR, list(config.SOLVER.STEPS)) == (2, 1, [0.1])


def test_another_optimizer_brings_its_own_arguments(schema, tmp_path):
    text = 'SOLVER = dict(OPTIMIZER_CFG=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.99)))'
    config = load_config(write(tmp_path, text), schema, ["SOLVER.OPTIMIZER_CFG.lr=1e-2"])
    assert config.SOLVER.OPTIMIZER_CFG.to_dict() == {"type": "AdamW", "lr": 1e-2, "betas": (0.9, 0.99)}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("SOLVER.BATSH=1", "did you mean 'SOLVER.BATCH'"),
        ("SOLVER.BATCH=many", "SOLVER.BATCH must be a whole number"),
        ("SOLVER.BATCH=true", "SOLVER.BATCH must be a whole number"),
        ("SOLVER.ENABLED=1", "SOLVER.ENABLED must be True or False"),
        ("SOLVER.STEPS=1", "SOLVER.STEPS must be a list"),
        ("SOLVER=1", "SOLVER must be a group of keys"),
        ("NAME", "KEY=VALUE"),
    ],
)
def test_mistakes_are_told(schema, tmp_path, override, message):
    with pytest.raises(UserError, match=message) as caught:
        load_config(write(tmp_path, "SEED = 1"), schema, [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["SEED = (", "import nothing_like_this", '_base_ = ["./absent.py"]'])
def test_a_file_that_cannot_be_read_is_one_line(schema, tmp_path, text):
    with pytest.raises(UserError, match="cannot be read as a configuration") as caught:
        load_config(write(tmp_path, text), schema)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_told(schema, tmp_path):
    with pytest.raises(UserError, match="is missing"):
        load_config(tmp_path / "absent.py", schema)


def test_keys_without_effect_are_named_once_when_set(schema, tmp_path, caplog):
    path = write(tmp_path, 'NAME = "x"')
    with caplog.at_level(logging.WARNING):
        load_config(path, schema, without_effect=("NAME", "SEED"))
    assert [record.getMessage() for record in caplog.records] == [
        "these configuration keys have no effect any more: NAME"
    ]


def test_a_saved_configuration_loads_again(schema, tmp_path):
    config = load_config(write(tmp_path, "SEED = 3"), schema)
    save_config(config, tmp_path / "saved.py")
    assert read_config(tmp_path / "saved.py").to_dict() == config.to_dict()


@pytest.mark.parametrize("steps", ["[a, b]", "[0.5, null]", "[0.5, true]", "[[1]]"])
def test_entries_of_a_list_are_of_the_defaults_kind(schema, tmp_path, steps):
    with pytest.raises(UserError, match=r"SOLVER\.STEPS must be a list like its default"):
        load_config(write(tmp_path, ""), schema, [f"SOLVER.STEPS={steps}"])
    assert load_config(write(tmp_path, ""), schema, ["SOLVER.STEPS=[1, 0.5, 2]"]).SOLVER.STEPS == [1, 0.5, 2]


def test_another_optimizer_keeps_the_learning_rate_and_nothing_else(schema, tmp_path):
    config = load_config(write(tmp_path, ""), schema, ["SOLVER.OPTIMIZER_CFG.type=AdamW"])
    assert config.SOLVER.OPTIMIZER_CFG.to_dict() == {"type": "AdamW", "lr": 1e-4}
