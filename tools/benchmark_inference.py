"""How long an image takes from its file to the poses: reading, cropping, the network and what follows, by runtime.

torch, torch.compile and onnxruntime take turns in one process on the same images; medians over turns. "forward" is the
network with its pose decoder and, on a GPU, the way there; "decode" is the way from its output to poses on the host.
"""

from __future__ import annotations

import argparse
import logging
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from sopose.core.data.frames import Frame, open_frames
from sopose.core.evaluation.tables import aligned
from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import require_writable_file, write_json
from sopose.data.build import build_roi_format
from sopose.export.onnx_check import made_up_rois
from sopose.export.onnx_graph import export_graph, finish_graph
from sopose.export.onnx_quantize import quantised
from sopose.inference.checkpoint_facts import KnownObject
from sopose.inference.estimator import Box, CropFormat, PoseEstimator
from sopose.inference.onnx_network import OnnxNetwork
from sopose.inference.onnx_runtimes import open_session
from sopose.models.build import build_model
from sopose.settings import load_settings

EPILOG = """examples:
  OMP_NUM_THREADS=1 python tools/benchmark_inference.py datasets/BOP_DATASETS/toy/test/000002 \\
      --checkpoint configs/gdrn_selfocc/toy/demo.safetensors
  python tools/benchmark_inference.py path/to/bop/lmo/test/000002 \\
      --config-file configs/gdrn_selfocc/lmo/gdrn_selfocc_multistep_40E.py --json inference.json

A configuration is measured with random weights. 8 bits are calibrated on noise here: good for their speed alone.
"""
VARIANTS = ("torch", "compile", "onnxruntime", "onnxruntime-int8")
STAGES = ("read", "crop", "forward", "decode")
BOX = (130.0, 110.0)  # width, height in pixels of 640 x 480: of an object at arm's length


