"""What a network predicted for a split, kept in one file: scores, report and pictures are made from it alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch

from sopose.batch import PredictedMaps
from sopose.core.bop.results import Estimates
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import atomic_path, read_arrays
from sopose.data.mapper import EvalItem, EvalSource

FILE_NAME = "predictions.npz"
VERSION = 1  # of the file's layout
MAX_BYTES = 4 << 30  # of the unpacked arrays: 40,000 ROIs with maps
REMEDY = "evaluate again"
BOX_TOLERANCE = 1e-3  # pixels
# Name -> type and sides of each array; a letter is a length: N ROIs, M of them with maps of H x W cells.
ROWS = {
    "ids": (np.int64, "N 3"),
    "score": (np.float64, "N"),
    "cam_R_obj": (np.float64, "N 3 3"),
    "cam_t_obj": (np.float64, "N 3"),
    "time": (np.float64, "N"),
    "box": (np.float64, "N 4"),
    "pictured": (np.int64, "M"),
}
# Half precision keeps coordinates to a 2000th of the object, which no picture shows.
MAPS = {
    "mask": (np.float16, "M H W"),
    "P": (np.float16, "M 3 H W"),
    "Q": (np.float16, "M 6 H W"),
    "region": (np.int16, "M H W"),
    "region_probability": (np.float16, "M H W"),
}
# Poses before second looks.
COARSE = {"coarse_R_obj": (np.float64, "N 3 3"), "coarse_t_obj": (np.float64, "N 3")}
OPTIONAL = ("Q", "region", "region_probability", *COARSE)
TEXTS = ("version", "split", "facts")


@dataclass(frozen=True, eq=False)
class Predictions:
    """Poses of N ROIs, in the order of their test set, and the maps of some."""

    split: str  # its name in DATASETS.TEST
    estimates: Estimates  # N; metres, `time` is seconds of the whole image, -1 unknown
    box: np.ndarray  # (N, 4) float64 xyxy pixels, where the network looked
    pictured: np.ndarray  # (M,) int64, ascending, the ROIs that a report shows
    maps: PredictedMaps | None  # of those M ROIs, on the host; None where there are none, or the network has no maps
    facts: Mapping[str, str]  # how they came about, in words: weights, boxes, poses, device
    coarse: Estimates | None = None  # N, as they were before second looks; None where there were none


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write a file of predictions (.npz), atomically; maps in half precision."""
    rows = {name: getattr(predictions.estimates, name, None) for name in ROWS}
    rows |= {"box": predictions.box, "pictured": predictions.pictured}
    maps = {} if predictions.maps is None else vars(predictions.maps)
    arrays = {name: np.asarray(rows[name], kind) for name, (kind, _) in ROWS.items()}
    with np.errstate(over="ignore"):  # what is beyond half precision is wrong by any measure
        arrays |= {name: maps[name].numpy().astype(MAPS[name][0]) for name in maps if maps[name] is not None}
    if predictions.coarse is not None:
        arrays |= {name: getattr(predictions.coarse, name.replace("coarse", "cam")) for name in COARSE}
    texts = (str(VERSION), predictions.split, json.dumps(dict(predictions.facts)))
    arrays |= {name: np.array(text) for name, text in zip(TEXTS, texts, strict=True)}
    with atomic_path(path) as beside:
        np.savez_compressed(beside, **arrays)


def read_predictions(path: Path) -> Predictions:
    """The content of a file that `write_predictions` wrote; maps are half precision.

    Raises `UserError` where it is missing, damaged or of another layout, and where arrays don't fit together.
    """
    arrays = read_arrays(path, (*TEXTS, *ROWS, *MAPS, *COARSE), REMEDY, MAX_BYTES)
    split, facts = _texts(path, arrays)
    _check_layout(path, arrays)
    count, pictured = len(arrays["ids"]), arrays["pictured"]
    if (np.diff(pictured) <= 0).any() or (len(pictured) and not 0 <= pictured[0] <= pictured[-1] < count):
        raise UserError(f"{path}: pictured must be ascending numbers below {count}; {REMEDY}")
    maps = None
    if "mask" in arrays:
        tensors = {name: torch.from_numpy(arrays[name]) if name in arrays else None for name in MAPS}
        maps = PredictedMaps(**tensors)
    estimates = Estimates(**{field.name: arrays[field.name] for field in fields(Estimates)})
    coarse = None
    if all(name in arrays for name in COARSE):
        coarse = replace(estimates, **{name.replace("coarse", "cam"): arrays[name] for name in COARSE})
    return Predictions(split, estimates, arrays["box"], pictured, maps, facts, coarse)


def roi_ids(item: EvalItem) -> tuple[int, int, int]:
    """Scene, image and object of an ROI."""
    return item.record.scene_id, item.record.im_id, item.obj_id


def require_rois(predictions: Predictions, source: EvalSource, path: Path) -> None:
    """`UserError` where the predictions are of other ROIs than those of a test set; `path` is their file."""
    ids = np.array([roi_ids(item) for item in source.items], np.int64).reshape(-1, 3)
    boxes = np.array([item.box for item in source.items], np.float64).reshape(-1, 4)
    same = np.array_equal(ids, predictions.estimates.ids)
    if not same or not np.allclose(boxes, predictions.box, rtol=0, atol=BOX_TOLERANCE):
        raise UserError(
            f"{path} has {len(predictions.box)} predictions of {predictions.split}, the configuration asks for "
            f"{len(ids)} boxes {'of other objects' if not same else 'in other places'}; {REMEDY}"
        )


def _texts(path: Path, arrays: Mapping[str, np.ndarray]) -> tuple[str, dict[str, str]]:
    """The name of the split and the facts."""
    missing = [name for name in (*TEXTS, *ROWS) if name not in arrays]
    version = arrays["version"].item() if not missing and arrays["version"].shape == () else ""
    if missing or version != str(VERSION):
        came = f"lacks {', '.join(missing)}" if missing else f"is of version {str(version)[:20]!r}"
        raise UserError(f"{path} {came}, wanted are predictions of version {VERSION}; {REMEDY}")
    try:
        facts = json.loads(arrays["facts"].item())
        if not all(isinstance(word, str) for word in facts.values()):
            raise TypeError("not words")
        return str(arrays["split"].item()), facts
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: facts are no json of words ({str(error)[:60]}); {REMEDY}") from error


def _check_layout(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """`UserError` where an array is of another type or size than the others say."""
    lengths: dict[str, int] = {}
    for name, (kind, sides) in (ROWS | MAPS | COARSE).items():
        if name not in arrays:
            if name in OPTIONAL or "mask" not in arrays:
                continue
            raise UserError(f"{path} has maps without {name}; {REMEDY}")
        array, wanted = arrays[name], sides.split()
        fits = array.dtype == kind and array.ndim == len(wanted)
        for side, length in zip(wanted, array.shape, strict=False):
            fits = fits and length == (int(side) if side.isdigit() else lengths.setdefault(side, length))
        if not fits:
            shape = ", ".join(str(lengths.get(side, side)) for side in wanted)
            raise UserError(
                f"{path}: {name} must be {np.dtype(kind)} ({shape}) and is {array.dtype} {array.shape}; {REMEDY}"
            )
    if ("region" in arrays) != ("region_probability" in arrays):
        raise UserError(f"{path} has regions without their probabilities, or the reverse; {REMEDY}")
