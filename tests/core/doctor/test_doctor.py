"""The doctor finds each planted fault, names its place and nothing else, and has nothing to say of sound data."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sopose.core.bop.models import load_models, write_model, write_models_info
from sopose.core.bop.scene import load_split
from sopose.core.bop.splits import resolve_split
from sopose.core.bop.targets import load_targets
from sopose.core.doctor.examine import Examination, examine
from sopose.core.doctor.findings import KEPT, KINDS, Finding, Findings, Severity, format_findings
from sopose.core.doctor.page import write_page
from sopose.core.images.files import EXIF_ORIENTATION
from sopose.core.objects.model import ObjectModel, measure
from sopose.core.utils.errors import UserError
from tests.support.bop_files import of_sensors
from tests.support.doctor_faults import FAULTS, NOTES, SCENE, TARGETS, Fault, Toy, edit


def codes_of(examination: Examination, *severities: Severity) -> set[str]:
    return {kind.code for kind, _, _ in examination.findings if kind.severity in (severities or tuple(Severity))}


def lines_of(examination: Examination, code: str) -> list[str]:
    return [f"{f.where}: {f.what}" for kind, _, worst in examination.findings if kind.code == code for f in worst]


@pytest.fixture(scope="module")
def small_toy(toy_root, tmp_path_factory) -> Path:
    """The toy set with its test images alone."""
    root = tmp_path_factory.mktemp("small") / "toy"
    shutil.copytree(toy_root, root, ignore=shutil.ignore_patterns("train", "models_eval", "overview.png"))
    return root


@pytest.fixture
def toy(small_toy, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(small_toy, tmp_path / "toy"))


def assert_found(found: Examination, planted: Fault, subject: Toy) -> None:
    """There is a finding of the fault's code that says what it has to."""
    words = "\n".join(lines_of(found, planted.code))
    values = {**vars(subject), "scene": SCENE}
    says = re.sub(r"\{[^}]+\}", lambda match: match[0].format(**values), planted.says)
    says = re.sub(r"\((object \d+)\)", r"\\(\1\\)", says)
    assert re.search(says, words), f"{says}\n{words or format_findings(found.findings)}"


@pytest.mark.parametrize("planted", FAULTS)
def test_a_planted_fault_is_found_by_its_code_and_place_and_nothing_else(toy, planted):
    subject = Toy(toy)
    planted.damage(subject)
    found = examine(toy, images=0)
    assert_found(found, planted, subject)
    faults = codes_of(found, Severity.ERROR, Severity.WARNING)
    assert faults <= {planted.code, *planted.also}, format_findings(found.findings)


def test_at_least_twenty_kinds_of_faults_are_planted():
    assert len({param.values[0].code for param in FAULTS}) >= 20
    assert {param.values[0].code for param in FAULTS} <= KINDS.keys()


def test_the_documentation_lists_every_code(repository):
    text = (repository / "docs/data.md").read_text(encoding="utf-8").partition("## Codes")[2]
    table = "".join(line for line in text.splitlines() if line.startswith("|"))
    assert sorted(re.findall(r"`([\w-]+)`", table)) == sorted(KINDS)


def test_the_doctor_has_nothing_to_say_of_sound_data(toy_root):
    found = examine(toy_root, images=0)
    assert format_findings(found.findings) == ""
    assert found.splits == ["test", "train"] and found.listed == found.looked_at == 12
    assert min(found.fits) > 0.999 and len(found.fits) > 30


@pytest.mark.parametrize("planted", NOTES)
def test_what_is_good_to_know_is_a_note(toy, planted):
    subject = Toy(toy)
    planted.damage(subject)
    found = examine(toy, images=0)
    assert_found(found, planted, subject)
    assert codes_of(found) == {planted.code} and found.findings.count(Severity.NOTE) == 1


def test_images_turned_by_their_tag_are_a_warning(toy):
    path = toy / SCENE / "rgb/000001.png"
    with Image.open(path) as image:
        tag = image.getexif()
        tag[EXIF_ORIENTATION] = 3
        image.transpose(Image.Transpose.ROTATE_180).save(path.with_suffix(".jpg"), exif=tag, quality=95)
    path.unlink()
    found = examine(toy, images=0)
    assert lines_of(found, "image-turned") == [f"{SCENE}/rgb/000001.jpg: EXIF orientation 3"]
    assert codes_of(found) == {"image-turned"}


