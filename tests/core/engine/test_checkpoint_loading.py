"""Weights into a network: what matches, what is reported of the rest, and when that is an error."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from sopose.core.engine.checkpoint import load_weights
from sopose.core.engine.load_report import LoadReport, by_module
from sopose.core.utils.errors import UserError

FILE = Path("old.pth")


class Network(nn.Module):
    """A convolution whose norm has two names, and a linear layer."""

    def __init__(self, features: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 1, bias=False)
        self.norm = nn.GroupNorm(2, 4)
        self.gn = self.norm
        self.fc = nn.Linear(features, 1)


def weights_of(network: nn.Module, **changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """Its state with other values (`fc_weight` stands for fc.weight); None takes one out."""
    state = {name: value.clone() for name, value in network.state_dict().items()}
    state |= {name.replace("_", ".", 1): value for name, value in changes.items()}
    return {name: value for name, value in state.items() if value is not None}


def test_what_fits_is_kept_and_the_rest_reported(caplog):
    source, network = Network(), Network(features=3)
    before = network.fc.weight.clone()
    weights = weights_of(source, fc_bias=None, log_var=torch.ones(1))
    with caplog.at_level(logging.INFO):
        report = load_weights(network, weights, FILE, partial=True)
    assert torch.equal(network.conv.weight, source.conv.weight)
    assert torch.equal(network.fc.weight, before)
    assert report == LoadReport(
        matched=("conv.weight", "norm.weight", "norm.bias", "gn.weight", "gn.bias"),
        missing=("fc.bias",),
        left_over=("log.var",),
        reshaped={"fc.weight": ((1, 2), (1, 3))},
    )
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        "old.pth: 5 of 7 tensors loaded\n"
        "  missing fc.bias\n"
        "  of another shape fc.weight (1, 2) instead of (1, 3)\n"
        "  left over log.var"
    )


@pytest.mark.parametrize("change", [{"fc_bias": None}, {"fc_weight": torch.zeros(1, 5)}])
def test_a_network_that_is_to_be_used_needs_every_tensor(change):
    network = Network()
    before = weights_of(network)
    name = next(iter(change)).replace("_", ".")
    with pytest.raises(UserError, match=rf"old\.pth.*another network.*{name}") as caught:
        load_weights(network, weights_of(Network(), **change), FILE)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())  # untouched


def test_what_a_network_does_not_have_is_only_reported(caplog):
    with caplog.at_level(logging.INFO):
        report = load_weights(Network(), weights_of(Network(), other_head=torch.ones(1)), FILE)
    assert report.complete and report.left_over == ("other.head",)
    assert caplog.records[0].levelno == logging.INFO


@pytest.mark.parametrize("partial", [True, False])
def test_a_file_of_which_nothing_fits_is_refused_with_names_of_both(partial):
    with pytest.raises(UserError, match=r"old\.pth.*encoder\.weight, encoder\.bias.*conv\.weight, norm\.weight"):
        load_weights(Network(), {"encoder.weight": torch.ones(1), "encoder.bias": torch.ones(1)}, FILE, partial)
    with pytest.raises(UserError, match=r"another shape conv\.weight \(9,\) instead of \(4, 1, 1, 1\)"):
        load_weights(Network(), {"conv.weight": torch.ones(9)}, FILE, partial)


@pytest.mark.parametrize("dropped", ["norm", "gn"])
def test_either_name_of_a_tensor_is_enough(dropped):
    source, network = Network(), Network()
    nn.init.normal_(source.norm.weight)
    weights = weights_of(source, **{f"{dropped}_weight": None, f"{dropped}_bias": None})
    report = load_weights(network, weights, FILE)
    assert torch.equal(network.gn.weight, source.norm.weight)
    assert len(report.matched) == 7 and not report.left_over


def test_of_two_values_for_a_tensor_the_later_in_the_network_s_order_counts():
    first, second = torch.full((4,), 1.0), torch.full((4,), 2.0)
    weights = weights_of(Network(), norm_weight=first, gn_weight=second)
    for order in (weights, dict(reversed(weights.items()))):
        network = Network()
        load_weights(network, order, FILE)
        assert torch.equal(network.norm.weight, second)


def test_of_two_values_for_a_tensor_one_of_its_shape_counts():
    network = Network()
    report = load_weights(
        network, weights_of(Network(), norm_weight=torch.full((4,), 3.0), gn_weight=torch.ones(9)), FILE
    )
    assert torch.equal(network.norm.weight, torch.full((4,), 3.0))
    assert report.complete


def test_half_precision_becomes_the_network_s_own():
    source, network = Network(), Network()
    load_weights(network, {name: value.half() for name, value in source.state_dict().items()}, FILE)
    assert network.fc.weight.dtype == torch.float32
    torch.testing.assert_close(network.fc.weight, source.fc.weight, rtol=1e-3, atol=1e-6)


def test_a_prefix_is_taken_off_only_where_the_plain_name_is_absent():
    network = Network()
    weights = weights_of(Network(), fc_bias=None) | {
        "model.fc.bias": torch.ones(1),
        "model.fc.weight": torch.ones(1, 2),
    }
    plain = weights["fc.weight"]
    report = load_weights(network, weights, FILE)
    assert torch.equal(network.fc.bias, torch.ones(1)) and torch.equal(network.fc.weight, plain)
    assert report.left_over == ("model.fc.weight",)


def test_a_network_may_itself_have_a_part_called_model():
    source, network = (nn.ModuleDict({"model": nn.ModuleDict({"fc": nn.Linear(1, 1)})}) for _ in range(2))
    network["fc"] = nn.Linear(1, 1)
    report = load_weights(network, source.state_dict(), FILE, partial=True)
    assert torch.equal(network["model"]["fc"].weight, source["model"]["fc"].weight)
    assert report.missing == ("fc.weight", "fc.bias")


def test_norms_of_old_files_lack_their_counters():
    source, network = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    nn.init.normal_(source.running_mean)
    weights = {name: value for name, value in source.state_dict().items() if name != "num_batches_tracked"}
    report = load_weights(network, weights, FILE)
    assert report.complete and torch.equal(network.running_mean, source.running_mean)


def test_of_many_shapes_the_first_is_reported():
    reshaped = {f"net.{i}": ((i,), (9,)) for i in range(5)} | {"fc.bias": ((1,), (2,))}
    assert LoadReport((), (), (), reshaped).differences() == [
        "of another shape 5 of net, fc.bias, the first net.0 (0,) instead of (9,)"
    ]


def test_names_are_counted_by_module():
    names = [f"head.{i}" for i in range(24)] + ["net.a", "net.b", "fc.weight"] + [f"m{i}.x" for i in range(5)]
    assert by_module(names) == "24 of head, 2 of net, fc.weight, m0.x, and 4 more"
