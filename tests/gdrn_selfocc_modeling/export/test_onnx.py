"""An exported network is the network: the same poses, on its own, for any number of ROIs, and clear words otherwise."""

from __future__ import annotations

import copy
import hashlib
import json
import subprocess
import sys
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from sopose.batch import Prediction, RoiBatch
from sopose.core.bop.results import read_results
from sopose.core.bop.scene import read_rgb
from sopose.core.engine.checkpoint import read_checkpoint
from sopose.core.engine.facts import FACTS
from sopose.core.engine.integrity import GRAPH_CHECKSUM, is_sealed_and_damaged, sealed_graph
from sopose.core.engine.onnx_runtimes import open_session
from sopose.core.geometry.pose import Pose
from sopose.core.utils.errors import UserError
from sopose.data.eval_set import EvalSet
from sopose.data.roi_input import RoiFormat, build_roi_format
from sopose.export import network_files
from sopose.export.network_files import ExportOptions, rois_of, run_export
from sopose.export.onnx_check import TOLERANCE, differences, made_up_rois
from sopose.export.onnx_graph import export_graph, finish_graph, open_graph
from sopose.inference.crops import CropFormat
from sopose.inference.estimator import PoseEstimator
from sopose.inference.found import Box
from sopose.inference.onnx_network import read_onnx
from sopose.inference.torch_networks import AsModule
from sopose.main_gdrn import main
from sopose.models.pose_decoder import PoseDecoder
from sopose.settings import load_settings
from tests.support.builders import eval_set_of, model_of
from tests.support.command import verb
from tests.support.shared import shared_folder

write_onnx = verb("export")

onnx = pytest.importorskip("onnx")
CONFIG, WEIGHTS = "configs/gdrn_selfocc/toy/demo.py", "configs/gdrn_selfocc/toy/demo.safetensors"


@pytest.fixture(scope="module")
def weights(repository) -> Path:
    """The demo's weights, with all their facts."""
    return repository / WEIGHTS


@pytest.fixture(scope="module")
def export(weights, toy_root, tmp_path_factory):
    """`export(*words)`: the demo's weights as an .onnx file, by the command line.

    Tracing the network takes longer than all else, and most files begin with the same graph: it is traced once.
    """
    traced: dict[tuple[torch.dtype, bool], onnx.ModelProto] = {}

    def trace_once(model: nn.Module, rois: RoiBatch, maps: bool = False) -> onnx.ModelProto:
        key = next(model.parameters()).dtype, maps
        if key not in traced:
            traced[key] = export_graph(model, rois, maps)
        return copy.deepcopy(traced[key])

    def write(*words: str) -> Path:
        def make(folder: Path) -> None:
            output = ["--output", str(folder / "model.onnx"), "--dataset-root", str(toy_root.parent)]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(network_files, "export_graph", trace_once)
                write_onnx(["--checkpoint", str(weights), *output, *words])

        return shared_folder(tmp_path_factory, "-".join(["onnx", *words]), make) / "model.onnx"

    return write


@pytest.fixture(scope="module")
def options(repository, toy_root, tmp_path_factory) -> list[str]:
    """Overrides for an evaluation of the demo on the small toy set."""
    folder = tmp_path_factory.mktemp("evaluated")
    alone = ["MODEL.DEVICE=cpu", "VAL.REPORT_CASES=0", "TEST.REFINE.ITERATIONS=0"]  # no second looks
    return [f"DATASETS.ROOT={toy_root.parent}", f"OUTPUT_DIR={folder}", *alone]


@pytest.fixture(scope="module")
def evaluate(repository, options, tmp_path_factory):
    """`evaluate(file, *overrides)`: the estimates of `--eval-only`."""

    def run(path: Path, *more: str) -> list[Any]:
        folder = tmp_path_factory.mktemp("scores")
        words = [*options, f"OUTPUT_DIR={folder}", f"MODEL.WEIGHTS={path}", *more]
        main(["--config-file", str(repository / CONFIG), "--eval-only", "--opts", *words])
        return read_results(next(folder.rglob("*.csv")))

    return run


@pytest.fixture(scope="module")
def test_set(repository, options) -> EvalSet:
    return eval_set_of(load_settings(repository / CONFIG, options), "toy_test")


@pytest.fixture(scope="module")
def photo(test_set) -> tuple[np.ndarray, np.ndarray, list[Box]]:
    """An image, its K, and the boxes of its objects."""
    record = test_set.source.items[0].record
    names = test_set.spec.object_names
    here = [item for item in test_set.source.items if item.record.im_id == record.im_id]
    return read_rgb(record)[..., ::-1], record.K, [Box(names[item.obj_id], item.box) for item in here]


