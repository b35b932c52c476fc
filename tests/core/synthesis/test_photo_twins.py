"""Twins of photographs: the same objects at the same places, and untouched surroundings where objects are pasted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sopose.core.bop.models import load_models
from sopose.core.bop.scene import load_split, read_rgb
from sopose.core.bop.splits import resolve_split
from sopose.core.render.visibility import annotate_scene
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.synthesis.photo_twins import render_twin
from sopose.core.synthesis.scene_sampling import PoseRange
from sopose.core.synthesis.scenes import SceneDrawer, SceneOptions


@pytest.fixture(scope="module")
def world(toy_root):
    models = load_models(toy_root / "models")
    spec = resolve_split("toy_test", toy_root.parent)
    # One object is wanted, the others stand around.
    for obj_id in models:
        for record in load_split(spec, [obj_id]):
            if record.instances and record.others:
                return models, record
    raise AssertionError("no image of the toy set has two kinds of objects")


@pytest.mark.parametrize("rotations", ["upper", "uniform"])
def test_the_photograph_stays_but_for_the_wanted_object(world, rotations):
    models, record = world
    photo = read_rgb(record)
    drawer = SceneDrawer(models, SceneOptions(record.K, (0, 0), PoseRange(rotations=rotations)), Backgrounds())
    twin = render_twin(photo, record, drawer, np.random.default_rng(0))
    size = photo.shape[1], photo.shape[0]
    everything = [*record.instances, *record.others]
    masks, _ = annotate_scene(
        [models[i.obj_id].caster for i in everything], [i.pose for i in everything], record.K, size
    )
    wanted = np.any([visible for _, visible in masks[: len(record.instances)]], axis=0)
    rows, columns = wanted.nonzero()
    near = np.zeros_like(wanted)
    near[rows.min() - 4 : rows.max() + 5, columns.min() - 4 : columns.max() + 5] = True
    np.testing.assert_array_equal(twin.pasted[~near], photo[~near])
    difference = np.abs(twin.pasted.astype(int) - twin.rendered).max(axis=2)
    assert np.median(difference[wanted]) == 0 and np.median(difference[~near]) > 10
    again = render_twin(photo, record, drawer, np.random.default_rng(0))
    np.testing.assert_array_equal(again.rendered, twin.rendered)


def test_twins_are_seen_by_the_photograph_s_camera(world):
    """A camera moved by 20 pixels shows the same picture 20 pixels off."""
    models, record = world
    photo = read_rgb(record)
    drawer = SceneDrawer(models, SceneOptions(record.K, (0, 0), PoseRange()), Backgrounds())
    shift = np.array([[0, 0, 20.0], [0, 0, 0], [0, 0, 0]])
    plain = render_twin(photo, record, drawer, np.random.default_rng(0))
    moved_record = replace(record, K=record.K + shift)
    moved = render_twin(photo, moved_record, drawer, np.random.default_rng(0))
    pose, caster = record.instances[0].pose, models[record.instances[0].obj_id].caster
    masks, _ = annotate_scene([caster], [pose], record.K, (photo.shape[1], photo.shape[0]))
    rows, columns = masks[0][1].nonzero()
    inside = columns < photo.shape[1] - 20
    off = plain.rendered[rows[inside], columns[inside]].astype(int) - moved.rendered[rows[inside], columns[inside] + 20]
    assert np.median(np.abs(off)) <= 12  # the sensor's noise
