"""Write P, Q or both of every instance of a split into files, for INPUT.XYZ_SOURCE=files.

Training needs no such files: by default it casts its maps on the fly. Finished files are left alone, so a run that was
stopped is started again with the same command.
"""

from __future__ import annotations

import argparse

from sopose.tools.map_options import EXAMPLES as WAYS
from sopose.tools.map_options import add_options, check_options

EXAMPLES = "\n  sopose maps ".join(["examples:", *WAYS, "--dataset toy --split train --only Q"])


def register_parser(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    add_options(parser)
    parser.add_argument("--only", choices=("P", "Q"), help="one of them (default: both)")


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Leave with a usage error for options that can't be."""
    check_options(args, parser)


def handle(args: argparse.Namespace) -> None:
    """See `sopose.maps.generation`."""
    from sopose.maps.files import P_MAP, Q_MAP
    from sopose.tools.map_options import run

    for name, kind in (("P", P_MAP), ("Q", Q_MAP)):
        if args.only in (None, name):
            run(kind, args)
