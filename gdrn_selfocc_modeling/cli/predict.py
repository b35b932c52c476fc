"""Poses of known objects in images, folders, videos or a webcam: a csv, a readable json, and pictures or a video."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sopose.cli.project import NAME, find_project
from sopose.core.utils.arguments import finite as finite_number
from sopose.core.utils.files import require_file

LOOKS = 4  # in a project: its network is small and has learned for minutes, and looks correct what it gives
ITERATIONS = "TEST.REFINE.ITERATIONS"

EXAMPLES = """examples:
  sopose predict photo.jpg
  sopose predict photo.jpg --checkpoint model_final.safetensors --K 572.4,573.6,325.3,242.0 \\
      --box can,210,140,330,290
  sopose predict path/to/images --checkpoint model_final.safetensors --camera camera.json \\
      --detector detector.safetensors --models path/to/bop/lmo/models --looks 2
  sopose predict path/to/bop/lmo/test/000002 --checkpoint model_final.safetensors --boxes detections.json
  sopose predict webcam:0 --checkpoint model_final.safetensors --camera camera.json --show \\
      --detector detector.safetensors

In a folder where `sopose new` was run, network, detector, camera and models are those of that project, and each pose is
looked at again. --K is of these very images: scale fx, fy, cx, cy with their size. --camera is scaled where its file
has the width and height of other images of the same aspect. A BOP scene brings its own.
"""


def register_parser(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument(
        "source",
        help="an image, a folder of images, a BOP scene (of several sensors: a folder of images in it), "
        "a video, or webcam:0",
    )
    parser.add_argument("--checkpoint", type=Path, help="of a run: .pth, .safetensors or .onnx")
    parser.add_argument("--runtime", metavar="NAME", help="of an .onnx file: onnxruntime (default), openvino")
    camera = parser.add_mutually_exclusive_group()
    camera.add_argument("--K", metavar="FX,FY,CX,CY", help="intrinsics of the images, pixels")
    camera.add_argument("--camera", type=Path, metavar="FILE", help="a camera.json with fx, fy, cx, cy, distortion")
    parser.add_argument("--distortion", metavar="K1,K2,P1,P2,…", help="of the lens, as OpenCV's calibration gives it")
    parser.add_argument(
        "--depth",
        type=Path,
        nargs="?",
        const=Path("scene"),
        metavar="FOLDER",
        help="correct distances by depth images of the same names and size, with --models (default: a BOP scene's own)",
    )
    parser.add_argument(
        "--depth-scale",
        type=finite_number,
        metavar="MM",
        help="of a level of depth (default: 1, or the scene's)",
    )
    boxes = parser.add_mutually_exclusive_group()
    boxes.add_argument("--box", action="append", metavar="NAME,X1,Y1,X2,Y2", help="a box in every image; repeat it")
    boxes.add_argument("--boxes", type=Path, metavar="FILE", help="detections as json, BOP's form or GDR-Net's")
    boxes.add_argument("--detector", type=Path, metavar="FILE", help="what sopose detector wrote")
    parser.add_argument(
        "--detector-size",
        type=int,
        metavar="PX",
        help="longer side of the images it sees (default: as it was trained; a smaller one is faster and finds less)",
    )
    parser.add_argument("--threshold", type=finite_number, help="least score of a box (default: the detector's own)")
    parser.add_argument("--topk", type=int, default=1, help="boxes of an object in an image (default: 1)")
    parser.add_argument(
        "--models", type=Path, metavar="FOLDER", help="a BOP models folder: outlines are drawn, not boxes"
    )
    parser.add_argument(
        "--looks",
        type=int,
        metavar="N",
        help="second looks at each pose, by --models (default: as the network's file says, most often 0; in a project "
        f"{LOOKS}, with --track 1)",
    )
    parser.add_argument(
        "--starts",
        type=int,
        metavar="N",
        help="up to so many poses of each object that looks begin at, with N + 1 times the looks (default: as the "
        "network's file says; 6 help a network that is often far off)",
    )
    parser.add_argument(
        "--refiner", type=Path, metavar="FILE", help="that looks (default: as TEST.REFINE.WEIGHTS says)"
    )
    parser.add_argument(
        "--views",
        type=Path,
        metavar="FILE",
        help="the camera's motion, as scene_camera.json with cam_R_w2c and cam_t_w2c: one pose of each object from all "
        "images, where nothing moves; needs --looks",
    )
    parser.add_argument(
        "--track", action="store_true", help="follow objects through a video; needs --looks and a detector"
    )
    parser.add_argument("--output", type=Path, default=Path("output/predictions"), help="default: output/predictions")
    parser.add_argument("--no-pictures", action="store_true", help="write csv and json only")
    parser.add_argument("--show", action="store_true", help="open a window; needs an OpenCV with one")
    parser.add_argument("--limit", type=int, default=0, help="stop after so many images")
    parser.add_argument("--device", help="cuda, cuda:1 or cpu (default: a GPU where there is one)")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="such as TEST.USE_PNP=True")


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Leave with a usage error for options that don't go together."""
    if args.topk < 1 or args.limit < 0 or (args.looks or 0) < 0:
        parser.error("--topk must be at least 1, --limit and --looks at least 0")
    in_project = NAME.is_file()
    if args.depth and not (args.models or in_project):
        parser.error("--depth is compared with the rendered objects; name the folder of their --models")
    if args.track and (args.box or args.boxes):
        parser.error("--track finds objects by a detector; leave --box and --boxes out, and give --detector")
    if args.looks and not (args.models or in_project):
        parser.error("--looks renders the objects; name the folder of their --models")
    given = args.box or args.boxes or args.detector
    if not (args.checkpoint and given) and not in_project:
        parser.error(f"give --checkpoint, and --box, --boxes or --detector; or run it where `sopose new` wrote {NAME}")


