"""Pickles are read as data: every way numpy writes arrays comes back, and nothing a pickle names is ever run."""

from __future__ import annotations

import codecs
import io
import os
import pickle
import pickletools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sopose.core.legacy import pickled_arrays
from sopose.core.legacy.pickled_arrays import read_pickled_arrays
from sopose.core.utils.errors import UserError

CUBE = np.arange(24).reshape(2, 3, 4)
ARRAYS = {
    **{f"{code} C": (CUBE - 5).astype(code) for code in ("<f2", "<f4", "<f8", ">f4", ">i2", "i1", "<i8", ">u4")},
    "fortran": np.asfortranarray(CUBE.astype(np.float32)),
    "strided": CUBE[:, ::2, 1],
    "bool": CUBE % 2 == 0,
    "empty": np.zeros((0, 3), np.float32),
    "no axis": np.array(2.5),
}
PLAIN = {"int": 7, "float": 0.25, "text": "ape", "list": [1, np.int64(-2), 3.5, "x"], "scalar": np.float32(1.5)}


def written(folder: Path, content: Any, protocol: int = 2) -> Path:
    path = folder / "a.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_what_numpy_writes_comes_back(protocol, core, tmp_path):
    data = pickle.dumps({**ARRAYS, **PLAIN}, protocol)
    if protocol < 4:  # names are lines
        data = data.replace(b"numpy._core", core).replace(b"numpy.core", core)
    elif core == b"numpy.core":  # names are counted texts in frames
        data = _renamed(data)
    read = read_pickled_arrays(written(tmp_path, data))
    assert list(read) == [*ARRAYS, *PLAIN]
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array, strict=False)
        assert read[name].shape == array.shape and read[name].dtype == array.dtype.newbyteorder("=")
        assert read[name].dtype.isnative and read[name].flags.writeable
    for name, value in PLAIN.items():
        assert read[name] == value and type(read[name]) in (int, float, str, list)


def _renamed(data: bytes) -> bytes:
    """A pickle of protocol 4 or 5 with numpy 1's module names, without frames."""
    out = io.BytesIO()
    steps = [*pickletools.genops(data)]
    ends = [position for _, _, position in steps[1:]] + [len(data)]
    for (opcode, argument, start), end in zip(steps, ends, strict=True):
        if opcode.name == "FRAME":
            continue
        if isinstance(argument, str) and argument.startswith("numpy._core"):
            text = argument.replace("numpy._core", "numpy.core").encode()
            out.write(b"\x8c" + bytes([len(text)]) + text)
        else:
            out.write(data[start:end])
    return out.getvalue()


def array_pickle(shape: Any, code: Any = "f4", order: Any = "<", raw: Any = bytes(16)) -> bytes:
    """A pickle `{"a": array}` as numpy writes it, with these values in the array's state."""
    # Memo places collide between the pieces, but none is ever read back.
    shape, code, order, raw = (pickle.dumps(value, 3)[2:-1] for value in (shape, code, order, raw))
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    dtype = b"cnumpy\ndtype\n" + code + b"\x89\x88\x87R(K\x03" + order + b"NNNJ\xff\xff\xff\xffK\x00tb"
    return b"\x80\x03}X\x01\x00\x00\x00a" + array + b"(K\x01" + shape + dtype + b"\x89" + raw + b"tbs."


def test_a_hand_written_array_is_read(tmp_path):
    assert read_pickled_arrays(written(tmp_path, array_pickle((2, 2))))["a"].shape == (2, 2)


def test_the_text_that_python_2_wrote_is_bytes(tmp_path):
    data = array_pickle((4,), "u1", "|", raw=b"\x00\x7f\x80\xff")
    old = data.replace(b"C\x04\x00\x7f\x80\xff", b"U\x04\x00\x7f\x80\xff")  # bytes, and a text as Python 2 has it
    assert old != data
    np.testing.assert_array_equal(read_pickled_arrays(written(tmp_path, old))["a"], [0, 127, 128, 255])


