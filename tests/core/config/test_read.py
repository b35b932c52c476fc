"""Files and their bases: where they are looked for, in which formats, and what is said where one is missing."""

from __future__ import annotations

import json
import logging
import time
from contextlib import suppress
from pathlib import Path

import pytest

from sopose.core.config.read import read_config
from sopose.core.utils.errors import UserError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """A folder of bases, one on top of the other."""
    write(tmp_path / "ours" / "common.py", "SEED = 1\nNAME = 'common'")
    write(tmp_path / "ours" / "base.py", "_base_ = ['./common.py']\nNET = dict(A=1, B=2)")
    return tmp_path / "ours"


@pytest.mark.parametrize(
    "text", ["SEED = (", "import nothing_like_this", "_base_ = [open('x')]", "1 / 0", "SEED = 1 / 0", "\0"]
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, text):
    with pytest.raises(UserError, match="cannot be read as a configuration") as caught:
        read_config(write(tmp_path / "mine.py", text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", "_base_ = ['../gone/base.py']\nNET = dict(A=5)"),
        ("a.py", "# Größe\n_base_ = '../gone/base.py'; NET = dict(A=5)"),
        ("a.py", "_base_ = [\n    '../gone/base.py',  # theirs\n]\nNET = dict(A=5)"),
        ("a.yaml", "_base_: ../gone/base.py\nNET: {A: 5}"),
        ("a.json", '{"_base_": ["../gone/base.py"], "NET": {"A": 5}}'),
    ],
)
def test_a_missing_base_that_we_have_is_taken_from_ours_and_said(ours, tmp_path, caplog, name, text):
    path = write(tmp_path / "theirs" / name, text)
    with caplog.at_level(logging.INFO):
        config = read_config(path, ours)
    assert config == {"SEED": 1, "NAME": "common", "NET": {"A": 5, "B": 2}}
    assert "takes its place" in caplog.text
    assert path.read_text() == text


def test_a_missing_base_further_down_is_found_too(ours, tmp_path):
    write(tmp_path / "theirs" / "middle.py", "_base_ = ['../gone/base.py']\nNET = dict(_delete_=True, A=7)")
    path = write(tmp_path / "theirs" / "top.py", "_base_ = ['./middle.py']\nSEED = 2")
    assert read_config(path, ours) == {"SEED": 2, "NAME": "common", "NET": {"A": 7}}


def test_a_base_that_is_there_counts_before_ours(ours, tmp_path):
    write(tmp_path / "theirs" / "base.py", "SEED = 9")
    path = write(tmp_path / "theirs" / "top.py", "_base_ = ['./base.py']")
    assert read_config(path, ours) == {"SEED": 9}


@pytest.mark.parametrize("spare", [True, False])
def test_a_missing_base_of_another_name_is_reported(ours, tmp_path, spare):
    path = write(tmp_path / "theirs" / "a.py", "_base_ = ['../gone/special.py']")
    with pytest.raises(UserError, match=r"special\.py, which is missing; copy it there or correct _base_") as caught:
        read_config(path, ours if spare else None)
    assert "\n" not in str(caught.value)


def test_a_file_based_on_itself_is_reported(tmp_path):
    write(tmp_path / "a.py", "_base_ = './b.py'")
    write(tmp_path / "b.py", "_base_ = './a.py'")
    with pytest.raises(UserError, match="is a base of itself"):
        read_config(tmp_path / "a.py")


def test_formats_say_the_same(ours, tmp_path):
    values = {"SEED": 3, "NET": {"A": 1e-4, "B": [1, "x"], "C": None, "D": ""}}
    files = (
        write(ours / "a.json", json.dumps({"_base_": ["./base.py"], **values})),
        write(ours / "b.yml", "_base_: [./base.py]\nSEED: 3\nNET: {A: 1e-4, B: [1, x], C: null, D: ''}"),
        write(ours / "c.py", f"_base_ = ['./base.py']\nSEED = 3\nNET = dict(**{values['NET']})"),
    )
    for path in files:
        assert read_config(path) == {"NAME": "common", **values}, path


