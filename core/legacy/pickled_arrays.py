"""Pickles of other people's arrays, opened without letting them do anything.

A pickle is a program that may call whatever it names. Here it can only build a tree of the names it holds,
their arguments and states: nothing it names is imported or called. The tree is then read as numpy writes its
arrays, and numpy's own unpickling, which trusts what a file says about a buffer, has no part in it.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from sopose.core.utils.errors import UserError
from sopose.core.utils.files import require_file

MAX_BYTES = 256 << 20  # of a file, and of the arrays in it
MAX_STEPS = 10_000  # a file of a few arrays takes about a hundred; deep nests can exhaust the interpreter's stack
REMEDY = "make the file again from its source, as .npz"

_CORES = ("numpy.core", "numpy._core")  # before and since numpy 2
_RECONSTRUCT = {f"{core}.multiarray._reconstruct" for core in _CORES}
_SCALAR = {f"{core}.multiarray.scalar" for core in _CORES}
_FROM_BUFFER = {f"{core}.numeric._frombuffer" for core in _CORES}  # protocol 5
_ENCODE = {"_codecs.encode"}  # bytes before protocol 3
_BYTES = {"__builtin__.bytes", "builtins.bytes"}  # no bytes before protocol 3
_DTYPE = {"numpy.dtype"}
KNOWN_NAMES = _RECONSTRUCT | _SCALAR | _FROM_BUFFER | _ENCODE | _BYTES | _DTYPE | {"numpy.ndarray"}

# Floats, signed and unsigned integers, bool; longer floats differ between machines.
_DTYPE_CODE = re.compile(r"[<>|=]?(f[248]|[iu][1248]|b1)")

Value = np.ndarray | list[int | float | str] | int | float | str


def read_pickled_arrays(path: Path) -> dict[str, Value]:
    """The dict of arrays, flat lists, numbers and texts in a pickle of any protocol, by numpy 1 or 2.

    Arrays are float16-64, integers or bool, in the machine's byte order; numpy's scalars become plain numbers,
    tuples become lists. Raises `UserError` for a missing, damaged or oversized file and for one that holds
    anything else, naming it.
    """
    path = require_file(Path(path))
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path} is larger than {MAX_BYTES >> 20} MiB; {REMEDY}")
    data = path.read_bytes()
    try:
        _check_steps(data)
        content = _TreeReader(data).load()
        return _values(content)
    except _RefusedError as error:
        raise UserError(f"{path} {error}; {REMEDY}") from error
    except Exception as error:  # whatever the unpickler stumbles over, the file is at fault
        reason = _one_line(f"{type(error).__name__}: {error}")
        raise UserError(f"{path} cannot be read as a pickle of arrays ({reason}); {REMEDY}") from error


class _RefusedError(Exception):
    """What a pickle holds and may not."""


def _one_line(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")[:100]


def _check_steps(data: bytes) -> None:
    """Refuse what would cost more memory than the file has, before any of it is run."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if count > MAX_STEPS:
            raise _RefusedError(f"has more than {MAX_STEPS} steps, too many for a few arrays")
        # The unpickler makes room for every place up to this one.
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > MAX_STEPS:
            raise _RefusedError(f"numbers a value beyond the {MAX_STEPS} it may have")


