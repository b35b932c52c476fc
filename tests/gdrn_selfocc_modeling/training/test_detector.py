"""What a detector learns from the splits of a pose configuration."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sopose.core.bop.splits import SplitSpec, resolve_split
from sopose.core.detection.facts import DetectorDesign
from sopose.data.build import class_names
from sopose.settings import Settings, load_settings
from sopose.training.detector import DetectorData, build_facts, build_source, detection_augmentation


@pytest.fixture
def settings(write_tiny_config, tmp_path) -> Settings:
    return load_settings(write_tiny_config(tmp_path), ["DATASETS.OBJS=[cross]"])


@pytest.fixture
def spec(settings) -> SplitSpec:
    return resolve_split("toy_train", Path(settings.datasets.root))


def test_one_object_alone_is_learned(settings, spec):
    facts = build_facts(class_names(settings.datasets), [spec], DetectorDesign(96))
    source = build_source(settings, DetectorData(mirror=False), facts)
    assert facts.obj_ids == (3,) and not source.first.augmentation.mirror_prob
    assert all(any(item.obj_id == 3 for item in record.instances) for record in source.first.records)


def test_scenes_with_one_object_annotated_lose_the_others(settings, spec):
    for alone, probability in ((False, 0.0), (True, 1.0)):
        changed = replace(spec, scene_is_object=alone)
        given = detection_augmentation(settings.input, settings.cad, DetectorData(), changed)
        assert given.change_bg_prob == probability


def test_boxes_that_no_file_has_are_cast_from_the_models(settings, spec, write_tiny_config, toy_root, tmp_path):
    copied = Path(shutil.copytree(toy_root, tmp_path / "bop" / "toy"))
    for path in copied.glob("train/*/scene_gt_info.json"):
        path.unlink()
    words = ["DATASETS.OBJS=[cross]", f"DATASETS.ROOT={copied.parent}"]
    bare = load_settings(write_tiny_config(tmp_path / "bop"), words)
    facts = build_facts(class_names(settings.datasets), [spec], DetectorDesign(96))
    data = DetectorData(mirror=False)
    with_files, without = (build_source(given, data, facts).first for given in (settings, bare))
    for index in range(len(without)):
        expected, found = (source.sample(index, np.random.default_rng(index)) for source in (with_files, without))
        np.testing.assert_allclose(found.boxes, expected.boxes, rtol=0, atol=1)  # a pixel
