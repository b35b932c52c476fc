"""Keys, defaults and meanings of a base file's source."""

from __future__ import annotations

from pathlib import Path

import pytest

from sopose.core.config.describe import describe, describe_source, format_entries, format_groups
from sopose.core.utils.errors import UserError

SOURCE = """
_base_ = ["./common.py"]
SEED = -1  # of everything; "#" is no end
# what the network sees
INPUT = dict(
    RATE=1e-4,  # a share
    # accepted, without effect: of another framework
    SIZE=(480,),
    OLD=dict(A=1, B=2),
    # to be tried
    NEW="#x",
    LAST=True,
    # two lines
    # above
    LONG=(
        1,
        2,
    ),
)
NET = dict(  # the network
    HEAD=dict(  # a head
        INIT_CFG=dict(a=1, b=2, c=3, d=4, e=5, f=6, g=7),  # arguments
        H=8,  # eighth
    ),
    AMP=dict(ENABLED=False),  # half precision
)
"""


def entries_of(source: str) -> dict[str, tuple[str, str]]:
    return {entry.key: (entry.default, entry.meaning) for entry in describe_source(source).entries}


def test_a_meaning_stands_behind_its_key_or_above_it():
    entries = entries_of(SOURCE)
    assert entries["SEED"] == ("-1", 'of everything; "#" is no end')
    assert entries["INPUT.RATE"] == ("1e-4", "a share")  # as written, not 0.0001
    assert entries["INPUT.NEW"] == ('"#x"', "to be tried")
    assert entries["INPUT.LONG"] == ("(1, 2)", "two lines above")
    assert entries["NET.AMP.ENABLED"] == ("False", "half precision")
    assert entries["NET.HEAD.INIT_CFG.g"] == ("7", "arguments")
    assert "_base_" not in entries


def test_a_key_without_a_comment_has_no_meaning():
    assert entries_of(SOURCE)["INPUT.LAST"] == ("True", "")


def test_without_effect_goes_on_to_the_next_comment():
    entries = describe_source(SOURCE).entries
    assert [entry.key for entry in entries if not entry.has_effect] == ["INPUT.SIZE", "INPUT.OLD.A", "INPUT.OLD.B"]


def test_groups_have_meanings():
    meanings = describe_source(SOURCE).meanings
    assert (meanings["INPUT"], meanings["NET"], meanings["NET.HEAD"]) == (
        "what the network sees",
        "the network",
        "a head",
    )


def test_small_groups_and_constructors_are_shown_within_their_parents():
    sections = {section.name: len(section.entries) for section in describe_source(SOURCE).sections()}
    assert sections == {"": 1, "INPUT": 7, "NET": 1, "NET.HEAD": 8}


def test_every_key_is_in_one_section():
    description = describe_source(SOURCE)
    keys = [entry.key for section in description.sections() for entry in section.entries]
    assert sorted(keys) == sorted(entry.key for entry in description.entries)


def test_bases_come_first_and_the_file_counts(tmp_path: Path):
    (tmp_path / "common.py").write_text("SEED = 0  # old\nROOT = 'x'  # a folder\n")
    (tmp_path / "base.py").write_text(SOURCE)
    entries = describe(tmp_path / "base.py").entries
    assert [(entry.key, entry.meaning) for entry in entries[:2]] == [
        ("SEED", 'of everything; "#" is no end'),
        ("ROOT", "a folder"),
    ]


@pytest.mark.parametrize(
    ("name", "count"), [("INPUT", 7), ("input", 7), ("NET", 9), ("NET.HEAD.INIT_CFG", 7), ("net.head.h", 1)]
)
def test_a_group_or_a_key_is_found_in_any_case(name, count):
    assert len(describe_source(SOURCE).find(name)) == count


@pytest.mark.parametrize(("name", "meant"), [("INPUTS", "INPUT"), ("NET.HEAT", "NET.HEAD"), ("inputs", "INPUT")])
def test_an_unknown_group_names_the_nearest(name, meant):
    with pytest.raises(UserError, match=f"did you mean '{meant}'"):
        describe_source(SOURCE).find(name)


def test_the_list_of_groups_counts_keys_that_do_something():
    lines = format_groups(describe_source(SOURCE)).splitlines()
    assert [line.split(maxsplit=3) for line in lines] == [
        ["INPUT", "4", "keys", "what the network sees"],
        ["NET", "1", "keys", "the network"],
        ["NET.HEAD", "8", "keys", "a head"],
    ]


def test_keys_fit_a_terminal_and_lose_nothing():
    entries = describe_source(SOURCE).entries
    text = format_entries(entries, width=60)
    assert max(map(len, text.splitlines())) <= 60
    for entry in entries:
        assert f"{entry.key} = {entry.default}" in text
    assert "two lines above" in " ".join(text.split())
