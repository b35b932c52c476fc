"""What is written as a configuration reads back as the same values."""

from __future__ import annotations

from keyword import iskeyword
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sopose.core.config.values import read_assignments
from sopose.core.config.write import as_python

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,8}", fullmatch=True).filter(lambda name: not iskeyword(name))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**900), 2**900)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.sampled_from(["it's", 'say "a"', "a\nb", "\\", "{{ x }}", "ü\u2028", "x" * 200])
)
VALUES = st.recursive(
    SCALARS,
    lambda below: (
        st.lists(below, max_size=4)
        | st.lists(below, max_size=4).map(tuple)
        | st.dictionaries(NAMES, below, max_size=4)
        | st.dictionaries(st.text(max_size=5), below, max_size=3)
    ),
    max_leaves=25,
)


def same(a: object, b: object) -> bool:
    """Equal, also in the types of numbers and lists."""
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and repr(a) == repr(b)


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_values_survive_and_keep_their_order(values):
    assert same(read_assignments(as_python(values)), values)


def test_nan_survives():
    assert same(read_assignments(as_python({"A": float("nan")})), {"A": float("nan")})


def test_long_groups_have_a_line_for_each_entry_and_short_ones_none():
    text = as_python({"A": {"B": list(range(30)), "C": {"D": (1,)}}, "E": {}})
    assert text == f"A = dict(\n    B={list(range(30))},\n    C=dict(D=(1,)),\n)\nE = dict()\n"
    assert len(as_python({"A": list(range(60))}).splitlines()) == 62


@pytest.mark.parametrize("values", [{"A": Path("x")}, {"A": {1}}, {"A": 3j}, {"a b": 1}, {"class": 1}, {3: 1}])
def test_what_would_not_read_back_is_refused(values):
    with pytest.raises(ValueError, match=r"not a value|no name"):
        as_python(values)
