"""A tiny package that adds a loss, a backbone, a head, an optimizer, a metric and a verb works as ours do."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from sopose.cli.main import main as command
from sopose.core.bop.models import load_models
from sopose.core.bop.records import ImageRecord, Instance
from sopose.core.bop.results import Estimate
from sopose.core.bop.targets import Target
from sopose.core.evaluation.evaluator import evaluate
from sopose.core.geometry.pose import Pose
from sopose.core.utils.errors import UserError
from sopose.main_gdrn import main
from tests.support.builders import criterion_of

PACKAGE = '''
"""Another package."""

import torch
from timm.models._features import FeatureInfo
from torch import nn

from sopose.core.evaluation.metrics import Metric
from sopose.models.geo_head import TopDownMaskXyzRegionHead

EXAMPLES = "examples:\\n  sopose greet you"


def small_rotation(prediction, batch, targets):
    return (prediction.cam_R_obj - targets.cam_R_obj).square().mean()


class Pyramid(nn.Module):
    def __init__(self, channels, in_chans, last):
        super().__init__()
        layers, self.feature_info = [], []
        for stage in range(last + 1):
            layers.append(nn.Sequential(nn.Conv2d(in_chans, channels, 3, 2, 1), nn.ReLU()))
            in_chans = channels
        self.stages = nn.ModuleList(layers)
        info = [{"num_chs": channels, "reduction": 2 ** (k + 1), "module": f"stages.{k}"} for k in range(last + 1)]
        self.feature_info = FeatureInfo(info, (last,))

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        return [x]


def make(model, out_indices, image, own_weights):
    return Pyramid(int(model), image[0], out_indices[-1])


class Sure(TopDownMaskXyzRegionHead):
    def forward(self, features, class_index):
        mask, *others = super().forward(features, class_index)
        return mask + 1, *others


def depth_errors(pairs, model):
    return abs(pairs.est_t[:, 2] - pairs.gt_t[:, 2])


depth = Metric(depth_errors, (0.1, 0.2), of_diameter=True)


def momentum(params, lr, **options):
    return torch.optim.SGD(params, lr, momentum=0.9)


def register_parser(parser):
    parser.add_argument("name")


def handle(args):
    print(f"hello {args.name}")
'''
ENTRIES = """
[sopose.losses]
small_rotation = another:small_rotation

[sopose.backbones]
another = another:make

[sopose.heads]
sure = another:Sure

[sopose.metrics]
depth = another:depth
no_metric = another:depth_errors

[sopose.optimizers]
momentum = another:momentum

[sopose.verbs]
greet = another
broken = another.missing
"""


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "site"
    info = folder / "another-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "another.py").write_text(PACKAGE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: another\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    sys.modules.pop("another", None)


NET = "MODEL.POSE_NET"


def test_what_a_package_adds_trains(package, toy_run, tmp_path):
    words = [
        f"{NET}.LOSS_CFG.PLUGINS=[small_rotation:2.0]",
        f"{NET}.BACKBONE.INIT_CFG.type=another/16",
        f"{NET}.BACKBONE.INIT_CFG.out_indices=[3]",
        f"{NET}.BACKBONE.PRETRAINED=",
        f"{NET}.GEO_HEAD.INIT_CFG.in_dim=16",
        f"{NET}.GEO_HEAD.INIT_CFG.type=sure",
        f"{NET}.SELFOCC_HEAD.INIT_CFG.in_dim=16",
        "SOLVER.OPTIMIZER_CFG={type: momentum, lr: 0.0001, _delete_: True}",
        "SOLVER.TOTAL_EPOCHS=1",
        "DATASETS.TEST=[]",
        f"OUTPUT_DIR={tmp_path / 'out'}",
    ]
    main(["--config-file", str(toy_run["config"]), "--opts", *words])
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.json").read_text().splitlines()]
    assert rows and all(row["loss_small_rotation"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("small_rotatoin:1", "no package adds that loss; did you mean 'small_rotation'"),
        ("small_rotation:much", "must be name:weight"),
        ("small_rotation", "must be name:weight"),
    ],
)
def test_a_loss_that_no_package_adds_is_refused(package, make_plain_config, word, message):
    with pytest.raises(UserError, match=message):
        criterion_of(make_plain_config(f"{NET}.LOSS_CFG.PLUGINS=[{word}]"))


@pytest.fixture
def make_plain_config(toy_run):
    from sopose.settings import load_settings

    return lambda *words: load_settings(toy_run["config"], words)


def test_verbs_are_called_and_broken_ones_say_what_is_missing(package, capsys):
    command(["greet", "you"])
    assert capsys.readouterr().out == "hello you\n"
    with pytest.raises(UserError, match=r"'broken' of the entry points 'sopose.verbs' can't be loaded"):
        command(["broken"])


def test_a_metric_is_a_column_of_scores(package, toy_root):
    from sopose.core.evaluation.tables import format_table

    model = load_models(toy_root / "models", [1])[1]
    pose = Pose(np.eye(3), np.array([0.0, 0.0, 1.0]))
    record = ImageRecord(3, 1, Path("absent.png"), None, 1e-3, np.eye(3), (Instance(model.obj_id, 0, pose),))
    targets = [Target(record.scene_id, record.im_id, model.obj_id, 1)]
    for shift, wanted in ((0.05, 1.0), (0.15, 0.5), (0.25, 0.0)):  # diameters
        off = Pose(np.eye(3), np.array([0.5, 0, 1 + shift * model.diameter]))
        estimates = [Estimate(record.scene_id, record.im_id, model.obj_id, 1.0, off, 0.1)]
        scores = evaluate(estimates, [record], targets, {model.obj_id: model}, (), 640, metrics=["depth", "add"])
        assert scores.objects[0].values["depth"] == wanted
        assert "depth" in format_table(scores).splitlines()[0]
    with pytest.raises(UserError, match="must be a Metric, got a function"):
        evaluate(estimates, [record], targets, {model.obj_id: model}, (), 640, metrics=["no_metric"])
    with pytest.raises(UserError, match="did you mean 'depth'"):
        evaluate(estimates, [record], targets, {model.obj_id: model}, (), 640, metrics=["dept"])
