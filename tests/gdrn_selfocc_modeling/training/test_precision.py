"""The type that a run computes in: asked for, chosen by the machine, and kept by a run that is resumed."""

from __future__ import annotations

import pytest
import torch

from sopose.core.engine.checkpoint import read_checkpoint
from sopose.core.engine.checkpointer import last_checkpoint
from sopose.core.utils.errors import UserError
from sopose.main_gdrn import main
from sopose.settings.groups import AmpSettings
from sopose.training.before import PRECISION
from sopose.training.learner import choose_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("enabled", "dtype", "device", "units", "before", "chosen"),
    [
        (False, "bfloat16", CPU, "AMX", "", "float32"),
        (False, "auto", CUDA, "", "", "float32"),
        (True, "bfloat16", CPU, "", "", "bfloat16"),
        (True, "auto", CPU, "", "", "float32"),
        (True, "auto", CPU, "AVX512-BF16", "", "bfloat16"),
        (True, "auto", CUDA, "", "", "bfloat16"),
        (True, "float16", CPU, "AMX", "", "float32"),
        (True, "float16", CUDA, "", "", "float16"),
        # A run continues as it began, on whatever machine and whatever is asked for now.
        (True, "auto", CPU, "", "bfloat16", "bfloat16"),
        (True, "auto", CPU, "AMX", "float32", "float32"),
        (False, "bfloat16", CPU, "AMX", "bfloat16", "bfloat16"),
        (True, "bfloat16", CPU, "AMX", "float32", "float32"),
    ],
)
def test_precision_is_asked_for_chosen_or_kept(enabled, dtype, device, units, before, chosen):
    assert choose_precision(AmpSettings(enabled, dtype), device, units, before) == chosen


def test_an_unknown_type_is_refused():
    with pytest.raises(UserError, match=r"DTYPE is 'bfloat61'; did you mean 'bfloat16'.*auto"):
        choose_precision(AmpSettings(True, "bfloat61"), CPU, "")


def test_what_is_slow_or_other_than_before_is_said(caplog):
    choose_precision(AmpSettings(True, "bfloat16"), CPU, "")
    assert "no units for bfloat16" in caplog.text
    choose_precision(AmpSettings(False, "bfloat16"), CPU, "AMX", "bfloat16")
    assert "began in bfloat16 and continues in it; SOLVER.AMP says float32 now" in caplog.text


def test_a_resumed_run_computes_as_it_began(tmp_path, write_tiny_config, caplog, one_thread):
    config = write_tiny_config(tmp_path, "DATASETS = dict(TEST=())\nSOLVER = dict(TOTAL_EPOCHS=1)\n")
    arguments = ["--config-file", str(config), "--resume", "--opts"]
    main([*arguments, "SOLVER.AMP.ENABLED=True"])
    assert read_checkpoint(last_checkpoint(tmp_path / "out"))["facts"][PRECISION] == "bfloat16"
    caplog.clear()
    main([*arguments, "SOLVER.AMP.ENABLED=False", "SOLVER.TOTAL_EPOCHS=2"])
    assert "continues in it" in caplog.text
    assert read_checkpoint(last_checkpoint(tmp_path / "out"))["facts"][PRECISION] == "bfloat16"
