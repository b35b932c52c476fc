"""Commands of the pages, and folders in which they can be typed: a reader's files, small and made here."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from sopose.core.bop.fields import read_pose
from sopose.core.bop.results import Estimate, write_results

PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/*.md", "configs/**/README.md")


def pages(repository: Path) -> list[Path]:
    """The project's pages."""
    return [path for pattern in PAGES for path in sorted(repository.glob(pattern))]


def commands(text: str) -> list[list[str]]:
    """The words behind `sopose` of each whole command in the code blocks; one with … stands for several."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    typed = [line.removeprefix("$ ") for line in lines if re.match(r"(\$ )?sopose ", line) and "…" not in line]
    return [shlex.split(line.partition(" | ")[0], comments=True)[1:] for line in typed]


def write_reader_files(folder: Path, toy: Path, repository: Path) -> None:
    """What readers of the pages have, by the names that the pages give it, in a working folder.

    The data sets `toy`, `mine`, `lmo` and `ycbv` below datasets/BOP_DATASETS are the small toy set under other numbers;
    `path/to/bop` leads there. Photographs are noise, networks those that come along.
    """
    (folder / "configs").symlink_to(repository / "configs")
    (folder / "docs").symlink_to(repository / "docs")
    root = folder / "datasets" / "BOP_DATASETS"
    for name in ("toy", "mine"):
        shutil.copytree(toy, root / name)
    LMO, YCBV = (1, 5, 10, 12, 6, 8, 9, 11), (13, 5, 2, 3, 1, 4, *range(6, 13), *range(14, 22))
    write_renumbered(toy, root / "lmo", LMO, scene=2, copies=("train_pbr",))
    write_renumbered(toy, root / "ycbv", YCBV, scene=48)
    (folder / "path" / "to").mkdir(parents=True)
    (folder / "path" / "to" / "bop").symlink_to(root)
    (folder / "path" / "to" / "models").symlink_to(toy / "models")
    rng = np.random.default_rng(0)
    (folder / "path" / "to" / "photos").mkdir()
    for number in range(3):
        cv2.imwrite(
            str(folder / "path" / "to" / "photos" / f"{number}.jpg"), rng.integers(0, 256, (120, 160, 3), np.uint8)
        )
    seen = sorted((toy / "test" / "000001" / "rgb").iterdir())
    for images in (folder / "path" / "to" / "images", folder / "photos"):
        images.mkdir()
        shutil.copy(seen[0], images)
    cv2.imwrite(str(folder / "photo.jpg"), cv2.imread(str(seen[0])))
    shutil.copy(toy / "camera.json", folder / "camera.json")
    shutil.copy(
        repository / "configs" / "gdrn_selfocc" / "toy" / "demo.safetensors", folder / "model_final.safetensors"
    )
    for name in ("mine", "theirs"):
        write_results(folder / f"{name}_lmo-test.csv", true_poses(root / "lmo" / "test" / "000002"))


def write_renumbered(toy: Path, folder: Path, ids: tuple[int, ...], scene: int, copies: tuple[str, ...] = ()) -> None:
    """The toy set with other numbers of objects and of its test scene; models are repeated for numbers above four.

    copies: names that its training images get as well.
    """
    shutil.copytree(toy, folder, ignore=shutil.ignore_patterns("*.ply", "overview.png", "dataset_info.json"))
    own = dict(enumerate(ids))
    for kind in ("models", "models_eval"):
        infos = json.loads((toy / kind / "models_info.json").read_text())
        for place, obj_id in own.items():
            shutil.copy(toy / kind / f"obj_{place % 4 + 1:06d}.ply", folder / kind / f"obj_{obj_id:06d}.ply")
        renumbered = {str(obj_id): infos[str(place % 4 + 1)] for place, obj_id in own.items()}
        (folder / kind / "models_info.json").write_text(json.dumps(renumbered))
    for path in folder.glob("t*/*/scene_gt.json"):
        content = json.loads(path.read_text())
        for entry in (entry for entries in content.values() for entry in entries):
            entry["obj_id"] = own[entry["obj_id"] - 1]
        path.write_text(json.dumps(content))
    (folder / "test" / "000001").rename(folder / "test" / f"{scene:06d}")
    targets = json.loads((folder / "test_targets_bop19.json").read_text())
    moved = [target | {"obj_id": own[target["obj_id"] - 1], "scene_id": scene} for target in targets]
    (folder / "test_targets_bop19.json").write_text(json.dumps(moved))
    for copy in copies:
        shutil.copytree(folder / "train", folder / copy)


def true_poses(scene: Path) -> list[Estimate]:
    """The annotated poses of a scene's folder."""
    content: Mapping[str, list[dict[str, list[float]]]] = json.loads((scene / "scene_gt.json").read_text())
    return [
        Estimate(int(scene.name), int(im_id), entry["obj_id"], 1.0, read_pose(entry, str(scene)))
        for im_id, entries in content.items()
        for entry in entries
    ]
