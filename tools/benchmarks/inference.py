"""How long an image takes from its file to the poses: reading, cropping, the network and what follows, by runtime.

All take turns in one process on the same images; medians over turns, of processor time for one thread of a CPU, else of
time on the clock. "forward" is the network with its pose decoder and, on a GPU, the way there; "decode" is the way from
its output to poses on the host; "off" are differences of the poses to torch's in float32.
"""

from __future__ import annotations

import argparse
import logging
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from sopose.batch import Prediction, RegressedPose, RoiBatch
from sopose.core.data.frames import Frame, open_frames
from sopose.core.detection.infer import Detector
from sopose.core.engine.machine import has_fast_bfloat16
from sopose.core.engine.onnx_runtimes import RUNTIMES, open_session
from sopose.core.evaluation.tables import aligned
from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import require_writable_file, write_json
from sopose.data.roi_input import build_roi_format
from sopose.export.onnx_check import Differences, differences, made_up_rois
from sopose.export.onnx_graph import export_graph, finish_graph
from sopose.export.onnx_quantize import quantised
from sopose.inference.checkpoint_facts import KnownObject
from sopose.inference.crops import CropFormat
from sopose.inference.estimator import PoseEstimator
from sopose.inference.found import Box
from sopose.inference.onnx_network import OnnxNetwork
from sopose.inference.prepare import prepared
from sopose.inference.torch_networks import OnTorch
from sopose.models.build import build_model
from sopose.settings import load_settings

Network = Callable[[RoiBatch], Prediction | RegressedPose]  # from arrays to arrays
EPILOG = """examples:
  python tools/benchmarks/inference.py datasets/BOP_DATASETS/toy/test/000002 \\
      --checkpoint configs/gdrn_selfocc/toy/demo.safetensors --detector output/detector/toy/detector.safetensors
  python tools/benchmarks/inference.py path/to/bop/lmo/test/000002 \\
      --config-file configs/gdrn_selfocc/lmo/gdrn_selfocc_multistep_40E.py --json inference.json

A configuration is measured with random weights. 8 bits are calibrated on noise here: good for their speed alone.
"""
DEFAULT_VARIANTS = ("torch", "bf16", "compile", "onnxruntime", "openvino", "openvino-bf16")
DETECTOR_VARIANTS = {"detector": False, "detector, bf16": True}  # convolutions in bfloat16
LEFT_OUT = ("has no CUDA", "is missing", "no arithmetic in bfloat16")  # what a runtime says that can't run here
STAGES = ("read", "crop", "forward", "decode")
BOX = (130.0, 110.0)  # width, height in pixels of 640 x 480: of an object at arm's length


