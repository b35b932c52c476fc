"""How fast a configuration trains, against its loader alone and its network alone, and whether memory stays flat.

The three take turns in one process: batches from the loader that nobody uses, steps on a batch that is there already,
and training, which can't be faster than the slower of the two. Medians of the turns; the ratio is taken within a turn,
so that a busy machine slows all alike. Processor time counts this process and the loader's, and is what a crop costs
where neighbours are busy; --shares shows what it is spent on.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import trange

from sopose.core.engine.distributed import select_device
from sopose.core.engine.signals import StopSignals
from sopose.core.engine.trainer import Trainer
from sopose.core.utils.arguments import finite
from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import require_writable_file, write_json
from sopose.data.build import build_train_dataset, build_training_cache
from sopose.settings import Settings, load_settings
from sopose.settings.groups import CadSettings
from sopose.training.learner import Batch
from sopose.training.run import RunOptions, build_run
from sopose.training.shares import loader_shares, network_shares

EPILOG = """examples:
  python tools/benchmarks/train.py --config-file configs/gdrn_selfocc/toy/demo.py --shares
  python tools/benchmarks/train.py --config-file configs/gdrn_selfocc/lmo/cad_only.py --batch-sizes 24 192 \\
      --variants fp32 bf16 bf16+compile --peak-tflops 989 --opts DATASETS.ROOT=path/to/bop CAD.DEVICE=cuda
"""
VARIANTS = {
    "as configured": [],
    "fp32": ["SOLVER.AMP.ENABLED=False", "MODEL.COMPILE=False"],
    "bf16": ["SOLVER.AMP.ENABLED=True", "SOLVER.AMP.DTYPE=bfloat16", "MODEL.COMPILE=False"],
    "bf16+compile": ["SOLVER.AMP.ENABLED=True", "SOLVER.AMP.DTYPE=bfloat16", "MODEL.COMPILE=True"],
}
SHARED_SAMPLES, SHARED_STEPS = 512, 6  # whose parts are timed
CAD_SPLITS = ("_cad", ":cad")  # ends of the names of splits that are rendered
WARM_UP_SHARE = 0.2  # of the steps whose memory is watched


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", type=Path, required=True, help="a configuration to train")
    parser.add_argument("--rounds", type=int, default=7, help="turns (default: 7)")
    parser.add_argument("--steps", type=int, default=15, help="batches and steps of a turn (default: 15)")
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=["as configured"], help="precisions to compare"
    )
    parser.add_argument("--batch-sizes", nargs="+", type=int, help="ROIs of a step (default: SOLVER.IMS_PER_BATCH)")
    parser.add_argument("--peak-tflops", type=finite, help="what the device could do, for the share of its peak")
    parser.add_argument("--shares", action="store_true", help="also the parts of a crop's processor time, one thread")
    parser.add_argument("--memory-steps", type=int, default=0, help="watch the memory of so many steps (default: none)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="override configuration keys")
    args = parser.parse_args(argv)
    if min(args.rounds, args.steps, *(args.batch_sizes or [1])) < 1 or args.memory_steps < 0:
        parser.error("--rounds, --steps and --batch-sizes must be at least 1, --memory-steps at least 0")
    return args


def main(argv: list[str] | None = None) -> None:
    """Measure and print a line for each variant and batch size."""
    args = parse_args(argv)
    if args.json:
        require_writable_file(args.json)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    results = []
    for size in args.batch_sizes or [None]:
        for variant in args.variants:
            results.append(measure(args, variant, size))
            report(results[-1])
    if args.json:
        write_json(args.json, results)


def measure(args: argparse.Namespace, variant: str, batch_size: int | None) -> dict[str, Any]:
    """The numbers of one variant: ROIs a second of loader, network and training, their ratio, waiting, memory."""
    size = [] if batch_size is None else [f"SOLVER.IMS_PER_BATCH={batch_size}"]
    settings = load_settings(args.config_file, ["DATASETS.TEST=[]", *args.opts, *VARIANTS[variant], *size])
    device = select_device(settings.model.device)
    # Endless: the turns and the memory's steps may be more than a short configuration has.
    solver = replace(settings.solver, total_epochs=max(settings.solver.total_epochs, 1000))
    trainer = build_run(replace(settings, solver=solver), RunOptions(), device, StopSignals()).trainer
    trainer.model.train()
    batches = iter(trainer.batches)
    rois = solver.ims_per_batch * trainer.options.batches
    found: dict[str, Any] = {"variant": variant, "rois_per_step": rois, "device": device_name(device)}
    found["gflop_per_roi"] = count_flop(trainer, next(batches)) / rois / 1e9
    found["parameters"] = sum(parameter.numel() for parameter in trainer.model.parameters())
    warm_up(batches, settings.cad, solver.ims_per_batch)
    found |= take_turns(trainer, batches, rois, args.rounds, args.steps)
    if all(name.endswith(CAD_SPLITS) for name in settings.datasets.train) and not settings.cad.device:
        found["windows"] = found["training"] / settings.cad.reuse
    if args.shares:
        found |= measure_shares(settings, trainer, next(batches))
    if args.peak_tflops:
        found["share_of_peak"] = found["gflop_per_roi"] * found["training"] / (1e3 * args.peak_tflops)
    if args.memory_steps:
        found |= watch_memory(trainer, batches, args.memory_steps)
    if device.type == "cuda":
        found["gpu_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return found


def device_name(device: torch.device) -> str:
    """Of the GPU, or the number of the CPU's threads."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