def handle(args: argparse.Namespace) -> None:
    """See `sopose.inference.pose_files`; of a project, what isn't given is the project's."""
    from sopose.inference.pose_files import run_predict
    from sopose.inference.pose_inputs import PredictOptions

    given = vars(args)
    if args.camera is not None and "," in str(args.camera) and not args.camera.is_file():
        given = {**given, "K": str(args.camera), "camera": None}  # four numbers, as `sopose new` takes them
    run_predict(PredictOptions(**(with_project(given) if NAME.is_file() else given)))


def with_project(given: dict[str, Any]) -> dict[str, Any]:
    """The options with a project's network, detector, models, camera and looks where others aren't given.

    Raises `UserError` where the project has not been trained yet.
    """
    project, settings = find_project()
    own = {} if given["checkpoint"] else {"checkpoint": trained(project.output, "model_final.safetensors")}
    if not (given["box"] or given["boxes"] or given["detector"]):
        own["detector"] = trained(project.detector, "detector.safetensors")
    if given["models"] is None:
        own["models"] = project.dataset / "models"
    asked = settings.test.refine.iterations or any(word.startswith(ITERATIONS) for word in given["opts"])
    if given["looks"] is None and not asked:
        own["looks"] = 1 if given["track"] else LOOKS
    if not (given["K"] or given["camera"] or (Path(given["source"]) / "scene_camera.json").is_file()):
        own["camera"] = project.dataset / "camera.json"
    return {**given, **own}


def trained(folder: Path, name: str) -> Path:
    """The weights that a training left, or the last checkpoint of one that isn't finished.

    Raises `UserError` where there is neither.
    """
    final = folder / name
    if final.is_file() or not folder.is_dir():
        return require_file(final, "run `sopose train` first; where it was stopped, it continues")
    from sopose.core.engine.checkpointer import last_checkpoint

    last = last_checkpoint(folder)
    if last is not None:
        print(f"{name} isn't there yet: {last} is used, of a training that isn't finished")
    return last or require_file(final, "run `sopose train` first; where it was stopped, it continues")
