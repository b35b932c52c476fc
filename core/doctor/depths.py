"""Compares a depth image with the depth of the annotated objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from sopose.core.bop.records import ImageRecord
from sopose.core.doctor.cameras import Size
from sopose.core.doctor.findings import Finding, words_of
from sopose.core.doctor.fits import MIN_PIXELS, Seen, share, widened
from sopose.core.images.files import read_image
from sopose.core.utils.errors import UserError
from sopose.core.utils.units import M_TO_MM

FACTOR = 2.0  # by which measured and rendered depth may differ: what is not annotated may be in front
SAME_SURFACE = 0.005  # metres between measured and rendered depth of what is the object's own surface
LACKING = 0.3  # of an object's measured surface that a visible part may be without: hands and cables lie on objects
NAMED = 0.25  # of a power of ten by which a factor may be off to be that one


def check_depth(
    record: ImageRecord, seen: Iterable[tuple[Seen, np.ndarray]], size: Size, where: str, scale_where: str
) -> Iterator[Finding]:
    """Faults of an image's depth file, which is there; `seen` pairs instances with their rendered depth (H, W), metres.

    where: the file. scale_where: the image's entry with depth_scale.
    """
    try:
        steps = read_image(record.depth_path, cv2.IMREAD_UNCHANGED)
    except UserError as error:
        yield Finding("image-broken", where, words_of(error, record.depth_path))
        return
    if steps.ndim != 2:
        yield Finding("mask-size", where, f"one channel is wanted, it has {steps.shape[2]}")
        return
    if steps.shape != size[::-1]:
        text = f"{steps.shape[1]} × {steps.shape[0]}, its image has {size[0]} × {size[1]}"
        yield Finding("mask-size", where, text)
        return
    ratios, lacking = [], []
    for one, depth in seen:
        lacking += _lacking(one, depth, record.depth_scale * steps)
        pixels = (depth > 0) & (steps > 0) & (one.visible if one.visib is None else one.visib)
        if np.count_nonzero(pixels) >= MIN_PIXELS:
            ratios.append(np.median(record.depth_scale * steps[pixels] / depth[pixels]))
    if not ratios:
        yield from lacking
        return
    ratio = float(np.median(ratios))
    if 1 / FACTOR <= ratio <= FACTOR:
        yield from lacking
        return
    scale = M_TO_MM * record.depth_scale
    what = f"objects are {_factor(ratio)} as far in {where} as by their poses; depth_scale is {scale:g}"
    yield Finding(
        "depth-scale", scale_where, f"{what}, {scale / _named(ratio):.4g} would fit", badness=abs(np.log(ratio))
    )


def _lacking(one: Seen, depth: np.ndarray, measured: np.ndarray) -> Iterator[Finding]:
    """A visible part without much of where the depth image shows the object; depths are (H, W) metres."""
    if one.visib is None and not one.is_hidden:
        return
    proven = one.visible & (depth > 0) & (np.abs(measured - depth) < SAME_SURFACE)
    count = np.count_nonzero(proven)
    if count < MIN_PIXELS:
        return
    text = f"{count} pixels whose measured depth is the object's"
    if one.visib is None:
        yield one.finding(
            "visib-missing", one.where, f"its info says that nothing of it is visible; it has {text}", 1.0
        )
        return
    lacks = 1 - share(proven, widened(one.visib))
    if lacks > LACKING:
        yield one.finding("visib-missing", one.files["mask_visib"], f"it lacks {lacks:.0%} of the {text}", lacks)


def _named(ratio: float) -> float:
    """The power of ten that a ratio is near, or itself."""
    power = 10.0 ** round(np.log10(ratio))
    return power if abs(ratio / power - 1) < NAMED else ratio


def _factor(ratio: float) -> str:
    named = _named(ratio)
    return f"{named:.4g} times" if named >= 1 else f"1/{1 / named:.4g} times"
