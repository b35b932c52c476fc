"""One step: what is not finite changes nothing, decided on the device as on the host; precision, clipping, waiting."""

from __future__ import annotations

import copy
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sopose.core.engine.events import Delayed, Events
from sopose.core.engine.step import OptimisationStep, StepOptions, takes_found_inf
from sopose.core.engine.trainer import Trainer
from sopose.core.solver.ranger import Ranger

Losses = dict[str, Tensor]


class Net(nn.Module):
    """A layer, batch statistics, a layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def losses_of(model: nn.Module):
    def compute(batch: Tensor, iteration: int) -> Losses:
        value = model(batch).float()
        return {"loss_a": value.square().mean(), "loss_b": (value - 1).abs().mean()}

    return compute


def batch(seed: int, rows: int = 6) -> Tensor:
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed))


def state_of(step: OptimisationStep) -> list[Tensor]:
    """Weights, statistics and moments."""
    moments = [value for state in step.optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    floats = [value for value in step.model.state_dict().values() if value.is_floating_point()]
    return [value.clone() for value in [*floats, *moments]]


def advance(step: OptimisationStep, *batches: Tensor) -> bool:
    step.begin()
    for place, x in enumerate(batches):
        step.backward(x, 0, last=place == len(batches) - 1)
    return bool(step.finish())


OPTIMIZERS = {
    "Ranger": lambda p: Ranger(p, lr=1e-2, k=2),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=1e-2),
    "AdamW fused": lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=1e-2),
    "SGD": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("spoilt", ["image", "weight", "loss"])
def test_a_step_that_is_not_finite_changes_nothing(name, spoilt):
    model = Net()
    compute, poison = losses_of(model), {"on": False}

    def losses(x: Tensor, iteration: int) -> Losses:
        computed = compute(x, iteration)
        # An infinite loss whose own gradient is finite.
        return computed | ({"loss_a": computed["loss_a"] + torch.inf} if poison["on"] and spoilt == "loss" else {})

    step = OptimisationStep(model, losses, OPTIMIZERS[name](model.parameters()), StepOptions())
    assert not advance(step, batch(1)) and not advance(step, batch(2))
    before = state_of(step)
    poison["on"] = True
    image = batch(3)
    if spoilt == "image":
        image[2, 1] = torch.nan
    if spoilt == "weight":
        with torch.no_grad():
            model.layers[0].weight[0, 0] = torch.nan
    assert advance(step, image)
    if spoilt == "weight":
        with torch.no_grad():
            model.layers[0].weight[0, 0] = before[0][0, 0]
    for old, new in zip(before, state_of(step), strict=True):
        torch.testing.assert_close(new, old, rtol=0, atol=0)
    poison["on"] = False
    assert not advance(step, batch(4))


@pytest.mark.parametrize("name", ["Ranger", "AdamW fused"])
def test_a_device_skips_as_the_host_does(name):
    """`found_inf`, which a GPU's step sets, against leaving the step out; Lookahead's period continues."""
    models = [Net(), Net()]
    optimizers = [OPTIMIZERS[name](model.parameters()) for model in models]
    assert all(map(takes_found_inf, optimizers))
    for seed in range(1, 6):
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            sum(losses_of(model)(batch(seed), 0).values()).backward()
            optimizer.found_inf, optimizer.grad_scale = torch.tensor(0.0), None
        if seed == 3:  # the third step of the first is not finite
            for parameter in models[0].parameters():
                parameter.grad.fill_(torch.nan)
            optimizers[0].found_inf = torch.tensor(1.0)
            optimizers[0].step()
            before = [parameter.detach().clone() for parameter in models[0].parameters()]
            continue
        for optimizer in optimizers:
            optimizer.step()
    assert before and all(bool(torch.isfinite(p).all()) for p in models[0].parameters())
    if name != "Ranger":  # it counts the step that was left out
        for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_ranger_with_found_inf_zero_is_ranger():
    models = [Net(), Net()]
    optimizers = [Ranger(model.parameters(), lr=1e-2, weight_decay=0.1) for model in models]
    optimizers[0].found_inf = torch.tensor(0.0)
    for seed in range(8):
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            sum(losses_of(model)(batch(seed), 0).values()).backward()
            optimizer.step()
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_skipped_step_of_ranger_leaves_weights_and_moments():
    model = Net()
    optimizer = Ranger(model.parameters(), lr=1e-2, weight_decay=0.1, k=100)
    step = OptimisationStep(model, losses_of(model), optimizer, StepOptions())
    advance(step, batch(0))
    before = state_of(step)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, torch.inf)
    optimizer.found_inf = torch.tensor(1.0)
    optimizer.step()
    for old, new in zip(before, state_of(step), strict=True):
        torch.testing.assert_close(new, old, rtol=0, atol=0)


def test_the_norm_is_clipped_and_bad_batches_of_a_step_spoil_it_whole():
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    step = OptimisationStep(model, losses_of(model), optimizer, StepOptions(clip_norm=0.1))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    assert not advance(step, 100 * batch(1))
    moved = torch.cat([(old - new).detach().flatten() for old, new in zip(before, model.parameters(), strict=True)])
    assert float(moved.norm()) == pytest.approx(0.1, rel=1e-4)
    step.options = StepOptions(batches=2)
    assert advance(step, batch(1) * torch.nan, batch(2))


def test_no_sync_is_around_all_but_the_last_batch():
    inside = []

    @contextmanager
    def no_sync():
        inside.append("open")
        yield
        inside.append("closed")

    model = Net()
    step = OptimisationStep(
        model, losses_of(model), torch.optim.SGD(model.parameters(), lr=0.1), StepOptions(batches=3, no_sync=no_sync)
    )
    advance(step, batch(1), batch(2), batch(3))
    assert inside == ["open", "closed"] * 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_follows_float32(dtype):
    ends = []
    for amp_dtype in (None, dtype):
        model = Net()
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10) if amp_dtype == torch.float16 else None
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
        step = OptimisationStep(model, losses_of(model), optimizer, StepOptions(amp_dtype), scaler)
        skipped = sum(advance(step, batch(seed, 32)) for seed in range(40))
        assert skipped == 0
        ends.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    assert float((ends[0] - ends[1]).norm() / ends[0].norm()) < 0.02


def test_the_scaler_skips_and_shrinks():
    model = Net()
    scaler = torch.amp.GradScaler("cpu")
    step = OptimisationStep(
        model, losses_of(model), Ranger(model.parameters(), lr=0.1), StepOptions(torch.float16), scaler
    )
    advance(step, batch(1))
    before, scale = state_of(step), scaler.get_scale()
    assert advance(step, batch(2) * torch.nan)
    assert scaler.get_scale() < scale
    for old, new in zip(before, state_of(step), strict=True):
        torch.testing.assert_close(new, old, rtol=0, atol=0)


class Waits(TorchDispatchMode):
    """Notes operations whose result the host waits for."""

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal", "item")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        indexed_by_mask = name in ("index", "index_put_") and any(
            x is not None and x.dtype == torch.bool for x in args[1]
        )
        if name in self.NAMES or indexed_by_mask:
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["Ranger", "AdamW fused"])
def test_a_step_asks_nothing_of_a_device(name, monkeypatch):
    """As on a GPU: a tensor says to the optimizer whether to step, and answers are looked at later."""
    model = Net()
    optimizer = OPTIMIZERS[name](model.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 1.0)
    trainer = Trainer(model, losses_of(model), [], optimizer, schedule, 5, options=StepOptions(clip_norm=1.0))

    def on_device(bad: Tensor) -> None:
        optimizer.grad_scale, optimizer.found_inf = None, bad.float()
        optimizer.step()

    monkeypatch.setattr(trainer.step, "_change_weights", on_device)
    with Waits() as waits:
        trainer.run_step(iter([batch(1)]))
    assert waits.seen == []
    with Waits() as waits:  # the watch itself sees what the host asks
        bool(torch.ones(()) > 0)
    assert waits.seen


def test_answers_are_read_after_their_lag_and_at_the_end():
    delayed = Delayed(lag=2)
    taken = []
    for number in range(5):
        delayed.put(torch.tensor([float(number)]), f"step {number}")
        taken.append([(*values, about) for values, about in delayed.take()])
    assert taken == [[], [], [(0.0, "step 0")], [(1.0, "step 1")], [(2.0, "step 2")]]
    assert [about for _, about in delayed.take(everything=True)] == ["step 3", "step 4"]


def test_medians_leave_out_what_is_not_finite():
    events = Events()
    for value in (1.0, float("nan"), 3.0, float("inf"), 2.0):
        events.put({"a": torch.tensor(value), "b": value})
    assert events.medians() == {"a": 2.0, "b": 2.0}
    events = Events()
    events.put({"a": float("nan")})
    assert events.medians()["a"] != events.medians()["a"]


def test_a_copy_of_a_step_gives_the_same(tmp_path):
    """Nothing of a step is drawn at random by itself."""
    one = Net()
    other = copy.deepcopy(one)
    for model in (one, other):
        step = OptimisationStep(model, losses_of(model), Ranger(model.parameters(), lr=0.1), StepOptions())
        for seed in range(5):
            advance(step, batch(seed))
    for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