@pytest.mark.parametrize("lacking", ["mask", "mask_visib", "depth", "rgb", "scene_gt_info.json", "scene_gt.json"])
def test_what_is_not_there_is_a_note(toy, lacking):
    path = toy / SCENE / lacking
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if lacking == "scene_gt.json":
        (toy / SCENE / "scene_gt_info.json").unlink()
    found = examine(toy, images=0)
    assert codes_of(found) == {"absent"}
    assert any(f"{SCENE}/{lacking}" in line for line in lines_of(found, "absent"))


def test_half_of_the_annotations_is_an_error_as_it_is_to_the_loader(toy):
    (toy / SCENE / "scene_gt.json").unlink()
    (finding,) = lines_of(examine(toy, images=0), "json-broken")
    assert f"{SCENE}/scene_gt.json" in finding and "missing" in finding


@pytest.mark.parametrize("kept", [("models",), ("test",), ("models", "camera.json")])
def test_a_part_of_a_data_set_can_be_examined(toy, kept):
    for path in toy.iterdir():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    found = examine(toy, images=0)
    assert codes_of(found) <= {"absent"}
    assert found.listed == (4 if "test" in kept else 0)


def test_most_images_of_a_scene_may_be_elsewhere(toy):
    for im_id in (0, 1, 3):
        (toy / SCENE / f"rgb/{im_id:06d}.png").unlink()
    found = examine(toy, images=0)
    assert lines_of(found, "absent") == [f"{SCENE}/rgb: 3 of 4 files are not there"] and codes_of(found) == {"absent"}


def test_silhouettes_of_another_renderer_fit(tmp_path):
    """A convex object's mask is the hull of its projected corners, filled by OpenCV."""
    root = tmp_path / "boxes"
    half = np.array([0.04, 0.03, 0.02])
    vertices = half * (np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3, indexing="ij"), axis=-1).reshape(8, 3))
    faces = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6],
                      [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]])  # fmt: skip
    model = ObjectModel(1, "box", vertices, faces, *measure(vertices))
    write_model(root / "models/obj_000001.ply", model)
    write_models_info(root / "models", [model])
    scene = root / "train/000000"
    for folder in ("rgb", "mask"):
        (scene / folder).mkdir(parents=True)
    K = np.array([[400.0, 0, 158], [0, 410.0, 122], [0, 0, 1]])
    gt, rng = {}, np.random.default_rng(0)
    for im_id in range(6):
        R, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        R *= np.linalg.det(R)
        t = np.array([*rng.uniform(-0.05, 0.05, 2), 0.5])
        uv = (vertices @ R.T + t) @ K.T
        hull = cv2.convexHull(np.rint(uv[:, :2] / uv[:, 2:]).astype(np.int32))
        mask = cv2.fillConvexPoly(np.zeros((240, 320), np.uint8), hull, 255)
        cv2.imwrite(str(scene / f"mask/{im_id:06d}_000000.png"), mask)
        cv2.imwrite(str(scene / f"rgb/{im_id:06d}.png"), rng.integers(0, 255, (240, 320, 3), np.uint8))
        gt[im_id] = [{"obj_id": 1, "cam_R_m2c": R.reshape(-1).tolist(), "cam_t_m2c": (1000 * t).tolist()}]
    (scene / "scene_gt.json").write_text(json.dumps(gt))
    (scene / "scene_camera.json").write_text(json.dumps({k: {"cam_K": K.reshape(-1).tolist()} for k in gt}))
    found = examine(root, images=0)
    assert codes_of(found) == {"absent"}
    assert len(found.fits) == 6 and min(found.fits) > 0.93  # a pixel's edge around some 60 × 60


HOSTILE = [
    "", "{", "[]", "{}", "null", "7", '"text"', "[" * 100_000, '{"0": null}', '{"0": [null]}', '{"0": [[]]}',
    '{"x": 1}', '{"0": 7}', '{"1": {"cam_K": "x", "diameter": "y"}}',
    '{"0": [{"obj_id": [1]}], "1": {"symmetries_discrete": 3}}',
    '{"0": {"cam_K": [1e308, 0, 1, 0, 1e308, 1, 0, 0, 1], "depth_scale": null}}', '[{"scene_id": null, "im_id": {}}]',
    '{"0": [{"obj_id": 1, "cam_R_m2c": [1,0,0,0,1,0,0,0,1], "cam_t_m2c": [1e300, 1e300, 1e300]}]}',
    '{"0": [{"obj_id": 1, "cam_R_m2c": [NaN,0,0,0,1,0,0,0,1], "cam_t_m2c": [0, 0, Infinity]}]}',
    '{"0": [{"bbox_obj": [0, 0, 1e300, 1], "visib_fract": "all", "px_count_all": null}]}',
    '{"width": -3, "height": "x", "fx": null}', '{"1": {"symmetries_discrete": [7], "symmetries_continuous": [7]}}',
]  # fmt: skip


