"""Write P, the surface points that pixels see, for every instance of a split."""

from __future__ import annotations

from sopose.core.utils.errors import run_cli
from sopose.maps.files import P_MAP
from sopose.tools.map_options import parse_args, run


def main(argv: list[str] | None = None) -> None:
    """Write the files, or check them."""
    run(P_MAP, parse_args(argv, "generate_P.py", __doc__))


if __name__ == "__main__":
    run_cli(main)
