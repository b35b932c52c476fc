"""Score any BOP results csv on any BOP folder: per object, and several results side by side."""

from __future__ import annotations

import argparse
from pathlib import Path

from sopose.core.bop.catalog import DATASETS_FOLDER, TARGETS_NAME
from sopose.core.bop.models import INFO_NAME
from sopose.core.evaluation.metrics import DEFAULT_METRICS, known_metrics

EXAMPLES = """examples:
  sopose score output/mine_lmo-test.csv --dataset lmo --report output/lmo.html
  sopose score a_toy-test.csv b_toy-test.csv --dataset toy --json output/scores.json
  sopose score mine_ycbv-test.csv --dataset ycbv --metrics add auc bop19 bop24 --latex table.tex
  sopose score --dataset lmo --detections yolox_lmo.json

Ground truth and models are all that is read of the data set; VSD asks for depth images, and the report shows the
worst cases where colour images are there. --dataset may also be a name of a paper's test set (lm_13_test, lmo_test,
ycbv_test: key frames), then every instance of its images counts. Exit code 1 with one line on stderr where a file
is missing or wrong."""


def register_parser(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("results", nargs="*", type=Path, metavar="RESULT.csv", help="BOP results files")
    parser.add_argument("--dataset", required=True, help="a BOP folder under the root, or a path to one")
    parser.add_argument("--split", default="test", help="split of the data set (default: test)")
    parser.add_argument("--datasets-root", type=Path, default=DATASETS_FOLDER, metavar="DIR")
    parser.add_argument(
        "--targets",
        type=Path,
        metavar="FILE",
        help=f"targets (default: the data set's {TARGETS_NAME}, else every instance at least 10 %% visible)",
    )
    parser.add_argument("--objects", type=int, nargs="+", metavar="ID", help="only these objects")
    parser.add_argument(
        "--symmetric",
        nargs="*",
        metavar="ID",
        help="ids whose ADD(-S) is ADI; 'paper' (default) or 'bop': those that models_info.json calls symmetric",
    )
    parser.add_argument(
        "--models-info", default=INFO_NAME, metavar="NAME", help=f"sizes and symmetries beside the models ({INFO_NAME})"
    )
    parser.add_argument("--image-width", type=int, metavar="PX", help="for MSPD (default: of the images)")
    parser.add_argument(
        "--metrics",
        nargs="+",
        choices=[*known_metrics(), "coco"],
        metavar="NAME",
        help=f"of: {', '.join(known_metrics())}, coco (default: {' '.join(DEFAULT_METRICS)}; for YCB-V auc as well)",
    )
    parser.add_argument("--detections", type=Path, metavar="FILE", help="2D detections to score by COCO's AP")
    parser.add_argument(
        "--boxes", choices=("amodal", "modal"), default="amodal", help="boxes of whole objects, or of visible parts"
    )
    parser.add_argument("--engine", choices=("core", "bop_toolkit"), default="core", help="whose errors to print")
    parser.add_argument(
        "--workers",
        type=int,
        default=-1,
        metavar="N",
        help="processes for VSD of more than 300 images (default: one a core)",
    )
    parser.add_argument("--report", type=Path, metavar="HTML", help="write a report (several results: one file each)")
    parser.add_argument("--cases", type=int, default=6, metavar="N", help="worst cases in a report (default: 6)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write scores (several results: one file each, named after it)"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write all scores of all results as one csv")
    parser.add_argument("--latex", type=Path, metavar="FILE", help="write a LaTeX table")


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Leave with a usage error for options that don't go together."""
    if args.image_width is not None and args.image_width < 1:
        parser.error("--image-width must be at least 1")
    if not args.results and not args.detections:
        parser.error("give a RESULT.csv, or --detections")
    if args.metrics and "coco" in args.metrics and not args.detections:
        parser.error("--metrics coco scores 2D detections; give them by --detections")


def handle(args: argparse.Namespace) -> None:
    """See `sopose.core.evaluation.score_files`."""
    from sopose.core.evaluation.score_files import ScoreOptions, score_files

    score_files(ScoreOptions(**vars(args)))
