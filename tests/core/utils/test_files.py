"""Files are written whole or not at all, and read with an error in one line."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np
import pytest

from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import (
    atomic_path,
    read_image,
    read_json,
    remove_parts,
    require_dir,
    require_key,
    require_writable_dir,
    require_writable_file,
    write_image,
    write_json,
)
from sopose.core.utils.registry import Registry


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="disk"), atomic_path(path) as beside:
        beside.write_text("new, half")
        raise RuntimeError("disk")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_and_images_survive_a_round_trip(tmp_path):
    write_json(tmp_path / "a" / "b.json", {"x": [1, 2.5]})
    assert read_json(tmp_path / "a" / "b.json") == {"x": [1, 2.5]}
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    write_image(tmp_path / "i.png", image)
    np.testing.assert_array_equal(read_image(tmp_path / "i.png"), image)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\nbroken", b"{]"])
def test_damaged_files_are_told_in_one_line(tmp_path, content, capfd):
    path = tmp_path / "damaged.png"
    path.write_bytes(content)
    for read in (read_image, read_json):
        with pytest.raises(UserError, match=r"damaged\.png") as caught:
            read(path)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_what_is_missing_is_named(tmp_path):
    for act in (lambda: read_json(tmp_path / "x"), lambda: require_dir(tmp_path / "x")):
        with pytest.raises(UserError, match="missing"):
            act()
    with pytest.raises(UserError, match=r"needs the key 'b' and has: a"):
        require_key({"a": 1}, "b", "here")


def test_registry_lists_what_it_knows():
    registry: Registry[int] = Registry("thing")
    registry.register("one")(1)
    assert registry["one"] == 1 and "one" in registry and list(registry) == ["one"]
    with pytest.raises(UserError, match="unknown thing 'onne'; did you mean 'one'"):
        registry["onne"]
    with pytest.raises(ValueError, match="twice"):
        registry.register("one")(2)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("what and where"), 1),
        (PermissionError(13, "Permission denied", "/a"), 1),
        (OSError("no reason"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_a_script_leaves_with_one_line_and_a_code(error, code, capsys):
    def main(argv: list[str] | None) -> None:
        raise error

    with pytest.raises(SystemExit) as left:
        run_cli(main)
    assert left.value.code == code
    assert len(capsys.readouterr().err.splitlines()) == 1


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


def test_a_png_with_a_wrong_byte_or_too_many_pixels_is_told(tmp_path, capfd):
    path = tmp_path / "a.png"
    write_image(path, np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    header = b"IHDR" + 2 * b"\x7f\xff\xff\xff" + b"\x08\x02\0\0\0"
    chunks = [header, b"IDAT", b"IEND"]
    giant = b"".join((len(c) - 4).to_bytes(4, "big") + c + zlib.crc32(c).to_bytes(4, "big") for c in chunks)
    for content in (data[:8] + giant, bytes(data)):
        capfd.readouterr()
        path.write_bytes(content)
        with pytest.raises(UserError, match="cannot be decoded"):
            read_image(path)
    assert capfd.readouterr().err == ""  # of the wrong byte; a size beyond all limits libpng tells by itself


def test_a_place_that_cannot_be_written_to_is_told_and_nothing_is_made(tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match="cannot be written"):
        write_json(tmp_path / "file" / "below" / "a.json", {})
    with pytest.raises(UserError, match="is a file"):
        require_writable_dir(tmp_path / "file" / "below")
    with pytest.raises(UserError, match="is a folder"):
        require_writable_file(tmp_path)
    with pytest.raises(UserError, match="no image format"):
        write_image(tmp_path / "a.txt", np.zeros((2, 2), np.uint8))
    require_writable_file(require_writable_dir(tmp_path / "a" / "b") / "c")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "kept"


def test_only_what_dead_processes_left_is_removed(tmp_path):
    def part_of(pid: int, suffix: str) -> Path:
        return tmp_path / f".name.{pid}.part{suffix}"

    dead = [part_of(999_999_999, suffix) for suffix in (".npz", ".json", "")]
    kept = [part_of(os.getpid(), ".npz"), tmp_path / ".name.part.npz", tmp_path / "name.999999999.part.npz"]
    for path in (*dead, *kept):
        path.touch()
    with atomic_path(tmp_path / "name.npz") as beside:
        beside.touch()
        remove_parts(tmp_path)
        assert beside.exists()
    assert sorted(tmp_path.iterdir()) == sorted([*kept[1:], tmp_path / "name.npz"])
    remove_parts(tmp_path / "nowhere")


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
