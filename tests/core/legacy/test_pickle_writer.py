"""Pickles for other programs: what Python reads from them, and which names they need for it."""

from __future__ import annotations

import pickle
import pickletools

import numpy as np

from sopose.core.legacy.pickle_writer import pickled_dict
from sopose.core.legacy.pickled_arrays import read_pickled_arrays

CONTENT = {
    "maps": np.arange(24, dtype=np.float16).reshape(2, 4, 3),
    "more": np.array([[1.5, -2.0]], ">f4"),
    "none": np.zeros((0, 3), np.float32),
    "xyxy": [3, 0, 70000, -1],
    "header": '{"version": 1, "name": "Öl"}',
}


def test_python_and_we_read_what_was_written(tmp_path):
    data = pickled_dict(CONTENT)
    (tmp_path / "x.pkl").write_bytes(data)
    for read in (pickle.loads(data), read_pickled_arrays(tmp_path / "x.pkl")):
        assert list(read) == list(CONTENT)
        for key, value in CONTENT.items():
            np.testing.assert_array_equal(read[key], value)
        assert read["maps"].dtype == np.float16 and read["xyxy"] == CONTENT["xyxy"]
    assert pickle.loads(data)["maps"].flags.writeable


def test_it_needs_no_name_that_an_old_numpy_lacks():
    names = {argument for opcode, argument, _ in pickletools.genops(pickled_dict(CONTENT)) if opcode.name == "GLOBAL"}
    assert names == {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}


def test_the_same_content_gives_the_same_bytes():
    assert pickled_dict(CONTENT) == pickled_dict(dict(CONTENT))