def assert_same(found: list[Pose], wanted: list[Pose]) -> None:
    assert len(found) == len(wanted) > 0
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one.cam_R_obj, other.cam_R_obj, rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(one.cam_t_obj, other.cam_t_obj, rtol=0, atol=TOLERANCE)


def test_the_poses_are_those_of_torch_and_of_an_evaluation(export, evaluate, weights, test_set):
    path = export()
    wanted = [estimate.pose for estimate in evaluate(weights)]
    assert_same([estimate.pose for estimate in evaluate(path)], wanted)
    names = test_set.spec.object_names
    for kind in (weights, path):
        estimator, found = PoseEstimator.from_checkpoint(kind, "cpu"), []
        for item in test_set.source.items:
            box = Box(names[item.obj_id], item.box)
            found += [pose.pose for pose in estimator(read_rgb(item.record)[..., ::-1], item.record.K, [box])]
        assert_same(found, wanted)


def test_any_number_of_rois(export, weights):
    estimator, exported = (PoseEstimator.from_checkpoint(path, "cpu") for path in (weights, export()))
    batches = [made_up_rois(estimator, count, seed=count) for count in (1, 2, 3, 8, 17)]
    found = differences(estimator.network.model, AsModule(exported.network), batches)
    assert len(found.angles) == 31 and found.small, found.largest()


def test_the_file_says_all_that_the_checkpoint_says(export, weights):
    path = export()
    session = open_session(path)
    metadata = session.metadata
    stored = read_checkpoint(weights)[FACTS]
    facts = json.loads(metadata["facts"])
    assert {key: facts[key] for key in ("settings", "models", "focal")} == {
        key: json.loads(json.dumps(stored[key])) for key in ("settings", "models", "focal")
    }
    estimator = PoseEstimator.from_checkpoint(weights, "cpu")
    crop = json.loads(metadata["crop"])
    assert crop["pad_scale"] == estimator.crops.pad_scale
    assert tuple(crop["focal"]) == estimator.crops.focal
    assert {**crop, **json.loads(json.dumps(asdict(estimator.crops.roi)))} == crop
    # Only what the network reads: it knows one map for all classes, and P in extents.
    assert "extent" not in session.inputs
    assert "/gdrn.py" not in path.read_bytes().decode("latin1")


@pytest.mark.slow
def test_maps_are_given_where_asked_for(export, weights, photo):
    rgb, K, boxes = photo
    path = export("--maps")
    ours, theirs = (PoseEstimator.from_checkpoint(p, "cpu", ["TEST.USE_PNP=True"]) for p in (weights, path))
    rois = ours.make_rois(rgb, K, boxes)
    one, other = ours.network(rois), theirs.network(rois)
    assert isinstance(other, Prediction)
    for name in ("mask", "xyz", "region", "q", "cam_R_raw", "trans_raw"):
        np.testing.assert_allclose(getattr(other, name), getattr(one, name), rtol=0, atol=1e-3)
    assert all(np.isfinite(pose.cam_t_obj).all() for pose in theirs(rgb, K, boxes))


@pytest.mark.slow
def test_a_network_whose_poses_come_from_pnp_keeps_its_maps(repository, tmp_path):
    weights = repository / "configs" / "gdrn_selfocc" / "lmo" / "cad_only_cpu.safetensors"
    run_export(ExportOptions(weights, tmp_path / "can.onnx"))
    network, _ = read_onnx(tmp_path / "can.onnx", "cpu")
    assert network.has_maps
    PoseEstimator.from_checkpoint(tmp_path / "can.onnx", "cpu")  # with PnP, as its configuration says


def test_without_maps_there_is_no_pnp_and_no_picture(export, repository, options):
    with pytest.raises(UserError, match="export it with --maps"):
        PoseEstimator.from_checkpoint(export(), "cpu", ["TEST.USE_PNP=True"])
    words = [*options, f"MODEL.WEIGHTS={export()}", "VAL.REPORT_CASES=2"]
    with pytest.raises(UserError, match=r"VAL\.REPORT_CASES=0"):
        main(["--config-file", str(repository / CONFIG), "--eval-only", "--opts", *words])


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--fp16"], ["--int8", "--calibration", "toy_train"]])
def test_fewer_bits_cost_little(export, weights, test_set, words, capsys):
    path = export(*words)
    assert "off torch's float32 on" in capsys.readouterr().out
    whole, reduced = PoseEstimator.from_checkpoint(weights, "cpu"), PoseEstimator.from_checkpoint(path, "cpu")
    found = differences(whole.network.model, AsModule(reduced.network), rois_of(test_set))
    assert np.median(found.angles) < 1.5 and np.median(found.shifts) < 2e-3, found.spread()
    assert path.stat().st_size < 0.95 * export().stat().st_size


