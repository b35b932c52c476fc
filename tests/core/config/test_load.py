"""Configurations: defaults, bases, overrides, and what is said about mistakes."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from sopose.core.config.check import KeyRules
from sopose.core.config.load import load_config
from sopose.core.config.read import read_config
from sopose.core.config.write import as_python
from sopose.core.utils.errors import UserError

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
    assert config["SOLVER"]["BATCH"] == 2
    assert config["SOLVER"]["LR"] == 1e-4


def test_a_file_may_name_a_base_and_yaml_is_as_good(schema, tmp_path):
    write(tmp_path, '_base_ = ["./base.py"]\nSEED = 5', "middle.py")
    config = load_config(write(tmp_path, '_base_ = ["./middle.py"]\nNAME = "x"'), schema)
    assert (config["SEED"], config["NAME"]) == (5, "x")
    config = load_config(write(tmp_path, "SOLVER:\n  LR: 0.5\n", "mine.yaml"), schema)
    assert config["SOLVER"]["LR"] == 0.5


def test_overrides_win_and_whole_numbers_serve_as_numbers(schema, tmp_path):
    config = load_config(write(tmp_path, "SEED = 1"), schema, ["SEED=2", "SOLVER.LR=1", "SOLVER.STEPS=[0.1]"])
    assert (config["SEED"], config["SOLVER"]["LR"], list(config["SOLVER"]["STEPS"])) == (2, 1, [0.1])


def test_another_optimizer_brings_its_own_arguments(schema, tmp_path):
    text = 'SOLVER = dict(OPTIMIZER_CFG=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.99)))'
    config = load_config(write(tmp_path, text), schema, ["SOLVER.OPTIMIZER_CFG.lr=1e-2"])
    assert config["SOLVER"]["OPTIMIZER_CFG"] == {"type": "AdamW", "lr": 1e-2, "betas": (0.9, 0.99)}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("SOLVER:\n  LR: .inf\n", "SOLVER.LR"),
        ("SOLVER:\n  LR: 1e400\n", "SOLVER.LR"),
        ("SOLVER:\n  STEPS: [0.5, .nan]\n", "SOLVER.STEPS"),
        ("SOLVER:\n  OPTIMIZER_CFG:\n    lr: -.inf\n", "SOLVER.OPTIMIZER_CFG.lr"),
        ("SOLVER:\n  OPTIMIZER_CFG:\n    betas: [.nan, [0.5]]\n", "SOLVER.OPTIMIZER_CFG.betas"),
    ],
)
def test_every_number_is_finite(schema, tmp_path, text, name):
    with pytest.raises(UserError, match=rf"mine\.yaml: {name} must be finite"):
        load_config(write(tmp_path, text, "mine.yaml"), schema)
    with pytest.raises(UserError, match=r"--opts: SOLVER\.LR must be finite, got inf"):
        load_config(write(tmp_path, "SEED = 1"), schema, ["SOLVER.LR=.inf"])


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
        ("SOLVER.LR", "write SOLVER.LR=VALUE"),
        ("=3", "KEY=VALUE"),
        ("SOLVER.STEPS.0=1", "SOLVER.STEPS must be a list"),
        ("SOLVER..LR=1", "unknown configuration key"),
        ("LR=1", "did you mean 'SOLVER.LR'"),
        ("solver.batch=1", "did you mean 'SOLVER.BATCH'"),
        ("SOLVER.momentum=1", "did you mean 'SOLVER.OPTIMIZER_CFG.momentum'"),
        ("SOLVER.BATCH=null", "SOLVER.BATCH must be a whole number"),
    ],
)
def test_mistakes_are_reported(schema, tmp_path, override, message):
    with pytest.raises(UserError, match=message) as caught:
        load_config(write(tmp_path, "SEED = 1"), schema, [override])
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_reported(schema, tmp_path):
    with pytest.raises(UserError, match="is missing"):
        load_config(tmp_path / "absent.py", schema)


def test_keys_without_effect_are_named_once_when_set(schema, tmp_path, caplog):
    path = write(tmp_path, 'NAME = "x"')
    with caplog.at_level(logging.WARNING):
        load_config(path, schema, rules=KeyRules(without_effect=("NAME", "SEED")))
    assert [record.getMessage() for record in caplog.records] == [
        "these configuration keys have no effect any more: NAME"
    ]


OLD = KeyRules(without_effect=("NAME",), retired=("VERSION", "SOLVER.STEPPING", "RPN"), retired_words=("HVD",))


@pytest.mark.parametrize(
    ("text", "overrides", "named"),
    [
        ("VERSION = 2", [], ["VERSION"]),
        ('NAME = "x"\nSOLVER = dict(STEPPING=None, BATCH=2)', ["use_hvd=1"], ["NAME", "SOLVER.STEPPING", "use_hvd"]),
        ("RPN = dict(A=1, B=dict(C=[None]))", ["RPN.A=2"], ["RPN"]),
        ("SOLVER = dict(HVD=dict(ADA=1))\nDIST = dict(Hvd_fp16=True)", [], ["SOLVER.HVD", "DIST.Hvd_fp16"]),
        ("SOLVER = dict(OPTIMIZER_CFG=dict(use_hvd=True))", [], ["SOLVER.OPTIMIZER_CFG.use_hvd"]),
    ],
)
def test_retired_keys_are_dropped_whatever_they_hold_and_named_in_the_same_warning(
    schema, tmp_path, caplog, text, overrides, named
):
    with caplog.at_level(logging.WARNING):
        config = load_config(write(tmp_path, text), schema, overrides, OLD)
    assert len(caplog.records) == 1
    assert caplog.records[0].getMessage().partition(": ")[2].split(", ") == named
    assert set(config) == {"SEED", "NAME", "SOLVER"}
    assert set(config["SOLVER"]["OPTIMIZER_CFG"]) == {"type", "lr", "momentum"}


def test_a_key_of_the_schema_is_never_dropped(schema, tmp_path):
    config = load_config(
        write(tmp_path, "SEED = 3"), schema, rules=KeyRules(retired=("SEED",), retired_words=("SEED",))
    )
    assert config["SEED"] == 3


def test_a_refused_key_says_why(schema, tmp_path):
    with pytest.raises(UserError, match="OLDNET is another network"):
        load_config(
            write(tmp_path, "OLDNET = dict(A=1)"), schema, rules=KeyRules(refused={"OLDNET": "is another network"})
        )


def test_a_saved_configuration_loads_again(schema, tmp_path):
    config = load_config(write(tmp_path, "SEED = 3"), schema)
    write(tmp_path, as_python(config), "saved.py")
    assert read_config(tmp_path / "saved.py") == config


@pytest.mark.parametrize("steps", ["[a, b]", "[0.5, null]", "[0.5, true]", "[[1]]"])
def test_entries_of_a_list_are_of_the_defaults_kind(schema, tmp_path, steps):
    with pytest.raises(UserError, match=r"SOLVER\.STEPS must be a list like its default"):
        load_config(write(tmp_path, ""), schema, [f"SOLVER.STEPS={steps}"])
    assert load_config(write(tmp_path, ""), schema, ["SOLVER.STEPS=[1, 0.5, 2]"])["SOLVER"]["STEPS"] == [1, 0.5, 2]


def test_another_optimizer_keeps_the_learning_rate_and_nothing_else(schema, tmp_path):
    config = load_config(write(tmp_path, ""), schema, ["SOLVER.OPTIMIZER_CFG.type=AdamW"])
    assert config["SOLVER"]["OPTIMIZER_CFG"] == {"type": "AdamW", "lr": 1e-4}


DELETED = "dict(_delete_=True, type='RMSprop', lr=1e-3)"


@pytest.mark.parametrize("base", ['_base_ = "./middle.py"\n', '_base_ = "./base.py"\n', ""])
def test_a_deleted_optimizer_keeps_nothing(schema, tmp_path, base):
    write(tmp_path, '_base_ = "./base.py"\nSOLVER = dict(OPTIMIZER_CFG=dict(momentum=0.9))', "middle.py")
    config = load_config(write(tmp_path, f"{base}SOLVER = dict(OPTIMIZER_CFG={DELETED})"), schema)
    assert config["SOLVER"]["OPTIMIZER_CFG"] == {"type": "RMSprop", "lr": 1e-3}


def test_an_optimizer_that_is_not_deleted_is_merged_as_any_group(schema, tmp_path):
    write(tmp_path, '_base_ = "./base.py"\nSOLVER = dict(OPTIMIZER_CFG=dict(momentum=0.9))', "middle.py")
    config = load_config(write(tmp_path, '_base_ = "./middle.py"\nSOLVER = dict(OPTIMIZER_CFG=dict(lr=1))'), schema)
    assert config["SOLVER"]["OPTIMIZER_CFG"] == {"type": "RMSprop", "lr": 1, "momentum": 0.9}


DEEP = "A = dict(B=dict(C=dict(type='x', size=3, names=('a',)), D=1), E=2)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A = dict(B=dict(C=dict(size=9)))", {"B": {"C": {"type": "y", "size": 9, "names": ("b",)}, "D": 5}, "E": 6}),
        (
            "A = dict(B=dict(C=dict(_delete_=True, size=9)))",
            {"B": {"C": {"type": "x", "size": 9, "names": ("a",)}, "D": 5}, "E": 6},
        ),
        (
            "A = dict(B=dict(_delete_=True, C=dict(_delete_=True, size=9)))",
            {"B": {"C": {"type": "x", "size": 9, "names": ("a",)}, "D": 1}, "E": 6},
        ),
        ("A = dict(_delete_=True, E=9)", {"B": {"C": {"type": "x", "size": 3, "names": ("a",)}, "D": 1}, "E": 9}),
    ],
)
@pytest.mark.parametrize("where", ["file", "opts"])
def test_a_deleted_group_is_at_its_defaults_but_for_what_it_gives(tmp_path, text, expected, where):
    schema = write(tmp_path, DEEP, "schema.py")
    other = "A = dict(B=dict(C=dict(type='y', size=7, names=('b',)), D=5), E=6)"
    if where == "file":
        write(tmp_path, f'_base_ = "./schema.py"\n{other}', "middle.py")
        config = load_config(write(tmp_path, f'_base_ = "./middle.py"\n{text}'), schema)
    else:
        config = load_config(write(tmp_path, other), schema, [text.replace(" = ", "=", 1)])
    assert config["A"] == expected


def test_none_is_an_empty_text_or_list(schema, tmp_path):
    config = load_config(write(tmp_path, "NAME = None\nSOLVER = dict(STEPS=None)"), schema)
    assert (config["NAME"], config["SOLVER"]["STEPS"]) == ("", ())
    config = load_config(write(tmp_path, 'NAME = "x"'), schema, ["NAME=None", "SOLVER.STEPS=null"])
    assert (config["NAME"], config["SOLVER"]["STEPS"]) == ("", ())


def test_overrides_of_one_group_go_together_in_any_order(schema, tmp_path):
    words = ["SOLVER.OPTIMIZER_CFG.betas=(0.9, 0.99)", "SOLVER.OPTIMIZER_CFG.type=AdamW"]
    for order in (words, words[::-1]):
        config = load_config(write(tmp_path, ""), schema, order)
        assert config["SOLVER"]["OPTIMIZER_CFG"] == {"type": "AdamW", "lr": 1e-4, "betas": (0.9, 0.99)}
