"""Write the weights of any checkpoint as .safetensors, or back as .pth; needs no configuration."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import require_writable_file

if TYPE_CHECKING:
    from torch import Tensor

LITE_PREFIX = "model."  # what Lightning puts before a network's names
SUFFIXES = (".safetensors", ".pth")

EPILOG = """examples:
  python tools/convert_checkpoint.py gdrn_lmo/model_final.pth gdrn_lmo.safetensors
  python tools/convert_checkpoint.py gdrn_lmo.safetensors gdrn_lmo.pth
  python tools/convert_checkpoint.py gdrn_lmo/model_final.pth small.safetensors --half

The state of optimizers and schedules is left aside. Names of objects, the iteration and other plain values go along.
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", metavar="IN", type=Path, help="a .pth or .safetensors checkpoint")
    parser.add_argument("output", metavar="OUT", type=Path, help="the .safetensors or .pth file to write")
    parser.add_argument("--half", action="store_true", help="store float32 tensors as float16")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Convert, and tell what was written and what was left aside."""
    args = parse_args(argv)
    from sopose.core.engine.checkpoint import (
        FACTS,
        model_weights,
        plain_facts,
        read_checkpoint,
        save_weights,
        unique_tensors,
        weights_key,
    )

    if args.output.suffix not in SUFFIXES:
        raise UserError(f"OUT must end in {' or '.join(SUFFIXES)}, got {args.output}")
    if args.output.exists() and args.input.exists() and args.output.samefile(args.input):
        raise UserError(f"OUT is IN, {args.input}; choose another name")
    require_writable_file(args.output)
    state = read_checkpoint(args.input)
    weights, facts = without_lite_prefix(model_weights(state, args.input)), plain_facts(state)
    unique, aliases = unique_tensors(weights)
    if args.half:
        unique = {name: halved(value) for name, value in unique.items()}
    save_weights({name: unique[aliases.get(name, name)] for name in weights}, args.output, facts)

    key = weights_key(state)
    aside = [name for name in state if name not in (key, FACTS, *facts)] if key is not None else []
    types = sorted({str(value.dtype).removeprefix("torch.") for value in unique.values()})
    size = args.output.stat().st_size / 2**20
    print(f"{args.output}: {len(unique)} tensors ({', '.join(types)}), {len(aliases)} second names, {size:.1f} MiB")
    print(f"  weights from: {key or 'the file itself'}")
    print(f"  kept: {', '.join(facts) or 'nothing else'}")
    print(f"  left aside: {', '.join(map(str, aside)) or 'nothing'}")


def without_lite_prefix(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without `LITE_PREFIX` where every name has it."""
    if not all(name.startswith(LITE_PREFIX) for name in weights):
        return weights
    return {name.removeprefix(LITE_PREFIX): value for name, value in weights.items()}


def halved(value: Tensor) -> Tensor:
    """A float32 tensor as float16; others, and those with numbers beyond float16's range, as they are."""
    import torch

    if value.dtype != torch.float32:
        return value
    half = value.half()
    return half if torch.equal(half.isfinite(), value.isfinite()) else value


if __name__ == "__main__":
    run_cli(main)
