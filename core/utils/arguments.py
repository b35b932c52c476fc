"""Kinds of values on the command line, for `type=` of argparse."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable


def finite(text: str) -> float:
    """A number that is neither nan nor infinity."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"'{text}' is no finite number")
    return value


def numbers(count: int) -> Callable[[str], list[float]]:
    """A reader of so many numbers with commas between them, each as `finite`; `ValueError` for another count."""

    def numbers(text: str) -> list[float]:
        values = [finite(part) for part in text.split(",")]
        if len(values) != count:
            raise ValueError
        return values

    return numbers
