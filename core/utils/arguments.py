"""Kinds of values on the command line, for `type=` of argparse."""

from __future__ import annotations

import argparse
import math


def finite(text: str) -> float:
    """A number that is neither nan nor infinity."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"'{text}' is no finite number")
    return value