def test_an_empty_file_sets_nothing(tmp_path):
    for name in ("a.py", "a.yaml"):
        assert read_config(write(tmp_path / name, "")) == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "x: !!python/object/apply:os.mkdir [{mark}]"),
        ("a.yaml", "custom_imports: {{imports: [marker]}}"),
    ],
)
def test_yaml_makes_nothing_but_plain_values(tmp_path, monkeypatch, name, text):
    mark = tmp_path / "mark"
    write(tmp_path / "marker.py", f"import pathlib; pathlib.Path({str(mark)!r}).touch()")
    monkeypatch.syspath_prepend(tmp_path)
    with suppress(UserError):
        read_config(write(tmp_path / name, text.format(mark=mark)))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "- 1\n- 2", "must be keys with values"),
        ("a.json", "3", "must be keys with values"),
        ("a.yaml", "a: [", "cannot be read"),
        ("a.json", "{", "cannot be read"),
        ("a.py", "_base_ = 3", "must be a path or a list of paths"),
        ("a.yaml", "_base_: {a: 1}", "must be a path or a list of paths"),
        ("a.txt", "a: 1", "must end in one of .py"),
    ],
)
def test_mistakes_are_reported_in_one_line(tmp_path, name, text, message):
    with pytest.raises(UserError, match=message) as caught:
        read_config(write(tmp_path / name, text))
    assert "\n" not in str(caught.value)


def test_nothing_of_a_file_is_executed(tmp_path):
    mark = tmp_path / "mark"
    text = f"SEED = 1\nNAME = __import__('pathlib').Path({str(mark)!r}).touch()"
    with pytest.raises(UserError, match=r"line 2: '__import__\('pathlib'\).*' is not a value.*read, not run") as caught:
        read_config(write(tmp_path / "a.py", text))
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_values_of_bases_can_be_named(ours, tmp_path):
    text = "_base_ = '../ours/base.py'\nNET = dict(C=_base_.SEED + 1)\nOTHER = {{_base_.NET}}\n__own = 3\nLAST = __own"
    assert read_config(write(tmp_path / "theirs" / "a.py", text)) == {
        **{"SEED": 1, "NAME": "common", "NET": {"A": 1, "B": 2, "C": 2}},
        **{"OTHER": {"A": 1, "B": 2}, "LAST": 3},
    }


@pytest.mark.parametrize(
    ("name", "text"), [("a.py", "A = ['{}']"), ("a.yaml", "A: ['{}']"), ("a.json", '{{"A": ["{}"]}}')]
)
def test_a_text_may_name_its_file(tmp_path, name, text):
    read = read_config(
        write(tmp_path / "b" / name, text.format("{{ fileBasenameNoExtension }}/{{fileDirname}}/{{ x }}"))
    )
    assert read == {"A": [f"a/{tmp_path / 'b'}/{{{{ x }}}}"]}
    with pytest.raises(UserError, match="environment is not read, use --opts"):
        read_config(write(tmp_path / "b" / name, text.format("{{$HOME:/x}}")))


def test_two_bases_share_no_key(ours, tmp_path):
    write(ours / "other.py", "NAME = 'x'")
    with pytest.raises(UserError, match="NAME stands in two of its bases"):
        read_config(write(ours / "a.py", "_base_ = ['./base.py', './other.py']"))
    write(ours / "more.py", "MORE = 1")
    assert read_config(write(ours / "a.py", "_base_ = ['./base.py', './more.py']"))["MORE"] == 1


def test_a_group_does_not_merge_with_a_value_unless_it_replaces_it(ours):
    with pytest.raises(UserError, match=r"SEED is a group, in the file it is based on it is 1; .*_delete_=True"):
        read_config(write(ours / "a.py", "_base_ = './base.py'\nSEED = dict(A=1)"))
    assert read_config(write(ours / "a.py", "_base_ = './base.py'\nSEED = dict(_delete_=True, A=1)"))["SEED"] == {
        "A": 1
    }
    assert read_config(write(ours / "a.py", "_base_ = './base.py'\nNET = 3"))["NET"] == 3


NESTED = "[" * 80 + "]" * 80
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", f"A = {NESTED}"),
        ("a.py", "A = [0] * 200000"),
        ("a.py", "A = [[[]]]\n" + "A = [A, A]\n" * 40),
        ("a.py", "A = 1" + " " * 300_000),
        ("a.yaml", f"a: {NESTED}"),
        ("a.yaml", BOMB),
        ("a.yaml", MERGES),
        ("a.yaml", "a: &a [*a]"),
        ("a.yaml", "a: " + "1:" * 5000 + "1"),
        ("a.yaml", "a: " + "x" * 300_000),
        ("a.json", f'{{"a": {NESTED}}}'),
        ("a.json", '{"a": ' + "[" * 20000 + "]" * 20000 + "}"),
        ("a.json", '{"a": ' + "1" * 5000 + "}"),
    ],
)
def test_what_would_cost_much_is_refused_at_once(tmp_path, name, text):
    started = time.perf_counter()
    with pytest.raises(UserError, match="cannot be read as a configuration") as caught:
        read_config(write(tmp_path / name, text))
    assert time.perf_counter() - started < 5
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
