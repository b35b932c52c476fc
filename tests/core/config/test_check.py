"""What is said about a key that doesn't exist."""

from __future__ import annotations

import pytest

from sopose.core.config.check import check_keys, nearest_key
from sopose.core.utils.errors import UserError

KNOWN = [
    *("SOLVER.OPTIMIZER_CFG.lr", "SOLVER.BASE_LR", "SOLVER.TOTAL_EPOCHS", "SOLVER.AMP.ENABLED", "TEST.EVAL_PERIOD"),
    *("NET.BACKBONE.FREEZE", "NET.HEAD.FREEZE", "NET.HEAD.INIT_CFG.feat_dim", "NET.PNP.INIT_CFG.featdim"),
    *("NET.LOSS_CFG.XYZ_LW", "NET.LOSS_CFG.MASK_LW"),
]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SOLVER.LR", "SOLVER.OPTIMIZER_CFG.lr"),  # in another group, in another case
        ("NET.XYZ_LW", "NET.LOSS_CFG.XYZ_LW"),
        ("XYZ_LW", "NET.LOSS_CFG.XYZ_LW"),
        ("NET.LOSS.XYZ_LW", "NET.LOSS_CFG.XYZ_LW"),
        ("BACKBONE.FREEZE", "NET.BACKBONE.FREEZE"),  # of two namesakes the one that is more alike
        ("NET.HEAD.INIT_CFG.featdim", "NET.HEAD.INIT_CFG.feat_dim"),  # a slip before a namesake elsewhere
        ("SOLVER.TOTAL_EPOCH", "SOLVER.TOTAL_EPOCHS"),
        ("SOLVER.AMPP.ENABLED", "SOLVER.AMP.ENABLED"),
        ("solver", "SOLVER"),
        ("TEST.PERIOD", "TEST.EVAL_PERIOD"),
        ("ZZ", ""),
    ],
)
def test_the_key_that_was_meant(name, meant):
    assert nearest_key(name, KNOWN) == meant


def test_the_error_names_the_key_as_it_was_written():
    schema = {"NET": {"LOSS_CFG": {"XYZ_LW": 1.0}}}
    with pytest.raises(
        UserError, match=r"--opts: unknown .* 'NET\.LOSS\.XYZ_LW'; did you mean 'NET\.LOSS_CFG\.XYZ_LW'"
    ):
        check_keys({"NET": {"LOSS": {"XYZ_LW": 2.0}}}, schema, "--opts")


@pytest.mark.parametrize("value", [3, "x", [1], {"a": {}}, {}])
def test_an_unknown_key_is_an_error_whatever_it_holds(value):
    with pytest.raises(UserError, match="unknown configuration key 'QQQ"):
        check_keys({"QQQ": value}, {"SEED": 1}, "file")
