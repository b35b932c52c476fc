"""Whether files of weights are as they were written: checksums beside them, of their parts, or in their header."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor


def checksum(path: Path) -> str:
    """The sha256 of a file, in hexadecimal digits."""
    stat = path.stat()
    return _digest(path, stat.st_mtime_ns, stat.st_size)


@lru_cache
def _digest(path: Path, _mtime_ns: int, _size: int) -> str:
    """Computed once for a file as it stands: a run asks for its newest checkpoint several times."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum_path(path: Path) -> Path:
    """Where a checkpoint's checksum is."""
    return path.with_name(f"{path.name}.sha256")


def contradiction(path: Path) -> str | None:
    """What contradicts a file of weights: its checksum, or those of its parts; None where nothing does.

    The file beside it decides; torch's own format has a checksum for each part, which torch writes and doesn't look at.
    Raises `OSError` and `zipfile.BadZipFile` where it can't be read.
    """
    beside = checksum_path(path)
    if beside.is_file():
        wanted = beside.read_text(encoding="utf-8", errors="replace").strip()
        return None if checksum(path) == wanted else f"its checksum differs from {beside.name}"
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as parts:
        damaged = parts.testzip()
    return f"the checksum of {damaged} differs" if damaged else None


def digest_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """The sha256 of tensors with their names, types and shapes, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().contiguous().cpu()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
