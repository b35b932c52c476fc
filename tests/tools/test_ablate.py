"""The ablation runner on a network of a second."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from sopose.core.engine.checkpoint import read_checkpoint
from sopose.core.utils.errors import UserError
from sopose.training import ablation, ablation_run
from sopose.training.ablation_run import AblationOptions
from tests.support.command import verb

ablate = verb("ablate")

NET = "MODEL.POSE_NET"
TINY = [
    *("DATASETS.TRAIN=[toy_train]", "DATASETS.TRAIN2=", "DATASETS.TEST=[toy_test]", "DATALOADER.NUM_WORKERS=0"),
    *("SOLVER.IMS_PER_BATCH=16", "SOLVER.TOTAL_EPOCHS=1", "MODEL.DEVICE=cpu", "INPUT.COLOR_AUG_PROB=0.0"),
    *(f"{NET}.NUM_CLASSES=4", f"{NET}.INPUT_RES=64", f"{NET}.OUTPUT_RES=16", f"{NET}.LOSS_CFG.NUM_PM_POINTS=16"),
    *(f"{NET}.BACKBONE.PRETRAINED=", f"{NET}.BACKBONE.INIT_CFG.type=timm/resnet10t"),
    f"{NET}.BACKBONE.INIT_CFG.out_indices=(3,)",
    *(
        f"{NET}.{head}.INIT_CFG.{word}"
        for head in ("GEO_HEAD", "SELFOCC_HEAD")
        for word in ("in_dim=256", "feat_dim=32", "up_types=[deconv,bilinear]")
    ),
]


@pytest.fixture(scope="module")
def arguments(toy_root: Path, repository: Path, tmp_path_factory) -> list[str]:
    config = repository / "configs/gdrn_selfocc/lmo/gdrn_selfocc_multistep_40E.py"
    output = tmp_path_factory.mktemp("ablation") / "out"
    words = ["--variants", "P", "P+Q,CT", "--seeds", "1", "--output", str(output)]
    return ["--config-file", str(config), *words, "--opts", f"DATASETS.ROOT={toy_root.parent}", *TINY]


def output_of(arguments: list[str]) -> Path:
    return Path(arguments[arguments.index("--output") + 1])


def test_a_dry_run_lists_every_run_and_writes_nothing(arguments, capsys):
    ablate([*arguments[:2], "--dry-run", *arguments[2:]])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * 2 * 2  # variants, conditions; a heading and its words
    assert "SELFOCC_HEAD.ENABLED=False" in lines[1] and "CT_LW=10.0" in lines[5]
    assert all("to do" in line for line in lines[::2])
    assert not output_of(arguments).exists()


@pytest.fixture(scope="module")
def finished(arguments) -> Path:
    ablate(arguments)
    return output_of(arguments)


@pytest.mark.slow
def test_the_tables_have_every_case(finished, capsys):
    with (finished / "ablation.csv").open() as file:
        rows = list(csv.DictReader(file))
    cases = {(row["variant"], row["boxes"]) for row in rows}
    assert cases == {(variant, boxes) for variant in ("P", "P+Q,CT") for boxes in ("gt", "noisy")}
    assert {row["metric"] for row in rows} == set(ablation.METRICS)
    title, _, *table = (finished / "ablation.md").read_text().splitlines()
    assert title == "toy_test" == rows[0]["images"]
    assert len({line.count("|") for line in table}) == 1


@pytest.mark.slow
def test_what_is_finished_is_not_done_again(finished, arguments, monkeypatch, capsys):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.json")}

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(ablation_run, "train", fail)
    ablate(arguments)
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*.json")}
    assert "tables in" in capsys.readouterr().out


@pytest.mark.slow
def test_a_missing_test_is_made_up_from_the_trained_weights(finished, arguments):
    case, checkpoint = finished / "P" / "seed0" / "noisy.json", next((finished / "P" / "seed0").glob("model_*.pth"))
    content, trained = case.read_text(), checkpoint.stat().st_mtime_ns
    case.unlink()
    ablate(arguments)
    assert case.read_text() == content
    assert next((finished / "P" / "seed0").glob("model_*.pth")).stat().st_mtime_ns == trained


def test_without_test_images_nothing_is_trained(arguments, tmp_path):
    with pytest.raises(UserError, match="TEST is empty"):
        ablate([*arguments, "DATASETS.TEST=[]", f"OUTPUT_DIR={tmp_path}"])


@pytest.mark.slow
def test_finished_cases_of_other_settings_are_refused(finished, arguments):
    with pytest.raises(UserError, match="other settings"):
        ablate([*arguments, "SOLVER.TOTAL_EPOCHS=2"])


@pytest.mark.slow
def test_forgotten_parts_are_not_in_the_start(finished, arguments, tmp_path):
    weights = next((finished / "P+Q-CT" / "seed0").glob("model_*.pth"))
    options = AblationOptions(Path(arguments[1]), tmp_path, start=weights, forget=["pnp_net"])
    ablation_run.write_start(options)
    names = read_checkpoint(tmp_path / "start.safetensors")["model"]
    assert names and not any(name.startswith("pnp_net") for name in names)
    other = replace(options, forget=["pnp_nets"], output=tmp_path / "other")
    with pytest.raises(UserError, match="its parts: backbone, geo_head_net, pnp_net, selfocc_head_net"):
        ablation_run.write_start(other)