def warm_up(batches: Iterator[Batch], cad: CadSettings, batch: int) -> None:
    """Take as many batches as fill the pool of rendered windows: from then on a part of them is new in each sweep."""
    drain(batches, 1 if cad.reuse == 1 else 2 * cad.pool // batch)


def measure_shares(settings: Settings, trainer: Trainer, batch: Batch) -> dict[str, dict[str, float]]:
    """Milliseconds of one thread a crop, by share, of the loader and of the network."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    size, cad = settings.solver.ims_per_batch, settings.cad
    source = build_train_dataset(settings, build_training_cache(settings))
    first = size if cad.reuse == 1 else 2 * cad.pool  # what only a start costs isn't counted
    loader_shares(source, 0, first, size)
    found = {
        "loader_ms": loader_shares(source, first, SHARED_SAMPLES, size),
        "network_ms": network_shares(trainer, batch, SHARED_STEPS),
    }
    torch.set_num_threads(threads)
    return found


def count_flop(trainer: Trainer, batch: Batch) -> float:
    """Floating-point operations of a step: convolutions and matrix products, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        trainer.run_step(repeat(batch))
    return float(counter.get_total_flops())


def take_turns(trainer: Trainer, batches: Iterator[Batch], rois: int, rounds: int, steps: int) -> dict[str, float]:
    """ROIs a second of the three, medians, and the median of training / min(loader, network)."""
    kept = next(batches)
    per_step, rates = trainer.options.batches, {name: [] for name in ("loader", "network", "training")}
    waits, ratios, spent = [], [], []
    for _ in trange(-1, rounds, desc="turns"):  # the first warms up
        drain(batches, 3 * per_step)
        rates["loader"].append(rate(lambda: drain(batches, per_step), rois, steps, trainer.step.device))
        rates["network"].append(rate(lambda: trainer.run_step(repeat(kept)), rois, steps, trainer.step.device))
        # While the network ran, batches were prepared that would make the first steps look fast.
        drain(batches, 3 * per_step)
        for _ in range(2):
            trainer.run_step(batches)
        before = processor_seconds()
        rates["training"].append(rate(lambda: trainer.run_step(batches), rois, steps, trainer.step.device))
        spent.append(1e3 * (processor_seconds() - before) / (steps * rois))
        waits.append(sum(trainer.events.window("data_time")) / sum(trainer.events.window("time")))
        ratios.append(rates["training"][-1] / min(rates["loader"][-1], rates["network"][-1]))
    medians = {name: float(np.median(values[1:])) for name, values in rates.items()}
    ratio, waiting, cpu_ms = (float(np.median(values[1:])) for values in (ratios, waits, spent))
    return {**medians, "ratio": ratio, "waiting": waiting, "cpu_ms_per_roi": cpu_ms}


def drain(batches: Iterator[Batch], count: int) -> None:
    """Take batches away."""
    for _ in range(count):
        next(batches)


def rate(act: Any, rois: int, steps: int, device: torch.device) -> float:
    """ROIs a second of `act`, called `steps` times."""
    started = time.perf_counter()
    for _ in range(steps):
        act()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return steps * rois / (time.perf_counter() - started)


def processor_seconds() -> float:
    """Processor time so far of this process and, where the system reports it, of its workers."""
    total = time.process_time()
    for child in multiprocessing.active_children():
        try:
            # The name, the second of the fields, may hold blanks; user and system time are the 14th and 15th.
            fields = Path("/proc", str(child.pid), "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def watch_memory(trainer: Trainer, batches: Iterator[Batch], steps: int) -> dict[str, Any]:
    """MiB of this process and its workers after the warm-up and at the end, and the growth between, a share.

    `mib` are the looks, one every hundredth of the steps: this process, then each worker.
    """
    every = max(steps // 100, 1)
    looks: list[list[float]] = []
    for step in trange(steps, desc="memory"):
        trainer.run_step(batches)
        if (step + 1) % every == 0:
            looks.append(resident_mib())
    used = [sum(look) for look in looks]
    warm = used[int(WARM_UP_SHARE * len(used)) :]
    tenth = max(len(warm) // 10, 1)
    first, last = float(np.median(warm[:tenth])), float(np.median(warm[-tenth:]))
    return {"memory_steps": steps, "mib_warm": first, "mib_end": last, "growth": last / first - 1, "mib": looks}


def resident_mib() -> list[float]:
    """Memory of this process and of each worker that is theirs alone, shared libraries and pages aside, MiB."""
    pids = ["self", *(str(child.pid) for child in multiprocessing.active_children())]
    try:
        words = [Path("/proc", pid, "statm").read_text().split() for pid in pids]
    except OSError as error:
        raise UserError("--memory-steps reads /proc, which this system doesn't have; leave it out") from error
    page = 4096 / 2**20
    return [(int(resident) - int(shared)) * page for _, resident, shared, *_ in words]


def report(found: dict[str, Any]) -> None:
    """Print the numbers of one variant."""
    peak = f", {found['share_of_peak']:.1%} of the peak" if "share_of_peak" in found else ""
    gpu = f", {found['gpu_gib']:.1f} GiB" if "gpu_gib" in found else ""
    flop = f"{found['gflop_per_roi']:.1f} GFLOP a ROI{peak}{gpu}"
    print(
        f"{found['variant']}, {found['rois_per_step']} ROIs a step, {found['device']}: loader {found['loader']:.1f}, "
        f"network {found['network']:.1f}, training {found['training']:.1f} ROIs/s; training / the slower "
        f"{found['ratio']:.3f}; waiting for data {found['waiting']:.1%}; {found['cpu_ms_per_roi']:.1f} ms of processor "
        f"time a ROI; {flop}, {found['parameters'] / 1e6:.2f} M parameters"
    )
    if "windows" in found:
        print(f"newly rendered: {found['windows']:.1f} windows/s")
    for name in ("loader_ms", "network_ms"):
        if name in found:
            parts = sorted(found[name].items(), key=lambda part: -part[1])
            print(f"{name.removesuffix('_ms')}, ms a ROI: {', '.join(f'{share} {ms:.2f}' for share, ms in parts)}")
    if "growth" in found:
        print(
            f"memory over {found['memory_steps']} steps: {found['mib_warm']:.0f} MiB after the warm-up, "
            f"{found['mib_end']:.0f} MiB at the end ({100 * found['growth']:+.2f} %)"
        )


if __name__ == "__main__":
    run_cli(main)
