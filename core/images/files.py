"""Image files: the one place that decodes them, reads their headers and writes them."""

from __future__ import annotations

import io
import os
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from sopose.core.utils.errors import UserError
from sopose.core.utils.files import atomic_path, require_file

# A damaged image is reported in our one line, not in OpenCV's several.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")  # preferred first where names are equal
MOST_PIXELS = 1 << 27  # 16384 x 8192; a small file can hold more than any memory
EXIF_ORIENTATION, TURNED = 274, range(5, 9)  # the values with which width and height change places
TIFF_WIDTH, TIFF_HEIGHT = 256, 257
BIG_TIFF_STARTS = (b"II+\0", b"MM\0+")
TIFF_STARTS = (b"II*\0", b"MM\0*", *BIG_TIFF_STARTS)
JPEG_START, JPEG_END, PNG_START = b"\xff\xd8\xff", b"\xff\xd9", b"\x89PNG\r\n\x1a\n"

Size = tuple[int, int]  # width and height, pixels


@dataclass(frozen=True)
class ImageHeader:
    """What an image file says before its pixels."""

    size: Size  # as `read_image` gives it: turned as the EXIF entry says
    orientation: int = 1  # the EXIF entry; 1: as it is stored


def read_image(path: Path, flags: int = cv2.IMREAD_COLOR, remedy: str = "check the data set") -> np.ndarray:
    """An image as OpenCV decodes it: (H, W, 3) uint8 BGR by default, or as `flags` say.

    It is turned as its EXIF entry says, but for `IMREAD_UNCHANGED`. Raises `UserError` where the file is missing,
    cannot be decoded, or has more than `MOST_PIXELS` pixels, which is known before they take memory.
    """
    data = _read_bytes(path, remedy)
    _read_header(path, data, remedy)
    return _decode(path, data, flags, remedy)


def read_header(path: Path, remedy: str = "check the data set") -> ImageHeader:
    """Size and orientation of an image; no pixel is decoded. Raises as `read_image`."""
    return _read_header(path, _read_bytes(path, remedy), remedy)


def _read_bytes(path: Path, remedy: str) -> bytes:
    try:
        return require_file(path, remedy).read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}); {remedy}") from error


def _decode(path: Path, data: bytes, flags: int, remedy: str) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data and _is_whole(data) else None
    except cv2.error:  # a header that promises more pixels than OpenCV allows
        image = None
    if image is None:
        raise _no_image(path, remedy)
    return image


def _no_image(path: Path, remedy: str) -> UserError:
    return UserError(f"{path} cannot be decoded as an image; restore the file ({remedy})")


def _read_header(path: Path, data: bytes, remedy: str) -> ImageHeader:
    """The header of a file's content. `UserError` where it doesn't state its size, and above `MOST_PIXELS`."""
    stored = _png_header(data) if data.startswith(PNG_START) else _header_by_pillow(data)
    if stored is None:
        raise _no_image(path, remedy)
    (width, height), orientation = stored
    if width * height > MOST_PIXELS:
        most = round(MOST_PIXELS / 1e6)
        raise UserError(f"{path} cannot be decoded as an image, it has more than {most} million pixels; scale it down")
    return ImageHeader((height, width) if orientation in TURNED else (width, height), orientation)


def _png_header(data: bytes) -> tuple[Size, int] | None:
    """The size of a PNG as it is stored, and its EXIF orientation; the entry may stand behind the pixels."""
    size, exif = None, None
    for kind, body, _ in _png_chunks(data):
        if kind == b"IHDR" and len(body) >= 8:
            size = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
        elif kind == b"eXIf":
            exif = bytes(body)
    return None if size is None else (size, 1 if exif is None else _orientation_of(exif))


def _orientation_of(exif: bytes) -> int:
    from PIL import Image

    entries = Image.Exif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow talks of damaged entries
            entries.load(exif)
            return int(entries.get(EXIF_ORIENTATION, 1))
    except Exception:  # a damaged entry: OpenCV leaves it out as well
        return 1


def _header_by_pillow(data: bytes) -> tuple[Size, int] | None:
    """The size of an image as it is stored, and its EXIF orientation; None where Pillow doesn't know the format."""
    from PIL import Image  # OpenCV reads an image whole or not at all

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged entries, and of pixels: our limit is another
            if data.startswith(TIFF_STARTS):
                return _tiff_header(data)
            with Image.open(io.BytesIO(data)) as image:
                return image.size, _orientation_of(image.info.get("exif", b""))
    except Image.DecompressionBombError:
        return (MOST_PIXELS, MOST_PIXELS), 1
    except Exception:  # whatever Pillow stumbles over: without a size nothing is decoded
        return None


def _tiff_header(data: bytes) -> tuple[Size, int]:
    """The same of a TIFF, whatever its pixels are: Pillow itself knows few kinds of them."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    tags = ImageFileDirectory_v2(data[: 16 if data.startswith(BIG_TIFF_STARTS) else 8])
    file = io.BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    return (int(tags[TIFF_WIDTH]), int(tags[TIFF_HEIGHT])), int(tags.get(EXIF_ORIENTATION, 1))


def _is_whole(data: bytes) -> bool:
    """Whether a JPEG has its end and a PNG every chunk with its checksum; other formats are their decoders' business.

    OpenCV fills up what a JPEG lacks, and libpng complains of a PNG on stderr by itself.
    """
    if data.startswith(JPEG_START):
        return JPEG_END in data
    if not data.startswith(PNG_START):
        return True
    kind = b""
    for kind, body, checksum in _png_chunks(data):
        if zlib.crc32(body, zlib.crc32(kind)) != checksum:
            return False
    return kind == b"IEND"


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, int]]:
    """Kind, content and checksum of a PNG's chunks, up to its end or to where the file ends too early."""
    at, kind, content = len(PNG_START), b"", memoryview(data)
    while kind != b"IEND" and at + 12 <= len(data):
        kind = data[at + 4 : at + 8]
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        yield kind, content[at + 8 : end], int.from_bytes(data[end : end + 4], "big")
        at = end + 4


def through_jpeg(image_bgr: np.ndarray, quality: int) -> np.ndarray:
    """An image (H, W, 3) uint8 as a JPEG of a quality, 1 to 100, gives it back."""
    _, coded = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(coded, cv2.IMREAD_COLOR)


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an image (BGR or one channel; the suffix names the format), atomically."""
    require_image_name(path)
    # Encoded first: OpenCV's own writing to a full disk can leave part of a file and say that all went well.
    encoded, data = cv2.imencode(Path(path).suffix, image)
    if not encoded:
        raise UserError(f"{path} cannot be written as an image; use another format")
    with atomic_path(path) as beside:
        beside.write_bytes(data)


def require_image_name(path: Path) -> Path:
    """`path` where its suffix names a format that can be written, else a `UserError`."""
    if not cv2.haveImageWriter(str(path)):
        raise UserError(f"{path} names no image format; use a .png or .jpg name")
    return Path(path)


def image_files(folder: Path, deep: bool = False) -> list[Path]:
    """The image files of a folder, or with `deep` of all folders below it too, sorted; hidden ones are left out."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if deep and not name.startswith(".")]
        paths = [Path(place, name) for name in names if not name.startswith(".")]
        found += [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    return sorted(found)
