"""Write Q, where rays cross the object's coordinate planes, for every instance of a split.

The files are for INPUT.XYZ_SOURCE=files.
Training needs no such files: by default it casts its maps on the fly. Finished files are left alone, so a run that
was stopped is started again in the same way.
Q follows from pose and camera alone; which pixels are on the object is taken from P's files where they are there
and right, and else cast.
"""

from __future__ import annotations

from core.utils.errors import run_cli
from gdrn_selfocc_modeling.data.map_files import Q_MAP
from gdrn_selfocc_modeling.tools.map_options import parse_args, run

EPILOG = """examples:
  python gdrn_selfocc_modeling/tools/generate_Q.py --dataset lmo --split train_pbr
  python gdrn_selfocc_modeling/tools/generate_Q.py --dataset lmo_pbr_train --scenes 0 1 --objects ape can --workers 8
  python gdrn_selfocc_modeling/tools/generate_Q.py --dataset path/to/mine --split train --also-masks
  python gdrn_selfocc_modeling/tools/generate_Q.py --dataset lmo --split train_pbr --check 200
  python gdrn_selfocc_modeling/tools/generate_Q.py --dataset lmo --split train_pbr --cluster tcp://head:8786
"""


def main(argv: list[str] | None = None) -> None:
    """Write the files, or check them."""
    run(Q_MAP, parse_args(argv, __doc__, EPILOG))


if __name__ == "__main__":
    run_cli(main)
