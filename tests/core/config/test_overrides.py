"""Values from the command line are read as what the schema has at their key."""

from __future__ import annotations

import pytest

from sopose.core.config.overrides import parse_override, parse_overrides
from sopose.core.utils.errors import UserError

SCHEMA = {
    "TEXT": "",
    "LIST": (),
    "NUMBERS": (0.5,),
    "INT": 1,
    "FLOAT": 0.1,
    "SWITCH": False,
    "GROUP": {"A": "", "B": 1},
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # any value, of a key that the schema doesn't contain
        *(("NEW=1e-3", 1e-3), ("NEW=(1, 2)", (1, 2)), ("NEW=[ape, can]", ["ape", "can"]), ("NEW=['ape']", ["ape"])),
        *(("NEW=true", True), ("NEW=True", True), ("NEW=a/b.pth", "a/b.pth"), ("NEW=", ""), ("NEW=None", None)),
        *(("NEW=__import__('os')", "__import__('os')"), ("NEW=-0.5", -0.5), ("NEW=[1e-4, x]", [1e-4, "x"])),
        # text is taken as it stands, or as quoted
        *(("TEXT=007", "007"), ("TEXT=true", "true"), ("TEXT=1", "1"), ("TEXT=2024-01-02", "2024-01-02")),
        *(("TEXT=a: b, c", "a: b, c"), ("TEXT=A([1, 2], p=3)", "A([1, 2], p=3)"), ("TEXT='x y'", "x y")),
        *(("TEXT=", ""), ("TEXT=''", ""), ("TEXT=none", "none"), ("TEXT=None", None), ("TEXT=null", None)),
        *(("TEXT=a=b", "a=b"), ("TEXT=[1]", "[1]"), ("TEXT=C:/x", "C:/x")),
        # lists
        *(("LIST=ape,can", ["ape", "can"]), ("LIST=ape", ["ape"]), ("LIST=", []), ("LIST=[]", []), ("LIST=()", ())),
        *(("LIST=(ape,can)", ["ape", "can"]), ("LIST=[ape,can]", ["ape", "can"]), ("LIST=ape,", ["ape"])),
        *(("LIST=('a', 'b,c')", ("a", "b,c")), ("LIST=/data/mine:train", ["/data/mine:train"]), ("LIST=null", None)),
        *(("LIST=[/data/mine:cad]", ["/data/mine:cad"]), ("LIST=002_can,003_box", ["002_can", "003_box"])),
        *(("NUMBERS=0.5,0.75", (0.5, 0.75)), ("NUMBERS=[1,-2]", [1, -2]), ("NUMBERS=(1,)", (1,)), ("NUMBERS=1", 1)),
        # numbers and switches
        *(("INT=-3", -3), ("INT=3.5", 3.5), ("FLOAT=1e-4", 1e-4), ("FLOAT=-1", -1), ("FLOAT=x", "x")),
        *(("SWITCH=true", True), ("SWITCH=False", False), ("SWITCH=off", False)),
        # groups
        *(("GROUP={A: x, B: 2}", {"A": "x", "B": 2}), ("GROUP={'A': 'x'}", {"A": "x"})),
        ("GROUP=dict(A='x', B=dict(C=[1]))", {"A": "x", "B": {"C": [1]}}),
        *(("GROUP.A=1", "1"), ("GROUP.B=1", 1)),
    ],
)
def test_values(text, value):
    key = text.partition("=")[0]
    parsed = parse_override(text, SCHEMA)
    assert parsed == (key, value)
    assert type(parsed[1]) is type(value)


@pytest.mark.parametrize("text", ["INT", "INT 3", "=3", "", "FLOAT=[1", "GROUP={a", "NEW=" + "[" * 500])
def test_words_that_say_nothing_are_one_line(text):
    with pytest.raises(UserError) as caught:
        parse_override(text, SCHEMA)
    assert "\n" not in str(caught.value)


def test_words_are_nested_and_the_later_one_wins():
    words = ["GROUP={A: x, B: 2}", "GROUP.B=3", "INT=1", "INT=2", "A.B.C=1", "A.B=2", "A.B.D=3"]
    assert parse_overrides(words, SCHEMA) == {"GROUP": {"A": "x", "B": 3}, "INT": 2, "A": {"B": {"D": 3}}}
