"""A dict of arrays as a pickle for other programs to read, under the names that every numpy knows.

What Python's own pickling writes with numpy 2 names a module that numpy 1 doesn't have.
"""

from __future__ import annotations

import pickle as op
import struct
from collections.abc import Mapping, Sequence

import numpy as np

_RECONSTRUCT = op.GLOBAL + b"numpy.core.multiarray\n_reconstruct\n"
_NDARRAY = op.GLOBAL + b"numpy\nndarray\n"
_DTYPE = op.GLOBAL + b"numpy\ndtype\n"


def pickled_dict(content: Mapping[str, np.ndarray | Sequence[int] | str]) -> bytes:
    """A pickle of protocol 3 with a dict of little-endian arrays, lists of ints and texts.

    The same content gives the same bytes.
    """
    items = b"".join(_text(key) + _value(value) for key, value in content.items())
    return op.PROTO + b"\x03" + op.EMPTY_DICT + op.MARK + items + op.SETITEMS + op.STOP


def _value(value: np.ndarray | Sequence[int] | str) -> bytes:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, np.ndarray):
        return _array(value)
    return op.EMPTY_LIST + op.MARK + b"".join(_integer(item) for item in value) + op.APPENDS


def _text(text: str) -> bytes:
    data = text.encode("utf-8")
    return op.BINUNICODE + struct.pack("<I", len(data)) + data


def _integer(value: int) -> bytes:
    return op.BININT + struct.pack("<i", value)


def _tuple(*items: bytes) -> bytes:
    return op.MARK + b"".join(items) + op.TUPLE


def _array(array: np.ndarray) -> bytes:
    """numpy's `_reconstruct(ndarray, (0,), b"b")` with the state (1, shape, dtype, is_fortran, data)."""
    dtype = array.dtype.newbyteorder("<")
    data = np.ascontiguousarray(array, dtype).tobytes()
    empty = _RECONSTRUCT + _tuple(_NDARRAY, _tuple(_integer(0)), op.SHORT_BINBYTES + b"\x01b") + op.REDUCE
    shape = _tuple(*(_integer(side) for side in array.shape))
    raw = op.BINBYTES + struct.pack("<I", len(data)) + data
    return empty + _tuple(_integer(1), shape, _dtype(dtype), op.NEWFALSE, raw) + op.BUILD


def _dtype(dtype: np.dtype) -> bytes:
    """numpy's `dtype(code, False, True)` with the state (3, byte order, None, None, None, -1, -1, 0)."""
    made = _DTYPE + _tuple(_text(f"{dtype.kind}{dtype.itemsize}"), op.NEWFALSE, op.NEWTRUE) + op.REDUCE
    rest = (op.NONE, op.NONE, op.NONE, _integer(-1), _integer(-1), _integer(0))
    return made + _tuple(_integer(3), _text("<"), *rest) + op.BUILD
