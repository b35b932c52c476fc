"""Write Q, where rays cross the object's coordinate planes, for every instance of a split.

Q follows from pose and camera alone; which pixels are on the object is taken from P's files where they are there
and right, and else cast.
"""

from __future__ import annotations

from sopose.core.utils.errors import run_cli
from sopose.maps.files import Q_MAP
from sopose.tools.map_options import parse_args, run


def main(argv: list[str] | None = None) -> None:
    """Write the files, or check them."""
    run(Q_MAP, parse_args(argv, "generate_Q.py", __doc__))


if __name__ == "__main__":
    run_cli(main)
