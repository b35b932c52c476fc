"""The csv of results: every bit survives, order is kept, errors name the line."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sopose.core.bop.results import HEADER, Estimate, Estimates, read_results, result_name, write_results
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.rotation import random_rotation
from sopose.core.utils.errors import UserError

ROW = "2,3,1,0.5,1 0 0 0 1 0 0 0 1,100.5 -20 900,0.25"


def estimates(count: int) -> list[Estimate]:
    rng = np.random.default_rng(0)
    return [
        Estimate(
            scene_id=int(rng.integers(9)),
            im_id=index,
            obj_id=int(rng.integers(9)),
            score=rng.random(),
            pose=Pose(random_rotation(rng), rng.normal(size=3)),
            time=rng.random(),
        )
        for index in range(count)
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
    path.write_text(f"{HEADER}\n{ROW}\n{ROW.replace('2,3,1', '1,9,4')}\n")
    first, second = read_results(path)
    np.testing.assert_array_equal(first.pose.cam_t_obj, [0.1005, -0.02, 0.9])
    assert (second.scene_id, second.im_id, second.obj_id) == (1, 9, 4)


def test_no_estimate_is_a_file_with_a_header(tmp_path):
    write_results(tmp_path / "none.csv", [])
    assert (tmp_path / "none.csv").read_text() == HEADER + "\n"
    assert len(read_results(tmp_path / "none.csv")) == 0


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1,2,3", "7 fields"),
        (ROW + ",1", "7 fields"),
        ("", "the line is empty"),
        (ROW.replace("2,3,1", "2,a,1"), "column im_id: a whole number"),
        (ROW.replace("2,3,1", "2,3,1.0"), "column obj_id: a whole number"),
        (ROW.replace("2,3,1", f"{1 << 70},3,1"), "column scene_id: a whole number"),
        (ROW.replace("0 0 0 1,", "0 0 1,"), "column R: 9 numbers are needed, 8 came"),
        (ROW.replace("-20 900", "900"), "column t: 3 numbers are needed, 2 came"),
        (ROW.replace("0 0 0 1,100", "0 0 1,1 100"), "column R: 9 numbers are needed, 8 came"),
        (ROW.replace("0.5", "high"), "column score: 'high' is no number"),
        (ROW.replace("0.25", ""), "column time: 1 numbers are needed, 0 came"),
        (ROW.replace("0.25", "0.26"), "column time: 0.26 s"),
    ],
)
def test_what_the_official_check_refuses_is_refused_by_line_and_column(tmp_path, line, words):
    path = tmp_path / "r.csv"
    path.write_text(f"{HEADER}\n{ROW}\n{line}\n{ROW}\n")
    with pytest.raises(UserError, match=f"line 3.*{words}"):
        read_results(path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (ROW.replace("1 0 0 0 1", "2 0 0 0 1"), "line 3, column R: no rotation"),
        (ROW.replace("0 0 0 1,", "0 0 0 -1,"), "line 3, column R: no rotation"),
        (ROW.replace("900", "nan"), "line 3, column t: nan"),
        (ROW.replace(",0.5,", ",inf,"), "line 3, column score: nan or infinity; it ranks as"),
        (ROW.replace(",0.5,", ",nan,"), "line 3, column score: nan or infinity; it ranks as"),
        (ROW.replace("2,3,1", "2,4,1").replace(",0.25", ",nan"), "line 3, column time: nan or infinity; it counts"),
        (ROW.replace("900", "inf"), "line 3, column t: nan or infinity; such an estimate is never right"),
        (ROW, "line 3, column scene_id: the same row"),
        (ROW.replace("2,3,1", "2,3,77"), "line 3, column obj_id: an object that"),
    ],
)
def test_what_the_official_check_lets_pass_is_read_with_a_warning(tmp_path, caplog, line, words):
    path = tmp_path / "r.csv"
    path.write_text(f"{HEADER}\n{ROW}\n{line}\n")
    assert len(read_results(path, object_ids=[1])) == 2
    assert len(caplog.records) == 1 and words in caplog.text


def test_a_right_file_is_read_without_a_word(tmp_path, caplog):
    write_results(tmp_path / "a.csv", [replace(e, time=0.5) for e in estimates(50)])
    read_results(tmp_path / "a.csv", object_ids=range(9))
    assert not caplog.records


def test_windows_line_ends_and_a_byte_order_mark_are_read(tmp_path):
    path = tmp_path / "r.csv"
    path.write_bytes(b"\xef\xbb\xbf" + f"{HEADER}\r\n{ROW}\r\n{ROW}\r\n".encode())
    assert [item.time for item in read_results(path)] == [0.25, 0.25]


def test_without_a_header_the_first_line_is_a_row(tmp_path, caplog):
    (tmp_path / "r.csv").write_text(f"{ROW}\n")
    assert len(read_results(tmp_path / "r.csv")) == 1
    assert "line 1: no header" in caplog.text


def test_an_empty_file_has_no_estimates(tmp_path, caplog):
    (tmp_path / "r.csv").write_bytes(b"")
    assert len(read_results(tmp_path / "r.csv")) == 0
    assert "no estimate" in caplog.text


@pytest.mark.parametrize("content", [b"scene_id,im_id,obj_id,score,R,t\n", b"\xff\xfe\x00", b"\n"])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "r.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"r\.csv, (line 1|after line 0)"):
        read_results(tmp_path / "r.csv")


def test_columns_and_rows_say_the_same():
    rows = estimates(7)
    columns = Estimates.of(rows)
    assert len(columns) == 7 and Estimates.of(columns) is columns
    assert [(e.scene_id, e.im_id, e.obj_id, e.score, e.time) for e in columns] == [
        (e.scene_id, e.im_id, e.obj_id, e.score, e.time) for e in rows
    ]
    np.testing.assert_array_equal(columns[2:4].cam_t_obj, [rows[2].pose.cam_t_obj, rows[3].pose.cam_t_obj])
    assert len(Estimates.of([])) == 0


def test_a_missing_file_is_reported(tmp_path):
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