@dataclass(eq=False)
class Row:
    """The times of a variant with a number of objects, seconds, one entry a turn."""

    variant: str
    device: str
    threads: int
    objects: int
    estimator: PoseEstimator
    off: Differences | None = None  # to torch in float32
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
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=NETWORKS,
        default=list(DEFAULT_VARIANTS),
        help="default: all but 8 bits; bf16: heads in bfloat16; openvino-bf16: all of it in bfloat16",
    )
    parser.add_argument("--detector", type=Path, metavar="FILE", help="time this detector too, on a CPU")
    parser.add_argument("--detector-size", type=int, metavar="PX", help="longer side of its input (default: its own)")
    parser.add_argument("--threads", nargs="+", type=int, default=[1], help="of the CPU (default: 1)")
    parser.add_argument("--devices", nargs="+", choices=("cpu", "cuda"), help="default: all there are")
    parser.add_argument("--objects", nargs="+", type=int, default=[1, 8], help="boxes in an image (default: 1 8)")
    parser.add_argument("--rounds", type=int, default=15, help="turns (default: 15)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="override configuration keys")
    args = parser.parse_args(argv)
    if min(args.rounds, *args.objects, *args.threads) < 1:
        parser.error("--rounds, --objects and --threads must be at least 1")
    return args


def main(argv: list[str] | None = None) -> None:
    """Measure, print a table, and write the numbers."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    if args.json:
        require_writable_file(args.json)
    frames = list(islice(open_frames(args.source), args.rounds))
    devices = args.devices or ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    rows: list[Row] = []
    for device in devices:
        estimators = {threads: make_estimators(args, torch.device(device), threads) for threads in args.threads}
        for count in args.objects:
            turns = [
                Row(name, device, threads, count, estimator)
                for threads, named in estimators.items()
                for name, estimator in named.items()
            ]
            compare_poses(turns, frames)
            take_turns(turns, frames, args.rounds)
            rows += turns
    found = detector_rows(args, frames) if args.detector else []
    print(f"{describe()}\nmilliseconds of an image, medians of {args.rounds} turns\n")
    print("\n".join(aligned(table(rows))))
    if found:
        print("\n" + "\n".join(aligned(detector_table(found))))
    if args.json:
        numbers = [{**keys(row), **summary(row, rows)} for row in rows]
        content = {"machine": describe(), "rounds": args.rounds, "rows": numbers, "detector": found}
        write_json(args.json, content)


def make_estimators(args: argparse.Namespace, device: torch.device, threads: int) -> dict[str, PoseEstimator]:
    """One for each variant that runs on the device, all with the same weights."""
    torch.set_num_threads(threads)  # which sessions of other runtimes take when they are made
    if args.checkpoint:
        host = PoseEstimator.from_checkpoint(args.checkpoint, "cpu", args.opts)
    else:
        host = untrained(args.config_file, args.opts)
    objects = list(host.objects.values())
    made = {}
    # Exported before the network moves to the device.
    for name in sorted(args.variants, key=[*NETWORKS].index, reverse=True):
        try:
            network = NETWORKS[name](host, device)
        except UserError as error:
            if not any(words in str(error) for words in LEFT_OUT):
                raise
            print(f"{name} on {device}: left out, {error}")
            continue
        made[name] = PoseEstimator(network, objects, host.crops)
    return {name: made[name] for name in NETWORKS if name in made}


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
    network = OnTorch(model.eval(), torch.device("cpu"))
    return PoseEstimator(network, objects, CropFormat(roi_format, settings.input.dzi_pad_scale))


def as_torch(host: PoseEstimator, device: torch.device, half: bool = False) -> Network:
    """The network as it is used by default, with `half` in bfloat16."""
    model = host.network.model.to(device)
    return OnTorch(model, device, prepared(model, device, host.crops.roi.input_res, half))


def compiled(host: PoseEstimator, device: torch.device) -> Network:
    """The network by torch.compile, once for each number of ROIs."""
    model = host.network.model.to(device)
    return OnTorch(model, device, torch.compile(model, dynamic=False))


def exported(host: PoseEstimator, device: torch.device, runtime: str, int8: bool = False) -> Network:
    """The network by a runtime of .onnx files."""
    graph = export_graph(host.network.model, made_up_rois(host, 2))
    if int8:
        graph = quantised(graph, [made_up_rois(host, 8)])
    content = finish_graph(graph, {}, host.crops, "int8" if int8 else "fp32")
    return OnnxNetwork(open_session(content, str(device), runtime), "the exported graph")


NETWORKS: dict[str, Callable[[PoseEstimator, torch.device], Network]] = {
    "torch": as_torch,
    "bf16": partial(as_torch, half=True),
    "compile": compiled,
    **{runtime: partial(exported, runtime=runtime) for runtime in RUNTIMES},
    **{f"{runtime}-int8": partial(exported, runtime=runtime, int8=True) for runtime in RUNTIMES},
}


def compare_poses(rows: Sequence[Row], frames: Sequence[Frame]) -> None:
    """Fill in how far the poses of each variant are from those of torch in float32, on all frames."""
    reference = next((row.estimator for row in rows if row.variant == "torch"), None)
    if reference is None:
        return
    images = [frame.read() for frame in frames]
    rois = [reference.make_rois(rgb, *camera_and_boxes(rgb, reference, rows[0].objects)) for rgb in images]
    batches = [each.tensors() for each in rois]
    for row in rows:
        row.off = differences(poses_on_host(reference), poses_on_host(row.estimator), batches)


def poses_on_host(estimator: PoseEstimator) -> Callable[[RoiBatch], RegressedPose]:
    """What an estimator says of ROIs on the host."""

    def ask(rois: RoiBatch) -> RegressedPose:
        found = estimator.network(rois.arrays()).tensors()
        return RegressedPose(found.cam_R_obj, found.cam_t_obj)

    return ask


def take_turns(rows: Sequence[Row], frames: Sequence[Frame], rounds: int) -> None:
    """Fill in the times of some variants; the first two turns warm up and do not count."""
    for turn in tqdm(range(-2, rounds), desc=f"{rows[0].objects} objects on {rows[0].device}", leave=False):
        for row in rows:
            torch.set_num_threads(row.threads)
            for stage, seconds in one_image(row, frames[turn % len(frames)]).items():
                if turn >= 0:
                    row.times[stage].append(seconds)


def one_image(row: Row, frame: Frame) -> dict[str, float]:
    """The seconds of each stage of one image."""
    now = clock_of(row.device, row.threads)
    estimator, clock = row.estimator, [now()]
    rgb = frame.read()
    clock.append(now())
    K, boxes = camera_and_boxes(rgb, estimator, row.objects)
    clock.append(now())
    rois = estimator.make_rois(rgb, K, boxes)
    clock.append(now())
    prediction = estimator.network(rois)
    clock.append(now())
    estimator.solver(prediction, rois)
    clock.append(now())
    read, _, crop, forward, decode = np.diff(clock)
    return {"read": read, "crop": crop, "forward": forward, "decode": decode}


def clock_of(device: str, threads: int) -> Callable[[], float]:
    """Seconds: of the processor for one thread, which other work beside it doesn't lengthen, else of the clock."""
    return time.process_time if device == "cpu" and threads == 1 else time.perf_counter


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
    same = [r for r in rows if keys(r) == {**keys(row), "variant": "torch"}]
    if same:
        ratios = np.array(same[0].times["forward"]) / np.array(row.times["forward"])
        found["times_torch"] = float(np.median(ratios))
    if row.off is not None:
        found["off_degrees"] = [float(np.median(row.off.angles)), float(row.off.angles.max())]
        found["off_mm"] = [1e3 * float(np.median(row.off.shifts)), 1e3 * float(row.off.shifts.max())]
    return found


def keys(row: Row) -> dict[str, Any]:
    """What was measured."""
    return {"variant": row.variant, "device": row.device, "threads": row.threads, "objects": row.objects}


def table(rows: Sequence[Row]) -> list[list[str]]:
    """The cells of the printed table."""
    ends = ["total", "crop + decode", "forward, torch = 1", "off, degrees", "off, mm"]
    cells = [["", "device", "threads", "objects", *STAGES, *ends]]
    for row in rows:
        found = summary(row, rows)
        stages = [f"{found[stage]:.2f} ({found['share'][stage]:.0%})" for stage in STAGES]
        speed = f"{found['times_torch']:.2f} x" if "times_torch" in found else ""
        off = ["{:.3f} / {:.2f}".format(*found[key]) if key in found else "" for key in ("off_degrees", "off_mm")]
        ends = [f"{found['total']:.2f}", f"{found['crop_and_decode']:.1%}", speed, *off]
        cells.append([*map(str, keys(row).values()), *stages, *ends])
    return cells


def detector_rows(args: argparse.Namespace, frames: Sequence[Frame]) -> list[dict[str, Any]]:
    """A detector's milliseconds, and how far the best box of each object is from that in float32, pixels."""
    detectors = {
        name: Detector.from_checkpoint(args.detector, half=half, side=args.detector_size)
        for name, half in DETECTOR_VARIANTS.items()
    }
    times: dict[tuple[str, int], list[float]] = {(name, count): [] for count in args.threads for name in detectors}
    for turn in tqdm(range(-2, args.rounds), desc="detector", leave=False):
        rgb = frames[turn % len(frames)].read()
        for (name, count), taken in times.items():
            torch.set_num_threads(count)
            now = clock_of("cpu", count)
            started = now()
            detectors[name](rgb)
            if turn >= 0:
                taken.append(now() - started)
    boxes = {name: found_boxes(detector, frames) for name, detector in detectors.items()}
    whole = boxes["detector"]
    rows = []
    for (name, count), taken in times.items():
        ratio = float(np.median(np.array(times["detector", count]) / np.array(taken)))
        both = whole.keys() & boxes[name].keys()
        off = [float(np.abs(whole[key] - boxes[name][key]).max()) for key in both] or [np.nan]
        change = {"off_px": [float(np.median(off)), max(off)], "found_by_one": len(whole.keys() ^ boxes[name].keys())}
        rows.append({"variant": name, "threads": count, "ms": 1e3 * float(np.median(taken)), "times": ratio, **change})
    return rows


def found_boxes(detector: Detector, frames: Sequence[Frame]) -> dict[tuple[int, str], np.ndarray]:
    """The best box (4,) of each object in each frame, by the frame's number and the object."""
    return {(number, item.object): item.box for number, frame in enumerate(frames) for item in detector(frame.read())}


def detector_table(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The cells of the printed table."""
    cells = [["", "threads", "ms", "float32 = 1", "off, pixels", "boxes found by one alone"]]
    for row in rows:
        off = "{:.2f} / {:.1f}".format(*row["off_px"])
        values = [f"{row['ms']:.1f}", f"{row['times']:.2f} x", off, str(row["found_by_one"])]
        cells.append([row["variant"], str(row["threads"]), *values])
    return cells


def describe() -> str:
    """The processor, the GPU where there is one, and the versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    packages = [name for name in ("torch", "onnxruntime", "openvino") if find_spec(name)]
    arithmetic = "with" if has_fast_bfloat16() else "without"
    return (
        f"{names[0] if names else platform.processor()} {arithmetic} arithmetic in bfloat16{gpu}; "
        f"{', '.join(f'{name} {version(name)}' for name in packages)}"
    )


if __name__ == "__main__":
    run_cli(main)
