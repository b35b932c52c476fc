"""What a map file was made from, recorded in the file itself, so that one that is no longer right is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from sopose.core.bop.records import Instance
from sopose.core.objects.model import ObjectModel

HEADER_KEY = "header"  # of the json text beside a file's arrays
VERSION = 1  # of what is computed: another version makes other maps of the same facts

Header = dict[str, Any]


def model_hash(model: ObjectModel) -> str:
    """16 hexadecimal digits of what maps take from a model: its triangles and its box."""
    digest = hashlib.sha256()
    for array, dtype in (
        (model.vertices, "<f8"),
        (model.faces, "<i8"),
        (model.bounds_min, "<f8"),
        (model.extent, "<f8"),
    ):
        digest.update(np.ascontiguousarray(array, dtype).tobytes())
    return digest.hexdigest()[:16]


def map_header(instance: Instance, K: np.ndarray, image_size: tuple[int, int], digest: str) -> Header:
    """The facts that an instance's maps follow from; `digest` is the model's `model_hash`."""
    return {
        "version": VERSION,
        "obj_id": instance.obj_id,
        "model": digest,
        "cam_R_obj": instance.pose.cam_R_obj.ravel().tolist(),
        "cam_t_obj": instance.pose.cam_t_obj.tolist(),
        "K": K.ravel().tolist(),
        "image_size": [int(side) for side in image_size],
    }


def header_text(header: Header, dtype: str) -> str:
    """The header of a file with maps of `dtype`, as json; numbers keep all their digits."""
    return json.dumps({**header, "dtype": dtype})


def parse_header(value: Any) -> Header | None:
    """A file's header from what it has for one; None where that is damaged."""
    text = value.item() if isinstance(value, np.ndarray) and value.shape == () else value
    try:
        header = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) else None


def differing(header: Header, wanted: Mapping[str, Any]) -> list[str]:
    """The names of what `wanted` says and `header` says otherwise."""
    return [key for key, value in wanted.items() if header.get(key) != value]
