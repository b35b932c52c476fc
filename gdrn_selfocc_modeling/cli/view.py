"""Look at a pose: the model at truth and estimates before the photograph, in 3D in a browser, or as a flat picture."""

from __future__ import annotations

import argparse
from pathlib import Path

from sopose.core.bop.catalog import DATASETS_FOLDER

EXAMPLES = """examples:
  sopose view --dataset lmo --scene 2 --image 3 --estimates mine_lmo-test.csv --html output/view.html
  sopose view --dataset path/to/bop/ycbv --scene 48 --image 1 --objects 024_bowl 5
  sopose view --dataset toy --estimates a_toy-test.csv b_toy-test.csv --picture output/view.jpg
  sopose view --mesh path/to/part.ply --html output/part.html

The page is one file that loads nothing: open it in a browser, also from disk and offline. --mesh alone shows a CAD
model (PLY, millimetres), with the symmetries of the models_info.json beside it. The picture has the outlines of truth
and estimates on its left and the models drawn in colour on its right, at the estimates where there are any."""


def register_parser(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("--dataset", help="a BOP folder under the root, or a path to one")
    parser.add_argument("--split", default="test", help="split of the data set (default: test)")
    parser.add_argument("--datasets-root", type=Path, default=DATASETS_FOLDER, metavar="DIR")
    parser.add_argument("--scene", type=int, metavar="ID", help="default: the first")
    parser.add_argument("--image", type=int, metavar="ID", help="default: the first of the scene")
    parser.add_argument("--estimates", type=Path, nargs="+", default=[], metavar="CSV", help="BOP results files")
    parser.add_argument("--objects", nargs="+", metavar="NAME", help="only these objects, by name or id")
    parser.add_argument("--mesh", type=Path, metavar="PLY", help="a model to look at, without a data set")
    parser.add_argument("--html", type=Path, help="the page to write (default: output/view.html, or none by --picture)")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="a .png or .jpg to write")


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Leave with a usage error for options that don't go together."""
    if (args.dataset is None) == (args.mesh is None):
        parser.error("give either --dataset or --mesh")
    if args.mesh and (args.picture or args.estimates or args.objects):
        parser.error("--mesh goes with --html alone")
    if args.html is None and args.picture is None:
        args.html = Path("output/view.html")


def handle(args: argparse.Namespace) -> None:
    """See `sopose.core.evaluation.image_view`, and `sopose.core.vis.scene_view` for a mesh alone."""
    given = dict(vars(args))
    mesh = given.pop("mesh")
    if mesh:
        from sopose.core.vis.scene_view import view_mesh

        view_mesh(args.html, mesh)
    else:
        from sopose.core.evaluation.image_view import ViewOptions, view_image

        view_image(ViewOptions(**given))
    for path in filter(None, (args.html, args.picture)):
        print(f"wrote {path}")
