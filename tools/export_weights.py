"""Take a run's weights and write them alone, as safetensors: smaller, safe to open, and known to fit the configuration.

For a checkpoint without its configuration there is tools/convert_checkpoint.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import require_writable_file
from sopose.settings import load_settings, plain_settings

EPILOG = """example:
  python tools/export_weights.py --config-file configs/gdrn_selfocc/toy/from_cad.py --output toy.safetensors

The file loads by MODEL.WEIGHTS with the same configuration, for training as well as --eval-only.
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config-file", type=Path, required=True, help="the configuration of the run, told by the file"
    )
    parser.add_argument("--checkpoint", type=Path, help="default: the last one in OUTPUT_DIR")
    parser.add_argument("--output", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="override configuration keys")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Write the weights; the moving average where the checkpoint has one."""
    args = parse_args(argv)
    from sopose.core.engine.checkpoint import model_weights, plain_facts, read_checkpoint, save_weights
    from sopose.core.engine.checkpointer import last_checkpoint
    from sopose.inference.checkpoint_facts import SETTINGS
    from sopose.models.build import restore_model

    if args.output.suffix != ".safetensors":
        raise UserError(f"--output must end in .safetensors, got {args.output}")
    require_writable_file(args.output)
    settings = load_settings(args.config_file, args.opts)
    path = args.checkpoint or last_checkpoint(Path(settings.output_dir))
    if path is None:
        raise UserError(f"{settings.output_dir} has no checkpoint; train first, or name one by --checkpoint")
    state = read_checkpoint(path)
    model = restore_model(settings.model.pose_net, model_weights(state, path), path)
    facts = plain_facts(state) | {"experiment": settings.exp_name, "checkpoint": path.name}
    if SETTINGS in facts:
        # What was decided after the training, such as the way to a pose; and no paths of one machine's data.
        facts[SETTINGS] = plain_settings(settings)
    save_weights(model.state_dict(), args.output, facts)
    print(f"{args.output}: {args.output.stat().st_size / 2**20:.1f} MiB, weights of {path}")


if __name__ == "__main__":
    run_cli(main)
