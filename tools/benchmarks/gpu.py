"""What is to be known of a GPU, in one go of at most nine minutes: the tests that need one, then speeds.

Each step is a program of its own with a limit of time. The file of numbers is written anew after every step, so that
what was measured outlasts a machine that is taken away; a step that fails or takes too long is noted there, with the
end of its output, and the next one starts.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sopose.core.engine.logs import read_metrics
from sopose.core.utils.arguments import finite
from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import read_json, require_dir, require_writable_file, write_json

REPOSITORY = Path(__file__).resolve().parents[2]
GPU_TESTS = ["tests/core/rays/test_bvh_caster.py", "tests/gdrn_selfocc_modeling/data/test_device_batches.py"]
# Seconds a step may take; all of them are less than nine minutes.
LIMITS = {"tests": 70, "rendering": 50, "training": 62, "inference": 40, "detector": 60, "maps": 25}
MOST_CHARACTERS = 3000  # characters of a step's output that are kept
EPILOG = """examples:
  python tools/benchmarks/gpu.py --datasets-root path/to/bop --backgrounds path/to/photos --json output/gpu.json
  python tools/benchmarks/gpu.py --datasets-root datasets/BOP_DATASETS --json output/dry_run.json --dry-run

The first needs LM-O with its models and a test scene, the second the toy set (sopose toy).
"""


@dataclass(frozen=True)
class Step:
    """A program: its words behind `python`, the seconds it may take, and what reads its numbers when it has ended."""

    name: str
    words: list[str]
    limit_s: float
    read: Callable[[], object]  # raises `UserError` where there are none


@dataclass(frozen=True)
class Sizes:
    """How much each step does, as words of its program."""

    device: str
    dataset: str  # a folder of the data sets' root
    config: str  # below configs/gdrn_selfocc
    data: list[str]  # overrides of the configuration
    batches: list[int]  # ROIs of a training step
    turns: list[str]
    rendering: list[str]
    runtimes: list[str]  # of inference, each compared with torch
    inference: list[str]
    objects: int  # in the images that train the detector, which reports its time every 20 steps
    detector: list[str]
    maps: list[str]


FULL = Sizes(
    device="cuda",
    dataset="lmo",
    config="lmo/cad_only.py",
    data=[],
    batches=[24, 192],
    turns=["--rounds", "3", "--steps", "5"],
    rendering=["--batch", "64", "--repeats", "10"],
    runtimes=["torch", "compile"],
    inference=[],
    objects=8000,
    detector=["--batch-size", "16"],
    maps=[],
)
DRY = Sizes(
    device="cpu",
    dataset="toy",
    config="toy/from_cad.py",
    data=["CAD.POOL=32"],  # the whole pool is rendered first
    batches=[2],
    turns=["--rounds", "1", "--steps", "1"],
    rendering=["--batch", "2", "--repeats", "1", "--resolution", "32"],
    runtimes=["torch"],
    inference=["--objects", "1", "--rounds", "1"],
    objects=40,
    detector=["--batch-size", "2", "--size", "96", "--backbone", "resnet10t"],
    maps=["--frames", "1", "--out", "16", "--repeats", "1"],
)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets-root", type=Path, required=True, metavar="DIR", help="folder of the BOP data sets")
    parser.add_argument("--backgrounds", type=Path, metavar="DIR", help="photographs behind rendered objects")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="write the numbers")
    parser.add_argument("--minutes", type=finite, default=9, help="of all steps together (default: 9)")
    cores = os.cpu_count() or 1
    parser.add_argument("--workers", type=int, default=max(cores - 2, 1), help="of a loader (default: cores - 2)")
    parser.add_argument("--dry-run", action="store_true", help="the same on the CPU and the toy set, in small sizes")
    args = parser.parse_args(argv)
    if args.minutes <= 0 or args.workers < 1:
        parser.error("--minutes must be above 0, --workers at least 1")
    return args


def main(argv: list[str] | None = None) -> None:
    """Run the steps, print a line for each, and raise `UserError` at the end where some failed."""
    args = parse_args(argv)
    end = time.monotonic() + 60 * args.minutes
    require_writable_file(args.json)
    sizes = DRY if args.dry_run else FULL
    done: list[dict[str, object]] = []
    report = {**machine(sizes.device), "dry_run": args.dry_run, "steps": done}
    with tempfile.TemporaryDirectory() as folder:
        for step in make_steps(sizes, args, Path(folder)):
            done.append(run_step(step, min(step.limit_s, end - time.monotonic())))
            write_json(args.json, report)
            print("{name}: {outcome} after {seconds:.1f} s".format(**done[-1]), flush=True)
    failed = [str(step["name"]) for step in done if step["outcome"] != "done"]
    if failed:
        raise UserError(f"{len(failed)} of {len(done)} steps failed: {', '.join(failed)}; see 'output' in {args.json}")


def machine(device: str) -> dict[str, str | int | None]:
    """Names and versions. Raises `UserError` where a GPU is wanted and torch sees none."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("torch sees no CUDA device: run where there is one, or give --dry-run")
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    return {"device": name, "cores": os.cpu_count(), "torch": torch.__version__, "cuda": torch.version.cuda}


