"""Train a pose network from a configuration file, then evaluate it on DATASETS.TEST.

In a folder where `sopose new` was run, --config-file can be left out: the pose network and a detector are trained then,
each from where it stopped. Ctrl-C writes a checkpoint after the current step; --resume continues from it with the same
bits.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sopose.cli.config_options import COMMON_KEYS, add_config_options
from sopose.cli.project import Project, find_project, next_command, require_config

if TYPE_CHECKING:
    from sopose.settings import Settings

EXAMPLES = f"""examples:
  sopose train
  sopose train --config-file configs/gdrn_selfocc/toy/demo.py
  sopose train --config-file configs/gdrn_selfocc/lmo/cad_only.py --resume \\
      --opts DATASETS.ROOT=path/to/bop INPUT.BG_IMGS_ROOT=path/to/photos DATASETS.OBJS=[ape]
  torchrun --nproc-per-node 2 -m sopose train --config-file …   (docs/training.md)

{COMMON_KEYS}"""
DETECTOR_EPOCHS = 1  # of a project
REPORTS = True  # how things go, not warnings alone


def register_parser(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    add_config_options(parser)
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint in OUTPUT_DIR")
    parser.add_argument("--dry-run", action="store_true", help="load all, two steps, two test images; nothing is kept")
    parser.add_argument("--profile", action="store_true", help="write a trace of five steps to OUTPUT_DIR/profile")


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Leave with a usage error for options that don't go together."""
    if args.dry_run and (args.resume or args.profile):
        parser.error("--dry-run makes two steps from the beginning; leave --resume and --profile out")


def handle(args: argparse.Namespace) -> None:
    """See `sopose.training.run`; of a project the detector is trained as well."""
    from sopose.settings import load_settings
    from sopose.training.run import RunOptions, train

    config = require_config(args.config_file)
    found = find_project(args.opts) if args.config_file is None else None
    if found is None:
        settings = load_settings(config, args.opts)
        train(settings, RunOptions(resume=args.resume, profile=args.profile, dry=args.dry_run))
        return
    train_project(*found, args)


def train_project(project: Project, settings: Settings, args: argparse.Namespace) -> None:
    """Train a project's pose network and its detector, each from where it stopped, and say what comes next."""
    from sopose.core.engine.checkpointer import last_checkpoint
    from sopose.training.detector_run import DetectorOptions, run_detector
    from sopose.training.run import RunOptions, train

    crops = settings.solver.total_epochs * settings.cad.epoch_length
    print(f"1 of 2: the pose network, {crops} crops (Ctrl-C keeps them; `sopose train` continues)", flush=True)
    resume = args.resume or (not args.dry_run and last_checkpoint(project.output) is not None)
    train(settings, RunOptions(resume=resume, profile=args.profile, dry=args.dry_run))
    if args.dry_run:
        print("the detector isn't part of a dry run: it learns from the same models and pictures")
        return
    print("2 of 2: the detector, which finds the boxes of the objects", flush=True)
    run_detector(
        DetectorOptions(
            project.file, project.detector, DETECTOR_EPOCHS, objects_per_image=(1, 4), resume=True, opts=args.opts
        )
    )
    print("next, poses in your images:\n" + next_command("predict", "photo.jpg"))
