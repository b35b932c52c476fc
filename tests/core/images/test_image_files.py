"""Image files: whole or refused, sizes as they are decoded, and no more pixels than memory has."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sopose.core.images.files import (
    EXIF_ORIENTATION,
    MOST_PIXELS,
    image_files,
    read_header,
    read_image,
    write_image,
)
from sopose.core.utils.errors import UserError

PICTURE = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def exif(orientation: int) -> Image.Exif:
    entries = Image.Exif()
    entries[EXIF_ORIENTATION] = orientation
    return entries


def encoded(form: str, orientation: int) -> bytes:
    """A picture 24 wide and 16 high, stored in a format with an EXIF entry."""
    target = io.BytesIO()
    Image.fromarray(PICTURE).save(target, form, exif=exif(orientation))
    return target.getvalue()


def giant(form: str, side: int) -> bytes:
    """A small file of a picture with `side` by `side` pixels."""
    if form == "PNG":
        rows = zlib.compress(b"")  # nothing of it would have to be decoded to be refused
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        chunks = [png_chunk(b"IHDR", header), png_chunk(b"IDAT", rows), png_chunk(b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
    frame = struct.pack(">BHHB", 8, side, side, 1) + b"\x01\x11\x00"
    scan = b"\x01\x01\x00\x00\x3f\x00"
    segments = ((b"\xff\xc0", frame), (b"\xff\xda", scan))
    return b"\xff\xd8" + b"".join(m + struct.pack(">H", len(body) + 2) + body for m, body in segments) + b"\xff\xd9"


def test_images_survive_a_round_trip(tmp_path):
    write_image(tmp_path / "i.png", PICTURE)
    np.testing.assert_array_equal(read_image(tmp_path / "i.png"), PICTURE)
    assert read_header(tmp_path / "i.png").size == (24, 16)
    with pytest.raises(UserError, match="no image format"):
        write_image(tmp_path / "a.txt", PICTURE)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_header_gives_the_size_that_the_image_is_read_with(tmp_path, form, orientation):
    path = tmp_path / f"a.{form.lower()}"
    path.write_bytes(encoded(form, orientation))
    header = read_header(path)
    assert header.size == read_image(path).shape[1::-1] == ((16, 24) if orientation > 4 else (24, 16))
    assert header.orientation == orientation


def test_a_png_s_orientation_may_stand_behind_its_pixels(tmp_path):
    whole = encoded("PNG", 1)
    plain = whole[:33] + whole[whole.index(b"IDAT") - 4 :]
    path = tmp_path / "late.png"
    path.write_bytes(plain[:-12] + png_chunk(b"eXIf", exif(6).tobytes().removeprefix(b"Exif\0\0")) + plain[-12:])
    assert read_header(path).size == read_image(path).shape[1::-1] == (16, 24)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64])
def test_rare_formats_have_a_size_too(tmp_path, dtype):
    cv2.imwrite(str(tmp_path / "a.tiff"), np.ones((5, 7, 3), dtype))
    assert read_header(tmp_path / "a.tiff").size == (7, 5)
    assert read_image(tmp_path / "a.tiff", cv2.IMREAD_UNCHANGED).dtype == dtype


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\nbroken", b"\xff\xd8\xff", b"{]"])
def test_damaged_images_are_reported_in_one_line(tmp_path, content, capfd):
    path = tmp_path / "damaged.png"
    path.write_bytes(content)
    for read in (read_image, read_header):
        with pytest.raises(UserError, match=r"damaged\.png cannot be decoded") as caught:
            read(path)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_no_beginning_of_an_image_is_taken_for_it_and_no_library_talks(tmp_path, suffix, capfd):
    path = tmp_path / f"cut{suffix}"
    write_image(path, np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    whole = path.read_bytes()
    for size in (3, 20, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="cannot be decoded"):
            read_image(path)
    assert capfd.readouterr().err == ""


def test_a_png_with_a_wrong_byte_is_reported(tmp_path, capfd):
    path = tmp_path / "a.png"
    write_image(path, PICTURE)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match="cannot be decoded"):
        read_image(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("side", [int(MOST_PIXELS**0.5) + 1, 32_000, 65_000])
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_too_many_pixels_are_refused_before_any_is_decoded(tmp_path, monkeypatch, form, side, capfd):
    path = tmp_path / f"giant.{form.lower()}"
    path.write_bytes(giant(form, side))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    for read in (read_image, read_header):
        with pytest.raises(UserError, match="cannot be decoded as an image, it has more than 134 million pixels"):
            read(path)
    assert capfd.readouterr().err == ""


def radiance(side: int) -> bytes:
    return f"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y {side} +X {side}\n".encode() + bytes(100)


def wide_tiff(side: int) -> bytes:
    """A TIFF of float64 pixels, which Pillow doesn't know, with a header that promises `side` by `side` of them."""
    whole = cv2.imencode(".tiff", np.ones((5, 7), np.float64))[1].tobytes()
    start = int.from_bytes(whole[4:8], "little")
    data = bytearray(whole)
    for entry in range(start + 2, start + 2 + 12 * int.from_bytes(whole[start : start + 2], "little"), 12):
        if int.from_bytes(whole[entry : entry + 2], "little") in (256, 257):
            data[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, side)
    return bytes(data)


@pytest.mark.parametrize("make", [radiance, wide_tiff])
def test_what_opencv_alone_reads_takes_no_more_memory(tmp_path, monkeypatch, make):
    path = tmp_path / "a.png"
    path.write_bytes(make(30_000))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    for read in (read_image, read_header):
        with pytest.raises(UserError, match="cannot be decoded as an image"):
            read(path)


def test_a_damaged_exif_entry_costs_its_turn_and_not_the_image(tmp_path):
    path = tmp_path / "a.jpg"
    whole = encoded("JPEG", 6)
    start = whole.index(b"MM\0*")
    path.write_bytes(whole[: start + 4] + b"\xff" * 4 + whole[start + 8 :])  # where its entries are: nowhere
    assert read_header(path).size == read_image(path).shape[1::-1] == (24, 16)


def test_only_files_are_read(tmp_path):
    """Nothing waits for what a pipe may bring."""
    os = pytest.importorskip("os")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UserError, match="missing"):
        read_image(tmp_path / "pipe.png")


def test_image_files_are_those_that_are_seen(tmp_path):
    for name in ("b.png", "a.JPG", "._a.jpg", ".hidden.png", "notes.txt", "sub/c.tif", ".thumbnails/d.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "folder.png").mkdir()

    def names(deep: bool) -> list[str]:
        return [str(path.relative_to(tmp_path)) for path in image_files(tmp_path, deep)]

    assert names(deep=False) == ["a.JPG", "b.png"] and names(deep=True) == ["a.JPG", "b.png", "sub/c.tif"]
    assert image_files(Path(tmp_path / "nowhere")) == []


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_an_image_for_which_there_is_no_room_is_not_there(tmp_path, suffix, capfd):
    resource = pytest.importorskip("resource")
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(UserError, match="make room"):
            write_image(tmp_path / f"a{suffix}", image)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir()) and capfd.readouterr().err == ""
