"""From CAD files on the command line to training samples."""

from __future__ import annotations

from pathlib import Path

import pytest
import trimesh

from sopose.core.images.files import read_image
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import read_json, write_json
from sopose.settings import load_settings
from tests.support.command import verb

main = verb("new")
show_samples = verb("samples")


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """A lever and a ring, millimetres."""
    lever = trimesh.creation.cylinder(8, 40) + trimesh.creation.box(
        (30, 8, 8), trimesh.transformations.translation_matrix([15, 0, 10])
    )
    for name, mesh in (("the lever.stl", lever), ("ring.ply", trimesh.creation.torus(20, 5))):
        mesh.export(tmp_path / name)
    return [str(tmp_path / name) for name in ("the lever.stl", "ring.ply")]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """A folder that the project's file is written to."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_become_samples_that_can_be_trained_on(files, tmp_path, repository, capsys):
    root = tmp_path / "mine"
    main(["--root", str(root), "--units", "mm", *files, "--camera", "400,400,159.5,119.5", "--image-size", "320,240"])
    said = capsys.readouterr().out
    assert "1 the_lever: 38 x 16 x 40 mm" in said and "no symmetry" in said
    assert "symmetry: any turn about (0, 0, 1)" in said and "symmetry: 2-fold" in said
    assert read_json(root / "camera.json")["width"] == 320
    assert read_image(root / "overview.png").shape == (2 * (26 + 230), 5 * 230, 3)
    settings = load_settings(Path("project.yaml"))
    assert settings.datasets.train == (f"{root}:cad",) and settings.cad.z_range == (0.17, 0.68)
    assert settings.output_dir == "output/mine"
    assert "sopose samples --config-file project.yaml" in said and "  sopose train\n" in said

    config = str(repository / "configs/gdrn_selfocc/custom/cad_only_small.py")
    options = [f"DATASETS.TRAIN=[{root}:cad]", "DATASETS.OBJS=[ring]", "CAD.Z_RANGE=(0.17,0.67)"]
    picture = tmp_path / "samples.png"
    show_samples(
        ["--config-file", config, "--count", "2", "--size", "40", "--output", str(picture), "--opts", *options]
    )
    assert read_image(picture).any()


def test_what_exists_is_not_touched_and_can_be_added_to(files, tmp_path, capsys):
    root = ["--root", str(tmp_path / "mine"), "--units", "mm", "--no-symmetries"]
    main([*root, files[0], "--names", "lever"])
    assert "no --camera was given" in capsys.readouterr().out
    with pytest.raises(UserError, match="--add adds"):
        main([*root, files[1]])
    project = Path("project.yaml").read_text()
    main([*root, files[1], "--add"])
    assert Path("project.yaml").read_text() == project
    assert capsys.readouterr().out.startswith("2 ring: 50 x 50 x 10 mm")
    assert not (tmp_path / "mine" / "symmetries.png").exists()


def test_one_bad_file_leaves_no_data_set(files, tmp_path):
    (tmp_path / "bad.stl").write_bytes(b"")
    with pytest.raises(UserError, match=r"bad\.stl is empty"):
        main(["--root", str(tmp_path / "mine"), "--units", "mm", *files, str(tmp_path / "bad.stl")])
    with pytest.raises(UserError, match="--units"):
        main(["--root", str(tmp_path / "mine"), "--units", "m", *files])
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        (),
        ("--units", "furlong"),
        ("--units", "mm", "--camera", "1,2,3"),
        ("--units", "mm", "--camera", "600,600,320,240"),
        ("--units", "mm", "--camera", "0,600,320,240", "--image-size", "640,480"),
        ("--units", "mm", "--add", "--overwrite"),
        ("--units", "mm", "--tolerance", "0"),
    ],
    ids=" ".join,
)
def test_wrong_usage_leaves_with_2(files, tmp_path, wrong):
    with pytest.raises(SystemExit) as left:
        main(["--root", str(tmp_path / "mine"), *files, *wrong])
    assert left.value.code == 2 and not (tmp_path / "mine").exists()


def test_the_camera_may_be_a_file(files, tmp_path):
    camera = {"fx": 400, "fy": 401, "cx": 159.5, "cy": 119.5}
    write_json(tmp_path / "K.json", camera)
    words = ["--units", "mm", "--no-symmetries", files[0], "--camera", str(tmp_path / "K.json")]
    with pytest.raises(UserError, match="no width and height of the images; give --image-size"):
        main(words)
    main([*words, "--image-size", "320,240", "--photos", "a folder: of photos"])
    root = Path("datasets/BOP_DATASETS/the lever")
    assert read_json(root / "camera.json") | camera == read_json(root / "camera.json")
    settings = load_settings(Path("project.yaml"))
    assert settings.input.bg_imgs_root == "a folder: of photos"
    assert settings.datasets.train == (f"{root}:cad",)
