"""What changes a network's meaning, what steers a training, and what does neither."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from sopose.core.utils.errors import UserError
from sopose.settings import load_settings, plain_settings
from sopose.settings.meaning import changed_settings, require_meaning


@pytest.fixture(scope="module")
def plain(repository: Path):
    return plain_settings(load_settings(repository / "configs/gdrn_selfocc/lmo/cad_only_cpu.py"))


def changed(plain: dict, *changes: tuple[str, object]) -> dict:
    """The settings with other values at some dotted keys."""
    plain = copy.deepcopy(plain)
    for key, value in changes:
        *groups, last = key.split(".")
        section = plain
        for group in groups:
            section = section[group]
        assert last in section, key
        section[last] = value
    return plain


NET = "MODEL.POSE_NET"
MEANING = (
    ("INPUT.FORMAT", "BGR"),
    ("MODEL.PIXEL_STD", [255.0] * 3),
    (f"{NET}.INPUT_RES", 256),
    (f"{NET}.OUTPUT_RES", 64),
    (f"{NET}.BACKBONE.INIT_CFG.type", "timm/resnet34"),
    (f"{NET}.PNP_NET.ROT_TYPE", "ego_rot6d"),
    (f"{NET}.PNP_NET.TRANS_TYPE", "trans"),
    (f"{NET}.PNP_NET.REGION_ATTENTION", False),
    (f"{NET}.PNP_NET.INIT_CFG.denormalize_by_extent", False),
    (f"{NET}.LOSS_CFG.MASK_LOSS_TYPE", "BCE"),
    (f"{NET}.LOSS_CFG.MASK_LOSS_GT", "obj"),
    (f"{NET}.GEO_HEAD.NUM_REGIONS", 16),
)
COURSE = (
    ("SOLVER.IMS_PER_BATCH", 32),
    ("SOLVER.TOTAL_EPOCHS", 7),
    ("SOLVER.OPTIMIZER_CFG.lr", 1e-5),
    ("CAD.REUSE", 8),
    ("INPUT.DZI_PAD_SCALE", 1.2),
    ("DATASETS.TRAIN", ["lm_pbr_train"]),
    (f"{NET}.LOSS_CFG.XYZ_LW", 2.0),
    (f"{NET}.LOSS_CFG.PM_LOSS_SYM", True),
    (f"{NET}.BACKBONE.FREEZE_AT", 0),
    (f"{NET}.PNP_NET.INIT_CFG.drop_prob", 0.3),
)
NEITHER = (
    ("OUTPUT_DIR", "elsewhere"),
    ("DATALOADER.NUM_WORKERS", 0),
    ("DATASETS.ROOT", "moved"),
    ("DATASETS.TEST", []),
    ("TEST.USE_PNP", False),
    ("SOLVER.MAX_TO_KEEP", 50),
    (f"{NET}.GEO_HEAD.MASK_THR_TEST", 0.4),
    (f"{NET}.NECK.INIT_CFG.out_channels", 64),  # of a neck that is off
    (f"{NET}.NUM_CLASSES", 3),  # the objects are compared by name
    (f"{NET}.XYZ_ONLINE", True),  # without effect
)


@pytest.mark.parametrize("change", MEANING, ids=lambda change: change[0])
def test_what_changes_the_meaning_of_weights_is_refused_by_its_name_and_both_values(plain, change):
    (found,) = changed_settings(plain, changed(plain, change))
    assert found.of_meaning and found.key == change[0].upper() and found.now == change[1]
    with pytest.raises(UserError, match=rf"^net\.pth was trained with {found.key}=.*, now .*set it back$"):
        require_meaning(plain, changed(plain, change), Path("net.pth"))


@pytest.mark.parametrize("change", COURSE, ids=lambda change: change[0])
def test_what_steers_a_training_is_reported_and_allowed(plain, change):
    (found,) = changed_settings(plain, changed(plain, change))
    assert not found.of_meaning and found.key == change[0].upper()
    require_meaning(plain, changed(plain, change), Path("net.pth"))


def test_what_does_neither_is_no_change(plain):
    assert changed_settings(plain, changed(plain, *NEITHER)) == []


def test_keys_of_another_version_are_left_out(plain):
    older = changed(plain, ("INPUT.FORMAT", "BGR"))
    del older["INPUT"]["FORMAT"], older["CAD"]
    older["OLD"] = {"KEY": 3}
    assert changed_settings(older, plain) == [] and changed_settings(plain, older) == []


def test_many_changes_are_one_line(plain):
    with pytest.raises(UserError, match=rf"; and {len(MEANING) - 4} more: its weights") as caught:
        require_meaning(plain, changed(plain, *MEANING), Path("net.pth"), ", or train anew")
    assert "\n" not in str(caught.value) and str(caught.value).endswith("set it back, or train anew")
