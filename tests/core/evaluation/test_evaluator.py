"""Scores of estimates whose quality is known, of misses and of several instances; then the real yardstick."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sopose.core.bop.models import load_models
from sopose.core.bop.results import read_results
from sopose.core.bop.scene import load_split
from sopose.core.bop.targets import Target, load_targets
from sopose.core.evaluation.bop19 import group_targets
from sopose.core.evaluation.evaluator import evaluate, write_scores
from sopose.core.evaluation.metrics import AR_MEAN, DEFAULT_METRICS, METRICS, columns_of
from sopose.core.evaluation.tables import format_comparison, format_table
from sopose.core.geometry.pose import Pose
from sopose.core.images.files import EXIF_ORIENTATION
from sopose.core.utils.errors import UserError

COLUMNS = (*columns_of(DEFAULT_METRICS), AR_MEAN)


def test_the_truth_scores_everything(world):
    scores = world.score(world.truth())
    for row in scores.objects:
        assert {column: row.values[column] for column in COLUMNS} == dict.fromkeys(COLUMNS, 1.0)
    assert {scores.mean[column] for column in COLUMNS} == {1.0} == set(scores.overall.values())
    assert scores.found == scores.targets == 9
    assert scores.time_per_image == 0.25


def test_a_shift_of_0_11_diameters_fails_at_0_10(world):
    plain, symmetric = world.score(world.shifted(0.11)).objects
    for column in ("ad_0.02", "ad_0.05", "ad_0.10", "add_0.10"):
        assert plain.values[column] == 0
    assert symmetric.values["add_0.10"] == 0
    assert world.score(world.shifted(0.09)).objects[0].values["ad_0.10"] == 1
    # MSSD's thresholds .15 … .5 of the diameter pass: 8 of 10.
    assert plain.values["AR_MSSD"] == pytest.approx(0.8)


def test_adi_needs_a_larger_shift_to_fail(world):
    # ADI is at most the shift: a moved box still has points near every true point.
    assert world.score(world.shifted(0.11)).objects[1].values["ad_0.10"] == 1
    assert world.score(world.shifted(1.5)).objects[1].values["ad_0.10"] == 0


def test_a_symmetric_turn_is_right_where_symmetries_count(world):
    half_turn = Pose(np.diag([-1.0, -1, 1]), np.zeros(3))
    turned = [replace(estimate, pose=estimate.pose @ half_turn) for estimate in world.truth()]
    plain, symmetric = world.score(turned).objects
    for column in ("ad_0.10", "AR_MSSD", "AR_MSPD", "deg_cm_sym_2", "proj_sym_2"):
        assert symmetric.values[column] == 1
    for column in ("add_0.10", "deg_cm_2", "proj_2"):
        assert symmetric.values[column] == 0
    assert plain.values["ad_0.10"] == plain.values["deg_cm_sym_2"] == 0


def test_a_missing_estimate_is_a_miss(world):
    without = [e for e in world.truth() if e.im_id != 1]
    scores = world.score(without)
    plain, symmetric = scores.objects
    assert (plain.targets, plain.found) == (5, 4)
    assert plain.values["ad_0.10"] == plain.values["AR_MSPD"] == 0.8
    assert symmetric.values["ad_0.10"] == 0.75
    assert scores.mean["ad_0.10"] == pytest.approx((0.8 + 0.75) / 2)
    assert scores.overall["ad_0.10"] == pytest.approx(7 / 9)
    missed = [row for row in scores.instances if row.score is None]
    assert {row.im_id for row in missed} == {1}
    assert all(math.isinf(value) for row in missed for value in row.errors.values())


def test_without_any_estimate_all_is_zero(world):
    scores = world.score([])
    assert set(scores.overall.values()) == {0.0}
    assert scores.time_per_image is None
    assert "–" in format_table(scores)


def test_only_the_best_scored_estimate_of_a_target_counts(world):
    wrong = [replace(estimate, score=2.0) for estimate in world.shifted(3.0) if estimate.im_id > 0]
    scores = world.score([*world.truth(), *wrong])
    assert scores.objects[0].values["ad_0.10"] == pytest.approx(2 / 5)
    worse = [replace(estimate, score=0.5) for estimate in wrong]
    assert world.score([*worse, *world.truth()]).objects[0].values["ad_0.10"] == 1


def test_two_instances_need_two_estimates(world):
    first = [e for e in world.truth() if (e.im_id, e.obj_id) == (0, 1)][:1]
    rest = [e for e in world.truth() if (e.im_id, e.obj_id) != (0, 1)]
    # The same pose twice finds one instance: a ground truth is matched once.
    assert world.score([*first, *first, *rest]).objects[0].values["ad_0.10"] == pytest.approx(4 / 5)


def test_the_most_visible_instances_are_the_ground_truth(world):
    targets = [Target(3, 0, 1, inst_count=1)]
    (group,) = group_targets(world.truth(), world.records, targets)
    assert [instance.gt_index for instance in group.instances] == [0]
    unknown = [replace(record, instances=_blind(record.instances)) for record in world.records]
    (group,) = group_targets(world.truth(), unknown, targets)
    assert [instance.gt_index for instance in group.instances] == [0]


def _blind(instances):
    return tuple(replace(instance, visib_fract=None) for instance in instances)


def test_mspd_is_scaled_to_an_image_of_640_pixels(world):
    moved = world.shifted(0.2)
    narrow, wide = world.score(moved), world.score(moved, image_width=1280)
    assert narrow.overall["AR_MSPD"] < wide.overall["AR_MSPD"]
    assert narrow.instances == wide.instances


def test_the_width_is_that_of_images_as_they_are_read(world, tmp_path):
    """A picture stored lying and turned by its EXIF entry is as wide as it is when it is read."""
    entries = Image.Exif()
    entries[EXIF_ORIENTATION] = 6
    Image.new("RGB", (480, 1280)).save(tmp_path / "turned.jpg", exif=entries)
    world.records = [replace(record, rgb_path=tmp_path / "turned.jpg") for record in world.records]
    moved = world.shifted(0.2)
    assert world.score(moved, image_width=None).overall == world.score(moved, image_width=1280).overall


def test_scores_do_not_depend_on_the_order_of_the_estimates(world):
    estimates = [*world.shifted(0.07), *(replace(e, score=0.4) for e in world.truth())]
    assert world.score(estimates) == world.score(estimates[::-1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": []}, "nothing to evaluate"),
        ({"targets": [Target(3, 77, 1, 1)]}, "image 77"),
        ({"targets": [Target(3, 1, 9, 1)]}, "object 9"),
        ({"targets": [Target(3, 1, 1, 1)] * 2}, "twice"),
        ({"image_width": None}, "image width"),
    ],
)
def test_what_does_not_fit_is_reported(world, change, message):
    with pytest.raises(UserError, match=message):
        world.score(world.truth(), **change)


def test_a_missing_model_is_reported(world):
    del world.models[2]
    with pytest.raises(UserError, match=r"\[2\]"):
        world.score(world.truth())


def test_every_metric_of_the_truth_is_one(world):
    scores = world.score(world.truth(), metrics=tuple(METRICS))
    for name in columns_of(METRICS):
        assert scores.mean[name] == 1 == scores.overall[name]
    assert {scores.mean[name] for name in ("AP_MSSD", "AP_MSPD", "AP_BOP24")} == {1.0}


def test_auc_of_a_shift_is_what_is_left_of_ten_centimetres(world):
    metres = 0.042
    moved = [
        replace(e, pose=Pose(e.pose.cam_R_obj, e.pose.cam_t_obj + np.array([0, metres, 0]))) for e in world.truth()
    ]
    plain, symmetric = world.score(moved, metrics=("auc",)).objects
    assert plain.values["auc_add"] == pytest.approx(1 - metres / 0.10, abs=1e-9)
    assert plain.values["auc10_add"] == pytest.approx(0.6)  # at 5, 6, …, 10 cm of ten thresholds
    assert plain.values["auc_ad"] == plain.values["auc_add"] < plain.values["auc_adi"]
    assert symmetric.values["auc_ad"] == symmetric.values["auc_adi"]


def test_unasked_metrics_are_not_there(world):
    scores = world.score(world.truth(), metrics=("bop19",))
    assert set(scores.overall) == {"AR_MSSD", "AR_MSPD", AR_MEAN} == set(scores.objects[0].values)
    with pytest.raises(UserError, match="did you mean 'auc'"):
        world.score(world.truth(), metrics=("auk",))


def test_an_estimate_with_nan_is_a_miss_as_in_a_file(world):
    spoiled = world.truth()
    spoiled[3] = replace(spoiled[3], pose=Pose(spoiled[3].pose.cam_R_obj, np.array([np.nan, 0, 1])))
    assert world.score(spoiled).overall["ad_0.10"] == pytest.approx(8 / 9)
    assert world.score(spoiled).overall["AR_MSPD"] == pytest.approx(8 / 9)


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_counts_like_others_and_nan_ranks_last(world, score):
    plain = world.score(world.truth())
    assert world.score(world.truth(score=score)).overall == plain.overall
    wrong = [replace(estimate, score=-np.inf) for estimate in world.shifted(3.0)]
    right = world.truth(score=score)
    assert world.score([*wrong, *right]).overall["AR_MSSD"] == (0 if np.isnan(score) or score < 0 else 1)


def test_a_time_that_is_no_number_is_unknown(world):
    assert world.score(world.truth(time=np.nan)).time_per_image is None
    assert world.score(world.truth(time=np.inf)).time_per_image is None


def test_estimates_that_are_no_numbers_are_reported(world):
    nothing = Pose(np.full((3, 3), np.nan), np.full(3, np.nan))
    (note, *_) = world.score(world.truth(pose=nothing)).notes
    assert note.startswith("9 of 9 estimates have nan or infinity, which is never right: the weights may be damaged")


@pytest.mark.parametrize(("factor", "unit"), [(1e-3, "metres"), (0.1, "centimetres"), (1.2, ""), (0.7, "")])
def test_estimates_in_another_unit_are_reported(world, factor, unit):
    scaled = [replace(e, pose=Pose(e.pose.cam_R_obj, factor * e.pose.cam_t_obj)) for e in world.truth()]
    found = [note for note in world.score(scaled).notes if "as if t were in" in note]
    assert (f"as if t were in {unit}; a BOP csv has millimetres" in found[0]) if unit else not found


def test_means_lie_in_their_intervals(world):
    half = world.score([*world.truth()[:4], *world.shifted(3.0)[4:]])
    for values, intervals in ((half.mean, half.mean_intervals), (half.overall, half.overall_intervals)):
        for name, (low, high) in intervals.items():
            assert low <= values[name] <= high
    assert set(half.mean_intervals) == set(COLUMNS)
    assert half.objects[0].intervals["ad_0.10"][0] < half.objects[0].intervals["ad_0.10"][1]


def test_without_vsd_a_line_says_so(world):
    assert "VSD is left out" in world.score(world.truth()).notes[0]
    assert "AR" not in world.score(world.truth()).overall


def test_the_file_is_strict_json(world, tmp_path):
    write_scores(tmp_path / "scores.json", world.score([]))

    def refuse(word):
        raise AssertionError(f"{word} is not json")

    data = json.loads((tmp_path / "scores.json").read_text(), parse_constant=refuse)
    assert data["targets"] == 9
    assert data["instances"][0]["errors"]["add"] is None
    assert data["mean"]["ad_0.10"] == 0.0


def test_tables_name_objects_and_results(world):
    scores = world.score(world.shifted(0.03))
    table = format_table(scores)
    assert "symmetric*" in table and "mean over objects" in table and "ad_0.10" in table
    assert len({len(line) for line in table.splitlines()[:6]}) == 1
    both = format_comparison({"ours": scores, "theirs": world.score([])})
    assert "[1] ours" in both and "[2] theirs" in both


@pytest.fixture(scope="module")
def lmo(real_data):
    """Everything of LM-O that scoring reads, and the official scores."""
    from sopose.core.bop.splits import resolve_split

    folder = real_data / "lmo"
    spec = resolve_split("lmo_bop_test", real_data)
    records = load_split(spec, require_images=False)
    models = load_models(folder / "models_eval", names=spec.object_names)
    reference = json.loads((folder / "reference.json").read_text())

    def score(csv: str, targets: str):
        return evaluate(read_results(folder / csv), records, load_targets(folder / targets), models, spec.symmetric_ids)

    return score, reference


@pytest.mark.parametrize(("part", "count"), [("full", 1445), ("sub30", 214)])
def test_published_results_get_the_official_scores(lmo, part, count):
    score, reference = lmo
    official = reference["scores"][part]
    targets = {"full": "test_targets_bop19.json", "sub30": "test_targets_sub30.json"}[part]
    scores = score(reference["csv"], targets)
    assert scores.targets == count
    for column in ("AR_MSSD", "AR_MSPD"):
        assert scores.overall[column] == pytest.approx(official[column], abs=1e-12)
    ad = {str(row.obj_id): row.values["ad_0.10"] for row in scores.objects}
    assert ad == pytest.approx(official["ADDS_0_1d"], abs=1e-12)


def test_the_file_of_the_ground_truth_scores_one(lmo):
    scores = lmo[0]("results/gt-pbrreal-rgb-mmodel_lmo-test_lmo.csv", "test_targets_bop19.json")
    assert scores.targets == 1445
    assert {scores.mean[column] for column in COLUMNS} == {1.0} == set(scores.overall.values())
