"""Fixtures for tests of the method: small configurations and ROIs of ellipsoids with analytic P and Q."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sopose.batch import Prediction, RoiBatch, RoiTargets, collate
from sopose.core.bop.models import load_models
from sopose.core.geometry.rotation import random_rotation
from sopose.core.objects.model import ObjectModel
from sopose.settings import Settings, load_settings

Roi = tuple[RoiBatch, RoiTargets]


@pytest.fixture(scope="session")
def make_config(repository: Path) -> Callable[..., Settings]:
    """`make_config("KEY=VALUE", ...)`: the settings of the LM-O configuration with overrides."""

    def make(*overrides: str) -> Settings:
        return load_settings(repository / "configs/gdrn_selfocc/lmo/gdrn_selfocc_multistep_40E.py", overrides)

    return make


@pytest.fixture(scope="session")
def make_small_config(make_config: Callable[..., Settings]) -> Callable[..., Settings]:
    """The LM-O configuration with a network that a CPU runs in milliseconds: 64² in, 32² out."""
    net = "MODEL.POSE_NET"
    heads = [
        f"{net}.{head}.INIT_CFG.{value}"
        for head in ("GEO_HEAD", "SELFOCC_HEAD")
        for value in ("in_dim=256", "feat_dim=32", "num_gn_groups=8")
    ]
    small = [
        f"{net}.INPUT_RES=64",
        f"{net}.OUTPUT_RES=32",
        f"{net}.BACKBONE.PRETRAINED=''",
        f"{net}.BACKBONE.INIT_CFG.type='timm/resnet10t'",
        f"{net}.BACKBONE.INIT_CFG.out_indices=(3,)",
        *heads,
    ]
    return lambda *overrides: make_config(*small, *overrides)


def tensor(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(x, np.float32))


def chw(x: np.ndarray) -> torch.Tensor:
    """(h, w, C) as a (C, h, w) float32 tensor."""
    return tensor(np.moveaxis(x, -1, 0))


def ellipsoid_maps(half: np.ndarray, o: np.ndarray, d: np.ndarray) -> dict[str, torch.Tensor]:
    """Exact maps of an ellipsoid of semi-axes `half`, from `o` (3,) along `d` (h, w, 3) of its frame."""
    a, b, c = ((d / half) ** 2).sum(-1), (d * o / half**2).sum(-1), ((o / half) ** 2).sum() - 1
    root = b**2 - a * c
    mask = root > 0
    depth = (-b - np.sqrt(np.maximum(root, 0))) / a
    P = np.where(mask[..., None], o + depth[..., None] * d, 0.0)
    plane_depth = -o / d  # (h, w, plane)
    Q = o + plane_depth[..., None] * d[:, :, None]  # (h, w, plane, xyz)
    valid = mask[..., None] & (plane_depth > 0) & (np.abs(Q) < half).all(-1)
    pairs = [[1, 2], [0, 2], [0, 1]]
    Q6 = np.concatenate([Q[..., k, pair] / (2 * half[pair]) + 0.5 for k, pair in enumerate(pairs)], -1)
    padded = np.pad(mask, 1, constant_values=True)
    erode = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return {
        "P": chw(P / (2 * half) + 0.5),
        "Q": chw(np.where(np.repeat(valid, 2, -1), Q6, 0)),
        "mask_obj": tensor(mask),
        "mask_visib": tensor(mask),
        "mask_trunc": tensor(mask),
        "mask_erode": tensor(erode),
        "q_mask": chw(valid & erode[..., None]),
        "region": torch.from_numpy(np.where(mask, 1 + ((P > 0) * [32, 16, 8]).sum(-1), 0)),
    }


def make_ellipsoid_roi(rng: np.random.Generator, out: int = 32, num_points: int = 64) -> Roi:
    """One unbatched ROI of a random ellipsoid in a 640 x 480 image; exact in float64, then rounded."""
    K = np.array([[600.0, 0, 320], [0, 590, 240], [0, 0, 1]])
    half = rng.uniform(0.03, 0.08, 3)  # semi-axes, metres
    R = random_rotation(rng)
    t = np.array([*rng.uniform(-0.1, 0.1, 2), rng.uniform(0.5, 0.9)])
    center = (K @ t)[:2] / t[2] + rng.uniform(-3, 3, 2)
    wh = np.full(2, 1.6 * K[0, 0] * half.max() / t[2]) * rng.uniform(0.8, 1.2, 2)
    side = 1.5 * wh.max()
    cells = np.stack(np.meshgrid(np.arange(out), np.arange(out)), -1)
    pixel = center + (cells - out / 2) * side / out  # (out, out, 2)
    rays = np.concatenate([pixel, np.ones((out, out, 1))], -1) @ np.linalg.inv(K).T
    maps = ellipsoid_maps(half, -R.T @ t, rays @ R)
    shade = torch.where(maps["mask_obj"] > 0, maps["P"], 0.2)
    batch = RoiBatch(
        image=shade.repeat_interleave(2, 1).repeat_interleave(2, 2),
        roi_coord_2d=chw(pixel / [639, 479]),
        K=tensor(K),
        box_center=tensor(center),
        box_wh=tensor(wh),
        resize_ratio=tensor(out / side),
        extent=tensor(2 * half),
        class_index=torch.tensor(int(rng.integers(3))),
    )
    points = rng.standard_normal((num_points, 3))
    targets = RoiTargets(
        **maps,
        cam_R_obj=tensor(R),
        cam_t_obj=tensor(t),
        trans_ratio=tensor([*(((K @ t)[:2] / t[2] - center) / wh), t[2] * side / out]),
        pixel=chw(pixel),
        model_points=tensor(half * points / np.linalg.norm(points, axis=1, keepdims=True)),
        symmetry_rotations=torch.eye(3)[None],
    )
    return batch, targets


@pytest.fixture(scope="session")
def make_ellipsoids() -> Callable[..., Roi]:
    """`make_ellipsoids(count, seed=0, out=32)`: a collated batch of ROIs and their targets."""

    def make(count: int, seed: int = 0, out: int = 32) -> Roi:
        rng = np.random.default_rng(seed)
        rois, targets = zip(*(make_ellipsoid_roi(rng, out) for _ in range(count)), strict=True)
        return collate(rois), collate(targets)

    return make


@pytest.fixture(scope="session")
def predict_truth() -> Callable[[RoiTargets], Prediction]:
    """`predict_truth(targets)`: the prediction of a network that is never wrong, with certain region logits."""

    def predict(targets: RoiTargets) -> Prediction:
        regions = torch.nn.functional.one_hot(targets.region, 65).movedim(-1, 1).float()
        return Prediction(
            mask=targets.mask_trunc[:, None].clone(),
            xyz=targets.P.clone(),
            region=40 * regions,
            q=targets.Q.clone(),
            q_mask=None,
            cam_R_raw=targets.cam_R_obj.clone(),
            cam_R_obj=targets.cam_R_obj.clone(),
            cam_t_obj=targets.cam_t_obj.clone(),
            trans_raw=targets.trans_ratio.clone(),
        )

    return predict


@pytest.fixture
def make_bare_split(toy_root: Path, tmp_path: Path) -> Callable[..., Path]:
    """`make_bare_split(repeats)`: a data set whose split `train` is the toy one's poses alone, repeated as more images.

    It has no images, masks or scene_gt_info.json. Returns its folder.
    """

    def make(repeats: int = 1) -> Path:
        root = tmp_path / "bare"
        scene = root / "train" / "000001"
        scene.mkdir(parents=True)
        for name in ("models", "camera.json"):
            (root / name).symlink_to(toy_root / name)
        for name in ("scene_camera.json", "scene_gt.json"):
            images = list(json.loads((toy_root / "train" / "000001" / name).read_text()).values())
            (scene / name).write_text(json.dumps(dict(enumerate(images * repeats))))
        return root

    return make


@pytest.fixture(scope="session")
def models(toy_root: Path) -> dict[int, ObjectModel]:
    """The toy objects by id."""
    return load_models(toy_root / "models")