class _Runs:
    """Pickles as the call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


def test_nothing_that_a_pickle_names_is_run(tmp_path):
    marker = tmp_path / "marker"
    command = f"open({str(marker)!r}, 'w')"
    calls = {
        "system": _Runs(os.system, f"touch {marker}"),
        "builtins.eval": _Runs(eval, command),
        "numpy.load": _Runs(np.load, str(marker)),
        "_codecs.decode": _Runs(codecs.decode, b"", "zlib"),
    }
    for name, call in calls.items():
        for protocol in range(6):
            path = written(tmp_path, {"a": call}, protocol)
            with pytest.raises(UserError, match=r"a\.pkl holds .*, which is not opened") as caught:
                read_pickled_arrays(path)
            # Old protocols write builtins as __builtin__.
            assert name.replace("builtins.", "") in str(caught.value) and "\n" not in str(caught.value)
    assert not marker.exists()


def test_opcodes_that_call_without_a_name_on_the_stack_are_refused_too(tmp_path):
    marker = tmp_path / "marker"
    for data in (
        b"(S'touch " + str(marker).encode() + b"'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch " + str(marker).encode() + b"'\no.",  # OBJ
        b"\x80\x02\x82\x01.",  # EXT1
        b"\x80\x02X\x01\x00\x00\x00aQ.",  # BINPERSID
    ):
        with pytest.raises(UserError):
            read_pickled_arrays(written(tmp_path, data))
    assert not marker.exists()


def test_a_name_cannot_be_given_a_state(tmp_path):
    body = b"}q\x00X\x01\x00\x00\x00aX\x01\x00\x00\x00bsb"
    with pytest.raises(UserError, match=r"gives numpy\.ndarray a state"):
        read_pickled_arrays(written(tmp_path, b"\x80\x02cnumpy\nndarray\n" + body + b"."))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (array_pickle((3, 2)), "16 bytes for 'a', whose shape"),
        (array_pickle((1 << 62, 0)), "impossible shape"),
        (array_pickle((-2, -2)), "impossible shape"),
        (array_pickle([2, 2]), "impossible shape"),
        (array_pickle((2, 2), code="O8"), "only floats, integers and bool"),
        (array_pickle((2, 2), code="V4"), "only floats, integers and bool"),
        (array_pickle((2, 2), code="f4,f4"), "only floats, integers and bool"),
        (array_pickle((2, 2), code=7), "only floats, integers and bool"),
        (array_pickle((2, 2), order="x"), "unknown byte order"),
        (array_pickle((2, 2), order=None), "unknown byte order"),
        (array_pickle((2, 2), raw=[1, 2]), "in place of the bytes"),
        (array_pickle((2, 2), raw=7), "in place of the bytes"),
        (pickle.dumps({"a": np.array([{}, None])}), "only floats, integers and bool"),
        (pickle.dumps({"a": np.array(["text"])}), "only floats, integers and bool"),
        (pickle.dumps({"a": np.zeros(2, "f4,i2")}), "only floats, integers and bool"),
        (pickle.dumps({"a": np.zeros(2, "M8[s]")}), "only floats, integers and bool"),
        (pickle.dumps([np.zeros(2)]), "holds a list, not a dict"),
        (pickle.dumps(np.zeros(2)), "not a dict"),
        (pickle.dumps({1: np.zeros(2)}), "int as a key"),
        (pickle.dumps({"a": None}), "NoneType as 'a'"),
        (pickle.dumps({"a": [[1, 2], [3, 4]]}), "list as an entry of 'a'"),
        (pickle.dumps({"a": {"b": 1}}), "dict as 'a'"),
        (pickle.dumps({"a": np.zeros(4)})[:-20], "cannot be read as a pickle"),
        (b"", "cannot be read as a pickle"),
        (b"not a pickle", "cannot be read as a pickle"),
        (b"\x80\x02N" + b"r" + struct.pack("<I", 0xFFFFFFF0) + b".", "numbers a value beyond"),
        (b"\x80\x02" + b"N\x85" * 20_000 + b".", "more than 10000 steps"),
    ],
)
def test_anything_else_is_reported_in_one_line(data, words, tmp_path):
    with pytest.raises(UserError) as caught:
        read_pickled_arrays(written(tmp_path, data))
    message = str(caught.value)
    assert words in message and "a.pkl" in message and "\n" not in message and message.endswith(pickled_arrays.REMEDY)


def test_sizes_are_limited(tmp_path, monkeypatch):
    raw = bytes(4000)
    path = written(tmp_path, {"a": np.frombuffer(raw, np.uint8)}, 4)
    monkeypatch.setattr(pickled_arrays, "MAX_BYTES", 4096)
    with pytest.raises(UserError, match="larger than"):
        read_pickled_arrays(path)
    array = np.frombuffer(raw[:3000], np.uint8)
    with pytest.raises(UserError, match="arrays of more than"):  # one array in two places
        read_pickled_arrays(written(tmp_path, {"a": array, "b": array}, 4))
    with pytest.raises(UserError, match="missing"):
        read_pickled_arrays(tmp_path / "absent.pkl")


def test_a_bool_is_true_or_false(tmp_path):
    read = read_pickled_arrays(written(tmp_path, array_pickle((4,), code="b1", order="|", raw=b"\x00\x01\x02\xff")))
    np.testing.assert_array_equal(read["a"].view(np.uint8), [0, 1, 1, 1])


GOOD = [
    pickle.dumps({"xyz_crop": np.ones((4, 3, 3), np.float16), "xyxy": [1, 2, 3, 5], "s": np.int64(3)}, protocol)
    for protocol in range(6)
]


@settings(max_examples=100)
@given(st.sampled_from(GOOD), st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=6)), max_size=4), st.data())
def test_a_damaged_pickle_gives_a_dict_or_a_user_error(tmp_path_factory, good, edits, data):
    damaged = bytearray(good)
    for position, piece in edits:
        damaged[position : position + data.draw(st.integers(0, 4))] = piece
    path = tmp_path_factory.getbasetemp() / "fuzz.pkl"
    path.write_bytes(damaged)
    try:
        assert isinstance(read_pickled_arrays(path), dict)
    except UserError as error:
        assert "\n" not in str(error)
