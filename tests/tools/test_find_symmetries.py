"""Suggested symmetries on the command line: printed, drawn, written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh

from sopose.core.bop.models import load_models, read_models_info, write_model, write_models_info
from sopose.core.images.files import read_image
from sopose.core.making.toy_models import toy_models
from sopose.core.utils.errors import UserError
from tests.support.command import verb

main = verb("symmetries")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Models of the toy cross and bottle; the cross has an entry without symmetries, the bottle none."""
    models = {obj_id: model for obj_id, model in toy_models().items() if obj_id in (3, 4)}
    for model in models.values():
        write_model(tmp_path / f"models/obj_{model.obj_id:06d}.ply", model)
    write_models_info(tmp_path / "models", [replace(models[3], symmetries_discrete=[])])
    return tmp_path / "models"


def test_suggestions_are_printed_and_drawn_and_nothing_is_written(folder, tmp_path, capsys):
    before = (folder / "models_info.json").read_bytes()
    main([str(folder), "--output", str(tmp_path / "a.png")])
    said = capsys.readouterr().out
    assert "3 obj_000003: 3 discrete, 0 continuous" in said
    assert "symmetry: 4-fold about (0, 0, 1) through (0, 0, 0) mm, off by 0.00 mm (0.00 %), 6 levels" in said
    assert "4 obj_000004: 0 discrete, 1 continuous" in said and "any turn about (0, 0, 1)" in said
    assert '"symmetries_continuous": [{"axis": [0.0, 0.0, 1.0], "offset": [0.0, 0.0, 0.0]}]' in said
    assert (folder / "models_info.json").read_bytes() == before
    height, width, _ = read_image(tmp_path / "a.png").shape
    assert width == 1000 and height == 2 * (26 + 26 + 200)


def test_written_they_are_those_the_toys_are_made_with_and_what_else_is_there_stays(folder, tmp_path):
    path, output = folder / "models_info.json", ["--output", str(tmp_path / "a.png")]
    content = json.loads(path.read_text())
    path.write_text(json.dumps({"3": content["3"] | {"remark": "mine"}, "7": content["3"]}))
    main([str(folder), "--write", *output])
    written = json.loads(path.read_text())
    assert written["3"]["remark"] == "mine" and written["7"] == content["3"]
    models = load_models(folder, [3, 4])
    for obj_id, model in models.items():
        truth = toy_models()[obj_id]
        assert len(model.symmetries_discrete) == len(truth.symmetries_discrete)
        assert len(model.symmetries_continuous) == len(truth.symmetries_continuous)
        assert model.diameter == pytest.approx(truth.diameter, rel=1e-6)
    with pytest.raises(UserError, match=r"has symmetries of 3, 4 already; --overwrite"):
        main([str(folder), "--write", *output])
    main([str(folder), "--write", "--overwrite", "--objects", "3", "--tolerance", "1.5", *output])
    assert len(read_models_info(path)[3]["symmetries_discrete"]) == 3


def test_mesh_files_need_no_folder(tmp_path, capsys):
    trimesh.creation.box((30, 20, 10)).export(tmp_path / "part.stl")
    main([str(tmp_path / "part.stl"), "--units", "cm", "--output", str(tmp_path / "a.png")])
    said = capsys.readouterr().out
    assert "1 part: 3 discrete, 0 continuous" in said
    with pytest.raises(UserError, match="--write and --objects need one folder"):
        main([str(tmp_path / "part.stl"), "--write", "--output", str(tmp_path / "a.png")])


def test_a_model_of_one_s_own_without_any_symmetry_is_drawn_too(tmp_path, capsys):
    rng = np.random.default_rng(0)
    trimesh.convex.convex_hull(rng.normal(size=(12, 3))).export(tmp_path / "stone.ply")
    main([str(tmp_path / "stone.ply"), "--ignore-color", "--output", str(tmp_path / "a.png")])
    assert "no symmetry" in capsys.readouterr().out and (tmp_path / "a.png").is_file()


@pytest.mark.parametrize(
    "wrong", [("--tolerance", "0"), ("--tolerance", "50"), ("--color-tolerance", "-1"), ("--overwrite",)], ids=str
)
def test_wrong_usage_leaves_with_2(folder, wrong):
    with pytest.raises(SystemExit) as left:
        main([str(folder), *wrong])
    assert left.value.code == 2


def test_what_is_not_there_is_reported_before_work(folder, tmp_path):
    with pytest.raises(UserError, match=r"no model of object 9 .* objects here: 3, 4"):
        main([str(folder), "--objects", "9", "--output", str(tmp_path / "a.png")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no models"):
        main([str(tmp_path / "empty"), "--output", str(tmp_path / "a.png")])
    with pytest.raises(UserError, match="use a"):
        main([str(folder), "--output", str(tmp_path / "a.txt")])
    with pytest.raises(UserError, match="missing"):
        main([str(tmp_path / "none.stl"), "--output", str(tmp_path / "a.png")])
