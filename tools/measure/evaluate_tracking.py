"""How well an object is followed through a rendered video whose motion is known.

The object moves and turns before a photograph; another one passes in front of it, and for some seconds it is away. Each
frame is estimated alone (detector, pose network, looks) and followed (sopose predict --track). Of both the share of
frames that are right (MSSD below 0.1 diameters), how far poses lag behind, how much they tremble, how many numbers the
object had, poses where no object is, and frames a second.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from sopose.core.bop.models import load_models
from sopose.core.bop.splits import resolve_split
from sopose.core.data.video_file import closed_video, open_video
from sopose.core.evaluation.pose_error import mssd_error
from sopose.core.evaluation.tables import aligned
from sopose.core.geometry.camera import pixel_grid
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.rotation import lie_vec_to_matrix
from sopose.core.objects.model import ObjectModel
from sopose.core.render.looks import Body
from sopose.core.render.packed import Scene
from sopose.core.render.shade import render_rgb
from sopose.core.render.visibility import annotate_scene
from sopose.core.synthesis.scenes import SceneOptions
from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import require_writable_dir
from sopose.data.build import build_backgrounds
from sopose.data.build_cad import build_scene_options, cad_camera
from sopose.inference.estimator import PoseEstimator
from sopose.inference.found import ObjectPose
from sopose.inference.painter import draw_poses
from sopose.inference.tracking import PoseTracker
from sopose.settings import load_settings

EXAMPLES = """example:
  python tools/measure/evaluate_tracking.py --config-file configs/gdrn_selfocc/lmo/cad_only_cpu.py --object can \\
      --weights configs/gdrn_selfocc/lmo/cad_only_cpu.safetensors --detector detector.safetensors \\
      --opts DATASETS.ROOT=path/to/bop INPUT.BG_IMGS_ROOT=path/to/photos
"""
FPS = 25.0
HIDDEN, AWAY = (0.3, 0.45), (0.65, 0.8)  # shares of the video: another object passes, the object is away
SWING = 0.35  # radians to each side, about each axis
RIGHT = 0.1  # MSSD in diameters
SEEN = 0.3  # least visible fraction of a frame that is to be right
SOFTNESS, NOISE = 0.7, 3.0  # of the camera: sigma of a blur, pixels, and of the noise, levels
LAGS = np.arange(-3, 7)  # frames


@dataclass(frozen=True, eq=False)
class Filmed:
    """A frame with its truth."""

    rgb: np.ndarray  # (H, W, 3) uint8
    pose: Pose | None  # None where the object is away
    visible: float  # fraction


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", type=Path, required=True, help="of the network, with a split of models")
    parser.add_argument("--weights", type=Path, required=True, help="of the pose network")
    parser.add_argument("--detector", type=Path, required=True, help="what sopose detector wrote")
    parser.add_argument("--object", required=True, metavar="NAME", help="that is followed")
    parser.add_argument("--frames", type=int, default=200, metavar="N", help="(default 200)")
    parser.add_argument("--looks", type=int, default=2, metavar="N", help="at each pose (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="of the video (default 0)")
    parser.add_argument("--output", type=Path, default=Path("output/evaluate_tracking"), help="folder of the videos")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="override configuration keys")
    args = parser.parse_args(argv)
    if min(args.frames, args.looks) < 1 or args.seed < 0:
        parser.error("--frames and --looks must be at least 1, --seed not below 0")
    return args


def main(argv: list[str] | None = None) -> None:
    """Film, estimate, follow, print."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    require_writable_dir(args.output)
    settings = load_settings(args.config_file, args.opts)
    spec = resolve_split(settings.datasets.train[0], Path(settings.datasets.root))
    models = load_models(spec.models_dir, names=spec.object_names)
    named = {model.name: model for model in models.values()}
    if args.object not in named:
        raise UserError(f"{spec.models_dir} has no object {args.object}; it has {', '.join(named)}")
    K, size = cad_camera(settings.cad, spec.root)
    options = build_scene_options(settings.cad, settings.datasets, (K, size))
    background = build_backgrounds(settings.input).sample(size, np.random.default_rng(args.seed))
    film = Film(named[args.object], other_than(args.object, named), options, background, args.seed)
    frames = list(film.frames(args.frames))
    estimator = PoseEstimator.from_checkpoint(
        args.weights,
        "cpu",
        [*args.opts, f"TEST.REFINE.ITERATIONS={args.looks}"],
        models=spec.models_dir,
        detector=args.detector,
    )
    tracker = PoseTracker(estimator)
    rows = [["", "right", "median error", "lag", "trembles", "numbers", "poses where none is", "frames/s"]]
    for name in ("each alone", "followed"):
        started, answers = time.perf_counter(), []
        for number, frame in enumerate(frames):
            found = estimator.predict(frame.rgb, K) if name == "each alone" else tracker(frame.rgb, K, number / FPS)
            answers.append([pose for pose in found if pose.object == args.object])
        speed = len(frames) / (time.perf_counter() - started)
        write_film(args.output / f"{name.replace(' ', '_')}.mp4", frames, answers)
        rows.append([name, *measures(frames, answers, named[args.object]), f"{speed:.1f}"])
    print(f"{args.object}, {len(frames)} frames, {args.looks} looks\n" + "\n".join(aligned(rows)), flush=True)


