"""Numbers of numpy inside torch files, read without calling numpy's own unpickling.

Learning rates and statistics in old checkpoints are often numpy scalars. The functions numpy names in a pickle rebuild
objects of any kind, so torch refuses them; these stand in for them and can make nothing but plain values.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np

# Numbers, truth values and texts; no objects, no structures.
DATA_CODE = re.compile(r"[<>=|]?(\?|[biufc]\d{1,2}|[SU]\d{1,6})")


class PlainDtype:
    """Stands in for `numpy.dtype`: data of one kind, never objects."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or not DATA_CODE.fullmatch(code):
            raise pickle.UnpicklingError(f"GLOBAL numpy.dtype({str(code)[:20]}) is no plain number")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """`state` as numpy writes it; the byte order is all that counts here."""
        self.dtype = self.dtype.newbyteorder(state[1])


class IgnoredArray:
    """Stands in for `numpy.ndarray`: an array that no one needs, without its content."""

    def __setstate__(self, state: Any) -> None:
        """Leaves `state` unread."""


def plain_scalar(dtype: PlainDtype, data: bytes) -> bool | int | float | complex | str | bytes:
    """Stands in for numpy's scalar constructor and returns Python's own value."""
    return np.ndarray((), dtype.dtype, buffer=data).item()


def ignored_array(*_: Any) -> IgnoredArray:
    """Stands in for numpy's array constructor."""
    return IgnoredArray()


def no_bytes() -> bytes:
    """Stands in for `bytes`, as pickle calls it for the content of an empty array; without the power to allocate."""
    return b""


# For torch.serialization.safe_globals. numpy 2 renamed `numpy.core`; files carry either name.
PLAIN_NUMPY: list[tuple[Callable[..., Any], str]] = [
    (PlainDtype, "numpy.dtype"),
    (IgnoredArray, "numpy.ndarray"),
    (no_bytes, "builtins.bytes"),
    *((plain_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((ignored_array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
]
