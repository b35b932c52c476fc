"""The official package's engine, with a stand-in of its functions: it is asked in its units, and compared."""

from __future__ import annotations

import sys

import pytest

from sopose.core.evaluation.toolkit import ToolkitErrorModel, differences, import_toolkit
from sopose.core.utils.errors import UserError


def test_its_scores_are_ours(world, toolkit):
    estimates = world.shifted(0.13)
    metrics = ("add", "adi", "auc", "bop19")
    official = world.score(estimates, error_model=ToolkitErrorModel, metrics=metrics)
    ours = world.score(estimates, metrics=metrics)
    assert set(toolkit) == {"add", "adi", "mssd", "mspd"}
    assert max(differences(ours, official).values()) < 1e-9
    for a, b in zip(ours.instances, official.instances, strict=True):
        assert a.errors == pytest.approx(b.errors, rel=1e-9)


def test_a_difference_is_reported(world, toolkit):
    found = differences(world.score(world.truth()), world.score(world.shifted(0.3)))
    assert found["ad_0.10"] == 1 and found["AR_MSSD"] > 0


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "bop_toolkit_lib", None)
    with pytest.raises(UserError, match=r"pip install git\+https"):
        import_toolkit()
