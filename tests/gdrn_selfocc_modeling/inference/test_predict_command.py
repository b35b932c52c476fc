"""sopose predict: images, folders and videos to files of poses, and clear words for anything else."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from sopose.core.bop.results import read_results
from sopose.core.utils.errors import UserError
from tests.support.command import verb
from tests.support.found_poses import assert_same_pose, items_by_image

predict = verb("predict")


def test_the_command_line_gives_the_same(run, test_set, tmp_path, toy_root, capsys):
    items = test_set.source.items
    boxes = [
        {"scene_id": i.record.scene_id, "image_id": i.record.im_id, "category_id": i.obj_id, "score": 1.0, "time": 0.1}
        | {"bbox": [*map(float, i.box[:2]), *map(float, i.box[2:] - i.box[:2])]}
        for i in items
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    scene = sorted((toy_root / "test").iterdir())[0]
    words = ["--checkpoint", str(run["weights"]), "--boxes", str(tmp_path / "boxes.json"), "--topk", "9"]
    predict([str(scene), *words, "--models", str(toy_root / "models"), "--output", str(tmp_path / "out")])
    found, expected = read_results(tmp_path / "out" / "poses.csv"), read_results(run["csv"])
    assert [(e.im_id, e.obj_id) for e in found] == [(e.im_id, e.obj_id) for e in expected]
    for one, other in zip(found, expected, strict=True):
        assert_same_pose(one.pose, other.pose)
    pictures = list((tmp_path / "out" / "pictures").iterdir())
    assert len(pictures) == len(items_by_image(test_set))
    assert "poses in" in capsys.readouterr().out


def test_a_folder_goes_on_past_a_broken_image(run, photo, tmp_path, capsys):
    rgb, K, box = photo
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), rgb[..., ::-1])
    (tmp_path / "1.png").write_bytes(b"no image")
    camera = f"{K[0, 0]},{K[1, 1]},{K[0, 2]},{K[1, 2]}"
    given = ",".join([box.object, *map(str, map(float, box.xyxy))])
    words = ["--checkpoint", str(run["weights"]), "--K", camera, "--box", given]
    predict([str(tmp_path), *words, "--output", str(tmp_path / "out")])
    entries = json.loads((tmp_path / "out" / "poses.json").read_text())
    assert [len(entry["poses"]) for entry in entries] == [1, 0, 1] and "decoded" in entries[1]["error"]
    assert "1 images failed" in capsys.readouterr().out
    for path in tmp_path.glob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match="no image could be used"):
        predict([str(tmp_path), *words, "--output", str(tmp_path / "other")])


def test_a_video_gives_a_video(run, photo, tmp_path):
    rgb, K, box = photo
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, rgb.shape[1::-1])
    for _ in range(3):
        writer.write(np.ascontiguousarray(rgb[..., ::-1]))
    writer.release()
    camera = f"{K[0, 0]},{K[1, 1]},{K[0, 2]},{K[1, 2]}"
    given = ",".join([box.object, *map(str, map(float, box.xyxy))])
    words = ["--checkpoint", str(run["weights"]), "--K", camera, "--box", given, "--output", str(tmp_path / "out")]
    predict([str(tmp_path / "a.avi"), *words])
    assert cv2.VideoCapture(str(tmp_path / "out" / "poses.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert len(read_results(tmp_path / "out" / "poses.csv")) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--box", "mug,1,2,3"], "four finite numbers"),
        (["--box", "mug,a,2,3,4"], "--box must be NAME"),
        (["--box", "mug,1,2,30,40", "--K", "1,2"], "K must be"),
        (["--box", "mug,1,2,30,40", "--K", "a,b,c,d"], "--K must be four numbers"),
        (["--box", "mug,1,2,30,40", "--models", "nowhere"], "nowhere is missing"),
        (["--boxes", "none.json"], "none.json is missing"),
        (["--box", "mug,1,2,30,40", "--starts", "6"], "asks for none; add --looks 2"),
    ],
)
def test_wrong_words_are_reported(run, photo, tmp_path, words, message):
    cv2.imwrite(str(tmp_path / "a.png"), photo[0][..., ::-1])
    camera = [] if "--K" in words else ["--K", "600,600,160,120"]
    with pytest.raises(UserError, match=message):
        predict(
            [str(tmp_path / "a.png"), "--checkpoint", str(run["weights"]), *words, *camera, "--output", str(tmp_path)]
        )


def test_an_image_without_a_camera_is_reported(run, photo, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), photo[0][..., ::-1])
    with pytest.raises(UserError, match="doesn't state its camera"):
        predict([str(tmp_path / "a.png"), "--checkpoint", str(run["weights"]), "--box", "mug,1,2,30,40"])
