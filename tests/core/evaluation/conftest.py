"""Fixtures of the tests of core/evaluation."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from sopose.core.bop.scene import ImageRecord, Instance
from sopose.core.bop.targets import make_targets
from tests.support.evaluation_scene import SYMMETRIC, K, World, box_model, random_pose


@pytest.fixture
def world() -> World:
    rng = np.random.default_rng(11)
    models = {
        1: box_model(1, "plain"),
        SYMMETRIC: box_model(SYMMETRIC, "symmetric", symmetries_discrete=[np.diag([-1.0, -1, 1, 1])]),
    }
    records = []
    for im_id in range(4):
        obj_ids = (1, 1, SYMMETRIC) if im_id == 0 else (1, SYMMETRIC)
        instances = tuple(
            Instance(obj_id, index, random_pose(rng), visib_fract=0.9 - 0.1 * index)
            for index, obj_id in enumerate(obj_ids)
        )
        records.append(ImageRecord(3, im_id, Path("absent.png"), None, 0.001, K, instances))
    return World(records, make_targets(records), models)


@pytest.fixture
def toolkit(monkeypatch) -> list[str]:
    """A stand-in with the official package's signatures; the names of the functions that were called."""
    calls: list[str] = []
    pose_error, misc = ModuleType("bop_toolkit_lib.pose_error"), ModuleType("bop_toolkit_lib.misc")

    def symmetries(info, step):
        assert step == 0.01
        discrete = [np.array(S).reshape(4, 4) for S in info.get("symmetries_discrete", [])]
        return [{"R": S[:3, :3], "t": S[:3, 3:]} for S in (np.eye(4), *discrete)]

    def points_of(R_e, t_e, R_g, t_g, pts, sym=None):
        assert t_e.shape == (3, 1) and np.abs(pts).max() > 10, "millimetres"
        sym = {"R": np.eye(3), "t": np.zeros((3, 1))} if sym is None else sym
        return R_e @ pts.T + t_e, R_g @ (sym["R"] @ pts.T + sym["t"]) + t_g

    def add(*args):
        calls.append("add")
        est, gt = points_of(*args)
        return np.linalg.norm(est - gt, axis=0).mean()

    def adi(*args):
        calls.append("adi")
        est, gt = points_of(*args)
        return np.linalg.norm(gt[:, :, None] - est[:, None], axis=0).min(axis=1).mean()

    def mssd(R_e, t_e, R_g, t_g, pts, syms):
        calls.append("mssd")
        pairs = (points_of(R_e, t_e, R_g, t_g, pts, sym) for sym in syms)
        return min(np.linalg.norm(est - gt, axis=0).max() for est, gt in pairs)

    def mspd(R_e, t_e, R_g, t_g, K, pts, syms):
        calls.append("mspd")
        pairs = ([K @ p for p in points_of(R_e, t_e, R_g, t_g, pts, sym)] for sym in syms)
        return min(np.linalg.norm(e[:2] / e[2] - g[:2] / g[2], axis=0).max() for e, g in pairs)

    pose_error.add, pose_error.adi, pose_error.mssd, pose_error.mspd = add, adi, mssd, mspd
    misc.get_symmetry_transformations = symmetries
    package = ModuleType("bop_toolkit_lib")
    package.pose_error, package.misc = pose_error, misc
    for name, module in (("", package), (".pose_error", pose_error), (".misc", misc)):
        monkeypatch.setitem(sys.modules, f"bop_toolkit_lib{name}", module)
    return calls
