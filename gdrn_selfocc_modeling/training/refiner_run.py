"""A training run of a refiner, from a configuration to the file of the refiner alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sopose.core.engine.checkpointer import last_checkpoint
from sopose.core.engine.distributed import launched_world
from sopose.core.engine.machine import keep_freed_memory
from sopose.core.engine.run_record import record_start
from sopose.core.engine.signals import StopSignals
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import remove_parts, require_writable_dir
from sopose.core.utils.folder_lock import FolderLock
from sopose.settings import load_settings, save_settings
from sopose.training.refiner import build_refiner_run

logger = logging.getLogger(__name__)
FINAL = "refiner.safetensors"
OTHER_FOLDER = "name another OUTPUT_DIR in --opts"


@dataclass(frozen=True)
class RefinerOptions:
    """What `sopose refiner` takes, by the names of its options."""

    config_file: Path
    resume: bool = False
    opts: Sequence[str] = ()


def run_refiner(options: RefinerOptions) -> None:
    """Train, and write the refiner alone."""
    if launched_world().size > 1:
        raise UserError("a refiner is trained by one process; start it without torchrun")
    settings = load_settings(options.config_file, options.opts)
    output = Path(settings.output_dir)
    if last_checkpoint(output) is not None and not options.resume:
        raise UserError(f"{output} holds a run already; add --resume to continue it, or {OTHER_FOLDER}")
    require_writable_dir(output, OTHER_FOLDER)
    keep_freed_memory()
    with StopSignals() as signals, FolderLock(output, OTHER_FOLDER) as lock:
        run = build_refiner_run(settings, options.resume, signals.asked)
        lock.take()
        remove_parts(output)
        save_settings(settings, output / "config.py")
        record_start(output, run.start, run.device)
        with signals.deferred():
            finished = run.trainer.train()
        if not finished:
            logger.warning("stopped after iteration %d; continue with --resume", run.trainer.iteration)
            signals.leave()
        run.save(output / FINAL)
        print(f"refiner    {output / FINAL}")
