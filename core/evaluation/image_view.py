"""An image of a data set with its true poses and estimates of them: a page in 3D, a flat picture, or both."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sopose.core.bop.catalog import DATASETS_FOLDER, dataset_name
from sopose.core.bop.models import load_models
from sopose.core.bop.results import Estimate, Estimates, read_results
from sopose.core.bop.scene import ImageRecord, Instance, load_split, read_rgb
from sopose.core.bop.splits import resolve_split
from sopose.core.evaluation.pose_error import add_error, adi_error, re_error, te_error
from sopose.core.geometry.pose import Pose
from sopose.core.images.files import require_image_name, write_image
from sopose.core.objects.model import ObjectModel
from sopose.core.utils.errors import UserError, nearest
from sopose.core.utils.files import require_writable_file
from sopose.core.utils.units import M_TO_MM
from sopose.core.vis.scene_view import Photograph, ViewedEstimate, ViewedObject, write_scene_view

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ViewOptions:
    """What `sopose view` takes of an image, by the names of its options."""

    dataset: str  # a folder's name or path
    split: str = "test"
    datasets_root: Path = DATASETS_FOLDER
    scene: int | None = None  # the first
    image: int | None = None  # the first of the scene
    estimates: Sequence[Path] = ()
    objects: Sequence[str] | None = None  # names or ids; all
    html: Path | None = None
    picture: Path | None = None


@dataclass(frozen=True, eq=False)
class _Result:
    """A results file's estimates in the image."""

    name: str
    estimates: list[Estimate]


def view_image(options: ViewOptions) -> None:
    """Write the page, the picture, or both.

    Raises `UserError` for what the split doesn't have, for files that are wrong, and before any work for a page or
    picture that cannot be written.
    """
    for path in filter(None, (options.html, options.picture)):
        require_writable_file(path)
    if options.picture:
        require_image_name(options.picture)
    spec = resolve_split(f"{options.dataset}:{options.split}", options.datasets_root)
    wanted = _object_ids(options.objects, spec.object_names)
    record = _record(load_split(spec, wanted), options.scene, options.image)
    results = [_result(path, record, wanted, spec.object_names) for path in options.estimates]
    instances = [item for item in record.instances if item.obj_id in wanted]
    ids = {item.obj_id for item in instances} | {item.obj_id for result in results for item in result.estimates}
    if not ids:
        raise UserError(
            f"image {record.im_id} of scene {record.scene_id} has none of the objects {', '.join(map(str, wanted))}, "
            "nor has an estimate; choose another"
        )
    measured = load_models(spec.models_eval_dir, ids, spec.object_names)
    models = measured
    if spec.models_dir != spec.models_eval_dir:
        models = load_models(spec.models_dir, ids, spec.object_names)
    objects = _viewed(instances, results, models, measured)
    image = read_rgb(record)
    if options.html:
        facts = _facts(record, image, f"{dataset_name(spec.root)}, {spec.split}")
        title = f"{dataset_name(spec.root)}, image {record.scene_id}/{record.im_id}"
        write_scene_view(options.html, title, objects, Photograph(image, record.K), facts)
    if options.picture:
        write_image(options.picture, _picture(image, record.K, objects))


def _object_ids(words: Sequence[str] | None, names: Mapping[int, str]) -> list[int]:
    """Ids of objects given by name or id; all of them by default."""
    if words is None:
        return list(names)
    ids = {name: obj_id for obj_id, name in names.items()} | {str(obj_id): obj_id for obj_id in names}
    for word in words:
        if word not in ids:
            known = ", ".join(f"{name} ({obj_id})" for obj_id, name in names.items())
            raise UserError(f"no object is called '{word}'{nearest(word, list(ids))} (there are: {known})")
    return sorted({ids[word] for word in words})


def _record(records: Sequence[ImageRecord], scene: int | None, image: int | None) -> ImageRecord:
    """The image asked for, or the first one of those that fit."""
    scene = records[0].scene_id if scene is None else scene
    of_scene = [record for record in records if record.scene_id == scene]
    if not of_scene:
        known = sorted({record.scene_id for record in records})
        raise UserError(f"the split has no image of scene {scene}; choose among scenes {_listed(known)}")
    found = [record for record in of_scene if image in (None, record.im_id)]
    if not found:
        known = [record.im_id for record in of_scene]
        raise UserError(f"scene {scene} has no image {image}; choose among {_listed(known)}")
    return found[0]