def other_than(name: str, named: dict[str, ObjectModel]) -> ObjectModel:
    """The largest of the other models: what passes in front."""
    others = [model for model in named.values() if model.name != name]
    if not others:
        raise UserError("what passes in front is another object of the data set, and it has one object alone")
    return max(others, key=lambda model: model.diameter)


class Film:
    """A video, all of its randomness from a seed.

    Args:
        model: of the object that is followed.
        other: what passes in front of it.
        options: of the camera, light and looks.
        background: (H, W, 3) uint8 BGR.
        seed: another one makes another video.
    """

    def __init__(
        self, model: ObjectModel, other: ObjectModel, options: SceneOptions, background: np.ndarray, seed: int
    ) -> None:
        self.model, self.other, self.options, self.background = model, other, options, background
        self._rng = np.random.default_rng([seed, 1])
        self._lights = options.lights.draw(self._rng)
        self._coats = [options.materials.draw(self._rng) for _ in range(2)]
        frame = options.poses.draw(options.K, options.image_size, self._rng)  # seen as in training
        self._start = frame.cam_R_obj @ options.poses.draw_rest(model, self._rng)
        self._phases = self._rng.uniform(0, 2 * np.pi, 6)

    def frames(self, count: int) -> Iterator[Filmed]:
        """So many frames, in their order."""
        for number in range(count):
            share = number / count
            pose = moving_pose(self._start, self._phases, number / FPS, self.model.diameter, self.options)
            is_there, passes = not AWAY[0] <= share < AWAY[1], HIDDEN[0] <= share < HIDDEN[1]
            bodies = [Body(self.model, pose, self._coats[0])] if is_there else []
            if passes:
                through = (share - HIDDEN[0]) / (HIDDEN[1] - HIDDEN[0]) - 0.5
                aside = self.model.diameter * np.array([3.0 * through, 0.0, -1.2])
                bodies.append(Body(self.other, Pose(self._start, pose.cam_t_obj + aside), self._coats[1]))
            image, visible = self._taken(bodies)
            yield Filmed(image, pose if is_there else None, visible if is_there else 0.0)

    def _taken(self, bodies: Sequence[Body]) -> tuple[np.ndarray, float]:
        """An image (H, W, 3) uint8 RGB of some bodies, and how much of the first is seen."""
        options, image, visible = self.options, self.background.copy(), 0.0
        if bodies:
            scene = Scene(options.K, bodies, self._lights, None)
            picture = render_rgb(scene, pixel_grid(*options.image_size), options.shading)
            shown = (picture.owner >= 0).reshape(image.shape[:2])
            image[shown] = picture.rgb[shown.ravel(), ::-1]
            _, info = annotate_scene(scene.meshes.meshes, scene.meshes.poses, options.K, options.image_size)
            visible = float(info[0]["visib_fract"])
        soft = cv2.GaussianBlur(image, (0, 0), SOFTNESS)
        noisy = np.clip(soft + self._rng.normal(0, NOISE, soft.shape), 0, 255).astype(np.uint8)
        return np.ascontiguousarray(noisy[..., ::-1]), visible


