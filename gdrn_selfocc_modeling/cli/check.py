"""Examine a BOP folder: files, units, poses against masks, boxes, cameras, symmetries, targets, duplicates.

A mistake in a data set seldom stops a training: it makes it worse. Here it is reported with file and entry.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sopose.core.doctor.findings import Severity, format_findings
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import require_writable_file

EXAMPLES = """examples:
  sopose check path/to/bop/lmo
  sopose check path/to/mine --splits train_pbr --images 0 --html output/mine.html

Every json file, model and name is examined; images, masks and depth are opened, and poses rendered, for a spread sample
of each split. Exit code 0 where there is no error (warnings and notes may be), 1 with errors, 2 on wrong usage. The
data set is only read."""


def register_parser(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("dataset", type=Path, help="folder of the data set, the one with models/ and test/")
    parser.add_argument("--splits", nargs="+", metavar="NAME", help="only these (default: every folder with scenes)")
    parser.add_argument(
        "--images", type=int, default=200, metavar="N", help="images of each split to open, 0 for all (default: 200)"
    )
    parser.add_argument("--lines", type=int, default=3, metavar="N", help="places to print of each kind (default: 3)")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with pictures of the worst instances")
    parser.add_argument("--cases", type=int, default=12, metavar="N", help="pictures on the page (default: 12)")
    parser.add_argument("--workers", type=int, default=-1, metavar="N", help="processes (default: one a core)")


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Leave with a usage error for options that don't go together."""
    if min(args.images, args.cases, args.lines) < 0:
        parser.error("--images, --cases and --lines must be at least 0")
    if args.workers == 0 or args.workers < -1:
        parser.error("--workers must be a number of processes, or -1 for one a core")


def handle(args: argparse.Namespace) -> None:
    """Examine, print, write the page; a `UserError` where there are errors."""
    from sopose.core.doctor.examine import examine
    from sopose.core.doctor.page import write_page

    if args.html:
        require_writable_file(args.html)
    examination = examine(args.dataset, args.splits, args.images, args.workers, progress=True)
    for name, value in examination.facts().items():
        print(f"{name}: {value}")
    table = format_findings(examination.findings, args.lines)
    if table:
        print(f"\n{table}")
    if args.html:
        write_page(args.html, examination, args.cases)
        print(f"\nwrote {args.html}")
    errors = examination.findings.count(Severity.ERROR)
    if errors:
        raise UserError(f"{args.dataset} has {errors} error{'s' if errors > 1 else ''}; repair what is reported above")
