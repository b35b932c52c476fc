"""Speed, size and memory of map files: a split is made up in a temporary folder, and its P and Q are written.

Its poses are those of a real split, turned and shifted a little each time they are used again, so that any number of
instances can be had; it needs no images. Times are of the whole command, with the start of its processes. Memory is the
largest sum over all processes, their common libraries counted once (Linux).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from sopose.core.bop.records import ImageRecord
from sopose.core.bop.scene import load_split
from sopose.core.bop.splits import resolve_split
from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import require_writable_file, write_json
from sopose.core.utils.units import M_TO_MM

SPLIT = "bench"
IMAGES_PER_SCENE = 1000  # as in BOP's PBR sets
TURN, SHIFT = np.radians(10), (0.01, 0.01, 0.05)  # standard deviations; the shift in metres
POLL = 0.1  # seconds between looks at the memory
TOOLS = {"P": "generate_P.py", "Q": "generate_Q.py"}
FOLDERS = {"P": "xyz_crop", "Q": "Q0"}
EPILOG = """example:
  python tools/benchmarks/generation.py --dataset-root datasets/BOP_DATASETS/lmo --counts 1000 10000
"""


@dataclass(frozen=True)
class Figures:
    """One command over one split."""

    layer: str
    instances: int
    seconds: float
    instances_per_s: float
    bytes_per_instance: float
    memory_mib: float


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset-root", type=Path, required=True, metavar="DIR", help="a BOP folder")
    parser.add_argument("--split", default="test", help="split of it that poses are taken from (default: test)")
    parser.add_argument("--counts", type=int, nargs="+", default=[1000], help="instances (default: 1000)")
    parser.add_argument("--workers", type=int, default=-1, help="processes (default: -1, one a core)")
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16", help="of the maps")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    args = parser.parse_args(argv)
    if min(args.counts) < 1:
        parser.error("--counts must be at least 1")
    return args


def main(argv: list[str] | None = None) -> None:
    """Make the splits, run both tools on each, print the figures."""
    args = parse_args(argv)
    if args.json:
        require_writable_file(args.json)
    root = args.dataset_root.absolute()  # a link's name says what data set it is
    records = load_split(resolve_split(f"{root}:{args.split}", root.parent), require_images=False)
    results = []
    print(f"{'layer':>5} {'instances':>9} {'s':>8} {'per s':>7} {'bytes each':>10} {'MiB':>6}")
    for count in args.counts:
        with tempfile.TemporaryDirectory() as folder:
            make_split(Path(folder), root, records, count)
            for layer in TOOLS:
                figures = _measure(Path(folder), layer, count, args.workers, args.dtype)
                results.append(figures)
                print(
                    f"{layer:>5} {count:>9} {figures.seconds:>8.1f} {figures.instances_per_s:>7.1f} "
                    f"{figures.bytes_per_instance:>10.0f} {figures.memory_mib:>6.0f}",
                    flush=True,
                )
    if args.json:
        write_json(args.json, [asdict(figures) for figures in results])


def make_split(folder: Path, source: Path, records: list[ImageRecord], count: int) -> None:
    """Write `<folder>/bench` with `count` instances; models and camera are those of `source`."""
    for name in ("models", "camera.json"):
        (folder / name).symlink_to(source / name)
    cameras: list[dict[str, Any]] = []
    annotations: list[list[dict[str, Any]]] = []
    left = count
    for record, entries in _images(records):
        entries = entries[:left]
        cameras.append({"cam_K": record.K.ravel().tolist(), "depth_scale": 1.0})
        annotations.append(entries)
        left -= len(entries)
        if not left:
            break
    for start in range(0, len(cameras), IMAGES_PER_SCENE):
        scene = folder / SPLIT / f"{start // IMAGES_PER_SCENE:06d}"
        for name, content in (("scene_camera", cameras), ("scene_gt", annotations)):
            part = content[start : start + IMAGES_PER_SCENE]
            write_json(scene / f"{name}.json", {str(k): entry for k, entry in enumerate(part)}, indent=None)


def _images(records: list[ImageRecord]) -> Iterator[tuple[ImageRecord, list[dict[str, Any]]]]:
    """Images without end, with entries of `scene_gt.json`."""
    rng = np.random.default_rng(0)
    for record in cycle(records):
        entries = []
        for instance in record.instances:
            turn = Rotation.from_rotvec(rng.normal(0, TURN, 3)).as_matrix()
            shifted = instance.pose.cam_t_obj + rng.normal(0, SHIFT)
            entries.append(
                {
                    "obj_id": instance.obj_id,
                    "cam_R_m2c": (instance.pose.cam_R_obj @ turn).ravel().tolist(),
                    "cam_t_m2c": (M_TO_MM * shifted).tolist(),
                }
            )
        yield record, entries


def _measure(folder: Path, layer: str, count: int, workers: int, dtype: str) -> Figures:
    """Run a layer's tool on the split in `folder`."""
    script = Path(__file__).resolve().parents[2] / "gdrn_selfocc_modeling" / "tools" / TOOLS[layer]
    words = ["--dataset", str(folder), "--split", SPLIT, "--workers", str(workers), "--dtype", dtype]
    start, peak = time.monotonic(), 0.0
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, script, *words], stdout=output, stderr=output, start_new_session=True
        )
        while process.poll() is None:
            peak = max(peak, _memory_mib(process.pid))
            time.sleep(POLL)
        seconds = time.monotonic() - start
        output.seek(0)
        lines = output.read().decode().splitlines()
    if process.returncode:
        raise UserError(f"{script.name} failed: {lines[-1] if lines else process.returncode}")
    files = list((folder / SPLIT / FOLDERS[layer]).rglob("*.npz"))
    if len(files) != count:
        raise UserError(f"{script.name} wrote {len(files)} files for {count} instances")
    size = sum(path.stat().st_size for path in files) / count
    return Figures(layer, count, seconds, count / seconds, size, peak)


def _memory_mib(session: int) -> float:
    """Memory of a session's processes, MiB; 0 where the system doesn't report it. Their libraries' pages count once."""
    private, shared = 0, [0]
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(path.name)) != session:
                continue
            _, resident, file_pages, *_ = map(int, (path / "statm").read_text().split())
        except OSError:  # it ended meanwhile
            continue
        private += resident - file_pages
        shared.append(file_pages)
    return (private + max(shared)) * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    run_cli(main)
