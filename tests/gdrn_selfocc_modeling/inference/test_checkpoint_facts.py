"""What a run writes of its objects, and that it reads them once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sopose.core.bop import models as bop_models
from sopose.core.bop.splits import resolve_split
from sopose.core.utils.errors import UserError
from sopose.data.build import ObjectCache, build_train_dataset
from sopose.data.class_models import class_models
from sopose.data.eval_set import build_test_set
from sopose.inference.checkpoint_facts import MODELS, OBJECTS, SETTINGS, network_facts
from sopose.settings import plain_settings


@pytest.fixture
def copied_toy(toy_root, tmp_path) -> Path:
    """A data set of this test's own: models in use elsewhere are given again and not read."""
    return Path(shutil.copytree(toy_root, tmp_path / "toy"))


@pytest.fixture
def settings(make_small_config, copied_toy):
    data = ("DATASETS.TRAIN=[toy_train]", "DATASETS.TRAIN2=[toy_cad]", "DATASETS.TEST=[toy_test]")
    few = ("MODEL.POSE_NET.LOSS_CFG.NUM_PM_POINTS=16", "TEST.TEST_BBOX_TYPE=gt")
    return make_small_config(f"DATASETS.ROOT={copied_toy.parent}", *data, *few)


def test_a_start_reads_every_model_once(settings, copied_toy, monkeypatch):
    read, original = [], bop_models.load_model

    def counted(path, *arguments):
        read.append(path)
        return original(path, *arguments)

    monkeypatch.setattr(bop_models, "load_model", counted)
    cache = ObjectCache(settings.datasets, settings.model.pose_net)
    build_train_dataset(settings, cache)
    build_test_set(settings, "toy_test", cache)
    class_models(settings.datasets, cache)
    assert len(read) == len(set(read)) and {path.parent.parent for path in read} == {copied_toy}


def test_facts_are_of_the_models_that_are_trained(settings, copied_toy):
    cache = ObjectCache(settings.datasets, settings.model.pose_net)
    models = class_models(settings.datasets, cache)
    spec = resolve_split("toy_train", copied_toy.parent)
    assert [model.name for model in models] == cache.names
    assert all(model is cache.get(spec).models[model.obj_id] for model in models)
    facts = network_facts(plain_settings(settings), models, (500.0, 600.0))
    assert facts[OBJECTS] == cache.names and [entry["name"] for entry in facts[MODELS]] == cache.names
    assert facts[SETTINGS]["DATASETS"]["TRAIN"] == ["toy_train"]


def test_a_cache_asks_for_nothing_before_it_is_used(make_small_config, tmp_path):
    settings = make_small_config(f"DATASETS.ROOT={tmp_path}")
    cache = ObjectCache(settings.datasets, settings.model.pose_net)
    with pytest.raises(UserError, match="is missing"):
        _ = cache.names