def _listed(numbers: Sequence[int], most: int = 12) -> str:
    """Numbers in words, the first of many."""
    text = ", ".join(map(str, numbers[:most]))
    return text if len(numbers) <= most else f"{text}, … ({len(numbers)} in all)"


def _result(path: Path, record: ImageRecord, wanted: Sequence[int], names: Mapping[int, str]) -> _Result:
    """A file's estimates in the image: of each object as many as the image has, the best-scored first."""
    estimates = read_results(path, names)
    here = (estimates.ids[:, :2] == (record.scene_id, record.im_id)).all(axis=1)
    here &= np.isfinite(estimates.cam_R_obj).all(axis=(1, 2)) & np.isfinite(estimates.cam_t_obj).all(axis=1)
    rows: Estimates = estimates[np.flatnonzero(here)]
    chosen = []
    for obj_id in wanted:
        count = max(1, sum(item.obj_id == obj_id for item in record.instances))
        found = rows[np.flatnonzero(rows.ids[:, 2] == obj_id)]
        chosen += found[np.argsort(-found.score, kind="stable")[:count]]  # nan comes last
    if not chosen:
        logger.warning("%s has no estimate in image %d of scene %d", path, record.im_id, record.scene_id)
    return _Result(path.stem, chosen)


def _viewed(
    instances: Sequence[Instance],
    results: Sequence[_Result],
    models: Mapping[int, ObjectModel],
    measured: Mapping[int, ObjectModel],
) -> list[ViewedObject]:
    """Each true instance with its estimates; an estimate without one stands for itself.

    An estimate belongs to the nearest instance of its object that no better-scored one of its file has.
    """
    matched: list[list[ViewedEstimate]] = [[] for _ in instances]
    alone = []
    for result in results:
        free = set(range(len(instances)))
        for item in result.estimates:
            values = {"score": f"{item.score:.3f}"}
            fitting = [index for index in free if instances[index].obj_id == item.obj_id]
            if not fitting:
                model = models[item.obj_id]
                estimate = ViewedEstimate(result.name, item.pose, values)
                alone.append(ViewedObject(f"{model.name} (no truth)", model, None, [estimate]))
                continue
            index = min(fitting, key=lambda index: te_error(item.pose, instances[index].pose))
            free.remove(index)
            values = _errors(item.pose, instances[index].pose, measured[item.obj_id]) | values
            matched[index].append(ViewedEstimate(result.name, item.pose, values))
    labels = _numbered([models[item.obj_id].name for item in instances])
    viewed = zip(labels, instances, matched, strict=True)
    return [ViewedObject(label, models[item.obj_id], item.pose, found) for label, item, found in viewed] + alone


def _numbered(names: Sequence[str]) -> list[str]:
    """Names made different by numbers where an object is there several times."""
    places = [f" {names[: place + 1].count(name)}" if names.count(name) > 1 else "" for place, name in enumerate(names)]
    return [name + place for name, place in zip(names, places, strict=True)]


def _errors(estimate: Pose, truth: Pose, model: ObjectModel) -> dict[str, str]:
    """Rotation (under the best symmetry), translation, and ADD, or ADI of an object with symmetries; its share of d."""
    error = (adi_error if model.is_symmetric else add_error)(estimate, truth, model.vertices)
    return {
        "rotation": f"{re_error(estimate, truth, model.symmetry_transforms):.1f}°",
        "shift": f"{M_TO_MM * te_error(estimate, truth):.1f} mm",
        "ADD(-S)": f"{M_TO_MM * error:.1f} mm",
        "of size": f"{error / model.diameter:.0%}",
    }


def _facts(record: ImageRecord, image: np.ndarray, split: str) -> dict[str, str]:
    height, width = image.shape[:2]
    return {"data set": split, "camera": f"{width} × {height} px, f {record.K[0, 0]:.0f} px"}


def _picture(image: np.ndarray, K: np.ndarray, objects: Sequence[ViewedObject]) -> np.ndarray:
    """Outlines beside coloured models, (H, 2 W, 3) BGR; of several results the first is drawn."""
    from sopose.core.render.looks import Body
    from sopose.core.vis.blended import blend_bodies
    from sopose.core.vis.overlays import draw_pose_contours

    outlined, bodies = image, []
    for item in objects:
        estimate = item.estimates[0].pose if item.estimates else None
        outlined = draw_pose_contours(outlined, K, item.model.caster, estimate, item.truth)
        if estimate is not None or not any(other.estimates for other in objects):
            bodies.append(Body(item.model, item.truth if estimate is None else estimate))
    return np.hstack([outlined, blend_bodies(image, K, bodies)])
