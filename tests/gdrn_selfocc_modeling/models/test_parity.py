"""Networks and losses reproduce the numbers of the authors' code, and the comparison would fail if not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sopose.core.utils.errors import UserError
from sopose.settings import Settings, save_settings
from sopose.settings.groups import TrainSettings
from sopose.settings.network import PoseNetSettings
from sopose.training.parity import (
    REFERENCE_OPTIONS,
    ParityPair,
    compare,
    read_pair,
    reference_model,
    roi_batch,
    roi_targets,
)
from tests.support.builders import criterion_of, model_of
from tools.check_parity import main

NET = "MODEL.POSE_NET"
RESNET34 = [
    *REFERENCE_OPTIONS,
    f"{NET}.BACKBONE.INIT_CFG.type='timm/resnet34'",
    *(f"{NET}.{head}.INIT_CFG.in_dim=512" for head in ("GEO_HEAD", "SELFOCC_HEAD")),
]


def test_the_lmo_network_has_the_published_numbers(real_data: Path, make_config):
    path = real_data.parent / "parity" / "lmo_resnet34.npz"
    if not path.is_file():
        pytest.skip(f"no reference numbers at {path}")
    cfg = make_config(*RESNET34)
    pair = read_pair(path)
    assert list(pair.parameters) == list(model_of(cfg).state_dict())  # in this order
    comparisons = {item.name: item for item in compare(pair, *parts(cfg))}
    assert [item for item in comparisons.values() if not item.holds] == []
    assert comparisons["out trans"].deviation < 1e-5  # 10 micrometres
    assert len(comparisons) == len(pair.outputs) + sum(map(len, pair.losses.values()))


def parts(settings: Settings) -> tuple[PoseNetSettings, TrainSettings, int]:
    return settings.model.pose_net, settings.train, settings.solver.total_epochs


@pytest.fixture(scope="module")
def write_pair(make_small_config, make_ellipsoids) -> Callable[..., Settings]:
    """`write_pair(folder, "KEY=VALUE", ...)`: a pair of what our own network says, for the reader to find again."""

    def write(folder: Path, *overrides: str) -> Settings:
        cfg = make_small_config(*REFERENCE_OPTIONS, *overrides)
        rois, truth = make_ellipsoids(2)
        turns = torch.diag_embed(torch.tensor([[1.0, 1, 1], [-1, -1, 1]])).expand(2, 2, 3, 3)
        inputs = {
            "roi_img": rois.image.half(),
            "roi_coord_2d": rois.roi_coord_2d,
            "roi_cams": rois.K,
            "roi_centers": rois.box_center,
            "roi_whs": rois.box_wh,
            "resize_ratios": rois.resize_ratio,
            "roi_extents": rois.extent,
            "mask": truth.mask_obj,
            "mask_erode": truth.mask_erode,
            "gt_xyz": truth.P,
            "gt_q0": truth.Q,
            "gt_occmask": truth.q_mask,
            "gt_region": truth.region,
            "gt_ego_rot": truth.cam_R_obj,
            "gt_trans": truth.cam_t_obj,
            "gt_trans_ratio": truth.trans_ratio,
            "gt_points": truth.model_points,
            "im_W": torch.full((2,), 640.0),
            "im_H": torch.full((2,), 480.0),
            "sym_rot": turns,
        }
        shapes = {name: tuple(value.shape) for name, value in model_of(cfg).state_dict().items()}
        model = reference_model(ParityPair(shapes, {}, inputs, {}), cfg.model.pose_net)
        with torch.no_grad():
            batch = roi_batch(inputs)
            prediction = model(batch)
            losses = criterion_of(cfg)(prediction, batch, roi_targets(inputs), epoch=20)
        outputs = {"mask": prediction.mask[:, :, ::4, ::4], "rot": prediction.cam_R_obj, "trans": prediction.cam_t_obj}
        arrays = {f"in_{name}": value.numpy() for name, value in inputs.items()}
        arrays |= {f"out_{name}": value.numpy() for name, value in outputs.items()}
        np.savez(folder / "pair.npz", **arrays)
        facts = {"parameters": shapes, "losses": {"epoch_20": {name: float(x) for name, x in losses.items()}}}
        (folder / "pair.json").write_text(json.dumps(facts))
        return cfg

    return write


CONFIGURATIONS = {
    "ego quaternions": [
        f"{NET}.PNP_NET.ROT_TYPE='ego_quat'",
        f"{NET}.PNP_NET.MASK_ATTENTION='concat'",
        f"{NET}.LOSS_CFG.MASK_LOSS_TYPE='BCE'",
        f"{NET}.LOSS_CFG.PM_R_ONLY=False",
        f"{NET}.LOSS_CFG.PM_DISENTANGLE_Z=True",
    ],
    "symmetries": [f"{NET}.LOSS_CFG.{key}=True" for key in ("HANDLE_SYM", "PM_LOSS_SYM", "PM_NORM_BY_EXTENT")],
    "one layer": [f"{NET}.SELFOCC_HEAD.ENABLED=False"],
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_pair_of_any_configuration_is_read(name, write_pair, tmp_path):
    cfg = write_pair(tmp_path, *CONFIGURATIONS[name])
    comparisons = [*compare(read_pair(tmp_path / "pair"), *parts(cfg))]
    assert all(item.holds for item in comparisons)
    assert {"out rot", "epoch 20 loss_mask"} <= {item.name for item in comparisons}


@pytest.mark.parametrize(
    ("override", "found"),
    [
        (f"{NET}.LOSS_CFG.REGION_LW=1.01", {"epoch 20 loss_region"}),
        (f"{NET}.LOSS_CFG.CT_LW=0", {"epoch 20 loss_ct"}),
        (f"{NET}.LOSS_CFG.FOCAL_NORM='mean'", {"epoch 20 loss_ct_pro", "epoch 20 loss_q_def"}),
        (f"{NET}.LOSS_CFG.ROT_LW=1.0", {"epoch 20 loss_rot"}),
        (f"{NET}.PNP_NET.ROT_TYPE='ego_rot6d'", {"out rot"}),
    ],
)
def test_a_difference_is_found(override, found, write_pair, make_small_config, tmp_path):
    write_pair(tmp_path)
    cfg = make_small_config(*REFERENCE_OPTIONS, override)
    assert found <= {item.name for item in compare(read_pair(tmp_path / "pair"), *parts(cfg)) if not item.holds}


def test_another_network_is_reported(write_pair, make_small_config, tmp_path):
    write_pair(tmp_path)
    cfg = make_small_config(*REFERENCE_OPTIONS, f"{NET}.PNP_NET.WITH_2D_COORD=False")
    with pytest.raises(UserError, match=r"1 parameters differ, such as pnp_net.features.0.weight \(ours \(128, 73"):
        [*compare(read_pair(tmp_path / "pair"), *parts(cfg))]


def test_a_damaged_pair_is_reported(write_pair, tmp_path):
    write_pair(tmp_path)
    (tmp_path / "pair.json").write_text('{"parameters": [], "losses": {}}')
    with pytest.raises(UserError, match="no pair of reference numbers"):
        read_pair(tmp_path / "pair")
    (tmp_path / "pair.npz").unlink()
    with pytest.raises(UserError, match=r"pair\.npz is missing"):
        read_pair(tmp_path / "pair")


def test_the_script_prints_every_number_and_reports_what_fails(repository, write_pair, tmp_path, capsys):
    cfg = write_pair(tmp_path)
    save_settings(cfg, tmp_path / "small.py")
    main([str(tmp_path / "pair.json"), "--config-file", str(tmp_path / "small.py")])
    printed = capsys.readouterr().out
    assert "out rot" in printed and "TOO FAR" not in printed
    with pytest.raises(UserError, match=r"1 of \d+ numbers deviate too far: epoch 20 loss_z"):
        main(
            [str(tmp_path / "pair"), "--config-file", str(tmp_path / "small.py"), "--opts", f"{NET}.LOSS_CFG.Z_LW=2.0"]
        )
    assert "TOO FAR" in capsys.readouterr().out
