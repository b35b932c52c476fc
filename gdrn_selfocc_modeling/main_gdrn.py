"""Train and evaluate a pose network from a configuration file."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from sopose.cli.config_options import add_config_options
from sopose.core.config.describe import describe, format_groups
from sopose.core.utils.errors import run_cli
from sopose.settings import SCHEMA, load_settings

logger = logging.getLogger(__name__)

EXAMPLES = """examples:
  python gdrn_selfocc_modeling/main_gdrn.py --config-file configs/gdrn_selfocc/toy/demo.py
  python gdrn_selfocc_modeling/main_gdrn.py --config-file configs/gdrn_selfocc/lmo/cad_only.py --resume \\
      --opts DATASETS.ROOT=path/to/bop INPUT.BG_IMGS_ROOT=path/to/photos DATASETS.OBJS=[ape]
  python gdrn_selfocc_modeling/main_gdrn.py --config-file configs/gdrn_selfocc/lmo/cad_only.py --eval-only \\
      --opts MODEL.WEIGHTS=output/gdrn_selfocc/lmo/cad_only/model_0030000.pth
  torchrun --nproc-per-node 2 gdrn_selfocc_modeling/main_gdrn.py --config-file …   (docs/training.md)

groups of options (--help-config GROUP shows one; docs/configuration.md shows all):
"""
# How the ancestor's scripts were launched. Their shell lines run; a word that takes a value takes one here.
LAUNCH_VALUES = ("num-gpus", "num-machines", "machine-rank", "dist-url", "launcher", "local-rank")
LAUNCH_SWITCHES = ("use-hvd", "use-bps", "use-adasum", "fp16-allreduce")


class Parser(argparse.ArgumentParser):
    """Its help lists the groups of options, for which the schema is read: not at every start."""

    def format_help(self) -> str:
        self.epilog = EXAMPLES + format_groups(describe(SCHEMA)).replace("%", "%%")
        return super().format_help()


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config_options(parser)
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint in OUTPUT_DIR")
    parser.add_argument("--dry-run", action="store_true", help="load all, two steps, two test images; nothing is kept")
    parser.add_argument("--profile", action="store_true", help="write a trace of five steps to OUTPUT_DIR/profile")
    parser.add_argument("--eval-only", action="store_true", help="score MODEL.WEIGHTS, or the last checkpoint")
    parser.add_argument(
        "--report-only", action="store_true", help="score and report the predictions that an evaluation kept"
    )
    for name in (*LAUNCH_VALUES, *LAUNCH_SWITCHES):
        spellings = dict.fromkeys((f"--{name}", f"--{name.replace('-', '_')}"))
        takes = {} if name in LAUNCH_VALUES else {"action": "store_const", "const": ""}
        parser.add_argument(*spellings, dest=name, default=None, help=argparse.SUPPRESS, **takes)
    args = parser.parse_args(argv)
    if args.config_file is None:
        parser.error("the following arguments are required: --config-file")
    if args.eval_only and (args.dry_run or args.profile):
        parser.error("--eval-only trains nothing; leave --dry-run and --profile out")
    if args.report_only and (args.eval_only or args.resume or args.dry_run or args.profile):
        parser.error("--report-only runs no network; leave --eval-only, --resume, --dry-run and --profile out")
    if args.dry_run and (args.resume or args.profile):
        parser.error("--dry-run makes two steps from the beginning; leave --resume and --profile out")
    return args


def launch_words(args: argparse.Namespace) -> Sequence[str]:
    """The arguments of the ancestor's launcher that were given."""
    return [f"--{name}" for name in (*LAUNCH_VALUES, *LAUNCH_SWITCHES) if getattr(args, name) is not None]


def main(argv: list[str] | None = None) -> None:
    """Train, then evaluate; or only evaluate, or only report."""
    args = parse_args(argv)
    from sopose.core.engine.distributed import launched_world  # torch, which --help does without

    level = logging.INFO if launched_world().is_first else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s: %(message)s")
    if words := launch_words(args):
        logger.warning(
            "%s: accepted from older scripts, without effect; torchrun starts several processes, see docs/training.md",
            ", ".join(words),
        )
    settings = load_settings(args.config_file, args.opts)
    if args.report_only:
        from sopose.inference.evaluation import report_again

        report_again(settings)
    elif args.eval_only:
        from sopose.inference.evaluation import evaluate_checkpoint

        evaluate_checkpoint(settings)
    else:
        from sopose.training.run import RunOptions, train

        train(settings, RunOptions(resume=args.resume, profile=args.profile, dry=args.dry_run))


if __name__ == "__main__":
    run_cli(main)
