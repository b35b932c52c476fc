"""Faults to plant in a copy of the toy set, each with the code and the words that it has to be found by."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from sopose.core.bop.models import load_models, write_model, write_models_info
from sopose.core.objects.model import ObjectModel, measure

SCENE = "test/000001"


def edit(path: Path, change: Callable) -> None:
    """Let `change` edit the content of a json file in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


class Toy:
    """A toy set to damage, and the instance that the damage is done to: large, wholly visible, not symmetric."""

    def __init__(self, root: Path) -> None:
        self.root, self.scene = root, root / SCENE
        gts, infos = (json.loads((self.scene / name).read_text()) for name in ("scene_gt.json", "scene_gt_info.json"))
        able = [
            (info["px_count_all"] * (info["visib_fract"] > 0.99) * (gts[im][k]["obj_id"] == 1), int(im), k)
            for im in gts
            for k, info in enumerate(infos[im])
        ]
        _, self.im, self.k = max(able)
        self.other = max(
            (k for k in range(len(gts[str(self.im)])) if k != self.k),
            key=lambda k: infos[str(self.im)][k]["px_count_visib"],
        )
        self.obj = gts[str(self.im)][self.k]["obj_id"]

    def edit(self, name: str, change: Callable) -> None:
        edit(self.root / name, change)

    def pose(self, change: Callable) -> None:
        """Change the instance's entry of scene_gt.json."""
        edit(self.scene / "scene_gt.json", lambda gt: change(gt[str(self.im)][self.k]))

    def info(self, change: Callable) -> None:
        edit(self.scene / "scene_gt_info.json", lambda info: change(info[str(self.im)][self.k]))

    def camera(self, change: Callable) -> None:
        edit(self.scene / "scene_camera.json", lambda cameras: [change(cameras[key]) for key in cameras])

    def file(self, folder: str, k: int | None = None) -> Path:
        stem = f"{self.im:06d}" if folder in ("rgb", "depth") else f"{self.im:06d}_{self.k if k is None else k:06d}"
        return self.scene / folder / f"{stem}.png"

    def redraw(self, path: Path, change: Callable) -> None:
        cv2.imwrite(str(path), change(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))

    def mesh(self, change: Callable, info: bool = False) -> None:
        """Change the instance's model: vertices (V, 3) in metres and faces; with `info` its sizes are measured anew."""
        folder = self.root / "models"
        models = load_models(folder)
        old = models[self.obj]
        vertices, faces = change(old.vertices, old.faces)
        sizes = measure(vertices) if info else (old.diameter, old.bounds_min, old.extent)
        models[self.obj] = ObjectModel(self.obj, old.name, vertices, faces, *sizes)
        write_model(folder / f"obj_{self.obj:06d}.ply", models[self.obj])
        write_models_info(folder, models.values())

    def swap(self, folder: str) -> None:
        """Exchange the instance's mask with another's."""
        first, second = self.file(folder), self.file(folder, self.other)
        both = first.read_bytes(), second.read_bytes()
        first.write_bytes(both[1])
        second.write_bytes(both[0])


@dataclass(frozen=True)
class Fault:
    """A damage, the code it has to be found by, and what the finding has to say ({…} are the Toy's attributes)."""

    code: str
    says: str
    damage: Callable[[Toy], object]
    also: frozenset[str] = frozenset()  # what follows from it


def fault(code: str, says: str, damage: Callable[[Toy], object], *also: str) -> pytest.param:
    name = re.sub(r"[^a-z0-9]+", "-", says.lower()).strip("-")[:40]
    return pytest.param(Fault(code, says, damage, frozenset(also)), id=f"{code}-{name}")


def put(entry: dict, **values) -> None:
    entry.update(values)


def scale(entry: dict, key: str, factor: float) -> None:
    entry[key] = [factor * x for x in entry[key]] if isinstance(entry[key], list) else factor * entry[key]


