"""Train the network of the second look: it corrects poses by comparing the image with the object rendered there.

DATASETS.TRAIN names splits of CAD models (lmo_cad, path/to/folder:cad). Of a split that has some of DATASETS.OBJS those
are learned, of another one all. MODEL.REFINE is the network and the errors it learns to correct, SOLVER the course.
Weights start from MODEL.WEIGHTS: another refiner, or a pose network with the same trunk. TEST.REFINE uses what comes
out, for any object.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from sopose.core.engine.checkpointer import last_checkpoint
from sopose.core.engine.distributed import launched_world
from sopose.core.engine.machine import keep_freed_memory
from sopose.core.engine.run_record import record_start
from sopose.core.engine.signals import StopSignals
from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import remove_parts, require_writable_dir
from sopose.core.utils.folder_lock import FolderLock
from sopose.settings import load_settings, save_settings
from sopose.training.refiner import build_refiner_run

logger = logging.getLogger(__name__)
EXAMPLES = """examples:
  python tools/train_refiner.py --config-file configs/gdrn_selfocc/refiner/toy.py
  python tools/train_refiner.py --config-file configs/gdrn_selfocc/refiner/any_object.py --resume \\
      --opts DATASETS.ROOT=path/to/bop INPUT.BG_IMGS_ROOT=path/to/photos
  python gdrn_selfocc_modeling/main_gdrn.py --config-file configs/gdrn_selfocc/toy/demo.py --eval-only \\
      --opts TEST.REFINE.ITERATIONS=2 TEST.REFINE.WEIGHTS=output/gdrn_selfocc/refiner/toy/refiner.safetensors

Ctrl-C writes a checkpoint; --resume goes on from it with the same bits.
"""
FINAL = "refiner.safetensors"
OTHER_FOLDER = "name another OUTPUT_DIR in --opts"


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", type=Path, required=True, help="a .py, .yaml or .json configuration")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="override configuration keys")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Train, and write the refiner alone."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    if launched_world().size > 1:
        raise UserError("a refiner is trained by one process; start it without torchrun")
    settings = load_settings(args.config_file, args.opts)
    output = Path(settings.output_dir)
    if last_checkpoint(output) is not None and not args.resume:
        raise UserError(f"{output} holds a run already; add --resume to go on, or {OTHER_FOLDER}")
    require_writable_dir(output, OTHER_FOLDER)
    keep_freed_memory()
    with StopSignals() as signals, FolderLock(output, OTHER_FOLDER) as lock:
        run = build_refiner_run(settings, args.resume, signals.asked)
        lock.take()
        remove_parts(output)
        save_settings(settings, output / "config.py")
        record_start(output, run.start, run.device)
        with signals.deferred():
            finished = run.trainer.train()
        if not finished:
            logger.warning("stopped after iteration %d; go on with --resume", run.trainer.iteration)
            signals.leave()
        run.save(output / FINAL)
        print(f"refiner    {output / FINAL}")


if __name__ == "__main__":
    run_cli(main)
