"""The made-up split of the benchmark: as many instances as asked for, all in sight of the camera."""

from __future__ import annotations

import numpy as np
import pytest

from sopose.core.bop.scene import load_split
from sopose.core.bop.splits import resolve_split
from tools.benchmarks import generation as benchmark_generation


@pytest.mark.parametrize("count", [1, 100])
def test_a_split_of_so_many_instances_is_made(toy_root, tmp_path, count, monkeypatch):
    monkeypatch.setattr(benchmark_generation, "IMAGES_PER_SCENE", 20)
    source = load_split(resolve_split(f"{toy_root}:train", toy_root.parent))
    benchmark_generation.make_split(tmp_path, toy_root, source, count)
    records = load_split(resolve_split(f"{tmp_path}:bench", tmp_path), require_images=False)
    instances = [instance for record in records for instance in record.instances]
    assert len(instances) == count and len({record.scene_id for record in records}) == -(-len(records) // 20)
    poses = np.array([instance.pose.cam_t_obj for instance in instances])
    assert len(np.unique(poses, axis=0)) == count, "no pose comes twice"
    assert np.abs(poses[0] - source[0].instances[0].pose.cam_t_obj).max() < 0.3
