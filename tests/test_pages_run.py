"""The commands of the pages, typed in their order in a folder of small files; long runs are shortened.

Those of docs/own_object.md have a test of their own.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.support.command import verb
from tests.support.pages import commands, pages, write_reader_files

pytestmark = pytest.mark.slow
ELSEWHERE = ("README.md", "docs/own_object.md")  # tests/test_own_object.py
# Words of a command -> why it isn't typed here.
LEFT_OUT = {
    "tcp://head:8786": "needs a scheduler of Dask under that name",
    "CAD.DEVICE=cuda": "needs a GPU",
    "hb.json": "needs HomebrewedDB",
    "gdrn_lmo.pth": "needs weights of GDR-Net; tests of the weights make some",
    "failed_step.pth": "needs a step that failed; tests/test_run_options.py makes one",
}
QUICK = ["SOLVER.TOTAL_EPOCHS=1", "SOLVER.IMS_PER_BATCH=2", "CAD.EPOCH_LENGTH=4", "DATALOADER.NUM_WORKERS=0"]
# Words that come last win, and --opts take what follows them.
SHORTER: dict[str, list[str]] = {
    "toy": ["--workers", "1"],
    "predict": ["--threshold", "0"],
    "samples": ["--count", "2"],
    "render": ["--images", "2", "--workers", "1"],
    "maps": ["--workers", "1"],
    "train": ["--opts", *QUICK, "CAD.REUSE=1", "MODEL.POSE_NET.BACKBONE.PRETRAINED="],
    "eval": ["--opts", "DATALOADER.NUM_WORKERS=0"],
    "detector": ["--epochs", "1", "--size", "160", "--pretrained", "none", "--workers", "0", "--opts", *QUICK],
    "refiner": ["--opts", *QUICK, "CAD.REUSE=2", "CAD.POOL=8"],
    "ablate": ["--seeds", "1", "--variants", "P", "P+Q", "--opts", *QUICK],
}
DETECTOR = "detector --config-file configs/gdrn_selfocc/toy/from_cad.py --output output/detector/{}"
TRAIN = "train --config-file configs/gdrn_selfocc/toy/demo.py"
# What readers of a page have done before.
BEFORE = {
    "docs/evaluation.md": [DETECTOR.format("toy"), TRAIN],
    "docs/poses.md": [DETECTOR.format("first")],
    "docs/second_look.md": [DETECTOR.format("first")],
}
# Names that pages give to what earlier commands wrote, patterns of that.
NAMED = {
    "detector.safetensors": "output/detector/*/detector.safetensors",
    "parts/models/obj_000009.ply": "parts/models/obj_*.ply",
    "output/run/model_0000102.pth": "output/run/model_*.pth",
}


def shortened(words: list[str]) -> list[str]:
    """A command that takes seconds: the options of its verb added behind, overrides behind its overrides."""
    name, *own = words
    more = SHORTER.get(name, [])
    options, _, overrides = split(more)
    given, has, opts = split(own)
    if name == "toy":
        options = [
            *options,
            *(["--parts", "2"] if "--parts" in own else ["--train", "8", "--test", "4", "--seed", "7"]),
        ]
    return [name, *given, *options, *(["--opts", *opts, *overrides] if has or overrides else [])]


def split(words: Sequence[str]) -> tuple[list[str], bool, list[str]]:
    """The words before --opts, whether it is there, and those behind it."""
    if "--opts" not in words:
        return list(words), False, []
    place = list(words).index("--opts")
    return list(words[:place]), True, list(words[place + 1 :])


def put_names(folder: Path) -> None:
    """Files that pages call otherwise than the shortened commands did."""
    for name, pattern in NAMED.items():
        made = sorted(folder.glob(pattern))
        if made and not (folder / name).exists():
            shutil.copy(made[-1], folder / name)


def page_names(repository: Path) -> list[str]:
    return [page.relative_to(repository).as_posix() for page in pages(repository) if commands(page.read_text())]


@pytest.mark.parametrize("page", [name for name in page_names(REPOSITORY) if name not in ELSEWHERE])
def test_commands_of_a_page_run(page, tmp_path, toy_root, repository):
    write_reader_files(tmp_path, toy_root, repository)
    with contextlib.chdir(tmp_path):
        for words in [*map(shlex.split, BEFORE.get(page, ())), *commands((repository / page).read_text())]:
            if any(part in word for word in words for part in LEFT_OUT):
                continue
            put_names(tmp_path)
            print("sopose", shlex.join(words), flush=True)  # shown where it fails
            name, *own = shortened(words)
            verb(name)(own)


def test_each_command_that_is_left_out_stands_in_a_page(repository):
    words = [word for page in pages(repository) for line in commands(page.read_text()) for word in line]
    assert all(any(part in word for word in words) for part in LEFT_OUT)
