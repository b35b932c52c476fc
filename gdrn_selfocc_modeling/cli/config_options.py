"""Options that verbs share which read a configuration."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sopose.cli.project import NAME

COMMON_KEYS = """keys that are often set (--help-config GROUP shows all of a group, docs/configuration.md all groups):
  DATASETS.ROOT            folder of the data sets
  DATASETS.TRAIN           splits to learn: [lmo_cad], [path/to/folder:cad], [lmo_pbr_train]
  DATASETS.TEST            splits to evaluate on: [lmo_bop_test]
  DATASETS.OBJS            objects to learn, by name; [] for all
  INPUT.BG_IMGS_ROOT       folder of background photographs
  INPUT.BG_LEFT_OUT        patterns of photographs that train nothing
  CAD.EPOCH_LENGTH         rendered samples an epoch
  CAD.REUSE                samples of each rendered window
  CAD.HIDE_PROB            share of samples with shapes before the object
  DATALOADER.NUM_WORKERS   processes that prepare samples; -1 chooses
  CPU_THREADS              threads that compute; -1 chooses
  OUTPUT_DIR               folder of the run
  SEED                     another seed gives another run
  SOLVER.IMS_PER_BATCH     samples a step
  SOLVER.TOTAL_EPOCHS      length of the training
  SOLVER.OPTIMIZER_CFG.lr  learning rate
  SOLVER.AMP.ENABLED       mixed precision
  MODEL.WEIGHTS            weights to start from, or to evaluate
  MODEL.DEVICE             cuda, cuda:1 or cpu
  TEST.TEST_BBOX_TYPE      boxes of the ground truth (gt) or of a detector (est)
  TEST.REFINE.ITERATIONS   second looks at each pose
"""


class HelpConfig(argparse.Action):
    """Print the keys of a group and leave, as --help does."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, group: Any, option: str | None = None
    ) -> None:
        from sopose.core.config.describe import describe, format_entries
        from sopose.settings import SCHEMA

        found = describe(SCHEMA).find(group)
        shown = [entry for entry in found if entry.has_effect or len(found) == 1]
        print(format_entries(shown))
        if len(shown) < len(found):
            print(f"{len(found) - len(shown)} more are accepted from older files and do nothing")
        parser.exit()


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """--config-file, --opts and --help-config."""
    parser.add_argument(
        "--config-file", type=Path, help=f"a .py, .yaml or .json configuration (default: {NAME} of `sopose new`)"
    )
    parser.add_argument(
        "--opts",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="override configuration keys: SOLVER.TOTAL_EPOCHS=20 DATASETS.OBJS=[ape,can]",
    )
    parser.add_argument(
        "--help-config", action=HelpConfig, metavar="GROUP", help="show the keys of a group, such as SOLVER, and exit"
    )