def make_steps(sizes: Sizes, args: argparse.Namespace, folder: Path) -> list[Step]:
    """The steps in their order, which write into `folder`. `UserError` where the data set is missing."""
    dataset = require_dir(args.datasets_root.absolute() / sizes.dataset, "name the folder that holds it")
    scene = min(require_dir(dataset / "test", "inference needs a test scene").iterdir())
    config = ["--config-file", f"configs/gdrn_selfocc/{sizes.config}"]
    workers = ["--workers", str(args.workers)]
    overrides = [f"DATASETS.ROOT={dataset.parent}", "DATASETS.TEST=[]", *sizes.data]
    overrides += [f"MODEL.DEVICE={sizes.device}", "MODEL.POSE_NET.BACKBONE.PRETRAINED="]  # speed needs no weights
    overrides += [f"INPUT.BG_IMGS_ROOT={args.backgrounds.resolve()}"] if args.backgrounds else []
    rendered = [*overrides, f"CAD.DEVICE={sizes.device}", f"DATALOADER.NUM_WORKERS={args.workers}"]

    def tool(name: str, program: str, *words: str) -> Step:
        file = folder / f"{name}.json"
        command = [f"tools/benchmarks/{program}.py", "--json", str(file), *words]
        return Step(name, command, LIMITS[name.split()[0]], lambda: read_json(file))

    def training(size: int, precision: str) -> Step:
        words = ["--batch-sizes", str(size), "--variants", precision, *sizes.turns, "--opts", *rendered]
        return tool(f"training {size} {precision}", "train", *config, *words)

    def inference(runtime: str) -> Step:
        words = ["--variants", *dict.fromkeys(["torch", runtime]), "--opts", *overrides]
        return tool(f"inference {runtime}", "inference", *network, *words)

    models = ["--models", str(dataset / "models"), "--device", sizes.device, *workers]
    network = [str(scene), *config, "--devices", sizes.device, *sizes.inference]
    return [
        tests(folder / "tests.xml"),
        tool("rendering", "device", *models, *sizes.rendering),
        *(training(size, precision) for size in sizes.batches for precision in ("fp32", "bf16")),
        *(inference(runtime) for runtime in sizes.runtimes),
        detector([*config, *workers, *sizes.detector], [*overrides, f"CAD.EPOCH_LENGTH={sizes.objects}"], folder),
        tool("maps", "maps", "--dataset-root", str(dataset), *sizes.maps),
    ]


def tests(file: Path) -> Step:
    """The tests that need a GPU; where there is none they are skipped."""

    def read() -> dict[str, int]:
        if not file.is_file():
            raise UserError(f"pytest wrote no {file}; install the tests' packages by pip install -e '.[dev]'")
        counts = ET.parse(file).getroot()[0].attrib
        return {key: int(counts[key]) for key in ("tests", "failures", "errors", "skipped")}

    words = ["-m", "pytest", "-p", "no:cacheprovider", "-k", "gpu", f"--junitxml={file}", *GPU_TESTS]
    return Step("tests", words, LIMITS["tests"], read)


def detector(words: list[str], overrides: list[str], folder: Path) -> Step:
    """Training of the detector on rendered images; its numbers are the rows of its log."""
    output = folder / "detector"

    def read() -> list[dict[str, float]]:
        if not (rows := read_metrics(output / "metrics.json")):
            raise UserError(f"the detector reported nothing in {output}; give it more time")
        return rows

    command = ["-m", "sopose", "detector", "--output", str(output), "--epochs", "1", "--pretrained", "none", *words]
    return Step("detector", [*command, "--opts", *overrides], LIMITS["detector"], read)


def run_step(step: Step, limit_s: float) -> dict[str, object]:
    """Run a program for at most `limit_s` seconds, and return what became of it: "done", "failed" or "cut off"."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, *step.words], cwd=REPOSITORY, stdout=output, stderr=output, start_new_session=True
        )
        try:
            outcome = "failed" if process.wait(max(limit_s, 0)) else "done"
        except subprocess.TimeoutExpired:
            outcome = "cut off"
        finally:
            stop(process)
        output.seek(0)
        text = output.read().decode(errors="replace")
    numbers: object = None
    try:
        numbers = step.read()
    except UserError as error:
        outcome, text = "failed" if outcome == "done" else outcome, f"{text}\n{error}"
    return {
        "name": step.name,
        "outcome": outcome,
        "command": shlex.join(["python", *step.words]),
        "limit_s": round(limit_s, 1),
        "seconds": time.monotonic() - started,
        "returncode": process.returncode,
        "numbers": numbers,
        "output": text[-MOST_CHARACTERS:],
    }


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a program with the processes that it started and left."""
    with suppress(ProcessLookupError):  # all have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    run_cli(main)
