"""A run's facts are compared before its weights are used again: on --resume, in a test, by overrides, at a start."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sopose.core.engine.checkpoint import read_checkpoint, save_weights
from sopose.core.engine.checkpointer import last_checkpoint
from sopose.core.utils.errors import UserError
from sopose.inference.estimator import PoseEstimator
from sopose.main_gdrn import main
from tests.support.bop_files import edit_json

HOLD = (
    "import sys, time; from pathlib import Path; from sopose.core.utils.folder_lock import FolderLock; "
    "lock = FolderLock(Path(sys.argv[1])); lock.take(); print('held', flush=True); time.sleep(60)"
)
OTHER_FORMAT = "INPUT.FORMAT=RGB"
OTHER_FRAME = "MODEL.POSE_NET.PNP_NET.ROT_TYPE=ego_rot6d"


@pytest.fixture
def run(toy_run, tmp_path):
    """Starts the program on a copy of a finished run."""
    output = tmp_path / "out"
    shutil.copytree(toy_run["output"], output)

    def start(*words: str, opts: tuple[str, ...] = ()) -> None:
        given = [f"OUTPUT_DIR={output}", "VAL.REPORT_CASES=0", *opts]
        main(["--config-file", str(toy_run["config"]), *words, "--opts", *given])

    start.output = output
    return start


def content(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"}


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (
            ("DATASETS.OBJS=[cross,bottle]",),
            r"learns bracket, mug.*would continue with cross, bottle.*OBJS=\[bracket,mug",
        ),
        (("DATASETS.OBJS=[mug,bracket,cross,bottle]",), "in this order"),
        ((OTHER_FORMAT,), "INPUT.FORMAT=BGR, now RGB"),
        ((OTHER_FRAME,), "ROT_TYPE=allo_rot6d, now ego_rot6d"),
        (("MODEL.POSE_NET.LOSS_CFG.MASK_LOSS_TYPE=BCE",), "MASK_LOSS_TYPE=L1, now BCE"),
    ],
)
def test_a_run_is_not_resumed_as_another_network(run, opts, message):
    before = content(run.output)
    with pytest.raises(UserError, match=message) as caught:
        run("--resume", opts=opts)
    assert "\n" not in str(caught.value) and "another OUTPUT_DIR" in str(caught.value)
    assert before == content(run.output)


def test_what_changes_the_course_is_reported_a_line_each(run, caplog):
    opts = ("SOLVER.IMS_PER_BATCH=4", "SEED=5", "INPUT.DZI_PAD_SCALE=1.3", "DATASETS.TEST=[]", "SOLVER.TOTAL_EPOCHS=1")
    run("--resume", opts=opts)
    lines = [record.message for record in caplog.records if record.message.startswith("continuing with another")]
    assert len(lines) == 4
    for words in ("IMS_PER_BATCH=", "SEED 1, now 5", "DZI_PAD_SCALE=", "TOTAL_EPOCHS="):
        assert sum(words in line for line in lines) == 1, words


@pytest.mark.parametrize("words", [("--resume",), ("--eval-only",)])
def test_a_model_of_another_size_is_not_gone_on_with(run, toy_root, tmp_path, words):
    from sopose.core.objects.ply import read_ply, write_ply

    root = tmp_path / "bop"
    shutil.copytree(toy_root, root / "toy")
    for folder in ("models", "models_eval"):
        for path in (root / "toy" / folder).glob("*.ply"):
            mesh = read_ply(path)
            mesh.vertices[:] *= 1.1
            write_ply(path, mesh)
        edit_json(root / "toy" / folder / "models_info.json", enlarge)
    with pytest.raises(UserError, match=r"was trained on a bracket of .* mm, the model now has .* mm: P and Q"):
        run(*words, opts=(f"DATASETS.ROOT={root}",))


def enlarge(info: dict[str, dict]) -> None:
    """Every length of `models_info.json` by a tenth; the toy's axes of symmetry go through the origin."""
    for entry in info.values():
        entry |= {key: 1.1 * value for key, value in entry.items() if isinstance(value, float | int)}


