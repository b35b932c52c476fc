"""What an ablation compares, and that its intervals mean what they say."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from sopose.core.utils.errors import UserError
from sopose.training.ablation import (
    COMMON,
    CONDITIONS,
    METRICS,
    VARIANTS,
    TargetError,
    as_words,
    bootstrap,
    by_split,
    choose,
    read_case,
    seeds_interval,
    table_rows,
    visibility_bins,
    write_case,
)
from tests.support.builders import criterion_of

HIT = TargetError("test", 1, 0, 1, 0, visib_fract=1.0, ad=0.04, mssd=0.12, re=3.0, te=0.01)


def targets(count: int, **changes: object) -> list[TargetError]:
    """Targets of as many images; the visible fraction rises from 0 to 1."""
    return [replace(HIT, im_id=i, visib_fract=i / (count - 1), **changes) for i in range(count)]


def test_splits_are_distinguished():
    cases = {("P", "gt"): {0: [*targets(3), *targets(2, split="other")]}}
    parts = by_split(cases)
    assert list(parts) == ["test", "other"]
    assert parts["test"] == {("P", "gt"): {0: targets(3)}} and len(parts["other"]["P", "gt"][0]) == 2


LOSSES = {
    "P": set(),
    "P+Q": {"loss_Q0_x"},
    "P+Q,Q0_DEF": {"loss_Q0_x", "loss_q_def"},
    "P+Q,CT": {"loss_Q0_x", "loss_ct"},
    "P+Q,CT_P": {"loss_Q0_x", "loss_ct_pro"},
    "P+Q,all": {"loss_Q0_x", "loss_q_def", "loss_ct", "loss_ct_pro"},
}


def test_variants_differ_in_the_losses_they_name_and_in_no_other(make_small_config):
    names = {
        variant: {name for term in criterion_of(make_small_config(*as_words(words))).terms for name in term.names}
        for variant, words in VARIANTS.items()
    }
    second_layer = {"loss_Q0_x", "loss_Q0_y", "loss_Q0_z", "loss_q_def", "loss_ct", "loss_ct_pro"}
    for variant, found in names.items():
        assert found & (second_layer - {"loss_Q0_y", "loss_Q0_z"}) == LOSSES[variant]
        assert found - second_layer == names["P"]


@pytest.mark.parametrize("table", [VARIANTS, CONDITIONS, {"common": COMMON}])
def test_every_row_is_a_set_of_words_that_load(table, make_small_config):
    for words in table.values():
        make_small_config(*as_words(words))


def test_an_unknown_variant_is_reported_its_nearest():
    assert list(choose(VARIANTS, [], "variant")) == list(VARIANTS)
    with pytest.raises(UserError, match=r"unknown variant 'P\+q'; did you mean 'P\+Q'"):
        choose(VARIANTS, ["P+q"], "variant")


def test_seeds_interval_is_students():
    interval = seeds_interval(np.array([1.0, 2.0, 3.0]))
    assert interval.mean == 2.0
    assert interval.high - interval.mean == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)  # t of 2 degrees, s = 1
    assert math.isnan(seeds_interval(np.array([1.0])).low)


def test_bootstrap_over_single_images_has_the_width_of_the_normal_law():
    values = np.random.default_rng(1).normal(5.0, 2.0, (1, 400))
    interval = bootstrap(values, np.arange(400))
    assert interval.mean == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_targets_of_one_image_count_as_one_draw():
    values = np.random.default_rng(2).normal(0.0, 1.0, (1, 50))
    once = bootstrap(values, np.arange(50))
    ten_times = bootstrap(np.repeat(values, 10, axis=1), np.repeat(np.arange(50), 10))
    assert (ten_times.low, ten_times.high) == pytest.approx((once.low, once.high), abs=1e-9)


def test_a_constant_has_no_width_and_seeds_add_theirs():
    images = np.arange(30)
    constant = bootstrap(np.full((3, 30), 7.0), images, over_seeds=True)
    assert (constant.low, constant.high) == pytest.approx((7.0, 7.0), abs=1e-9)
    differing = np.array([[1.0], [2.0], [3.0]]) * np.ones(30)
    assert bootstrap(differing, images).low == pytest.approx(2.0)
    assert bootstrap(differing, images, over_seeds=True).low < 1.5


def test_one_seed_and_one_image_have_no_spread_to_draw_from():
    values = np.random.default_rng(3).normal(size=(1, 20))
    assert bootstrap(values, np.arange(20), over_seeds=True) == bootstrap(values, np.arange(20))
    alone = bootstrap(values, np.zeros(20, int))
    assert alone.mean == pytest.approx(values.mean()) and math.isnan(alone.low)


def test_the_table_has_every_mean_and_the_difference_to_the_first():
    good, bad = targets(11), targets(11, ad=0.2, re=30.0)
    cases = {("a", "gt"): {0: good, 1: bad}, ("b", "gt"): {0: bad, 1: bad}, ("a", "noisy"): {0: bad}}
    rows = {(r.variant, r.condition, r.visibility, r.metric): r for r in table_rows(cases, [0.5])}
    metric = "ADD(-S) 0.1 d, %"
    assert rows["a", "gt", "all", metric].seeds.mean == rows["a", "gt", "all", metric].targets.mean == 50.0
    assert rows["a", "gt", "all", metric].difference is None and rows["a", "noisy", "all", metric].difference is None
    assert rows["b", "gt", "all", metric].difference.mean == -50.0
    assert rows["b", "gt", "all", "rotation error, °"].difference.mean == pytest.approx(13.5)
    low, high = (rows["a", "gt", name, metric].num_targets for name in list(visibility_bins([0.5]))[1:])
    assert (low, high) == (6, 5)  # 0.5 itself belongs to the lower range


def test_a_variant_with_fewer_seeds_is_compared_on_those_it_has():
    good, bad = targets(5), targets(5, ad=0.2)
    rows = table_rows({("a", "gt"): {0: good, 1: bad}, ("b", "gt"): {0: bad}})
    assert next(r for r in rows if r.variant == "b").difference.mean == -100.0


def test_other_targets_are_not_compared():
    with pytest.raises(UserError, match="other targets"):
        table_rows({("a", "gt"): {0: targets(5)}, ("b", "gt"): {0: targets(6)}})


def test_metrics_are_better_for_a_better_pose_and_finite_for_a_missing_one():
    missing = replace(HIT, ad=math.inf, mssd=math.inf, re=180.0, te=1.0)
    assert [measure(HIT) for measure in METRICS.values()] == pytest.approx([100.0, 80.0, 3.0, 1.0])
    assert [measure(missing) for measure in METRICS.values()] == pytest.approx([0.0, 0.0, 180.0, 100.0])


def test_a_case_is_read_as_written_and_only_with_its_own_settings(tmp_path):
    written = [HIT, replace(HIT, ad=math.inf, mssd=math.inf, re=180.0)]
    write_case(tmp_path / "gt.json", ["SEED=0"], written)
    assert read_case(tmp_path / "gt.json", ["SEED=0"]) == written
    with pytest.raises(UserError, match="other settings"):
        read_case(tmp_path / "gt.json", ["SEED=1"])