class Regressor(nn.Module):
    """The least network: a convolution, and the decoder that ends every graph."""

    def __init__(self, decoder: PoseDecoder) -> None:
        super().__init__()
        self.backbone, self.decoder = nn.Conv2d(3, decoder.rot_dim + 3, 8, stride=8), decoder

    def forward(self, rois: RoiBatch) -> Prediction:
        raw = self.backbone(rois.image).mean(dim=(2, 3))
        turned, cam_R_obj, cam_t_obj = self.decoder(raw[:, :-3], raw[:, -3:], rois)
        return Prediction(raw, raw, None, None, None, turned, cam_R_obj, cam_t_obj, raw[:, -3:])


# Each parametrisation once, two in either frame.
EACH_ROTATION = ("allo_rot6d", "allo_log_quat", "ego_quat", "ego_lie_vec")
TRANSLATIONS = cycle([("centroid_z", "REL"), ("centroid_z", "ABS"), ("trans", "REL")])


@pytest.mark.parametrize(
    ("rot_type", "trans_type", "z_type"),
    [
        pytest.param(rot_type, *translation, marks=[] if rot_type == EACH_ROTATION[0] else pytest.mark.slow)
        for rot_type, translation in zip(EACH_ROTATION, TRANSLATIONS, strict=False)
    ],
)
def test_every_kind_of_pose_can_be_described(make_ellipsoids, rot_type, trans_type, z_type):
    torch.manual_seed(0)
    model = Regressor(PoseDecoder(rot_type, trans_type, z_type)).eval()
    exported = open_graph(
        finish_graph(export_graph(model, make_ellipsoids(2)[0]), {}, CropFormat(RoiFormat(), 1.5), "")
    )
    found = differences(model, exported, [make_ellipsoids(count, seed=count)[0] for count in (1, 2, 5)])
    assert found.small and found.entries.size == 8, found.largest()


