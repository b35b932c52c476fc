"""The csv of results: every bit survives, order is kept, errors name the line."""

from __future__ import annotations

import numpy as np
import pytest

from core.bop.results import HEADER, Estimate, read_results, result_name, write_results
from core.geometry.pose import Pose
from core.geometry.rotation import random_rotation
from core.utils.errors import UserError

ROW = "2,3,1,0.5,1 0 0 0 1 0 0 0 1,100.5 -20 900,0.25"


def estimates(count: int) -> list[Estimate]:
    rng = np.random.default_rng(0)
    return [
        Estimate(
            scene_id=int(rng.integers(9)),
            im_id=int(rng.integers(99)),
            obj_id=int(rng.integers(9)),
            score=rng.random(),
            pose=Pose(random_rotation(rng), rng.normal(size=3)),
            time=rng.random(),
        )
        for _ in range(count)
    ]


def test_a_round_trip_keeps_every_number(tmp_path):
    before = estimates(200)
    write_results(tmp_path / "a.csv", before)
    after = read_results(tmp_path / "a.csv")
    for a, b in zip(before, after, strict=True):
        assert (a.scene_id, a.im_id, a.obj_id, a.score, a.time) == (
            b.scene_id,
            b.im_id,
            b.obj_id,
            b.score,
            b.time,
        )
        np.testing.assert_array_equal(a.pose.cam_R_obj, b.pose.cam_R_obj)
        # Metres to millimetres and back rounds twice.
        np.testing.assert_allclose(a.pose.cam_t_obj, b.pose.cam_t_obj, rtol=2**-52, atol=0)


def test_units_and_order(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text(f"{HEADER}\n{ROW}\n{ROW.replace('2,3,1', '1,9,4')}\n\n")
    first, second = read_results(path)
    np.testing.assert_array_equal(first.pose.cam_t_obj, [0.1005, -0.02, 0.9])
    assert (second.scene_id, second.im_id, second.obj_id) == (1, 9, 4)


def test_no_estimate_is_a_file_with_a_header(tmp_path):
    write_results(tmp_path / "none.csv", [])
    assert (tmp_path / "none.csv").read_text() == HEADER + "\n"
    assert read_results(tmp_path / "none.csv") == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1,2,3", "7 fields"),
        (ROW + ",1", "7 fields"),
        (ROW.replace("2,3,1", "2,a,1"), "whole numbers"),
        (ROW.replace("0 0 0 1,", "0 0 1,"), "R needs 9 numbers, 8 came"),
        (ROW.replace("-20 900", "900"), "t needs 3 numbers, 2 came"),
        (ROW.replace("900", "nan"), "t has nan"),
        (ROW.replace("0.5", "high"), "score has a word"),
        (ROW.replace("0.25", ""), "time needs 1 numbers, 0 came"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, words):
    path = tmp_path / "r.csv"
    path.write_text(f"{HEADER}\n{ROW}\n{line}\n")
    with pytest.raises(UserError, match=f"line 3: .*{words}"):
        read_results(path)


@pytest.mark.parametrize("content", [b"", ROW.encode(), b"\xff\xfe\x00"])
def test_a_file_without_header_is_refused(tmp_path, content):
    (tmp_path / "r.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"r\.csv"):
        read_results(tmp_path / "r.csv")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UserError, match="missing"):
        read_results(tmp_path / "none.csv")


def test_names_follow_bop():
    assert result_name("so-pose", "lmo", "test") == "so-pose_lmo-test.csv"
    for method, dataset, split in (("so_pose", "lmo", "test"), ("", "lmo", "test"), ("a", "my_set", "test")):
        with pytest.raises(UserError):
            result_name(method, dataset, split)


def test_published_results_are_read(real_data):
    counts = {path.name[:4]: len(read_results(path)) for path in (real_data / "lmo/results").glob("*.csv")}
    assert counts == {"cnos": 1645, "gt-p": 1445}
