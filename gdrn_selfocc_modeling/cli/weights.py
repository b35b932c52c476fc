"""Write the weights of a checkpoint alone: as .safetensors, smaller and safe to open, or back as .pth.

With a configuration they are checked to fit it, and its way to a pose goes along; IN may be left out then, it is the
last checkpoint of the run. Without one any checkpoint is taken, also of other frameworks of this family. The state of
optimizers and schedules is left aside; names of objects, the iteration and other plain values go along.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """examples:
  sopose weights toy.safetensors --config-file configs/gdrn_selfocc/toy/from_cad.py
  sopose weights gdrn_lmo/model_final.pth gdrn_lmo.safetensors
  sopose weights gdrn_lmo.safetensors gdrn_lmo.pth
  sopose weights gdrn_lmo/model_final.pth small.safetensors --half

The file loads by MODEL.WEIGHTS, for training as well as for sopose eval.
"""


def register_parser(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument(
        "files", metavar="FILE", nargs="+", type=Path, help="IN, a .pth or .safetensors checkpoint, and OUT, to write"
    )
    parser.add_argument("--half", action="store_true", help="store float32 tensors as float16")
    parser.add_argument("--config-file", type=Path, help="the configuration of the run")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="override configuration keys")


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Leave with a usage error for options that don't go together."""
    if len(args.files) > 2 or (len(args.files) == 1 and args.config_file is None):
        parser.error("give IN and OUT, or OUT with --config-file")
    if args.config_file is not None and args.half:
        parser.error("--half goes with IN and OUT alone")


def handle(args: argparse.Namespace) -> None:
    """See `sopose.export.weights_files`."""
    from sopose.export.weights_files import convert_weights, pack_weights

    *given, output = args.files
    if args.config_file is None:
        convert_weights(*given, output, args.half)
    else:
        pack_weights(args.config_file, args.opts, given[0] if given else None, output)
