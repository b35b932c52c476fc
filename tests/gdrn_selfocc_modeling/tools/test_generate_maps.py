"""The generators as programs: killed and started again, on a cluster, and with input of every kind of wrong."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sopose.core.bop.models import load_models
from sopose.core.utils.errors import run_cli
from sopose.tools import generate_P, generate_Q
from sopose.tools.map_options import find_split

TOOLS = {"P": generate_P.main, "Q": generate_Q.main}


@pytest.fixture
def run_tool(monkeypatch, capfd) -> Callable[..., tuple[int, str, str]]:
    """`run_tool("P", *words)`: exit code, what it said, and its lines of error without the progress bar."""

    def run(layer: str, *words: Any) -> tuple[int, str, str]:
        words = [str(word) for word in words]
        monkeypatch.setattr(sys, "argv", [f"generate_{layer}.py", *words])
        code = 0
        try:
            run_cli(lambda argv: TOOLS[layer](words))
        except SystemExit as left:
            code = left.code
        said, errors = capfd.readouterr()
        lines = [line.rpartition("\r")[2] for line in errors.split("\n")]
        return code, said, "\n".join(line for line in lines if line and "%|" not in line)

    return run


def options(root: Path, *more: str) -> list[str]:
    return ["--dataset", str(root), "--split", "train", "--workers", "1", *more]


def files_of(root: Path) -> dict[str, bytes]:
    """Every file under the split but its annotations, hidden ones too."""
    folder = root / "train"
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".json"
    }


def whole_files(root: Path) -> int:
    """How many map files there are; each has to be whole, and nothing else may be there."""
    for path in map(Path, files_of(root)):
        assert path.suffix == ".npz" and not path.name.startswith("."), path
        with np.load(root / "train" / path) as archive:
            assert {key: archive[key].dtype for key in archive}
    return len(files_of(root))


def edit_json(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def own_models(root: Path) -> Path:
    """The models folder, as a copy that can be damaged."""
    originals = (root / "models").resolve()
    (root / "models").unlink()
    (root / "models").mkdir()
    for path in originals.iterdir():
        (root / "models" / path.name).write_bytes(path.read_bytes())
    return root / "models"


def test_a_split_is_written_reported_and_checked(make_bare_split, run_tool):
    root = make_bare_split()
    for layer, folder in (("P", "xyz_crop"), ("Q", "Q0")):
        code, said, errors = run_tool(layer, *options(root))
        assert code == 0 and not errors
        assert f"train/{folder}: " in said and "instances written" in said and " 0 were finished" in said
        code, said, _ = run_tool(layer, *options(root))
        assert code == 0 and " 0 instances written (0.0 MiB)" in said
        code, said, _ = run_tool(layer, *options(root, "--check", "5"))
        assert code == 0 and "instances looked at      5" in said and "pixels of other masks    0" in said
        # The first pass has no Q yet: that it was not compared is said, not "0 mm".
        assert ("not looked at" in said) == (layer == "P")
    path = next((root / "train/xyz_crop").rglob("*.npz"))
    with np.load(path) as archive:
        content = dict(archive)
    np.savez_compressed(path, **{**content, "xyz_crop": content["xyz_crop"] * np.float16(1.1)})
    code, said, errors = run_tool("P", *options(root, "--check", "1000"))
    assert code == 1 and "largest deviation of P" in said and errors.startswith("error: files of")
    assert errors.count("\n") == 0


def test_masks_come_with_the_maps(make_bare_split, toy_root, run_tool):
    root = make_bare_split()
    code, _, _ = run_tool("P", *options(root, "--also-masks", "--objects", "1"))
    assert code == 0
    scene, original = root / "train/000001", toy_root / "train/000001"
    for name in ("mask", "mask_visib"):
        assert {path.name for path in (scene / name).iterdir()} == {path.name for path in (original / name).iterdir()}
    infos = [json.loads((folder / "scene_gt_info.json").read_text()) for folder in (scene, original)]
    assert infos[0] == infos[1]


@pytest.mark.parametrize("split", ["", "train"])
def test_a_split_is_named_as_users_name_it(toy_root, monkeypatch, split):
    root = toy_root.parent
    for dataset in ("toy", str(toy_root), f"../{root.name}/toy"):
        monkeypatch.chdir(root)
        name = dataset if split else (f"{dataset}:train" if os.sep in dataset else f"{dataset}_train")
        assert find_split(name, split, root).images_dir.resolve() == (toy_root / "train").resolve()
    assert find_split("toy", "train", root / "elsewhere").images_dir.resolve() == (toy_root / "train").resolve()


def nan_pose(root: Path) -> None:
    edit_json(root / "train/000001/scene_gt.json", lambda gt: gt["2"][0]["cam_t_m2c"].__setitem__(1, float("nan")))


def singular_K(root: Path) -> None:
    edit_json(root / "train/000001/scene_camera.json", lambda cameras: cameras["2"]["cam_K"].__setitem__(8, 0.0))


def empty_mesh(root: Path) -> None:
    lines = ["ply", "format ascii 1.0", "element vertex 0", *(f"property float {axis}" for axis in "xyz")]
    lines += ["element face 0", "property list uchar int vertex_indices", "end_header"]
    (own_models(root) / "obj_000002.ply").write_text("\n".join(lines) + "\n")


def cut_mesh(root: Path) -> None:
    path = own_models(root) / "obj_000002.ply"
    path.write_bytes(path.read_bytes()[:1000])


def missing_model(root: Path) -> None:
    (own_models(root) / "obj_000002.ply").unlink()


def no_size(root: Path) -> None:
    (root / "camera.json").unlink()


def file_for_a_folder(root: Path) -> None:
    (root / "train/xyz_crop").write_text("")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (nan_pose, "image 2, entry 0: cam_t_m2c must be 3 finite numbers"),
        (singular_K, "image 2: cam_K must have an inverse"),
        (empty_mesh, "obj_000002.ply cannot be read as a PLY mesh (it has no vertices)"),
        (cut_mesh, "obj_000002.ply cannot be read as a PLY mesh"),
        (missing_model, "obj_000002.ply is missing"),
        (no_size, "of scene 1 is not known"),
        (file_for_a_folder, "cannot be written to"),
    ],
)
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_bad_input_is_reported_in_one_line(make_bare_split, run_tool, damage, words, workers):
    root = make_bare_split(repeats=4 * workers)  # enough for a job each
    damage(root)
    code, _, errors = run_tool("P", *options(root), "--workers", str(workers))
    assert code == 1 and errors.startswith("error: ") and words in errors and "\n" not in errors, errors
    if damage is not file_for_a_folder:
        whole_files(root)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scenes", "5"], "has no scene 5"),
        (["--objects", "bracke"], "did you mean 'bracket'?"),
        (["--split", "trian"], "has no split 'trian'"),
        (["--cluster", "tcp://127.0.0.1:9"], "no Dask scheduler answers at 'tcp://127.0.0.1:9'"),
        (["--check", "3"], "-xyz.npz is missing"),
    ],
)
def test_wrong_words_are_reported_in_one_line(make_bare_split, run_tool, monkeypatch, words, message):
    monkeypatch.setattr("sopose.core.utils.parallel.CONNECT_TIMEOUT", 1)
    root = make_bare_split()
    if "--objects" in words:
        message = "has no object 'bracke'"
    code, _, errors = run_tool("P", *options(root), *words)
    assert code == 1 and message in errors and errors.startswith("error: ") and "\n" not in errors, errors
    assert not files_of(root)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("more", [[], ["--also-masks"]])
def test_a_full_disk_is_reported_and_the_run_goes_on_when_there_is_room(make_bare_split, run_tool, small_disk, more):
    root = make_bare_split()
    (root / "train/xyz_crop").symlink_to(small_disk)
    code, _, errors = run_tool("P", *options(root, *more))
    assert code == 1 and "No space left on device" in errors and "make room" in errors and "\n" not in errors
    written = list(small_disk.rglob("*-xyz.npz"))
    assert written and len(list(small_disk.rglob("*.*"))) == len(written), "no part of a file is left"
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    code, said, _ = run_tool("P", *options(root, *more))
    assert code == 0 and f"{len(written)} were finished" in said


@pytest.mark.parametrize("more", [[], ["--legacy"], ["--also-masks"]])
def test_a_file_that_cannot_be_finished_is_not_there(make_bare_split, more):
    root = make_bare_split()
    command = ["bash", "-c", 'ulimit -f 1; exec "$@"', "limited", sys.executable, generate_P.__file__]  # 1 KiB
    run = subprocess.run([*command, *options(root, "--dtype", "float32", *more)], capture_output=True, text=True)
    error = run.stderr.strip().split("\n")[-1]
    assert run.returncode == 1 and "cannot be written (File too large)" in error
    assert not files_of(root)


def test_a_mesh_of_quads_is_that_of_its_triangles(make_bare_split, run_tool):
    root = make_bare_split()
    models = own_models(root)
    corners = [(x, y, z) for x in (-30, 30) for y in (-20, 20) for z in (-10, 10)]
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    triangles = [face for a, b, c, d in quads for face in ((a, b, c), (a, c, d))]
    masks = []
    for faces in (quads, triangles):
        lines = ["ply", "format ascii 1.0", "element vertex 8", *(f"property float {axis}" for axis in "xyz")]
        lines += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"]
        lines += [" ".join(map(str, corner)) for corner in corners]
        lines += [" ".join(map(str, (len(face), *face))) for face in faces]
        (models / "obj_000001.ply").write_text("\n".join(lines) + "\n")
        assert len(load_models(models, [1])[1].faces) == 12
        assert run_tool("P", *options(root, "--objects", "1", "--overwrite"))[0] == 0
        masks.append([np.load(path)["xyz_crop"] for path in sorted((root / "train/xyz_crop").rglob("*.npz"))])
    assert len(masks[0]) > 2
    for first, second in zip(*masks, strict=True):
        np.testing.assert_array_equal(first != 0, second != 0)


def start(root: Path, workers: int) -> subprocess.Popen:
    command = [sys.executable, generate_P.__file__, *options(root), "--workers", str(workers)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def count_files(root: Path) -> int:
    return sum(1 for path in (root / "train/xyz_crop").rglob("*.npz") if not path.name.startswith("."))


@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_a_run_killed_again_and_again_ends_with_the_bytes_of_an_undisturbed_one(make_bare_split, run_tool, kills):
    root = make_bare_split(repeats=3 * kills)
    assert run_tool("P", *options(root))[0] == 0
    undisturbed = files_of(root)
    for path in root.rglob("*-xyz.npz"):
        path.unlink()
    rng, found = random.Random(0), []
    for kill in range(kills):
        before = count_files(root)
        program = start(root, workers=2 if kill % 5 == 0 else 1)
        # At any moment: at times before the first file, at times after some; the bulk of the work is between.
        more = rng.choice([0, 1 + rng.randrange(len(undisturbed) // kills)])
        end = time.monotonic() + 60
        while count_files(root) < before + more and program.poll() is None and time.monotonic() < end:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.02 if more else 2))
        # As a full memory does, which takes one process, or as the end of a session, which takes all.
        (os.kill if kill % 2 else os.killpg)(program.pid, signal.SIGKILL)
        program.wait()
        found.append(count_files(root))
    assert 0 < found[-1] < len(undisturbed), "the work was going on when it was killed"
    assert start(root, workers=2).wait(120) == 0
    assert files_of(root) == undisturbed


@pytest.mark.slow
def test_a_cluster_does_the_scenes_of_a_killed_worker_again(make_bare_split, run_tool):
    distributed = pytest.importorskip("distributed")
    root = make_bare_split(repeats=20)
    assert run_tool("P", *options(root))[0] == 0
    undisturbed = files_of(root)
    for path in root.rglob("*-xyz.npz"):
        path.unlink()
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        victim = next(iter(cluster.workers.values())).pid

        def kill_amid_the_work() -> None:
            while count_files(root) < len(undisturbed) // 4:
                time.sleep(0.002)
            os.kill(victim, signal.SIGKILL)
            killed_at.append(count_files(root))

        killed_at: list[int] = []
        killer = threading.Thread(target=kill_amid_the_work)
        killer.start()
        code, said, _ = run_tool("P", *options(root), "--cluster", cluster.scheduler_address)
        killer.join()
    assert killed_at[0] < len(undisturbed), "the worker died amid the work"
    assert code == 0 and files_of(root) == undisturbed
    written, finished = (int(said.split(words)[0].split()[-1]) for words in (" instances written", " were finished"))
    # What the killed worker had written of its job is found finished by the one that does the job again.
    assert written + finished == len(undisturbed)