class _Call:
    """What a pickle wants to be called: a name, its arguments, and the state it gives the result."""

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str, arguments: tuple) -> None:
        self.name, self.arguments, self.state = name, arguments, None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Name:
    """A name that a pickle holds; calling it notes the call. Without a `__dict__`, nothing can be put into it."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *arguments: Any) -> _Call:
        return _Call(self.name, arguments)

    def __setstate__(self, state: Any) -> NoReturn:
        raise _RefusedError(f"gives {self.name} a state")


class _TreeReader(pickle.Unpickler):
    """An unpickler for which names are only names."""

    def __init__(self, data: bytes) -> None:
        # Python 2 wrote bytes as text; latin-1 keeps them.
        super().__init__(io.BytesIO(data), encoding="latin1")

    def find_class(self, module: str, name: str) -> _Name:
        full = f"{module}.{name}"
        if full not in KNOWN_NAMES:
            raise _RefusedError(f"holds {_one_line(full)}, which is not opened; only arrays and plain values are")
        return _Name(full)


def _values(content: Any) -> dict[str, Value]:
    if type(content) is not dict:
        raise _RefusedError(f"holds a {_kind(content)}, not a dict of arrays")
    values: dict[str, Value] = {}
    size = 0
    for key, node in content.items():
        if type(key) is not str:
            raise _RefusedError(f"has a {_kind(key)} as a key, not a text")
        value = values[key] = _value(node, f"'{_one_line(key)}'")
        size += value.nbytes if isinstance(value, np.ndarray) else 0
        if size > MAX_BYTES:  # the same bytes can be named many times
            raise _RefusedError(f"has arrays of more than {MAX_BYTES >> 20} MiB")
    return values


def _value(node: Any, where: str) -> Value:
    if type(node) in (list, tuple):
        return [_scalar(item, f"an entry of {where}") for item in node]
    if type(node) is _Call and node.name in _RECONSTRUCT | _FROM_BUFFER:
        return _array(node, where)
    return _scalar(node, where)


def _scalar(node: Any, where: str) -> int | float | str:
    if type(node) in (int, float, bool, str):
        return node
    if type(node) is _Call and node.name in _SCALAR and len(node.arguments) == 2:
        dtype, raw = node.arguments
        return _filled(_dtype(dtype, where), _bytes(raw, where), (), "C", where).item()
    raise _RefusedError(f"has a {_kind(node)} as {where}, not an array, a number, a text or a flat list of these")


def _array(node: _Call, where: str) -> np.ndarray:
    if node.name in _FROM_BUFFER:
        if len(node.arguments) != 4:
            raise _RefusedError(f"has an incomplete array as {where}")
        raw, dtype, shape, order = node.arguments
    else:
        if type(node.state) is not tuple or len(node.state) != 5:
            raise _RefusedError(f"has an incomplete array as {where}")
        _, shape, dtype, is_fortran, raw = node.state
        order = "F" if is_fortran else "C"
    if type(shape) is not tuple or not all(type(side) is int and 0 <= side <= MAX_BYTES for side in shape):
        raise _RefusedError(f"has an array of an impossible shape as {where}")
    if order not in ("C", "F"):
        raise _RefusedError(f"has an array of an unknown order as {where}")
    return _filled(_dtype(dtype, where), _bytes(raw, where), shape, order, where)


def _filled(dtype: np.dtype, raw: bytes, shape: tuple[int, ...], order: str, where: str) -> np.ndarray:
    wanted = math.prod(shape) * dtype.itemsize
    if len(raw) != wanted:
        raise _RefusedError(f"has {len(raw)} bytes for {where}, whose shape {shape} of {dtype} takes {wanted}")
    if dtype.kind == "b":  # any byte but 0 and 1 would make a bool that is neither
        return np.frombuffer(raw, np.uint8).reshape(shape, order=order) != 0
    return np.frombuffer(raw, dtype).reshape(shape, order=order).astype(dtype.newbyteorder("="))


def _dtype(node: Any, where: str) -> np.dtype:
    """A dtype: `numpy.dtype(code, False, True)` with a state (3, byte order, None, ...)."""
    arguments = node.arguments if type(node) is _Call and node.name in _DTYPE else ()
    code = arguments[0] if arguments else None
    if type(code) is not str or not _DTYPE_CODE.fullmatch(code):
        raise _RefusedError(f"has {where} of type {_one_line(repr(code))}; only floats, integers and bool are read")
    dtype = np.dtype(code)
    if node.state is None:
        return dtype
    order = node.state[1] if type(node.state) is tuple and len(node.state) > 1 else None
    if type(order) is not str or order not in ("<", ">", "|", "="):
        raise _RefusedError(f"has {where} of an unknown byte order")
    return dtype.newbyteorder(order)


def _bytes(node: Any, where: str) -> bytes:
    if type(node) in (bytes, bytearray):
        return bytes(node)
    if type(node) is str:
        return node.encode("latin-1")
    if type(node) is _Call and node.name in _BYTES and not node.arguments:
        return b""
    if type(node) is _Call and node.name in _ENCODE and len(node.arguments) == 2:
        text, encoding = node.arguments
        if type(text) is str and encoding in ("latin1", "latin-1"):
            return text.encode("latin-1")
    raise _RefusedError(f"has a {_kind(node)} in place of the bytes of {where}")


def _kind(node: Any) -> str:
    return node.name if isinstance(node, _Call | _Name) else type(node).__name__
