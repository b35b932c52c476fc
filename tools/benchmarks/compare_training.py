"""How fast several configurations, or revisions of the project, train: in turns, each turn a process of its own.

A busy machine slows all alike, so what counts is the ratio within a turn. A case is a name, a revision of this
repository ("." for the files as they are), a configuration file of that revision, and overrides.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tqdm import tqdm

from sopose.core.evaluation.tables import aligned
from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import require_writable_file, write_json

EPILOG = """example:
  python tools/benchmarks/compare_training.py --turns 3 --json speed.json \\
      --case before 98b981f configs/gdrn_selfocc/lmo/cad_only_cpu.py SOLVER.AMP.ENABLED=True \\
      --case now . configs/gdrn_selfocc/lmo/cad_only_fast.py \\
      --opts DATASETS.ROOT=path/to/bop INPUT.BG_IMGS_ROOT=path/to/photos

Revisions before configurations were read as values need the package mmengine.
"""
REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = "tools/benchmarks/train.py"
HERE = "."
NUMBERS = {
    "training": "training, ROIs/s",
    "loader": "loader",
    "network": "network",
    "cpu_ms_per_roi": "processor ms a ROI",
    "windows": "rendered a second",
    "parameters": "parameters",
}


@dataclass(frozen=True)
class Case:
    """What is timed."""

    name: str
    revision: str
    config: str
    opts: tuple[str, ...]


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--case", nargs="+", action="append", required=True, metavar="WORD", help="NAME REVISION CONFIG [KEY=VALUE …]"
    )
    parser.add_argument("--turns", type=int, default=3, help="of each case (default: 3)")
    parser.add_argument("--rounds", type=int, default=2, help="of each turn's benchmark (default: 2)")
    parser.add_argument("--steps", type=int, default=20, help="of each round (default: 20)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers of all turns")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of all cases")
    args = parser.parse_args(argv)
    if any(len(words) < 3 for words in args.case):
        parser.error("--case takes NAME REVISION CONFIG, and overrides behind them")
    if min(args.turns, args.rounds, args.steps) < 1:
        parser.error("--turns, --rounds and --steps must be at least 1")
    return args


def main(argv: list[str] | None = None) -> None:
    """Time all cases in turns, print a table."""
    args = parse_args(argv)
    if args.json:
        require_writable_file(args.json)
    cases = [Case(name, revision, config, tuple(opts)) for name, revision, config, *opts in args.case]
    with TemporaryDirectory() as folder:
        trees = {revision: checked_out(revision, Path(folder)) for revision in {case.revision for case in cases}}
        turns: dict[str, list[dict[str, Any]]] = {case.name: [] for case in cases}
        for _ in tqdm(range(args.turns), desc="turns"):
            for case in cases:
                turns[case.name].append(timed(case, trees[case.revision], args, Path(folder)))
                if args.json:
                    write_json(args.json, turns)
    print(table(turns))


def checked_out(revision: str, folder: Path) -> Path:
    """The files of a revision, laid out so that Python finds them on its path."""
    if revision == HERE:
        return REPOSITORY
    tree = folder / revision.replace("/", "_")
    tree.mkdir()
    archive = subprocess.run(["git", "archive", revision], cwd=REPOSITORY, capture_output=True)
    if archive.returncode:
        raise UserError(f"git knows no revision '{revision}': {archive.stderr.decode().strip()[:120]}")
    subprocess.run(["tar", "-x"], cwd=tree, input=archive.stdout, check=True)
    if (tree / "gdrn_selfocc_modeling" / "settings").is_dir():  # imported as sopose
        (tree / "sopose").symlink_to("gdrn_selfocc_modeling")
        (tree / "gdrn_selfocc_modeling" / "core").symlink_to("../core")
    return tree


def timed(case: Case, tree: Path, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The numbers of one turn of a case."""
    found = folder / "turn.json"
    found.unlink(missing_ok=True)
    command = [sys.executable, str(tree / PROGRAM), "--config-file", case.config, "--json", str(found)]
    command += ["--rounds", str(args.rounds), "--steps", str(args.steps), "--opts"]
    command += [f"OUTPUT_DIR={folder / 'output'}", *args.opts, *case.opts]
    path = os.pathsep.join([str(tree), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ if tree == REPOSITORY else {**os.environ, "PYTHONPATH": path}
    ended = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if ended.returncode or not found.is_file():
        raise UserError(f"{case.name} failed: {(ended.stderr.strip() or 'no message').splitlines()[-1][:200]}")
    return json.loads(found.read_text())[0]


def table(turns: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Medians over turns, and the factor against the first case, its least and largest."""
    first = next(iter(turns.values()))
    rows = [["case", *NUMBERS.values(), "factor"]]
    for name, found in turns.items():
        ratios = [turn["training"] / base["training"] for turn, base in zip(found, first, strict=True)]
        medians = [np.median([turn.get(key, np.nan) for turn in found]) for key in NUMBERS]
        factor = f"{np.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        rows.append([name, *("" if np.isnan(value) else f"{value:,.1f}" for value in medians), factor])
    return "\n".join(aligned(rows))


if __name__ == "__main__":
    run_cli(main)
