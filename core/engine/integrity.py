"""Whether files of weights are as they were written: checksums beside them, of their parts, or in their header."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

GRAPH_CHECKSUM = "content_sha256"  # in the metadata of an .onnx file, of all bytes before it
_DIGITS = 64  # of a sha256


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
    import torch  # here alone: checksums of files are looked at without it

    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().contiguous().cpu()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def sealed_graph(content: bytes) -> bytes:
    """An .onnx file's bytes with their own sha256 as its last metadata.

    Parts of a message may follow each other in any order (protocol buffers, encoding), so that the checksum can stand
    behind all that it is of: it is read as metadata by anybody, and checked without a parser.
    """
    return content + _checksum_entry(hashlib.sha256(content).hexdigest())


def is_sealed_and_damaged(content: bytes, metadata: Mapping[str, str]) -> bool:
    """Whether an .onnx file, which may be anybody's, states a checksum that its bytes contradict.

    metadata: what a reader found in it; a file without our checksum there is taken as it is.
    """
    if GRAPH_CHECKSUM not in metadata:
        return False
    end = len(content) - len(_checksum_entry("0" * _DIGITS))
    return content != sealed_graph(content[: max(end, 0)])


def _checksum_entry(digits: str) -> bytes:
    """`ModelProto.metadata_props` (field 14) with one `StringStringEntryProto` (key 1, value 2)."""
    pair = b"".join(
        bytes([number << 3 | 2, len(text)]) + text
        for number, text in ((1, GRAPH_CHECKSUM.encode()), (2, digits.encode()))
    )
    return bytes([14 << 3 | 2, len(pair)]) + pair