def scaled_K(K: list[float], factor: float) -> list[float]:
    return [factor * x for x in K[:6]] + K[6:]


def transposed(values: list[float]) -> list[float]:
    return np.reshape(values, (3, 3)).T.reshape(-1).tolist()


def xyxy(box: list[int]) -> list[int]:
    return [box[0], box[1], box[0] + box[2], box[1] + box[3]]


def move_symmetric(toy: Toy) -> None:
    """A folder of models alone, the cross 50 mm beside its origin and its symmetries stated in metres."""
    shutil.rmtree(toy.root / "test")
    models = load_models(toy.root / "models")
    old, shift = models[3], np.array([0.05, 0.0, 0.0])
    turns = [S.copy() for S in old.symmetries_discrete]
    for S in turns:
        S[:3, 3] = shift - S[:3, :3] @ shift
    models[3] = ObjectModel(
        3, old.name, old.vertices + shift, old.faces, old.diameter, old.bounds_min + shift, old.extent,
        symmetries_discrete=turns,
    )  # fmt: skip
    write_model(toy.root / "models/obj_000003.ply", models[3])
    write_models_info(toy.root / "models", models.values())

    def in_metres(info: dict) -> None:
        for matrix in info["3"]["symmetries_discrete"]:
            for k in (3, 7, 11):
                matrix[k] /= 1000

    toy.edit("models/models_info.json", in_metres)


def twice(toy: Toy) -> None:
    """The instance's annotation, info and masks once more, at the end of its image's lists."""
    for name in ("scene_gt.json", "scene_gt_info.json"):
        toy.edit(f"{SCENE}/{name}", lambda lists: lists[str(toy.im)].append(dict(lists[str(toy.im)][toy.k])))
    last = len(json.loads((toy.scene / "scene_gt.json").read_text())[str(toy.im)]) - 1
    for folder in ("mask", "mask_visib"):
        shutil.copy(toy.file(folder), toy.file(folder, last))


def whole_as_visible(toy: Toy) -> None:
    """The whole mask as the visible part of the instance that others hide most, of those that can be seen."""
    infos = json.loads((toy.scene / "scene_gt_info.json").read_text())
    able = [
        (info["visib_fract"] if info["px_count_visib"] > 200 else 1.0, f"{int(im):06d}_{k:06d}.png")
        for im, entries in infos.items()
        for k, info in enumerate(entries)
    ]
    _, name = min(able)
    shutil.copy(toy.scene / "mask" / name, toy.scene / "mask_visib" / name)


def half_visible(toy: Toy) -> None:
    """Half of the instance's visible part is lost, and its info is that of the rest: only depth shows it."""
    toy.redraw(toy.file("mask_visib"), left_half)
    mask = cv2.imread(str(toy.file("mask_visib")), cv2.IMREAD_UNCHANGED) > 0
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    count = int(mask.sum())

    def change(info: dict) -> None:
        share = count / info["px_count_all"]
        put(info, bbox_visib=[x, y, w - 1, h - 1], px_count_visib=count, visib_fract=share)

    toy.info(change)


def called_hidden(toy: Toy, keep_file: bool) -> None:
    """An instance that is wholly visible, by its info not at all, and without a visible part: empty, or no file."""
    toy.redraw(toy.file("mask_visib"), np.zeros_like)
    if not keep_file:
        toy.file("mask_visib").unlink()
    toy.info(lambda info: put(info, bbox_visib=[-1, -1, -1, -1], px_count_visib=0, visib_fract=0.0))


def left_half(mask: np.ndarray) -> np.ndarray:
    """A mask without its right half."""
    columns = np.flatnonzero(mask.any(axis=0))
    halved = mask.copy()
    halved[:, int(columns.mean()) :] = 0
    return halved


