"""A refiner's training: exact after a stop, as the refiner it is, and it learns where things have moved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sopose.batch import Displacements, LookBatch, LookTargets
from sopose.core.data.replay import ReplaySchedule
from sopose.core.engine.assemble import TrainingOptions
from sopose.core.engine.checkpoint import read_checkpoint
from sopose.core.engine.checkpointer import last_checkpoint
from sopose.core.engine.logs import read_metrics
from sopose.core.engine.trainer import Trainer
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.synthesis.scenes import SceneDrawer, SceneOptions
from sopose.core.utils.errors import UserError
from sopose.data.cad_source import CadSource
from sopose.data.look import look_format
from sopose.data.look_source import LookSource, StartRange
from sopose.data.mapper import TrainAugmentation
from sopose.data.targets import prepare_objects
from sopose.losses.look import true_shift
from sopose.models.refiner_design import RefinerDesign
from sopose.models.refiner_file import build_refiner
from sopose.training.refiner import SEED, build_refiner_trainer, collate_looks, measured_correlation
from tests.support.looks import CAMERA, IMAGE_SIZE

DESIGN = RefinerDesign(channels=8, input_res=64, output_res=16)
OPTIONS = TrainingOptions(epochs=2, batch_size=2, lr=1e-3, workers=0, print_period=1, picture_period=3)


@pytest.fixture(scope="module")
def source(models) -> LookSource:
    """Six looks an epoch, at windows that are used three times."""
    objects = prepare_objects(models, {k: i for i, k in enumerate(models)}, num_points=16)
    drawer = SceneDrawer(models, SceneOptions(CAMERA, IMAGE_SIZE), Backgrounds())
    pictures = CadSource(objects, drawer, look_format(DESIGN), TrainAugmentation(), length=6)
    return LookSource(pictures, StartRange(), replay=ReplaySchedule(size=8, reuse=3, batch=2))


def start(source: LookSource, output: Path, stop_after: int, resume: bool, names=("a",), options=OPTIONS) -> Trainer:
    """A run that is asked to stop after so many steps of its own."""
    torch.manual_seed(1 + resume)
    asked = iter([False] * (stop_after - 1) + [True] * 10)
    return build_refiner_trainer(
        build_refiner(DESIGN), source, DESIGN, names, options, output, resume, lambda: next(asked)
    )


def test_a_stopped_run_ends_with_the_same_bits(source, tmp_path):
    whole = start(source, tmp_path / "whole", 20, resume=False)
    assert whole.max_iter == 6 and whole.train()
    assert not start(source, tmp_path / "parts", 2, resume=False).train()
    resumed = start(source, tmp_path / "parts", 20, resume=True)
    assert resumed.iteration == 2 and resumed.train()
    states = [read_checkpoint(last_checkpoint(tmp_path / name)) for name in ("whole", "parts")]
    for name, value in states[0]["model"].items():
        torch.testing.assert_close(states[1]["model"][name], value, rtol=0, atol=0, msg=name)
    rows = read_metrics(tmp_path / "parts" / "metrics.json")
    assert [row["iteration"] for row in rows] == [1, 2, 3, 4, 5, 6] and all("loss_shift" in row for row in rows)


def test_a_run_goes_on_as_the_refiner_it_is(source, tmp_path, caplog):
    assert not start(source, tmp_path, 1, resume=False).train()
    with pytest.raises(UserError, match=r"holds a run with objects=\['a'\].*another folder"):
        start(source, tmp_path, 20, resume=True, names=("b",))
    start(source, tmp_path, 20, resume=True, options=replace(OPTIONS, lr=2e-3))
    assert caplog.text.count("before lr=0.001, now 0.002") == 1


def test_pictures_of_looks_are_drawn_and_change_nothing(source, tmp_path):
    trainer = start(source, tmp_path, 20, resume=False)
    batch = next(iter(trainer.batches))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    (picture,) = trainer.hooks[2].draw(batch).values()
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.std() > 10
    assert trainer.model.training
    assert all(torch.equal(before[name], value) for name, value in trainer.model.state_dict().items())


def test_correlated_errors_are_measured(source, models):
    """Errors that all cells share: the covariance of N independent cells is N times too small."""

    class Shifted(torch.nn.Module):
        """Predicts the truth, moved by one normal error a look, and how large such errors are."""

        def __init__(self, deviation: float) -> None:
            super().__init__()
            self.weight, self.deviation = torch.nn.Parameter(torch.zeros(1)), deviation
            self.draw = torch.Generator().manual_seed(0)
            self.targets: list[LookTargets] = []

        def forward(self, look: LookBatch) -> Displacements:
            off = self.deviation * torch.randn(len(look), 2, 1, 1, generator=self.draw)
            log_scale = torch.full_like(look.mask, float(np.log(self.deviation / 2**0.5)))
            return Displacements(true_shift(look, self.targets.pop(0)) + off, log_scale, log_scale)

    network = Shifted(0.2)
    drawn = [source.sample(k % len(source), np.random.default_rng([SEED, k])) for k in range(32)]
    network.targets = [collate_looks([sample])[1] for sample in drawn]
    cells = np.median([float(look.mask.sum()) for look, _, _ in drawn])
    found = measured_correlation(network, source, count=32)
    # The shift is two of six numbers: the other four are right by far.
    assert cells / 12 < found < cells
