"""Every option of the solver arrives where it acts: rates, steps, what a step is made of."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from sopose.core.solver.optimizers import build_optimizer
from sopose.settings import SCHEMA, load_settings
from sopose.settings.network import EmaArguments, EmaSettings
from sopose.training.learner import make_schedule, moving_average, rois_per_step
from tests.support.builders import model_of, parameter_groups_of

LMO = SCHEMA.parents[1] / "gdrn_selfocc" / "lmo" / "gdrn_selfocc_multistep_40E.py"
FLAT = "SOLVER.LR_SCHEDULER_NAME=flat_and_anneal"
STEPS = f"{FLAT} SOLVER.ANNEAL_METHOD=step"
SCHEDULES = {
    "LR_SCHEDULER_NAME": ("", [FLAT, "SOLVER.LR_SCHEDULER_NAME=WarmupMultiStepLR"]),
    "ANNEAL_METHOD": (
        FLAT,
        [f"SOLVER.ANNEAL_METHOD={method}" for method in ("cosine", "linear", "poly", "exp", "step", "none")],
    ),
    "ANNEAL_POINT": (FLAT, ["SOLVER.ANNEAL_POINT=0.72", "SOLVER.ANNEAL_POINT=0.5"]),
    "POLY_POWER": (f"{FLAT} SOLVER.ANNEAL_METHOD=poly", ["SOLVER.POLY_POWER=0.9", "SOLVER.POLY_POWER=2.0"]),
    "REL_STEPS": (STEPS, ["SOLVER.REL_STEPS=0.5,0.75", "SOLVER.REL_STEPS=[0.6]"]),
    "GAMMA": (STEPS, ["SOLVER.GAMMA=0.1", "SOLVER.GAMMA=0.5"]),
    "WARMUP_METHOD": ("", [f"SOLVER.WARMUP_METHOD={method}" for method in ("linear", "constant", "pow", "exp")]),
    "WARMUP_FACTOR": ("", ["SOLVER.WARMUP_FACTOR=0.001", "SOLVER.WARMUP_FACTOR=0.1"]),
    "WARMUP_ITERS": ("", ["SOLVER.WARMUP_ITERS=100", "SOLVER.WARMUP_ITERS=50"]),
}


def rates(text: str, total: int = 1000) -> list[float]:
    """The learning rate at every step of a run."""
    solver = load_settings(LMO, text.split()).solver
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = make_schedule(optimizer, solver, total)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_value_changes_the_learning_rate(name):
    needed, values = SCHEDULES[name]
    curves = {value: rates(f"{needed} {value}") for value in values}
    for first, second in combinations(values, 2):
        assert curves[first] != pytest.approx(curves[second], abs=1e-6), (first, second)


@pytest.mark.parametrize("name", ["Ranger", "AdamW", "Adam", "SGD", "RMSprop", "NAdam", "Adamax"])
def test_every_optimizer_can_be_named(name, make_small_config):
    cfg = make_small_config()
    model = model_of(cfg)
    options = load_settings(LMO, [f"SOLVER.OPTIMIZER_CFG.type={name}"]).solver.optimizer_cfg
    optimizer = build_optimizer(parameter_groups_of(model, cfg), **options)
    assert type(optimizer).__name__ == name
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1e-4] * 4)


@pytest.mark.parametrize(("batch", "reference", "rois"), [(24, -1, 24), (6, 24, 24), (10, 24, 20), (48, 24, 48)])
def test_a_step_has_about_as_many_rois_as_its_reference(batch, reference, rois):
    solver = load_settings(LMO, [f"SOLVER.IMS_PER_BATCH={batch}", f"SOLVER.REFERENCE_BS={reference}"]).solver
    assert rois_per_step(solver) == rois


def averages(decay: float, values: list[float]) -> list[float]:
    """The average of a weight that has one value after another."""
    layer = torch.nn.Linear(1, 1, bias=False)
    average = moving_average(layer, EmaSettings(True, EmaArguments(decay)))
    found = []
    for value in values:
        torch.nn.init.constant_(layer.weight, value)
        average.update_parameters(layer)
        found.append(average.module.weight.item())
    return found


def test_the_average_of_a_short_run_forgets_its_start():
    assert averages(0.999, [0.0] * 10 + [1.0] * 600)[-1] == pytest.approx(1.0, abs=1e-3)


def test_the_average_of_a_long_run_leaves_what_the_decay_says():
    before, after = averages(0.9, [0.0] * 200 + [1.0])[-2:]
    assert (before, after) == (0.0, pytest.approx(0.1))