def loads(root: Path) -> bool:
    """Whether training and scoring would read the test images and the models."""
    try:
        spec = resolve_split(f"{root}:test", root)
        load_split(spec, require_images=False)
        load_models(spec.models_dir)
        load_targets(root / TARGETS)
    except UserError:
        return False
    return True


@pytest.mark.parametrize("planted", FAULTS)
def test_what_the_loader_refuses_is_an_error_to_the_doctor(toy, planted):
    """Both read by the same functions; the doctor finds more than what cannot be read."""
    planted.damage(Toy(toy))
    assert loads(toy) or codes_of(examine(toy, images=1), Severity.ERROR)


@pytest.mark.parametrize(
    "name",
    [
        *(f"{SCENE}/scene_gt.json", "models/models_info.json"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in (f"{SCENE}/scene_camera.json", f"{SCENE}/scene_gt_info.json", "camera.json", TARGETS)
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_hostile_files_end_in_findings(toy, name):
    edit(toy / "models/models_info.json", lambda info: [entry.pop("symmetries_discrete", 0) for entry in info.values()])
    edit(
        toy / "models/models_info.json", lambda info: info["4"].pop("symmetries_continuous")
    )  # they take most of the time
    for content in HOSTILE:
        (toy / name).write_text(content)
        found = examine(toy, images=1)
        if content not in ("{}", "[]"):
            assert codes_of(found, Severity.ERROR, Severity.WARNING), (name, content[:60])
        if not loads(toy):
            assert codes_of(found, Severity.ERROR), (name, content[:60])
    (toy / name).write_bytes(b"\xff\xfe\x00")
    assert codes_of(examine(toy, images=1), Severity.ERROR)


def test_a_spread_sample_is_looked_at_and_every_json_file_is(toy_root):
    found = examine(toy_root, ["train"], images=3)
    assert found.splits == ["train"] and (found.listed, found.looked_at) == (8, 3)


def test_processes_find_the_same(toy):
    subject = Toy(toy)
    subject.swap("mask")
    alone, together = (examine(toy, images=0, workers=workers) for workers in (1, 2))
    assert format_findings(alone.findings, KEPT) == format_findings(together.findings, KEPT) != ""


def test_leaks_between_splits_are_reported(toy):
    (toy / "train/000001/rgb").mkdir(parents=True)
    shutil.copy(toy / SCENE / "rgb/000002.png", toy / "train/000001/rgb/000000.png")
    (toy / "train/000001/scene_camera.json").write_text((toy / SCENE / "scene_camera.json").read_text())
    assert lines_of(examine(toy, images=1), "image-duplicate") == [
        f"train/000001/rgb/000000.png: the same bytes as {SCENE}/rgb/000002.png"
    ]


def test_a_list_of_images_alone_is_no_fault_and_its_images_are_looked_up(toy):
    entries = [{"scene_id": 1, "im_id": im_id} for im_id in range(4)]
    (toy / "test_targets_bop24.json").write_text(json.dumps(entries))
    assert codes_of(examine(toy, images=1)) == set()
    (toy / "test_targets_bop24.json").write_text(json.dumps([*entries, {"scene_id": 1, "im_id": 4}]))
    (line,) = lines_of(examine(toy, images=1), "target-image")
    assert line == "test_targets_bop24.json, entry 4: scene 1 has no image 4"


def test_two_folders_of_one_scene_are_reported_as_the_loader_refuses_them(toy):
    shutil.copytree(toy / SCENE, toy / "test/1")
    (line,) = lines_of(examine(toy, images=1), "scene-twice")
    assert line in ("test/1: 000001 is scene 1 too", "test/000001: 1 is scene 1 too")
    with pytest.raises(UserError, match="are both scene 1"):
        load_split(resolve_split(f"{toy}:test", toy))


def test_lists_of_images_are_read_as_the_ancestor_s_names_read_them(toy, tmp_path):
    root = tmp_path / "ycbv"
    shutil.copytree(toy, root)
    listed = root / "image_sets/keyframe.txt"
    listed.parent.mkdir()
    listed.write_text("0001/000002\n\n1/0\n")
    found = examine(root, images=1)
    assert not lines_of(found, "list-broken") and not lines_of(found, "list-image")
    listed.write_text("000001/000002\n3\n1/x\n9/0\n1/99\n")
    found = examine(root, images=1)
    assert lines_of(found, "list-broken") == [
        "image_sets/keyframe.txt, line 2: must be scene/image and is '3'; repair the list",
        "image_sets/keyframe.txt, line 3: must be a whole number and is 'x'; repair the file",
    ]
    assert lines_of(found, "list-image") == [
        "image_sets/keyframe.txt, line 4: there is no scene 9",
        "image_sets/keyframe.txt, line 5: scene 1 has no image 99",
    ]
    with pytest.raises(UserError, match="line 2 must be scene/image"):
        load_split(resolve_split("ycbv_test", tmp_path))


def test_each_sensor_of_a_scene_is_examined_as_it_is_read(toy):
    """The files that name a sensor are a split of their own, and so are their faults."""
    of_sensors(toy / SCENE, "cam1", "xyz")
    found = examine(toy, images=0)
    assert found.splits == ["test_cam1", "test_xyz"] and found.listed == found.looked_at == 8
    assert codes_of(found) == {"image-duplicate"}, "the two see the same here"
    for name in ("cam1", "xyz"):
        assert load_split(resolve_split(f"{toy}:test_{name}", toy))
    edit(toy / SCENE / "scene_gt_xyz.json", lambda gt: gt["2"][0].update(cam_R_m2c=[2, 0, 0, 0, 1, 0, 0, 0, 1]))
    edit(toy / SCENE / "scene_camera_cam1.json", lambda cameras: cameras.pop("3"))
    (toy / SCENE / "mask_visib_xyz/000001_000000.png").write_bytes(b"no image")
    obj_id = json.loads((toy / SCENE / "scene_gt_xyz.json").read_text())["2"][0]["obj_id"]
    found = examine(toy, images=0)
    lines = [*lines_of(found, "gt-rotation"), *lines_of(found, "scene-ids"), *lines_of(found, "image-broken")]
    assert [line.partition(":")[0] for line in lines] == [
        f"{SCENE}/scene_gt_xyz.json, image 2, entry 0 (object {obj_id})",
        *(f"{SCENE}/scene_camera_cam1.json, image 3", f"{SCENE}/mask_visib_xyz/000001_000000.png"),
    ]
    write_page(toy / "page.html", found)
    assert codes_of(examine(toy, ["test_cam1"], images=1), Severity.ERROR) == {"scene-ids"}
    with pytest.raises(UserError, match="splits: test_cam1, test_xyz"):
        examine(toy, ["test"])


def test_findings_are_counted_and_the_worst_are_kept():
    faults = [Finding("pose-mask", f"image {k}", "off", badness=k % 1000) for k in range(1000)]
    findings = Findings([*faults, Finding("absent", "depth", "not there")])
    (kind, count, worst), (last, _, _) = findings
    assert (kind.code, count, len(worst), last.code) == ("pose-mask", 1000, KEPT, "absent")
    assert [finding.badness for finding in worst[:3]] == [999, 998, 997]
    assert findings.summary() == "1000 errors, no warnings, 1 note"
    assert "… and 998 more" in format_findings(findings, examples=2)


@pytest.mark.parametrize("where", ["nowhere", "."])
def test_what_is_no_data_set_is_said_in_one_line(tmp_path, where):
    with pytest.raises(UserError, match="BOP data set"):
        examine(tmp_path / where)


def test_an_unknown_split_is_reported_with_those_there_are(toy):
    with pytest.raises(UserError, match="'tset'; did you mean 'test'"):
        examine(toy, ["tset"])


@pytest.mark.parametrize("name", ["lmo", "ycbv"])
def test_real_data_have_no_fault(real_data, name):
    """They lack masks, most images and, of YCB-V, models_info.json: notes."""
    found = examine(real_data / name, images=4)
    assert codes_of(found) <= {"absent", "model-texture"}, format_findings(found.findings)
    assert found.looked_at == 4
