"""The command line of a run, without running one."""

from __future__ import annotations

import logging

import pytest

from sopose import main_gdrn
from sopose.core.config.describe import describe
from sopose.core.utils.errors import UserError
from sopose.settings import SCHEMA

DEMO = "configs/gdrn_selfocc/toy/demo.py"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list:
    """The configurations that would have been trained."""
    started: list = []
    monkeypatch.setattr("sopose.training.run.train", lambda settings, options: started.append(settings))
    return started


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--num-gpus", "2"], ["--num-gpus"]),
        (["--num-gpus", "4", "--num-machines", "1", "--machine-rank", "0", "--dist-url", "tcp://x:1"], ["--dist-url"]),
        (["--launcher", "pytorch", "--local_rank=3"], ["--launcher", "--local-rank"]),
        (["--local-rank", "0"], ["--local-rank"]),
        (["--use_hvd", "--use_adasum", "--fp16_allreduce", "--use_bps"], ["--use-hvd", "--fp16-allreduce"]),
    ],
)
def test_launch_arguments_of_older_scripts_run_with_one_warning(repository, runs, caplog, words, named):
    with caplog.at_level(logging.WARNING):
        main_gdrn.main(["--config-file", str(repository / DEMO), *words, "--opts", "SEED=7"])
    assert [settings.seed for settings in runs] == [7]
    (record,) = caplog.records
    assert all(word in record.getMessage() for word in named)


def test_without_them_nothing_is_said(repository, runs, caplog):
    with caplog.at_level(logging.WARNING):
        main_gdrn.main(["--config-file", str(repository / DEMO)])
    assert runs
    assert not caplog.records


def test_two_words_for_one_option_are_reported(repository, runs):
    with pytest.raises(UserError, match=r"write SOLVER\.TOTAL_EPOCHS=VALUE"):
        main_gdrn.main(["--config-file", str(repository / DEMO), "--opts", "SOLVER.TOTAL_EPOCHS", "20"])
    assert not runs


def test_help_lists_the_groups_of_options(capsys):
    with pytest.raises(SystemExit) as left:
        main_gdrn.main(["--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    sections = describe(SCHEMA).sections()
    for section in sections:
        if any(entry.has_effect for entry in section.entries):
            assert section.meaning in shown
    assert "MODEL.POSE_NET.LOSS_CFG " in shown


@pytest.mark.parametrize("group", ["SOLVER", "MODEL.POSE_NET.LOSS_CFG", "model.pose_net.neck"])
def test_the_keys_of_a_group_are_shown_with_default_and_meaning(group, capsys):
    with pytest.raises(SystemExit) as left:
        main_gdrn.main(["--help-config", group])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    entries = [entry for entry in describe(SCHEMA).below(group.upper()) if entry.has_effect]
    assert entries
    words = shown.split()
    for entry in entries:
        assert f"{entry.key} = {entry.default}" in shown
        assert set(entry.meaning.split()) <= set(words)


def test_an_unknown_group_is_reported_its_nearest():
    with pytest.raises(UserError, match="did you mean 'SOLVER'"):
        main_gdrn.main(["--help-config", "SLOVER"])
