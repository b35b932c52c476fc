"""Write a checkpoint, or a refiner, as one .onnx file that runs by onnxruntime, TensorRT and others without torch.

The graph takes what is known of a region of interest, any number of them, and ends in their poses, cam_R_obj and
cam_t_obj (metres). Its metadata say all that is needed beside it. It is compared with torch before anything is written.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """examples:
  sopose export --checkpoint model_final.safetensors --output model.onnx
  sopose export --checkpoint model_final.safetensors --output model-int8.onnx --int8 \\
      --calibration lmo_train --split lmo_bop_test --dataset-root datasets/BOP_DATASETS

  sopose export --checkpoint refiner.safetensors --output refiner.onnx

  sopose predict photo.jpg --checkpoint model.onnx --K 572.4,573.6,325.3,242.0 --box can,210,140,330,290
"""


def register_parser(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("--checkpoint", type=Path, required=True, help="of a run: .pth or .safetensors")
    parser.add_argument("--output", type=Path, required=True, help="the .onnx file to write")
    precision = parser.add_mutually_exclusive_group()
    precision.add_argument("--fp16", action="store_true", help="backbone and heads in half precision; for GPUs")
    precision.add_argument("--int8", action="store_true", help="the heads in 8 bits; needs --calibration")
    parser.add_argument("--calibration", metavar="SPLIT", help="images like those to come, such as lmo_train")
    parser.add_argument("--split", help="a BOP split: compare on its ROIs too, and score both (ground-truth boxes)")
    parser.add_argument("--dataset-root", type=Path, help="folder of the data sets (default: as the checkpoint says)")
    parser.add_argument(
        "--runtime",
        metavar="NAME",
        default="onnxruntime",
        help="what the written file is measured by: onnxruntime (default), openvino",
    )
    parser.add_argument("--maps", action="store_true", help="P, Q and masks are outputs too, for PnP and pictures")


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Leave with a usage error for options that don't go together."""
    if args.int8 != (args.calibration is not None):
        parser.error("--int8 and --calibration go together")


def handle(args: argparse.Namespace) -> None:
    """See `sopose.export.network_files`."""
    from sopose.export.network_files import ExportOptions, run_export

    run_export(ExportOptions(**vars(args)))
