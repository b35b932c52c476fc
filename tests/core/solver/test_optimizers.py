"""Ranger against its parts: RAdam, centralised gradients, Lookahead; its state continues exactly."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from sopose.core.solver.optimizers import OPTIMIZERS, accumulation, build_optimizer
from sopose.core.solver.ranger import Ranger, step_size
from sopose.core.utils.errors import UserError


def quadratic(parameters: list[torch.Tensor], step: int) -> torch.Tensor:
    """A loss whose gradients differ from step to step."""
    return sum(((p - 0.1 * step) ** 2 * (1 + i)).sum() for i, p in enumerate(parameters))


def make_parameters() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 3), (5,), (2, 3, 2, 2)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


def run(optimizer: torch.optim.Optimizer, parameters: list[torch.Tensor], steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        quadratic(parameters, step).backward()
        optimizer.step()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_without_its_additions_ranger_is_radam(weight_decay):
    ours, theirs = make_parameters(), make_parameters()
    options = {"lr": 0.01, "betas": (0.95, 0.999), "eps": 1e-5, "weight_decay": weight_decay}
    run(Ranger(ours, k=1, alpha=1.0, centralise=False, **options), ours, range(30))
    run(torch.optim.RAdam(theirs, decoupled_weight_decay=True, **options), theirs, range(30))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_ranger_against_a_plain_loop():
    """The published algorithms, number by number, on one matrix."""
    (parameter, *_), lr, eps, (beta1, beta2) = make_parameters(), 0.05, 1e-5, (0.95, 0.999)
    fast = parameter.detach().numpy().copy()
    slow, m, v = fast.copy(), np.zeros_like(fast), np.zeros_like(fast)
    rho_max = 2 / (1 - beta2) - 1
    for t in range(1, 21):
        g = 2 * (fast - 0.1 * (t - 1))
        g = g - g.mean(axis=1, keepdims=True)
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        rho = rho_max - 2 * t * beta2**t / (1 - beta2**t)
        m_hat = m / (1 - beta1**t)
        if rho > 5:
            r = np.sqrt((rho - 4) * (rho - 2) * rho_max / ((rho_max - 4) * (rho_max - 2) * rho))
            fast = fast - lr * r * m_hat * np.sqrt(1 - beta2**t) / (np.sqrt(v) + eps)
        else:
            fast = fast - lr * m_hat
        if t % 6 == 0:
            slow = slow + 0.5 * (fast - slow)
            fast = slow.copy()
    run(Ranger([parameter], lr=lr), [parameter], range(20))
    np.testing.assert_allclose(parameter.detach().numpy(), fast, rtol=0, atol=1e-12)


def test_rectification_grows_to_one():
    sizes = [step_size(step, 0.0, 0.999, 5) for step in range(1, 20000, 50)]
    assert not sizes[0][1] and sizes[1][1]
    factors = [size for size, rectified in sizes if rectified]
    assert factors == sorted(factors) and factors[-1] == pytest.approx(1, abs=1e-3)


def test_centralised_steps_keep_the_mean_of_a_row():
    parameter = make_parameters()[0]
    before = parameter.detach().mean(dim=1)
    run(Ranger([parameter], lr=0.01), [parameter], range(3))  # unrectified: momentum of centred gradients
    torch.testing.assert_close(parameter.detach().mean(dim=1), before, rtol=0, atol=1e-12)


@pytest.mark.parametrize("split", [4, 6, 9])
def test_a_resumed_run_continues_exactly(split, tmp_path):
    whole = make_parameters()
    run(Ranger(whole, lr=0.01), whole, range(14))

    first = make_parameters()
    optimizer = Ranger(first, lr=0.01)
    run(optimizer, first, range(split))
    torch.save(optimizer.state_dict(), tmp_path / "state.pth")

    second = [p.detach().clone().requires_grad_() for p in first]
    resumed = Ranger(second, lr=0.5)
    resumed.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    run(resumed, second, range(split, 14))
    for a, b in zip(whole, second, strict=True):
        assert torch.equal(a, b)


def test_parameters_without_gradients_stay():
    used, unused = (torch.ones(2, requires_grad=True) for _ in range(2))
    optimizer = Ranger([used, unused], lr=0.1)
    used.sum().backward()
    optimizer.step()
    assert unused.tolist() == [1, 1] and used.tolist() != [1, 1]
    copy.deepcopy(optimizer.state_dict())


def test_optimizers_by_name():
    parameters = make_parameters()
    inherited = {"momentum": 0.0, "weight_decay": 0}  # as a base configuration for RMSprop leaves them
    for name in ("Ranger", "AdamW", "Adam", "RAdam", "NAdam", "SGD", "RMSprop", "Adagrad", "Adamax", "ASGD", "Rprop"):
        assert build_optimizer(parameters, name, lr=0.1, **inherited).param_groups[0]["lr"] == 0.1
    groups = [{"params": parameters[:1], "lr": 0.5}, {"params": parameters[1:]}]
    assert [g["lr"] for g in build_optimizer(groups, "Ranger", lr=0.1).param_groups] == [0.5, 0.1]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("Rangr", {}, "unknown optimizer.*'Rangr'; did you mean 'Ranger'"),
        ("Ranger", {"weight_deca": 1}, "weight_deca is no option of Ranger; did you mean 'weight_decay'"),
        ("AdamW", {"momentum": 0.9}, "momentum is no option of AdamW"),
        ("SGD", {"momentum": -1.0}, "does not fit SGD"),
        ("LBFGS", {}, "unknown optimizer.*'LBFGS'"),  # steps on a closure, which the loop doesn't have
        ("Ranger", {"k": 0}, "does not fit Ranger"),
    ],
)
def test_misfits_are_reported(name, options, words):
    with pytest.raises(UserError, match=words):
        build_optimizer(make_parameters(), name, lr=0.1, **options)


@pytest.mark.parametrize("name", sorted({*OPTIMIZERS} - {"Muon"}))  # Muon takes matrices only
def test_every_optimizer_steps_down_a_bowl(name):
    weight = torch.tensor([[2.0, -2], [2, -2], [2, -2]], requires_grad=True)  # centralised gradients need a spread
    optimizer = build_optimizer([weight], name, lr=0.1)
    for _ in range(30):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
    assert float(weight.detach().square().sum()) < 24  # where it started


def test_a_step_of_many_batches_decays_as_its_reference():
    assert accumulation(24, -1) == (1, 1.0)
    assert accumulation(6, 24) == (4, 1.0)
    assert accumulation(48, 24) == (1, 2.0)  # half as many steps an epoch, each with twice the decay
    batches, factor = accumulation(5, 24)
    assert batches == 5 and factor == pytest.approx(25 / 24)


def test_decay_per_sample_is_that_of_the_reference():
    samples, lr, decay = 960, 0.1, 0.01
    left = []
    for batch_size in (24, 12, 48):
        batches, factor = accumulation(batch_size, 24)
        weight = torch.ones(1, requires_grad=True)
        optimizer = build_optimizer([weight], "AdamW", lr=lr, weight_decay=decay * factor)
        for _ in range(samples // (batch_size * batches)):
            weight.grad = torch.zeros(1)
            optimizer.step()
        left.append(weight.item())
    assert left[1] == pytest.approx(left[0], rel=1e-6)
    assert left[2] == pytest.approx(left[0], rel=1e-3)  # (1 - 2 x)^n against (1 - x)^2n