@pytest.mark.parametrize("opts", [(OTHER_FORMAT,), (OTHER_FRAME,)])
def test_a_test_by_another_meaning_is_refused(run, opts):
    with pytest.raises(UserError, match=f"{opts[0].partition('=')[0]}=.*or give the configuration it was trained with"):
        run("--eval-only", opts=opts)


def test_a_test_on_objects_that_were_not_trained_is_refused(run, tmp_path):
    state = read_checkpoint(last_checkpoint(run.output))
    facts = {**state["facts"], "objects": ["bracket", "mug"]}
    save_weights(state["model"], tmp_path / "two.safetensors", facts)
    with pytest.raises(UserError, match=r"trained for bracket, mug, not for cross.*DATASETS\.OBJS"):
        run("--eval-only", opts=("DATASETS.OBJS=[mug,cross]", f"MODEL.WEIGHTS={tmp_path / 'two.safetensors'}"))


def test_overrides_of_a_checkpoint_s_own_settings_are_compared(run):
    with pytest.raises(UserError, match=r"INPUT\.FORMAT=BGR, now RGB"):
        PoseEstimator.from_checkpoint(last_checkpoint(run.output), "cpu", [OTHER_FORMAT])


def test_a_start_from_weights_reports_what_it_learns_anew(run, tmp_path, caplog):
    state = read_checkpoint(last_checkpoint(run.output))
    facts = {**state["facts"], "objects": ["cross", "bottle"]}
    save_weights(state["model"], tmp_path / "start.safetensors", facts)
    opts = (f"OUTPUT_DIR={tmp_path / 'new'}", f"MODEL.WEIGHTS={tmp_path / 'start.safetensors'}", OTHER_FORMAT)
    run(opts=(*opts, "DATASETS.TEST=[]", "SOLVER.TOTAL_EPOCHS=1"))
    assert "was trained for cross, bottle; this run learns" in caplog.text
    assert "was trained with INPUT.FORMAT=BGR, now RGB" in caplog.text


@pytest.mark.parametrize("words", [("--resume",), ("--eval-only",), ("--report-only",)])
def test_a_folder_that_another_process_writes_to_is_left_alone(run, words):
    program = subprocess.Popen([sys.executable, "-c", HOLD, str(run.output)], stdout=subprocess.PIPE, text=True)
    try:
        assert program.stdout.readline() == "held\n"
        before = content(run.output)
        with pytest.raises(UserError, match=rf"process {program.pid} on .* is writing to .*; name another OUTPUT_DIR"):
            run(*words)
        assert before == content(run.output)
    finally:
        program.kill()
        program.wait()


def test_a_test_that_fails_on_the_way_does_not_end_the_training(toy_run, toy_root, tmp_path, caplog):
    """The csv and scores of what can be scored are there; at the end the fault is the run's."""
    root = tmp_path / "bop"
    shutil.copytree(toy_root, root / "toy")
    next((root / "toy/test").glob("*/rgb/*")).write_bytes(b"no image")
    opts = [f"DATASETS.ROOT={root}", f"OUTPUT_DIR={tmp_path / 'out'}", "VAL.REPORT_CASES=0"]
    with pytest.raises(UserError, match="cannot be decoded"):
        main(["--config-file", str(toy_run["config"]), "--opts", *opts])
    assert caplog.text.count("iterations failed, the training continues: ") == 1
    assert read_checkpoint(last_checkpoint(tmp_path / "out"))["iteration"] == 8
    assert (tmp_path / "out/model_final.safetensors").is_file()


def test_a_bad_mask_or_depth_image_of_the_test_costs_a_picture_and_a_score(run, toy_root, tmp_path):
    root = tmp_path / "bop"
    shutil.copytree(toy_root, root / "toy")
    for kind in ("mask_visib", "depth"):
        next((root / "toy/test").glob(f"*/{kind}/*")).write_bytes(b"no image")
    run(
        "--eval-only",
        opts=(
            f"DATASETS.ROOT={root}",
            "VAL.REPORT_CASES=2",
            f"OUTPUT_DIR={tmp_path / 'new'}",
            f"MODEL.WEIGHTS={last_checkpoint(run.output)}",
        ),
    )
    folder = tmp_path / "new/inference/toy_test"
    assert list(folder.glob("*.csv")) and (folder / "scores.json").is_file() and (folder / "report.html").is_file()