@dataclass(eq=False)
class Row:
    """The times of a variant with a number of objects, seconds, one entry a turn."""

    variant: str
    device: str
    objects: int
    estimator: PoseEstimator
    times: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="an image, a folder of images, or a BOP scene")
    network = parser.add_mutually_exclusive_group(required=True)
    network.add_argument("--checkpoint", type=Path, help="of a run: .pth or .safetensors")
    network.add_argument("--config-file", type=Path, help="a configuration, with random weights")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS[:3]), help="default: all fp32")
    parser.add_argument("--devices", nargs="+", choices=("cpu", "cuda"), help="default: all there are")
    parser.add_argument("--objects", nargs="+", type=int, default=[1, 8], help="boxes in an image (default: 1 8)")
    parser.add_argument("--rounds", type=int, default=15, help="turns (default: 15)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="override configuration keys")
    args = parser.parse_args(argv)
    if min(args.rounds, *args.objects) < 1:
        parser.error("--rounds and --objects must be at least 1")
    return args


def main(argv: list[str] | None = None) -> None:
    """Measure, print a table, and write the numbers."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    if args.json:
        require_writable_file(args.json)
    frames = list(islice(open_frames(args.source), args.rounds))
    devices = args.devices or ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    rows = []
    for device in devices:
        estimators = make_estimators(args, torch.device(device))
        for count in args.objects:
            turns = [Row(name, device, count, estimator) for name, estimator in estimators.items()]
            take_turns(turns, frames, args.rounds)
            rows += turns
    print(f"{describe()}\nmilliseconds of an image, medians of {args.rounds} turns\n")
    print("\n".join(aligned(table(rows))))
    if args.json:
        numbers = [{"variant": r.variant, "device": r.device, "objects": r.objects, **summary(r, rows)} for r in rows]
        write_json(args.json, {"machine": describe(), "rounds": args.rounds, "rows": numbers})


def make_estimators(args: argparse.Namespace, device: torch.device) -> dict[str, PoseEstimator]:
    """One for each variant that runs on the device, all with the same weights."""
    if args.checkpoint:
        host = PoseEstimator.from_checkpoint(args.checkpoint, "cpu", args.opts)
    else:
        host = untrained(args.config_file, args.opts)
    objects = list(host.objects.values())
    made = {}
    # Exported before the network moves to the device.
    for name in sorted(args.variants, key=VARIANTS.index, reverse=True):
        try:
            network = NETWORKS[name](host, device)
        except UserError as error:
            if "has no CUDA" not in str(error):
                raise
            print(f"{name} on {device}: left out, {error}")
            continue
        made[name] = PoseEstimator(network, objects, host.crops)
    return {name: made[name] for name in VARIANTS if name in made}


def untrained(path: Path, opts: Sequence[str]) -> PoseEstimator:
    """The network of a configuration with random weights and made-up objects; on the CPU."""
    settings = load_settings(path, opts)
    net = settings.model.pose_net
    torch.manual_seed(0)
    model = build_model(net, pretrained=False).to(memory_format=torch.channels_last)
    size = np.full(3, 0.1)
    names = [f"object {index + 1}" for index in range(net.num_classes)]
    objects = [KnownObject(name, index, size, -size / 2, 0.17, [], [], "") for index, name in enumerate(names, 1)]
    roi_format = build_roi_format(settings.input, settings.model)
    return PoseEstimator(model, objects, CropFormat(roi_format, settings.input.dzi_pad_scale))


def as_torch(host: PoseEstimator, device: torch.device) -> nn.Module:
    """The network as it is used by default."""
    return host.model.to(device)


def compiled(host: PoseEstimator, device: torch.device) -> nn.Module:
    """The network by torch.compile, once for each number of ROIs."""
    return torch.compile(host.model.to(device), dynamic=False)


def exported(host: PoseEstimator, device: torch.device, int8: bool = False) -> nn.Module:
    """The network by onnxruntime."""
    graph = export_graph(host.model, made_up_rois(host, 2))
    if int8:
        graph = quantised(graph, [made_up_rois(host, 8)])
    content = finish_graph(graph, {}, host.crops, "int8" if int8 else "fp32")
    return OnnxNetwork(open_session(content, device), "the exported graph")


NETWORKS: dict[str, Callable[[PoseEstimator, torch.device], nn.Module]] = {
    "torch": as_torch,
    "compile": compiled,
    "onnxruntime": exported,
    "onnxruntime-int8": lambda host, device: exported(host, device, int8=True),
}


def take_turns(rows: Sequence[Row], frames: Sequence[Frame], rounds: int) -> None:
    """Fill in the times of some variants; the first two turns warm up and do not count."""
    for turn in tqdm(range(-2, rounds), desc=f"{rows[0].objects} objects on {rows[0].device}", leave=False):
        for row in rows:
            for stage, seconds in one_image(row, frames[turn % len(frames)]).items():
                if turn >= 0:
                    row.times[stage].append(seconds)


def one_image(row: Row, frame: Frame) -> dict[str, float]:
    """The seconds of each stage of one image."""
    estimator, clock = row.estimator, [time.perf_counter()]
    rgb = frame.read()
    clock.append(time.perf_counter())
    K, boxes = camera_and_boxes(rgb, estimator, row.objects)
    clock.append(time.perf_counter())
    rois = estimator.make_rois(rgb, K, boxes)
    clock.append(time.perf_counter())
    on_device = rois.to(row.device)
    prediction = estimator.predict(on_device if estimator.device.type == row.device else rois)
    if row.device == "cuda":
        torch.cuda.synchronize()
    clock.append(time.perf_counter())
    estimator.solver(prediction, rois)
    clock.append(time.perf_counter())
    read, _, crop, forward, decode = np.diff(clock)
    return {"read": read, "crop": crop, "forward": forward, "decode": decode}


def camera_and_boxes(rgb: np.ndarray, estimator: PoseEstimator, count: int) -> tuple[np.ndarray, list[Box]]:
    """A usual camera, and boxes spread over the image, the objects in turn."""
    height, width = rgb.shape[:2]
    K = np.array([[0.9 * width, 0, (width - 1) / 2], [0, 0.9 * width, (height - 1) / 2], [0, 0, 1]])
    names = list(estimator.objects)
    box = np.array(BOX) * width / 640
    corners = np.random.default_rng(0).uniform(0, np.array([width, height]) - box, (count, 2))
    return K, [Box(names[i % len(names)], [*corner, *(corner + box)]) for i, corner in enumerate(corners)]


def summary(row: Row, rows: Sequence[Row]) -> dict[str, Any]:
    """Medians in ms, shares of the total, and how many times as fast as torch's the forward is, a median over turns.

    The share of crop and decode together is of an image that has been read.
    """
    medians = {stage: 1e3 * float(np.median(row.times[stage])) for stage in STAGES}
    total = sum(medians.values())
    found: dict[str, Any] = {**medians, "total": total}
    found["share"] = {stage: medians[stage] / total for stage in STAGES}
    found["crop_and_decode"] = (medians["crop"] + medians["decode"]) / (total - medians["read"])
    same = [r for r in rows if (r.variant, r.device, r.objects) == ("torch", row.device, row.objects)]
    if same:
        ratios = np.array(same[0].times["forward"]) / np.array(row.times["forward"])
        found["times_torch"] = float(np.median(ratios))
    return found


def table(rows: Sequence[Row]) -> list[list[str]]:
    """The cells of the printed table."""
    cells = [["", "device", "objects", *STAGES, "total", "crop + decode", "forward, torch = 1"]]
    for row in rows:
        found = summary(row, rows)
        stages = [f"{found[stage]:.2f} ({found['share'][stage]:.0%})" for stage in STAGES]
        speed = f"{found['times_torch']:.2f} x" if "times_torch" in found else ""
        ends = [f"{found['total']:.2f}", f"{found['crop_and_decode']:.1%}", speed]
        cells.append([row.variant, row.device, str(row.objects), *stages, *ends])
    return cells


def describe() -> str:
    """The processor, the GPU where there is one, and the versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{names[0] if names else platform.processor()}, {torch.get_num_threads()} threads{gpu}; "
        f"torch {torch.__version__}, onnxruntime {version('onnxruntime')}"
    )


if __name__ == "__main__":
    run_cli(main)
