"""Files are written whole or not at all, and read with an error in one line."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pytest

from sopose.core.utils.arguments import finite
from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import (
    atomic_path,
    distinct_names,
    read_arrays,
    read_json,
    remove_parts,
    require_dir,
    require_key,
    require_writable_dir,
    require_writable_file,
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


def test_json_survives_a_round_trip(tmp_path):
    write_json(tmp_path / "a" / "b.json", {"x": [1, 2.5]})
    assert read_json(tmp_path / "a" / "b.json") == {"x": [1, 2.5]}


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\nbroken", b"{]"])
def test_damaged_files_are_reported_in_one_line(tmp_path, content):
    path = tmp_path / "damaged.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged\.json") as caught:
        read_json(path)
    assert "\n" not in str(caught.value)


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


def test_a_place_that_cannot_be_written_to_is_reported_and_nothing_is_made(tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match="cannot be written"):
        write_json(tmp_path / "file" / "below" / "a.json", {})
    with pytest.raises(UserError, match="is a file"):
        require_writable_dir(tmp_path / "file" / "below")
    with pytest.raises(UserError, match="is a folder"):
        require_writable_file(tmp_path)
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


def test_arrays_are_read_by_name_up_to_a_size(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", a=np.arange(3), big=np.zeros(1000), objects=np.array("text"))
    assert read_arrays(tmp_path / "a.npz", ("a", "absent")).keys() == {"a"}
    with pytest.raises(
        UserError, match=r"a\.npz cannot be read as arrays \(it would unpack to 0 MiB, more than 0 MiB\); do this"
    ):
        read_arrays(tmp_path / "a.npz", ("a",), "do this", max_bytes=8000)
    np.savez(tmp_path / "b.npz", a=np.array([object()]))
    with pytest.raises(UserError, match="cannot be read as arrays"):
        read_arrays(tmp_path / "b.npz", ("a",))


def test_files_have_names_that_differ():
    paths = [Path("run1/x/model.pth"), Path("run2/x/model.pth"), Path("other.pth")]
    assert list(distinct_names(paths[1:]).values()) == ["model", "other"]
    assert distinct_names(paths)[paths[0]] == "run1-x-model"
    assert distinct_names([]) == {}
    with pytest.raises(UserError, match="named twice"):
        distinct_names([paths[0], paths[0]])


@pytest.mark.parametrize("text", ["inf", "-inf", "nan", "1e400", "one", ""])
def test_a_number_on_the_command_line_is_finite(text):
    assert finite("1e-3") == 0.001
    with pytest.raises(argparse.ArgumentTypeError, match="no finite number"):
        finite(text)


def test_an_error_is_one_line_whatever_names_stand_in_it():
    """Names come from files of anybody: they neither end the line nor speak to the terminal."""
    error = UserError("no object 'a\nb\x1b[2J\udcff' in größe.png")
    assert str(error) == "no object 'a\\nb\\x1b[2J\\udcff' in größe.png"
