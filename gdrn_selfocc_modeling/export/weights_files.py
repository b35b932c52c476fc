"""Files of weights alone, of checkpoints with and without their configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sopose.core.engine.checkpoint import model_weights, read_checkpoint, save_weights, unique_tensors, weights_key
from sopose.core.engine.checkpointer import last_checkpoint
from sopose.core.engine.facts import FACTS, plain_facts
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import require_writable_file
from sopose.inference.checkpoint_facts import SETTINGS
from sopose.models.build import restore_model
from sopose.settings import load_settings, plain_settings

LITE_PREFIX = "model."  # what Lightning puts before a network's names
SAFETENSORS = ".safetensors"
SUFFIXES = (SAFETENSORS, ".pth")


def convert_weights(input: Path, output: Path, half: bool = False) -> None:
    """Write the weights of any checkpoint, and print what was written and what was left aside.

    half: float32 tensors as float16. Raises `UserError` for files that can't be read or written.
    """
    if output.suffix not in SUFFIXES:
        raise UserError(f"OUT must end in {' or '.join(SUFFIXES)}, got {output}")
    if output.exists() and input.exists() and output.samefile(input):
        raise UserError(f"OUT is IN, {input}; choose another name")
    require_writable_file(output)
    state = read_checkpoint(input)
    weights, facts = without_lite_prefix(model_weights(state, input)), plain_facts(state)
    unique, aliases = unique_tensors(weights)
    if half:
        unique = {name: halved(value) for name, value in unique.items()}
    save_weights({name: unique[aliases.get(name, name)] for name in weights}, output, facts)

    key = weights_key(state)
    aside = [name for name in state if name not in (key, FACTS, *facts)] if key is not None else []
    types = sorted({str(value.dtype).removeprefix("torch.") for value in unique.values()})
    size = output.stat().st_size / 2**20
    print(f"{output}: {len(unique)} tensors ({', '.join(types)}), {len(aliases)} second names, {size:.1f} MiB")
    print(f"  weights from: {key or 'the file itself'}")
    print(f"  kept: {', '.join(facts) or 'nothing else'}")
    print(f"  left aside: {', '.join(map(str, aside)) or 'nothing'}")


def pack_weights(config_file: Path, words: Sequence[str], checkpoint: Path | None, output: Path) -> None:
    """Write the weights of a run's checkpoint, by default the last, after checking that they fit the configuration.

    They are the moving average where the checkpoint has one. Raises `UserError` where they don't fit.
    """
    if output.suffix != ".safetensors":
        raise UserError(f"OUT must end in .safetensors, got {output}")
    require_writable_file(output)
    settings = load_settings(config_file, words)
    path = checkpoint or last_checkpoint(Path(settings.output_dir))
    if path is None:
        raise UserError(f"{settings.output_dir} has no checkpoint; train first, or name one as IN")
    state = read_checkpoint(path)
    model = restore_model(settings.model.pose_net, model_weights(state, path), path)
    facts = plain_facts(state) | {"experiment": settings.exp_name, "checkpoint": path.name}
    if SETTINGS in facts:
        # What was decided after the training, such as the way to a pose; and no paths of one machine's data.
        facts[SETTINGS] = plain_settings(settings)
    save_weights(model.state_dict(), output, facts)
    print(f"{output}: {output.stat().st_size / 2**20:.1f} MiB, weights of {path}")


def without_lite_prefix(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without `LITE_PREFIX` where every name has it."""
    if not all(name.startswith(LITE_PREFIX) for name in weights):
        return weights
    return {name.removeprefix(LITE_PREFIX): value for name, value in weights.items()}


def halved(value: Tensor) -> Tensor:
    """A float32 tensor as float16; others, and those with numbers beyond float16's range, as they are."""
    if value.dtype != torch.float32:
        return value
    half = value.half()
    return half if torch.equal(half.isfinite(), value.isfinite()) else value
