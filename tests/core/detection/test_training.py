"""Training runs: exact after a stop, and pictures of what is learned."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from sopose.core.detection.data import DetectionAugmentation, DetectionSource
from sopose.core.detection.facts import DetectorFacts
from sopose.core.detection.model import build_detector
from sopose.core.detection.sample import collate_samples
from sopose.core.detection.training import batch_picture, build_trainer
from sopose.core.engine.assemble import TrainingOptions
from sopose.core.engine.checkpoint import read_checkpoint
from sopose.core.engine.checkpointer import last_checkpoint
from sopose.core.engine.logs import read_metrics
from sopose.core.engine.trainer import Trainer
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.utils.errors import UserError

OPTIONS = TrainingOptions(epochs=2, batch_size=2, lr=1e-3, workers=0, print_period=1, picture_period=3)


@pytest.fixture
def source(toy_records, toy_labeler) -> DetectionSource:
    return DetectionSource(toy_records[:6], toy_labeler, 96, DetectionAugmentation(), Backgrounds())


def start(
    source: DetectionSource, facts: DetectorFacts, output: Path, stop_after: int, resume: bool, options=OPTIONS
) -> Trainer:
    """A run that is asked to stop after so many steps of its own."""
    torch.manual_seed(1 + resume)  # a resumed run reads its weights
    asked = iter([False] * (stop_after - 1) + [True] * 10)
    network = build_detector(len(facts.objects), facts.design)
    return build_trainer(network, source, facts, options, output, resume, lambda: next(asked))


def test_a_stopped_run_ends_with_the_same_bits(source, small_facts, tmp_path):
    whole = start(source, small_facts, tmp_path / "whole", 20, resume=False)
    assert whole.max_iter == 6 and whole.train()
    assert not start(source, small_facts, tmp_path / "parts", 2, resume=False).train()
    resumed = start(source, small_facts, tmp_path / "parts", 20, resume=True)
    assert resumed.iteration == 2 and resumed.train()
    states = [read_checkpoint(last_checkpoint(tmp_path / name)) for name in ("whole", "parts")]
    assert states[0]["iteration"] == states[1]["iteration"] == 6
    for name, value in states[0]["model"].items():
        torch.testing.assert_close(states[1]["model"][name], value, rtol=0, atol=0, msg=name)
    for one, other in zip(*(state["optimizer"]["state"].values() for state in states), strict=True):
        assert all(torch.equal(torch.as_tensor(one[key]), torch.as_tensor(other[key])) for key in one)
    rows = read_metrics(tmp_path / "parts" / "metrics.json")
    assert [row["iteration"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert {"loss_classification", "loss_regression", "loss_ctrness"} <= rows[0].keys()
    assert states[0]["facts"]["objects"] == list(small_facts.objects)


def test_every_epoch_leaves_a_checkpoint_and_old_ones_go(source, small_facts, tmp_path):
    start(source, small_facts, tmp_path, 20, resume=False).train()
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == ["model_0000003.pth", "model_0000006.pth"]
    assert list((tmp_path / "tensorboard").iterdir())


def test_pictures_show_a_batch_and_change_nothing(source, small_facts):
    network = build_detector(len(small_facts.objects), small_facts.design)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for count in (1, 3):
        samples = [source.sample(k, np.random.default_rng(k)) for k in range(count)]
        drawn = batch_picture(collate_samples(samples), network, small_facts)["detections"]
        assert drawn.dtype == np.uint8 and drawn.shape[2] == 3 and network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_the_learning_rate_warms_up_and_falls_to_nothing(source, small_facts, tmp_path):
    trainer = start(source, small_facts, tmp_path, 20, resume=False)
    trainer.train()
    rates = [row["lr"] for row in read_metrics(tmp_path / "metrics.json")]
    assert all(one >= other for one, other in pairwise(rates[2:]))
    assert trainer.schedule.get_last_lr()[0] == pytest.approx(0.0, abs=1e-9)


def test_a_run_goes_on_as_the_detector_it_is(source, small_facts, tmp_path, caplog):
    assert not start(source, small_facts, tmp_path, 1, resume=False).train()
    others = replace(small_facts, objects=tuple(reversed(small_facts.objects)))
    wider = replace(small_facts, design=replace(small_facts.design, side=2 * small_facts.design.side))
    for facts, words in ((others, "objects="), (wider, "side=")):
        with pytest.raises(UserError, match=f"holds a run with {words}.*another folder"):
            start(source, facts, tmp_path, 20, resume=True)
    steeper = replace(OPTIONS, lr=2 * OPTIONS.lr, batch_size=OPTIONS.batch_size + 1)
    trainer = start(source, small_facts, tmp_path, 20, resume=True, options=steeper)
    assert trainer.schedule.base_lrs == [2 * OPTIONS.lr]
    for words in ("before lr=", "before batch_size="):
        assert caplog.text.count(words) == 1
