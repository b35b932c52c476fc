"""The commands of docs/own_object.md, as they stand there, on a mesh made here; only long runs are shortened."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh

from sopose.cli.main import load_verb, verb_parser
from sopose.cli.predict import with_project
from tests.support.command import verb
from tests.support.pages import commands

pytestmark = pytest.mark.slow
GUIDE = "docs/own_object.md"
# Words that come last win, and --opts take what follows them.
QUICK = ["SOLVER.TOTAL_EPOCHS=1", "SOLVER.IMS_PER_BATCH=4", "CAD.EPOCH_LENGTH=8", "DATALOADER.NUM_WORKERS=0"]
SHORTER = {
    "samples": ["--count", "2"],
    "render": ["--images", "2", "--workers", "1"],
    "train": ["--opts", *QUICK],
    # After two steps nothing is sure.
    "predict": ["--threshold", "0", "--opts", "TEST.REFINE.CONFIDENCE_AT_THRESHOLD=0"],
}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Path:
    """A working folder as the guide's reader has it: a CAD file, a camera, photographs, and a photo of the part."""
    folder = tmp_path_factory.mktemp("workshop")
    base = trimesh.creation.box((60, 40, 8))
    wall = trimesh.creation.box((8, 40, 50), trimesh.transformations.translation_matrix((-26, 0, 25)))
    pin = trimesh.creation.cylinder(6, 24, transform=trimesh.transformations.translation_matrix((18, 10, 16)))
    trimesh.util.concatenate([base, wall, pin]).export(folder / "part.stl")
    camera = {"fx": 615, "fy": 615, "cx": 319.5, "cy": 239.5, "width": 640, "height": 480}
    (folder / "camera.json").write_text(json.dumps(camera))
    cv2.imwrite(str(folder / "photo.jpg"), np.full((480, 640, 3), 127, np.uint8))
    photos = folder / "path" / "to" / "photos"
    photos.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(3):
        cv2.imwrite(str(photos / f"{number}.jpg"), rng.integers(0, 256, (120, 160, 3), np.uint8))
    return folder


@pytest.fixture(scope="module")
def followed(workshop, repository) -> list[tuple[list[str], str]]:
    """Every command of the guide in its order, with what it said."""
    done = []
    with contextlib.chdir(workshop):
        for name, *words in commands((repository / GUIDE).read_text()):
            for rendered in (workshop / "datasets").rglob("val/*/rgb/*.jpg"):
                shutil.copy(rendered, workshop / "photo.jpg")
            shorter = SHORTER.get(name, [])
            done.append(([name, *words], typed(name, [*words, *shorter["--opts" in words :]])))
    return done


def typed(name: str, words: list[str]) -> str:
    """What a verb says to its words; each would take seconds to start as a process of its own."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        verb(name)(words)
    return said.getvalue()


def test_the_guide_leads_from_a_cad_file_to_poses(followed, workshop):
    scripts = [words[0] for words, _ in followed]
    assert scripts[0] == "new" and scripts[-1] == "predict"
    assert set(SHORTER) <= set(scripts)
    photo = workshop / "output" / "predictions" / "photo"
    (entry,) = json.loads((photo / "poses.json").read_text())
    assert [pose["object"] for pose in entry["poses"]] == ["part"]
    assert "before_second_looks" in entry["poses"][0]  # in a project without being asked for
    assert (photo / "pictures" / "photo.jpg").is_file()
    with (photo / "poses.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 1
    scores = list((workshop / "output" / "part").rglob("scores.json"))
    assert scores and (workshop / "output" / "samples.png").is_file()


def test_what_a_tool_says_is_next_can_be_typed(followed, workshop):
    said = next(said for words, said in followed if words[0] == "new")
    script, *words = next(shlex.split(line)[1:] for line in said.splitlines() if "sopose samples" in line)
    picture = workshop / "next.png"
    with contextlib.chdir(workshop):
        typed(script, ["--count", "1", "--output", str(picture), *words])
    assert picture.is_file()


@pytest.mark.parametrize(
    ("words", "looks"),
    [
        ([], 4),
        (["--track"], 1),
        (["--looks", "0"], 0),
        (["--looks", "2"], 2),
        (["--opts", "TEST.REFINE.ITERATIONS=3"], None),
    ],
)
def test_a_project_looks_again_unless_told_otherwise(words, looks, followed, workshop):
    parser = verb_parser("predict", load_verb("predict", {}))
    with contextlib.chdir(workshop):
        assert with_project(vars(parser.parse_args(["photo.jpg", *words])))["looks"] == looks


def test_what_is_given_takes_the_place_of_the_projects(followed, workshop):
    """With another network the project's detector, models and camera still serve."""
    network = workshop / "output" / "part" / "model_final.safetensors"
    with contextlib.chdir(workshop):
        words = ["photo.jpg", "--checkpoint", str(network), "--threshold", "0", "--looks", "0", "--output", "other"]
        said = typed("predict", words)
    assert said.startswith("1 poses in 1 images")
    (entry,) = json.loads((workshop / "other" / "poses.json").read_text())
    assert "before_second_looks" not in entry["poses"][0]