def untextured(toy: Toy) -> None:
    """The instance's model with texture coordinates, and without a texture."""
    model = load_models(toy.root / "models")[toy.obj]
    write_model(toy.root / f"models/obj_{toy.obj:06d}.ply", replace(model, uv=np.zeros((len(model.vertices), 2))))


def off_center(toy: Toy) -> None:
    """The instance's model with its origin 80 mm away, and all its poses with it."""
    shift = np.array([0.0, 0.0, 0.08])
    toy.mesh(lambda vertices, faces: (vertices + shift, faces), info=True)

    def move(gts: dict) -> None:
        for item in (item for items in gts.values() for item in items if item["obj_id"] == toy.obj):
            R = np.array(item["cam_R_m2c"]).reshape(3, 3)
            item["cam_t_m2c"] = (np.array(item["cam_t_m2c"]) - 1000 * R @ shift).tolist()

    for path in toy.root.rglob("scene_gt.json"):
        edit(path, move)


def rename_images(toy: Toy) -> None:
    for path in (toy.scene / "rgb").iterdir():
        path.rename(path.with_name(f"{int(path.stem)}.png"))


def jpeg(toy: Toy) -> None:
    path = toy.file("mask")
    values = cv2.imdecode(cv2.imencode(".jpg", cv2.imread(str(path)), [cv2.IMWRITE_JPEG_QUALITY, 50])[1], 0)
    cv2.imwrite(str(path), values)