NET = "MODEL.POSE_NET"
NETWORKS = {
    "one layer, in pixels": [f"{NET}.SELFOCC_HEAD.ENABLED=False", f"{NET}.PNP_NET.TRANS_TYPE=centroid_z_abs"],
    "class aware, bins": [
        f"{NET}.NUM_CLASSES=3",
        *(f"{NET}.GEO_HEAD.{key}_CLASS_AWARE=True" for key in ("XYZ", "MASK")),
        *(f"{NET}.LOSS_CFG.XYZ_LOSS_TYPE='CE_coor'", f"{NET}.GEO_HEAD.XYZ_BIN=8"),
        *(f"{NET}.PNP_NET.INIT_CFG.type=SimplePointPnPNet", f"{NET}.PNP_NET.MASK_ATTENTION=mul"),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("overrides", NETWORKS.values(), ids=NETWORKS.keys())
def test_other_networks_can_be_described(make_small_config, make_ellipsoids, overrides):
    torch.manual_seed(3)
    cfg = make_small_config(*overrides)
    model = model_of(cfg, pretrained=False).eval()
    with torch.no_grad():  # a pose that depends on what is seen
        for layer in (model.pnp_net.fc1, model.pnp_net.fc2):
            nn.init.kaiming_normal_(layer.weight)
    crops = CropFormat(build_roi_format(cfg.input, cfg.model), 1.5)
    exported = open_graph(finish_graph(export_graph(model, make_ellipsoids(2)[0]), {}, crops, "fp32"))
    found = differences(model, exported, [make_ellipsoids(count, seed=count)[0] for count in (1, 2, 5)])
    assert found.small and found.entries.size == 8, found.largest()
    assert ("class_index" in exported.network.inputs) == ("class" in str(overrides).lower())


def test_the_example_needs_no_torch_and_gives_the_same(export, repository, weights, photo, tmp_path):
    rgb, K, boxes = photo
    cv2.imwrite(str(tmp_path / "photo.png"), rgb[..., ::-1])
    (wanted,) = PoseEstimator.from_checkpoint(weights, "cpu")(rgb, K, boxes[:1])
    words = [
        *(str(export()), str(tmp_path / "photo.png"), "--K", f"{K[0, 0]},{K[1, 1]},{K[0, 2]},{K[1, 2]}"),
        *("--box", ",".join([boxes[0].object, *map(str, map(float, boxes[0].xyxy))])),
    ]
    script = repository / "docs" / "onnx_example.py"
    code = (
        f"import runpy, sys; sys.argv = {['onnx_example.py', *words]!r}; runpy.run_path({str(script)!r}, "
        "run_name='__main__'); assert not {'torch', 'core', 'gdrn_selfocc_modeling'} & set(sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert_same([Pose(np.array(found["cam_R_obj"]), np.array(found["cam_t_obj"]))], [wanted.pose])


def foreign_graph() -> bytes:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    other = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [value], [other])
    opsets = [onnx.helper.make_opsetid("", 20)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def changed(content: bytes, key: str, value: str | None) -> bytes:
    """The file with another text, or none, as metadata, and a checksum that fits."""
    model = onnx.ModelProto.FromString(content)
    kept = [entry for entry in model.metadata_props if entry.key not in (key, GRAPH_CHECKSUM)]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    if value is not None:
        model.metadata_props.add(key=key, value=value)
    return sealed_graph(model.SerializeToString())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: b"no graph", "is no .onnx file that onnxruntime can run"),
        (lambda content: content[: len(content) // 2], "is no .onnx file that onnxruntime can run"),
        (lambda content: b"", "is no .onnx file"),
        (lambda content: foreign_graph(), "is of other software"),
        (lambda content: changed(content, "facts", None), "doesn't say what it needs to run alone"),
        (lambda content: changed(content, "facts", "{"), "is no json"),
        (lambda content: changed(content, "facts", "[1]"), "doesn't say what it needs"),
        (lambda content: changed(content, "facts", '{"settings": {"A": 1}, "models": [3]}'), "'A'"),
    ],
)
def test_a_file_that_is_none_of_ours_is_reported(export, tmp_path, change, message):
    path = tmp_path / "a.onnx"
    path.write_bytes(change(export().read_bytes()))
    with pytest.raises(UserError, match=message) as caught:
        PoseEstimator.from_checkpoint(path, "cpu")
    assert "\n" not in str(caught.value)


def test_damage_anywhere_in_the_file_is_reported(export, tmp_path):
    content, path = export().read_bytes(), tmp_path / "a.onnx"
    weights = onnx.load(export()).graph.initializer
    largest = max(weights, key=lambda tensor: len(tensor.raw_data)).raw_data
    amid = content.index(largest) + len(largest) // 2
    changes = [(amid, 1), (amid, 0x80), *((int(share * len(content)), 4) for share in np.linspace(0, 1, 7, False))]
    for place, bits in changes:
        path.write_bytes(content[:place] + bytes([content[place] ^ bits]) + content[place + 1 :])
        with pytest.raises(UserError, match=r"is damaged|is no \.onnx file") as caught:
            read_onnx(path)
        assert place != amid or "is damaged: its checksum differs" in str(caught.value)
    path.write_bytes(content + foreign_graph())  # what is joined on is read as parts of the same message
    with pytest.raises(UserError):
        read_onnx(path)


def test_the_checksum_is_metadata_for_anybody_and_foreign_files_need_none():
    graph = foreign_graph()
    (entry,) = onnx.ModelProto.FromString(sealed_graph(graph)).metadata_props
    assert (entry.key, entry.value) == (GRAPH_CHECKSUM, hashlib.sha256(graph).hexdigest())
    assert not is_sealed_and_damaged(graph, {})
    assert not is_sealed_and_damaged(sealed_graph(graph), {GRAPH_CHECKSUM: ""})
    assert is_sealed_and_damaged(b"", {GRAPH_CHECKSUM: ""})


def test_a_missing_file_and_a_missing_device_are_reported(export, tmp_path):
    with pytest.raises(UserError, match="is missing"):
        PoseEstimator.from_checkpoint(tmp_path / "none.onnx")
    with pytest.raises(UserError, match="has no CUDA"):
        PoseEstimator.from_checkpoint(export(), "cuda")


def test_a_graph_that_differs_is_not_written(export, weights, tmp_path, monkeypatch):
    def broken(*_: Any) -> Any:
        model = onnx.load(export())
        bias = next(i for i in model.graph.initializer if i.name.endswith("pnp_net.fc_t.bias"))
        values = onnx.numpy_helper.to_array(bias) + np.float32(1e-2)
        bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
        return model

    monkeypatch.setattr(network_files, "export_graph", broken)
    with pytest.raises(UserError, match="nothing was written"):
        write_onnx(["--checkpoint", str(weights), "--output", str(tmp_path / "a.onnx")])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "a.pt"], "must end in .onnx"),
        (["--output", "a.onnx", "--split", "toy_tset"], "toy_tset"),
        (["--output", "a.onnx", "--checkpoint", "b.onnx"], "exported already"),
    ],
)
def test_wrong_words_are_reported(weights, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        write_onnx(["--checkpoint", str(weights), *words])
    assert not list(tmp_path.iterdir())