def moving_pose(start: np.ndarray, phases: np.ndarray, seconds: float, diameter: float, options: SceneOptions) -> Pose:
    """A smooth motion about a place before the camera: up to some 0.3 m / s and 40° / s."""
    waves = np.sin(2 * np.pi * seconds / np.array([4.0, 5.0, 6.0, 7.0, 5.5, 6.5]) + phases)
    depth = float(np.mean(options.poses.z_range))
    middle = np.linalg.inv(options.K) @ [*(np.array(options.image_size) / 2), 1.0]
    cam_t_obj = depth * middle + waves[:3] * [0.8 * diameter, 0.5 * diameter, 0.8 * diameter]
    return Pose(lie_vec_to_matrix(SWING * waves[3:]) @ start, cam_t_obj)


def measures(frames: Sequence[Filmed], answers: Sequence[Sequence[ObjectPose]], model: ObjectModel) -> list[str]:
    """The cells of a row."""
    right, errors, trail, numbers, ghosts = [], [], {}, set(), 0
    for place, (frame, found) in enumerate(zip(frames, answers, strict=True)):
        if frame.pose is None:
            ghosts += any(pose.reliable for pose in found)
            continue
        best = max(found, key=lambda pose: pose.score, default=None)
        if best is not None:
            trail[place] = best.pose.cam_t_obj
            numbers |= set() if best.track is None else {best.track}
        if frame.visible < SEEN:
            continue
        error = np.inf
        if best is not None:
            vertices, equal = model.vertices[:: max(1, len(model.vertices) // 2000)], model.symmetry_transforms
            error = mssd_error(best.pose, frame.pose, vertices, equal) / model.diameter
        right.append(error < RIGHT)
        errors.append(error)
    away = sum(frame.pose is None for frame in frames)
    return [
        f"{100 * np.mean(right):.0f} %",
        f"{100 * np.median(errors):.1f} % d",
        f"{1e3 * lag(frames, trail) / FPS:.0f} ms",
        f"{1e3 * trembling(frames, trail):.1f} mm",
        str(len(numbers)) if numbers else "–",
        f"{ghosts} of {away}",
    ]


def lag(frames: Sequence[Filmed], trail: dict[int, np.ndarray]) -> float:
    """By how many frames the found places lag behind the true ones: where the distance across is least."""

    def apart(frames_late: int) -> float:
        pairs = [
            np.linalg.norm((found - frames[place - frames_late].pose.cam_t_obj)[:2])
            for place, found in trail.items()
            if 0 <= place - frames_late < len(frames) and frames[place - frames_late].pose is not None
        ]
        return float(np.median(pairs)) if pairs else np.inf

    values = np.array([apart(frames_late) for frames_late in LAGS])
    best = int(values.argmin())
    if not 0 < best < len(LAGS) - 1:
        return float(LAGS[best])
    before, at, behind = values[best - 1 : best + 2]
    return float(LAGS[best] + (before - behind) / (2 * max(before - 2 * at + behind, 1e-12)))  # a parabola's bottom


def trembling(frames: Sequence[Filmed], trail: dict[int, np.ndarray]) -> float:
    """Median change of the error from one frame to the next, metres."""
    off = {place: found - frames[place].pose.cam_t_obj for place, found in trail.items()}
    steps = [np.linalg.norm(off[place + 1] - off[place]) for place in off if place + 1 in off]
    return float(np.median(steps)) if steps else float("nan")


def write_film(path: Path, frames: Sequence[Filmed], answers: Sequence[Sequence[ObjectPose]]) -> None:
    """The frames with what was found."""
    video = open_video(path, FPS, frames[0].rgb.shape[1::-1])
    for frame, found in zip(frames, answers, strict=True):
        video.write(draw_poses(frame.rgb, found))
    lost = closed_video(video, path)
    if lost:
        raise UserError(lost)


if __name__ == "__main__":
    run_cli(main)