QUARTER = [0.0, -1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
ENTRY = "{scene}/scene_gt.json, image {im}, entry {k} (object {obj})"
INFO = "{scene}/scene_gt_info.json, image {im}, entry {k}"
MODEL, MODELS_INFO = "models/obj_{obj:06d}.ply", "models/models_info.json, object {obj}"
MASK, VISIB = "{scene}/mask/{im:06d}_{k:06d}.png", "{scene}/mask_visib/{im:06d}_{k:06d}.png"
IMAGE, CAMERA = "{scene}/rgb/{im:06d}.png", "{scene}/scene_camera.json, image {im}"
TARGETS = "test_targets_bop19.json"

FAULTS = [
    # Models.
    fault("model-missing", MODEL, lambda t: (t.root / f"models/obj_{t.obj:06d}.ply").unlink()),
    fault("model-broken", MODEL, lambda t: (t.root / f"models/obj_{t.obj:06d}.ply").write_text("nothing")),
    fault("model-broken", MODEL + ".*without faces", lambda t: t.mesh(lambda v, f: (v, f[:0]))),
    fault("model-broken", MODEL + ".*no numbers", lambda t: t.mesh(
        lambda v, f: (np.where(v == v.max(), np.nan, v), f))),
    fault("model-unit", MODEL + ".*metres, factor 1000", lambda t: t.mesh(lambda v, f: (v / 1000, f))),
    fault("model-unit", MODEL + ".*metres", lambda t: t.mesh(lambda v, f: (v / 1000, f), info=True)),
    fault("model-unit", MODELS_INFO + ".*the entry is in metres", lambda t: t.edit(
        "models/models_info.json", lambda info: [scale(info[str(t.obj)], key, 1e-3) for key in info[str(t.obj)]])),
    fault("model-size", MODELS_INFO + ".*diameter 150", lambda t: t.edit(
        "models/models_info.json", lambda info: put(info[str(t.obj)], diameter=150.0))),
    fault("model-size", MODELS_INFO + ".*min_x", lambda t: t.edit(
        "models/models_info.json", lambda info: put(info[str(t.obj)], min_x=0.0))),
    fault("model-entry", "models_info.json: no entry for object {obj}", lambda t: t.edit(
        "models/models_info.json", lambda info: info.pop(str(t.obj)))),
    fault("model-entry", MODELS_INFO + ".*diameter", lambda t: t.edit(
        "models/models_info.json", lambda info: info[str(t.obj)].pop("diameter"))),
    fault("model-stray", MODEL + ".*1 of .*no face", lambda t: t.mesh(
        lambda v, f: (np.vstack([v, [[0.2, 0, 0]]]), f), info=True)),
    fault("symmetry", MODELS_INFO + ", symmetries_discrete 2 of 2", lambda t: t.edit(
        "models/models_info.json",
        lambda info: put(info[str(t.obj)], symmetries_discrete=[np.eye(4).reshape(-1).tolist(), QUARTER]))),
    fault("symmetry", "object 2, symmetries_continuous 1 of 1", lambda t: t.edit(
        "models/models_info.json", lambda info: put(info["2"], symmetries_continuous=[{"axis": [0, 0, 1]}]))),
    fault("symmetry-many", MODELS_INFO + ": symmetries_discrete has 200, 120 of them", lambda t: t.edit(
        "models/models_info.json",
        lambda info: put(info[str(t.obj)], symmetries_discrete=200 * [np.eye(4).reshape(-1).tolist()]))),
    fault("symmetry-unit", "object 3, symmetries_discrete 1 of 3.*metres", move_symmetric),
    fault("symmetry-broken", "object 3, symmetries_discrete 2 of 3.*rotation", lambda t: t.edit(
        "models/models_info.json", lambda info: put(info["3"], symmetries_discrete=[
            QUARTER, [2.0 * x for x in QUARTER[:12]] + QUARTER[12:], QUARTER]))),
    # Cameras.
    fault("camera-json", "camera.json.*width", lambda t: t.edit("camera.json", lambda camera: camera.pop("width"))),
    fault("camera-focal", "camera.json: fx = 768 .*320 × 240.*384 .factor 2", lambda t: t.edit(
        "camera.json", lambda camera: [scale(camera, key, 2) for key in ("fx", "fy")])),
    fault("camera-focal", "camera.json: fx = 192 .*factor 0.5", lambda t: t.edit(
        "camera.json", lambda camera: [scale(camera, key, 0.5) for key in ("fx", "fy")])),
    fault("K-broken", CAMERA + ".*cam_K", lambda t: t.camera(lambda c: c.pop("cam_K"))),
    fault("K-broken", CAMERA + ".*fx = -.*above zero", lambda t: t.camera(
        lambda c: put(c, cam_K=[-c["cam_K"][0], *c["cam_K"][1:]]))),
    fault("K-broken", CAMERA + ".*column by column", lambda t: t.camera(
        lambda c: put(c, cam_K=transposed(c["cam_K"])))),
    fault("K-principal", CAMERA + ".*about 2 times as large", lambda t: t.camera(
        lambda c: put(c, cam_K=scaled_K(c["cam_K"], 2)))),
    fault("K-principal", CAMERA + ".*about 0.5 times as large", lambda t: t.camera(
        lambda c: put(c, cam_K=scaled_K(c["cam_K"], 0.5)))),
    fault("K-principal", CAMERA + ".*outside", lambda t: t.camera(
        lambda c: put(c, cam_K=[*c["cam_K"][:2], -20.0, *c["cam_K"][3:]]))),
    fault("K-focal", CAMERA + ".*fx = 4", lambda t: t.camera(
        lambda c: put(c, cam_K=[4.0, 0, c["cam_K"][2], 0, 4.0, *c["cam_K"][5:]]))),
    fault("depth-scale", CAMERA + ".*1000 times as far.*0.1 would fit", lambda t: t.camera(
        lambda c: scale(c, "depth_scale", 1000))),
    fault("depth-scale", CAMERA + ".*1/1000 times as far", lambda t: t.camera(lambda c: scale(c, "depth_scale", 1e-3))),
    # Annotations.
    fault("json-broken", "{scene}/scene_gt.json", lambda t: (t.scene / "scene_gt.json").write_text("{")),
    fault("json-broken", "{scene}/scene_camera.json", lambda t: (t.scene / "scene_camera.json").unlink()),
    fault("json-broken", "{scene}/scene_gt.json.*the id {im} twice", lambda t: t.edit(
        f"{SCENE}/scene_gt.json", lambda gt: put(gt, **{f"{t.im:06d}": gt[str(t.im)]}))),
    fault("json-broken", "dataset_info.json", lambda t: (t.root / "dataset_info.json").write_text("{")),
    fault("scene-ids", "{scene}/scene_camera.json, image {im}", lambda t: t.edit(
        f"{SCENE}/scene_camera.json", lambda cameras: cameras.pop(str(t.im)))),
    fault("scene-ids", "{scene}/scene_gt_info.json, image {im}", lambda t: t.edit(
        f"{SCENE}/scene_gt_info.json", lambda infos: infos.pop(str(t.im)))),
    fault("image-unannotated", "{scene}/scene_gt.json, image {im}", lambda t: [
        t.edit(f"{SCENE}/{name}.json", lambda lists: lists.pop(str(t.im))) for name in ("scene_gt", "scene_gt_info")],
        "image-unlisted", "target-object"),
    fault("gt-length", "{scene}/scene_gt_info.json, image {im}", lambda t: t.edit(
        f"{SCENE}/scene_gt_info.json", lambda infos: infos[str(t.im)].pop())),
    fault("gt-broken", "{scene}/scene_gt.json, image {im}, entry {k}.*cam_t_m2c", lambda t: t.pose(
        lambda gt: gt.pop("cam_t_m2c"))),
    fault("gt-rotation", ENTRY + ".*mirror", lambda t: t.pose(
        lambda gt: put(gt, cam_R_m2c=[-x for x in gt["cam_R_m2c"][:3]] + gt["cam_R_m2c"][3:]))),
    fault("gt-rotation", ENTRY + ".*scaled by 1.1", lambda t: t.pose(lambda gt: scale(gt, "cam_R_m2c", 1.1))),
    fault("gt-rotation", ENTRY + ".*not orthonormal", lambda t: t.pose(
        lambda gt: put(gt, cam_R_m2c=[1, 0.5, 0, 0, 1, 0, 0, 0, 1]))),
    fault("gt-unit", ENTRY + ".*metres, factor 1000", lambda t: t.pose(lambda gt: scale(gt, "cam_t_m2c", 1e-3))),
    fault("gt-unit", ENTRY + ".*micrometres", lambda t: t.pose(lambda gt: scale(gt, "cam_t_m2c", 1000))),
    fault("gt-behind", ENTRY + ".*OpenGL", lambda t: t.pose(
        lambda gt: put(gt, cam_t_m2c=[gt["cam_t_m2c"][0], -gt["cam_t_m2c"][1], -gt["cam_t_m2c"][2]]))),
    fault("gt-object", "entry {k} .object 77.*77; there are: 1, 2, 3, 4", lambda t: t.pose(
        lambda gt: put(gt, obj_id=77)), "target-object"),
    fault("gt-duplicate", "image {im}, entry .*entry {k} is the same object", twice, "visib-pose", "target-count"),
    # Files.
    fault("image-missing", IMAGE, lambda t: t.file("rgb").unlink()),
    fault("image-broken", IMAGE, lambda t: t.file("rgb").write_bytes(t.file("rgb").read_bytes()[:900])),
    fault("image-broken", IMAGE + ".*empty", lambda t: t.file("rgb").write_bytes(b"")),
    fault("image-name", "{scene}/rgb: 4 files .*0.png should be 000000.png", rename_images),
    fault("image-size", "{scene}, image {im}: 160 × 120, most are 320 × 240 .factor 0.5", lambda t: t.redraw(
        t.file("rgb"), lambda image: cv2.resize(image, None, fx=0.5, fy=0.5)),
        "mask-size"),
    fault("camera-size", "{scene}: images are 320 × 240, camera.json says 640 × 480", lambda t: t.edit(
        "camera.json", lambda camera: put(camera, width=640, height=480, cx=320, cy=240)), "camera-focal"),
    fault("camera-size", "{scene}: images are 320 × 240, camera.json says 640 × 480", lambda t: t.edit(
        "camera.json", lambda camera: [
            scale(camera, key, 2) for key in ("width", "height", "cx", "cy", "fx", "fy")])),
    fault("image-unlisted", "{scene}/rgb/000099.png", lambda t: t.redraw(
        Path(shutil.copy(t.file("rgb"), t.scene / "rgb/000099.png")), lambda image: 255 - image)),
    fault("image-duplicate", "{scene}/rgb/.*same bytes as {scene}/rgb", lambda t: shutil.copy(
        t.file("rgb"), t.scene / f"rgb/{(t.im + 1) % 4:06d}.png")),
    fault("mask-missing", MASK, lambda t: t.file("mask").unlink()),
    fault("image-broken", MASK, lambda t: t.file("mask").write_bytes(b"no image")),
    fault("mask-size", MASK + ".*160 × 120.*320 × 240", lambda t: t.redraw(
        t.file("mask"), lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_NEAREST))),
    fault("mask-size", "{scene}/depth/{im:06d}.png.*160 × 120.*320 × 240", lambda t: t.redraw(
        t.file("depth"), lambda depth: cv2.resize(depth, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_NEAREST))),
    fault("image-broken", "{scene}/depth/{im:06d}.png", lambda t: t.file("depth").write_bytes(b"no image")),
    fault("image-twice", "{scene}/rgb/{im:06d}.jpg: not read, {im:06d}.png is", lambda t: t.redraw(
        Path(shutil.copy(t.file("rgb"), t.file("rgb").with_suffix(".jpg"))), lambda image: 255 - image)),
    fault("image-unlisted", r"{scene}/rgb/{im:06d} .copy.\.png", lambda t: t.redraw(
        Path(shutil.copy(t.file("rgb"), t.scene / f"rgb/{t.im:06d} (copy).png")), lambda image: 255 - image)),
    fault("mask-values", MASK, jpeg),
    fault("mask-empty", MASK, lambda t: t.redraw(t.file("mask"), np.zeros_like)),
    fault("mask-inverted", MASK, lambda t: t.redraw(t.file("mask"), lambda image: 255 - image)),
    fault("image-unlisted", "{scene}/mask_visib/000000_000077.png", lambda t: shutil.copy(
        t.file("mask_visib"), t.scene / "mask_visib/000000_000077.png")),
    fault("depth-missing", "{scene}/depth/{im:06d}.png", lambda t: t.file("depth").unlink()),
    # Poses, masks and boxes.
    fault("pose-mask", ENTRY + ".*R looks transposed", lambda t: t.pose(
        lambda gt: put(gt, cam_R_m2c=transposed(gt["cam_R_m2c"])))),
    fault("pose-mask", ENTRY + ".*IoU 0", lambda t: t.pose(
        lambda gt: put(gt, cam_t_m2c=[gt["cam_t_m2c"][0] + 60, *gt["cam_t_m2c"][1:]]))),
    fault("pose-loose", ENTRY + ".*IoU 0.[67]", lambda t: t.pose(
        lambda gt: put(gt, cam_t_m2c=[gt["cam_t_m2c"][0] + 6, *gt["cam_t_m2c"][1:]]))),
    fault("visib-pose", "{scene}/mask_visib/.*nearest annotated object", whole_as_visible, "px-count", "box-visib"),
    fault("mask-order", MASK + ": it fits entry {other} .*not entry {k}", lambda t: [
        t.swap("mask"), t.swap("mask_visib")]),
    fault("mask-order", VISIB + ": it is within mask of entry {other}", lambda t: t.swap("mask_visib")),
    fault("visib-outside", VISIB + ".*outside", lambda t: t.redraw(
        t.file("mask_visib"), lambda image: cv2.dilate(image, np.ones((21, 21))))),
    fault("box-obj", INFO + ".*x1, y1, x2, y2", lambda t: t.info(
        lambda info: put(info, bbox_obj=xyxy(info["bbox_obj"])))),
    fault("box-visib", INFO + ".*x1, y1, x2, y2", lambda t: t.info(
        lambda info: put(info, bbox_visib=xyxy(info["bbox_visib"])))),
    fault("box-obj", INFO + ".*centre, width, height", lambda t: t.info(lambda info: put(info, bbox_obj=[
        info["bbox_obj"][0] + info["bbox_obj"][2] / 2, info["bbox_obj"][1] + info["bbox_obj"][3] / 2,
        *info["bbox_obj"][2:]]))),
    fault("visib-missing", VISIB + ": it lacks [45].%.*measured depth", half_visible),
    fault("visib-missing", VISIB + ": it lacks 100%", lambda t: called_hidden(t, True), "target-count"),
    fault("visib-missing", ENTRY + ".*nothing of it is visible", lambda t: called_hidden(t, False), "target-count"),
    fault("visib-fract", INFO + ".*percent", lambda t: t.info(lambda info: scale(info, "visib_fract", 100))),
    fault("visib-fract", INFO + ".*by px_count_visib / px_count_all", lambda t: t.info(
        lambda info: put(info, visib_fract=0.5))),
    fault("px-count", INFO + ".*px_count_visib", lambda t: t.info(
        lambda info: [scale(info, key, 0.5) for key in ("px_count_visib", "visib_fract")]), "info-broken"),
    fault("info-broken", INFO + ".*bbox_obj", lambda t: t.info(lambda info: put(info, bbox_obj="box"))),
    # Targets.
    fault("target-broken", TARGETS + ", entry 1", lambda t: t.edit(TARGETS, lambda targets: targets[1].pop("im_id"))),
    fault("target-image", TARGETS + ", entry 1.*no image 99", lambda t: t.edit(
        TARGETS, lambda targets: put(targets[1], im_id=99))),
    fault("target-image", TARGETS + ", entry 1.*no scene 9", lambda t: t.edit(
        TARGETS, lambda targets: put(targets[1], scene_id=9))),
    fault("target-object", TARGETS + ", entry 1.*no object 9", lambda t: t.edit(
        TARGETS, lambda targets: put(targets[1], obj_id=9))),
    fault("target-count", TARGETS + ", entry 1.*inst_count 5", lambda t: t.edit(
        TARGETS, lambda targets: put(targets[1], inst_count=5))),
    fault("target-duplicate", TARGETS + ", entry .*is entry 1 already", lambda t: t.edit(
        TARGETS, lambda targets: targets.append(targets[1]))),
    fault("json-broken", TARGETS, lambda t: (t.root / TARGETS).write_text("[{")),
    fault("image-dark", IMAGE + ": its largest value is .* of 65535", lambda t: t.redraw(
        t.file("rgb"), lambda image: 16 * image.astype(np.uint16))),
]  # fmt: skip

NOTES = [
    fault("image-format", IMAGE + ": 8 bit, grey", lambda t: t.redraw(t.file("rgb"), lambda image: image[..., 0])),
    fault("image-format", IMAGE + ": 16 bit, colour", lambda t: t.redraw(
        t.file("rgb"), lambda image: 257 * image.astype(np.uint16))),
    fault("image-format", IMAGE + ": 8 bit, colour with transparency", lambda t: t.redraw(
        t.file("rgb"), lambda image: np.dstack([image, image[..., 0]]))),
    fault("model-unused", MODEL + ": 1 of", lambda t: t.mesh(lambda v, f: (np.vstack([v, v.mean(axis=0)]), f))),
    fault("model-texture", MODEL, untextured),
    fault("model-origin", MODEL + ": it is 80 mm from", off_center),
]  # fmt: skip
