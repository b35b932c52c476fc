"""Learning rates at points where they are known in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from sopose.core.solver.schedules import ANNEALS, SCHEDULES, ScheduleOptions, build_schedule
from sopose.core.utils.errors import UserError


def factor(name: str, total: int = 1000, **options):
    return SCHEDULES[name](total, ScheduleOptions(**options))


def test_published_recipe():
    f = factor("flat_and_anneal", 10000, warmup_iters=1000, warmup_factor=0.001)
    known = {0: 0.001, 500: 0.5005, 999: 0.999001, 1000: 1, 7199: 1, 7200: 1, 8600: 0.5, 10000: 0, 10001: 0}
    for iteration, value in known.items():
        assert f(iteration) == pytest.approx(value, abs=1e-12), iteration


@pytest.mark.parametrize(
    ("method", "halfway", "end"),
    [
        ("cosine", 0.5, 0),
        ("linear", 0.5, 0),
        ("poly", 0.25, 0),
        ("exp", math.sqrt(5e-3), 5e-3),
        ("none", 1, 1),
    ],
)
def test_annealings(method, halfway, end):
    f = factor("flat_and_anneal", anneal_method=method, anneal_point=0.6, poly_power=2.0)
    assert f(599) == 1
    assert f(800) == pytest.approx(halfway, rel=1e-12)
    assert f(1000) == pytest.approx(end, abs=1e-12)


def test_target_is_reached():
    f = factor("flat_and_anneal", target_factor=0.1)
    assert f(1000) == pytest.approx(0.1, rel=1e-12)


@pytest.mark.parametrize("method", [*ANNEALS, "step"])
def test_rates_never_rise_after_warmup(method):
    f = factor("flat_and_anneal", anneal_method=method, warmup_iters=100)
    values = [f(i) for i in range(100, 1001)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("name", ["WarmupMultiStepLR", "flat_and_anneal"])
def test_steps(name):
    f = factor(name, rel_steps=(0.5, 0.75), gamma=0.1, anneal_method="step")
    assert [f(i) for i in (0, 499, 500, 749, 750)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


@pytest.mark.parametrize(("method", "halfway"), [("linear", 0.505), ("constant", 0.01), ("pow", 0.255), ("exp", 0.1)])
def test_warmups(method, halfway):
    f = factor("WarmupMultiStepLR", warmup_iters=100, warmup_factor=0.01, warmup_method=method)
    assert f(0) == pytest.approx(0.01)
    assert f(50) == pytest.approx(halfway)
    assert f(100) == 1


def test_each_group_keeps_its_ratio_and_resumes():
    def make():
        groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in (0.1, 0.01)]
        optimizer = torch.optim.SGD(groups)
        return optimizer, build_schedule(optimizer, "flat_and_anneal", 100, warmup_iters=10)

    optimizer, schedule = make()
    for _ in range(90):
        optimizer.step()
        schedule.step()
    rates = schedule.get_last_lr()
    assert rates[0] == pytest.approx(10 * rates[1]) and 0 < rates[0] < 0.1
    other_optimizer, other = make()
    other_optimizer.load_state_dict(optimizer.state_dict())
    other.load_state_dict(schedule.state_dict())
    other_optimizer.step()
    optimizer.step()
    schedule.step()
    other.step()
    assert other.get_last_lr() == schedule.get_last_lr()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("flat_and_aneal", {}, "unknown schedule.*did you mean 'flat_and_anneal'"),
        ("flat_and_anneal", {"anneal_method": "cosin"}, "ANNEAL_METHOD is 'cosin'; did you mean 'cosine'"),
        ("flat_and_anneal", {"warmup_method": "lin"}, "WARMUP_METHOD is 'lin'"),
        ("flat_and_anneal", {"warmup": 3}, "'warmup' is no option"),
    ],
)
def test_misfits_are_reported(name, options, words):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    with pytest.raises(UserError, match=words):
        build_schedule(optimizer, name, 100, **options)
