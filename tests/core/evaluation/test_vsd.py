"""VSD where it can be done by hand, its cache, and the official numbers."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import trimesh

from sopose.core.bop.records import ImageRecord, Instance
from sopose.core.bop.results import Estimate
from sopose.core.bop.targets import Target
from sopose.core.evaluation import vsd
from sopose.core.evaluation.bop19 import VSD_TAUS, group_targets
from sopose.core.evaluation.evaluator import evaluate
from sopose.core.evaluation.vsd import (
    DistanceCache,
    DistancePatch,
    VsdScorer,
    cast_distance,
    images_without_depth,
    measured_distance,
    spheres_overlap,
    vsd_errors,
)
from sopose.core.geometry.pose import Pose
from sopose.core.images.files import write_image
from sopose.core.objects.model import ObjectModel
from sopose.core.utils.errors import UserError

K = np.array([[100.0, 0, 39.5], [0, 100, 29.5], [0, 0, 1]])
NOTHING = np.zeros((4, 6))


def patch(distance: list[list[float]], x: int = 0, y: int = 0) -> DistancePatch:
    return DistancePatch(x, y, np.array(distance, float))


def test_the_same_surface_has_no_error():
    surface = patch([[1, 1], [1, 1]])
    np.testing.assert_array_equal(vsd_errors(surface, surface, NOTHING, 0.1), np.zeros(10))


def test_pixels_apart_by_tau_or_more_cost_one():
    # Distances differ by 0, 6, 12 and 30 mm; of a diameter of 10 cm that is 0, .06, .12 and .3.
    est, gt = patch([[1, 1.006, 1.012, 1.030]]), patch([[1, 1, 1, 1]])
    np.testing.assert_allclose(vsd_errors(est, gt, NOTHING, 0.1), [0.75, 0.5] + [0.25] * 4 + [0] * 4)
    exact = vsd_errors(patch([[1.125]]), patch([[1]]), NOTHING, 0.5, taus=np.array([0.25, 0.2500001]))
    np.testing.assert_array_equal(exact, [1, 0])  # at τ it is too far


def test_a_pixel_of_one_surface_alone_costs_one():
    # Three pixels of the truth, three of the estimate, two in common: 2 of 4 differ.
    np.testing.assert_array_equal(vsd_errors(patch([[1, 1, 1]], x=1), patch([[1, 1, 1]]), NOTHING, 0.1), [0.5] * 10)


def test_surfaces_that_do_not_overlap_or_are_not_there_have_error_one():
    for est, gt in ((patch([[1]]), patch([[1]], x=3, y=2)), (patch([[]]), patch([[1]])), (patch([[]]), patch([[]]))):
        np.testing.assert_array_equal(vsd_errors(est, gt, NOTHING, 0.1), np.ones(10))


def test_what_lies_behind_the_measured_surface_is_not_visible():
    measured = np.array([[0.9, 0.986, 0.0]])
    # The first pixel is 10 cm behind, the second 14 mm, at the third nothing was measured.
    est, gt = patch([[1, 1, 1]]), patch([[1, 1, 1]])
    np.testing.assert_array_equal(vsd_errors(est, gt, measured, 0.1), np.zeros(10))
    far = patch([[2, 2, 2]])
    # The estimate is hidden at the first two, but it counts where the truth is visible.
    np.testing.assert_array_equal(vsd_errors(far, gt, measured, 0.1), np.ones(10))
    hidden = np.array([[0.9, 0.9, 0.9]])
    np.testing.assert_array_equal(vsd_errors(est, gt, hidden, 0.1), np.ones(10))  # no visible pixel at all


def test_a_stricter_delta_hides_more():
    est, gt, measured = patch([[1.0, 1.0]]), patch([[1.0, 0]]), np.array([[1.0, 0.99]])
    assert vsd_errors(est, gt, measured, 0.1, delta=0.015)[0] == 0.5
    assert vsd_errors(est, gt, measured, 0.1, delta=0.005)[0] == 0.0


def test_spheres_overlap_as_their_projections_do():
    at = [Pose(np.eye(3), np.array([x, 0, 1.0])) for x in (0, 0.099, 0.101)]
    assert spheres_overlap(at[0], at[1], 0.1) and not spheres_overlap(at[0], at[2], 0.1)
    assert not spheres_overlap(at[0], Pose(np.eye(3), np.zeros(3)), 0.1)


@pytest.fixture
def scene(tmp_path):
    """A plate of 20 cm before a wall, and its depth image; the wall is 2 m away."""
    mesh = trimesh.creation.box(extents=[0.2, 0.2, 0.02])
    vertices, extent = np.asarray(mesh.vertices), np.array([0.2, 0.2, 0.02])
    model = ObjectModel(
        1, "plate", vertices, np.asarray(mesh.faces), float(np.linalg.norm(extent)), -extent / 2, extent
    )
    truth = Pose(np.eye(3), np.array([0, 0, 1.01]))
    patch = cast_distance(model.caster, truth, K, (80, 60))
    depth = np.full((60, 80), 2000, np.uint16)
    h, w = patch.distance.shape
    depth[patch.y : patch.y + h, patch.x : patch.x + w][patch.distance > 0] = 1000
    cv2.imwrite(str(tmp_path / "depth.png"), depth)
    record = ImageRecord(1, 1, tmp_path / "rgb.png", tmp_path / "depth.png", 1e-3, K, (Instance(1, 0, truth),))
    return model, record, truth


def test_a_plate_is_cast_to_its_distances(scene):
    model, _, truth = scene
    patch = cast_distance(model.caster, truth, K, (80, 60))
    v, u = np.nonzero(patch.distance)
    # The plate's face at 1 m covers 20 pixels a side; its rays are sqrt(x² + y² + 1) long.
    assert len(v) == 400
    expected = np.hypot(np.hypot((u + patch.x - 39.5) / 100, (v + patch.y - 29.5) / 100), 1)
    np.testing.assert_allclose(patch.distance[v, u], expected, rtol=1e-12)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_truth_and_a_shift_are_scored_whatever_the_number_of_processes(scene, workers, monkeypatch):
    monkeypatch.setattr(vsd, "MANY_IMAGES", 0)
    model, record, truth = scene
    shifted = Pose(np.eye(3), truth.cam_t_obj + np.array([0.10, 0, 0]))
    estimates = [Estimate(1, 1, 1, 0.9, pose) for pose in (truth, shifted)]
    groups = group_targets(estimates, [record], [Target(1, 1, 1, 2)])
    (errors,) = VsdScorer({1: model}, workers=workers).errors(groups)
    assert errors.shape == (2, 1, len(VSD_TAUS))
    np.testing.assert_array_equal(errors[0], 0)
    # 10 of 20 columns in common, so 400 of 600 pixels differ; shifted, the plate is before the wall.
    np.testing.assert_allclose(errors[1, 0], 400 / 600)


def test_ar_has_its_third_part_where_depth_is_there(scene):
    model, record, truth = scene
    arguments = ([Estimate(1, 1, 1, 1.0, truth)], [record], [Target(1, 1, 1, 1)], {1: model}, ())
    scores = evaluate(*arguments, image_width=80, vsd=VsdScorer({1: model}))
    assert scores.overall["AR_VSD"] == scores.overall["AR"] == 1 and not scores.notes
    assert scores.instances[0].errors["vsd"] == 0
    blind = [replace(record, depth_path=None)]
    scores = evaluate(arguments[0], blind, *arguments[2:], image_width=80, vsd=VsdScorer({1: model}))
    assert "1 of 1 target images have no depth" in scores.notes[0] and "AR" not in scores.overall


@pytest.mark.parametrize("fault", ["damaged", "half the size"])
def test_depth_that_cannot_be_used_costs_vsd_and_no_other_score(scene, tmp_path, caplog, fault):
    model, record, truth = scene
    write_image(tmp_path / "rgb.png", np.zeros((60, 80, 3), np.uint8))
    write_image(tmp_path / "depth.png", np.full((30, 40), 1000, np.uint16))
    if fault == "damaged":
        (tmp_path / "depth.png").write_bytes(b"no image")
    record = replace(record, rgb_path=tmp_path / "rgb.png", depth_path=tmp_path / "depth.png")
    arguments = ([Estimate(1, 1, 1, 1.0, truth)], [record], [Target(1, 1, 1, 1)], {1: model}, ())
    scores = evaluate(*arguments, vsd=VsdScorer({1: model}))
    assert scores.overall["AR_MSSD"] == 1 and "AR" not in scores.overall
    assert str(record.depth_path) in scores.notes[0] and str(record.depth_path) in caplog.text


def test_depth_of_half_the_size_is_detected_by_K_where_no_image_is(scene):
    _, record, _ = scene
    assert measured_distance(record).shape == (60, 80)
    assert not record.rgb_path.is_file()
    twice = np.diag([2.2, 2.2, 1.0]) @ K  # of images with 2.2 times the depth's pixels
    with pytest.raises(UserError, match=r"depth\.png: K has its principal point at .*outside of the image of 80 x 60"):
        measured_distance(replace(record, K=twice))


def test_the_mean_over_taus_and_thresholds_is_ar_vsd(scene):
    model, record, truth = scene
    near = Pose(np.eye(3), truth.cam_t_obj + np.array([0, 0, 0.1 * model.diameter]))  # in the way of every pixel's ray
    scores = evaluate(
        [Estimate(1, 1, 1, 1.0, near)],
        [record],
        [Target(1, 1, 1, 1)],
        {1: model},
        (),
        image_width=80,
        vsd=VsdScorer({1: model}),
    )
    groups = group_targets([Estimate(1, 1, 1, 1.0, near)], [record], [Target(1, 1, 1, 1)])
    errors = VsdScorer({1: model}).errors(groups)[0][0, 0]
    expected = np.mean([error < theta for error in errors for theta in 0.05 * np.arange(1, 11)])
    assert scores.overall["AR_VSD"] == pytest.approx(expected) and 0 < expected < 1


def test_a_pose_is_cast_once_and_the_cache_forgets_when_it_is_full(scene):
    model, _, truth = scene
    cache = DistanceCache({1: model})
    first = cache.get(1, truth, K, (80, 60))
    assert cache.get(1, Pose(np.eye(3), truth.cam_t_obj.copy()), K, (80, 60)) is first
    assert (cache.hits, cache.misses, cache.bytes) == (1, 1, first.distance.nbytes)
    small = DistanceCache(cache.models, max_bytes=first.distance.nbytes)
    for z in (1.0, 1.1, 1.2):
        small.get(1, Pose(np.eye(3), np.array([0, 0, z])), K, (80, 60))
        assert small.bytes <= small.max_bytes + first.distance.nbytes
    assert small.misses == 3
    small.get(1, Pose(np.eye(3), np.array([0, 0, 1.0])), K, (80, 60))
    assert small.misses == 4


def test_images_without_depth_are_counted(scene):
    _, record, _ = scene
    groups = group_targets(
        [], [record, replace(record, im_id=2, depth_path=None)], [Target(1, i, 1, 1) for i in (1, 2)]
    )
    assert images_without_depth(groups) == (1, 2)


def test_the_official_vsd_is_met_at_every_tau(real_data):
    from sopose.core.bop.models import load_models
    from sopose.core.bop.results import read_results
    from sopose.core.bop.scene import load_split
    from sopose.core.bop.splits import resolve_split

    reference = json.loads((real_data / "lmo/reference.json").read_text())["vsd_image3"]
    record = next(r for r in load_split(resolve_split("lmo:test", real_data)) if r.im_id == 3)
    models = load_models(real_data / "lmo/models_eval")
    cache = DistanceCache(models)
    measured = measured_distance(record)
    size = measured.shape[::-1]
    assert len(reference) == 9
    for row in reference:
        est = read_results(real_data / "lmo/results" / row["file"])[row["row"]].pose
        gt = next(item.pose for item in record.instances if item.gt_index == row["gt_id"])
        patches = [cache.get(row["obj_id"], pose, record.K, size) for pose in (est, gt)]
        errors = vsd_errors(*patches, measured, models[row["obj_id"]].diameter)
        np.testing.assert_allclose(errors, row["vsd"], rtol=0, atol=0.002)
