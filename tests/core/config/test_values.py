"""Python source as values: what is one, what isn't, and what would cost too much."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from sopose.core.config.values import NotAValueError, read_assignment, read_assignments

BASES = {"A": {"B": {"C": 3}, "L": [1, 2]}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("None", None), ("True", True), ("-3", -3), ("+1.5", 1.5), ("1e-4", 1e-4), ("0x10", 16), ("'a' \"b\"", "ab")),
        *(("(1,)", (1,)), ("[1, [2]]", [1, [2]]), ("()", ()), ("1, 2", (1, 2)), ("{'a': 1, 2: 'b'}", {"a": 1, 2: "b"})),
        *(("dict()", {}), ("dict(a=1, b=dict(c=[2]))", {"a": 1, "b": {"c": [2]}})),
        *(
            ("dict(**{'a': 1}, b=2)", {"a": 1, "b": 2}),
            ("{**GIVEN, 'x': 9}", {"x": 9, "y": 2}),
            ("[*(1, 2), 3]", [1, 2, 3]),
        ),
        # numbers
        *(("1 / 4", 0.25), ("2 * 3 + 1", 7), ("7 // 2", 3), ("2 ** 10", 1024), ("2 ** -1", 0.5), ("-(1 - 3)", 2)),
        ("1.0 / 255", 1.0 / 255),
        # texts and lists
        *(("'a' + 'b'", "ab"), ("[1] + [2]", [1, 2]), ("(0,) * 3", (0, 0, 0)), ("'ab' * 2", "abab"), ("[1] * -1", [])),
        # names assigned before
        *(("ONE + 1", 2), ("GIVEN", {"x": 1, "y": 2}), ("GIVEN['y']", 2), ("[5, 6][-1]", 6)),
        *(("_base_.A.B.C", 3), ("_base_['A'].L[0]", 1), ("{{_base_.A.B}}", {"C": 3}), ("[{{ _base_.A.L }}]", [[1, 2]])),
    ],
)
def test_values(text, value):
    read = read_assignments(f"ONE = 1\nGIVEN = dict(x=1, y=2)\nX = {text}", {"_base_": BASES})["X"]
    assert read == value and type(read) is type(value)


def test_a_file_is_docstrings_comments_and_assignments():
    source = '"""A file."""\n_base_ = ["x.py"]\nA = B = 1  # both\nC: int = 2\n"""more"""\nA = A + C\n'
    assert read_assignments(source) == {"A": 3, "B": 1, "C": 2}
    assert read_assignment(source, "_base_") == ["x.py"]
    assert read_assignment(source, "_absent_") is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        *(("X = open('x')", "open('x')"), ("X = f'{1}'", "f'{1}'"), ("X = [i for i in (1, 2)]", "[i for i in (1, 2)]")),
        *(("X = lambda: 1", "lambda: 1"), ("X = unknown", "unknown"), ("X = 1 if True else 2", "1 if True else 2")),
        *(("X = {1, 2}", "{1, 2}"), ("X = 3j", "3j"), ("X = b'x'", "b'x'"), ("X = ...", "..."), ("X = 1 < 2", "1 < 2")),
        *(("X = 1 / 0", "1 / 0"), ("X = 'a' - 'b'", "'a' - 'b'"), ("X = 'a' % 3", "'a' % 3"), ("X = -'a'", "-'a'")),
        *(("X = (-8) ** 0.5", "(-8) ** 0.5"), ("X = [1] * 1.5", "[1] * 1.5"), ("X = not True", "not True")),
        *(
            ("X = dict(a=1, a=2)", "dict(a=1, a=2)"),
            ("X = dict([('a', 1)])", "dict([('a', 1)])"),
            ("X = {(1,): 2}", "(1,)"),
        ),
        *(
            ("X = _base_.A.absent", "_base_.A.absent"),
            ("X = 'abc'.upper", "'abc'.upper"),
            ("X = (1,)['a']", "(1,)['a']"),
        ),
        *(
            ("X = [1][2]", "[1][2]"),
            ("X = dict(**3)", "3"),
            ("X = [*3]", "*3"),
            ("X = __import__('os')", "__import__('os')"),
        ),
        *(
            ("import os", "import os"),
            ("if True: X = 1", "if True: X = 1"),
            ("X += 1", "X += 1"),
            ("open('x')", "open('x')"),
        ),
        *(("A, B = 1, 2", "A, B = 1, 2"), ("X: int", "X: int"), ("A['x'] = 2", "A['x'] = 2"), ("del A", "del A")),
    ],
)
def test_what_is_no_value_is_named_with_its_line(line, said):
    with pytest.raises(NotAValueError, match=r"^line 2: ") as caught:
        read_assignments(f"A = dict(x=1)\n{line}", {"_base_": BASES})
    assert f"'{said}'" in str(caught.value)


def test_a_long_expression_is_shown_by_its_beginning():
    with pytest.raises(NotAValueError) as caught:
        read_assignments(f"X = {{{', '.join(map(str, range(1000)))}}}")
    assert len(str(caught.value)) < 200 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "X = 'a' * 10**9",
        "X = [0] * 10**9",
        "X = 9**9**9",
        "X = 2.0 ** 99999",
        "X = -10 ** 400",
        "X = 1\n" + "X = X * 1000000007\n" * 1000,
        "X = (2 ** 999) * (2 ** 999)",
        f"X = 0x{'f' * 10000}",
        "A = [0] * 999\n" + "B = A * 1000\n" * 500,
        "X = 'x' * 1000\n" + "X = X + X\n" * 40,
        "A = dict(" + ", ".join(f"k{i}=0" for i in range(2000)) + ")\n" + "B = dict(**A)\n" * 2000,
        "X = " + "[" * 150 + "]" * 150,
        "X = " + "-" * 3000 + "1",
        "X = " + "1+" * 5000 + "1",
    ],
)
def test_what_would_cost_much_is_refused_at_once(source):
    tracemalloc.start()
    started = time.perf_counter()
    with pytest.raises((NotAValueError, SyntaxError, RecursionError, MemoryError)):
        read_assignments(source)
    assert time.perf_counter() - started < 5
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
