"""Detectors from files: the same boxes as before, and one line for whatever is wrong with a file."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch

from sopose.core.bop.detections import Detection, read_detections, write_detections
from sopose.core.bop.targets import make_targets
from sopose.core.detection import model
from sopose.core.detection.draw import RIGHT_IOU, box_overlap, draw_found, judge
from sopose.core.detection.evaluate import detect_images, evaluate_detections, report
from sopose.core.detection.facts import DetectorFacts, read_facts
from sopose.core.detection.infer import Detector, FoundObject
from sopose.core.detection.model import fast_copy
from sopose.core.detection.on_torch import TorchHeads, save_detector
from sopose.core.utils.errors import UserError


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (72, 96, 3), dtype=np.uint8)


def in_numbers(found: list[FoundObject]) -> list[tuple[str, float, list[float]]]:
    return [(item.object, item.score, item.box.tolist()) for item in found]


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_file_is_all_that_is_needed(small_detector, image, tmp_path, suffix):
    path = tmp_path / f"detector.{suffix}"
    save_detector(small_detector.heads.network, small_detector.facts, path)
    again = Detector.from_checkpoint(path)
    assert again.facts == small_detector.facts
    found = small_detector(image, 0.0, 5)
    assert len(found) > 1
    assert in_numbers(found) == in_numbers(again(image, 0.0, 5))


def test_boxes_scale_with_the_image(small_detector, image):
    """An image of twice as many pixels shows the network the same."""
    twice = image.repeat(2, axis=0).repeat(2, axis=1)
    one, two = small_detector(image, 0.0, 9), small_detector(twice, 0.0, 9)
    assert [item.score for item in one] == [item.score for item in two]
    boxes, larger = (np.array([item.box for item in found]) for found in (one, two))
    inside = (boxes > 0) & (boxes < [95, 71, 95, 71])  # the others are where both images end
    assert inside.any()
    np.testing.assert_allclose(larger[inside], 2 * (boxes[inside] + 0.5) - 0.5, atol=1e-9)


def test_found_are_few_sorted_and_within_the_image(small_detector, image):
    found = small_detector(image, 0.0, 2)
    scores = [item.score for item in found]
    assert scores == sorted(scores, reverse=True)
    assert max(Counter(item.object for item in found).values()) == 2
    for item in found:
        assert (item.box >= 0).all() and (item.box <= [95, 71, 95, 71]).all() and (item.box[2:] > item.box[:2]).all()
    cut = small_detector(image, scores[1], 2)
    assert [item.score for item in cut] == [score for score in scores if score >= scores[1]]
    assert small_detector(image, 1.1) == []


@pytest.fixture
def seasoned_detector(small_detector) -> Detector:
    """A detector whose batch norms have seen something."""
    torch.manual_seed(0)
    for part in small_detector.heads.network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.uniform_(-0.5, 0.5)
            part.running_var.uniform_(0.5, 2)
    return Detector(TorchHeads(small_detector.heads.network), small_detector.facts)


def asked(network: torch.nn.Module, image: np.ndarray) -> dict[str, torch.Tensor]:
    """What a network says of an image before anything is chosen."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)[:, :64, :96].float() / 255
    with torch.inference_mode():
        maps = list(network.backbone(pixels[None]).values())
        return network.head(maps)


def norms_of(network: torch.nn.Module) -> list[torch.nn.Module]:
    return [part for part in network.modules() if isinstance(part, torch.nn.BatchNorm2d)]


def test_the_copy_that_is_asked_says_what_the_network_says(seasoned_detector, image):
    """On a CPU batch norms behind a convolution are folded away, in the copy alone."""
    network = seasoned_detector.heads.network
    copied, before = fast_copy(network, False), len(norms_of(network))
    one, other = (asked(net, image) for net in (copied, network))
    for name, values in other.items():
        torch.testing.assert_close(one[name], values, rtol=1e-4, atol=1e-5)
    assert len(norms_of(copied)) < before / 2 and len(norms_of(network)) == before


def test_bfloat16_changes_little(seasoned_detector, image, monkeypatch):
    monkeypatch.setattr(model, "has_fast_bfloat16", lambda: True)
    half = fast_copy(seasoned_detector.heads.network, True)
    one, other = (asked(net, image) for net in (half, seasoned_detector.heads.network))
    for name, values in other.items():
        off = (one[name] - values).abs()
        assert one[name].dtype == torch.float32 and 0 < off.mean() < 0.02 * values.abs().mean()
    monkeypatch.setattr(model, "has_fast_bfloat16", lambda: False)
    whole = fast_copy(seasoned_detector.heads.network, True)
    assert {values.dtype for values in whole.parameters()} == {torch.float32}


def test_a_smaller_input_still_gives_boxes_of_the_image(small_detector, image):
    smaller = Detector(TorchHeads(small_detector.heads.network), small_detector.facts, side=64)
    boxes = np.array([item.box for item in smaller(image, 0.0, 9)])
    assert len(boxes) and (boxes >= 0).all() and (boxes <= [95, 71, 95, 71]).all() and boxes[:, 2].max() > 64
    with pytest.raises(UserError, match="side must be"):
        Detector(TorchHeads(small_detector.heads.network), small_detector.facts, side=8)


@pytest.mark.parametrize("shape", [(1, 300, 3), (300, 1, 3), (1, 1, 3)])
def test_thin_images_are_no_error(small_detector, shape):
    small_detector(np.zeros(shape, np.uint8), 0.0)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)],
)
def test_anything_but_an_image_is_refused(small_detector, wrong):
    with pytest.raises(UserError, match="an image must be"):
        small_detector(wrong)


WRONG_FACTS = {
    "another kind": ({"kind": "pose"}, "is no detector"),
    "another version": ({"version": 2}, "version 2"),
    "no names": ({"objects": []}, "must be 1 to 10000 objects"),
    "names twice": ({"objects": ["a", "a", "b", "c"]}, "name of its own"),
    "names that are numbers": ({"objects": [1, 2, 3, 4]}, "'objects' must be a list"),
    "control characters": ({"objects": ["a\x1b[2J", "b", "c", "d"]}, "must be names"),
    "fewer ids": ({"obj_ids": [1]}, "give one for each"),
    "an id that is true": ({"obj_ids": [True, 2, 3, 4]}, "'obj_ids' must be a list"),
    "a negative id": ({"obj_ids": [-1, 2, 3, 4]}, "BOP's ids"),
    "a huge input": ({"side": 10**9}, "side must be"),
    "a side in words": ({"side": "large"}, "'side' is a str"),
    "many channels": ({"channels": 2**40}, "channels must be"),
    "another network": ({"channels": 64}, "lacks backbone.fpn"),
    "a large network": ({"backbone": "vit_giant_patch14_dinov2"}, "no maps of strides"),
    "a larger network": ({"backbone": "resnet101"}, "lacks backbone.body"),
    "another library's": ({"backbone": "hf-hub:a/b"}, "no model of timm"),
    "no deviation": ({"pixel_std": [1.0, 0.0, 1.0]}, "std above zero"),
    "no finite mean": ({"pixel_mean": [1.0, float("inf"), 1.0]}, "three levels"),
}


@pytest.mark.parametrize("case", WRONG_FACTS)
def test_a_file_that_says_what_cannot_be_is_refused(small_detector, tmp_path, case):
    wrong, message = WRONG_FACTS[case]
    path = tmp_path / "detector.safetensors"
    facts = json.dumps(small_detector.facts.plain() | wrong)
    weights = {name: value.contiguous() for name, value in small_detector.heads.network.state_dict().items()}
    safetensors.torch.save_file(weights, path, metadata={"facts": facts})
    with pytest.raises(UserError, match=message) as caught:
        Detector.from_checkpoint(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_files_that_lack_or_spoil_weights_are_refused(small_detector, tmp_path):
    path = tmp_path / "detector.pth"
    state = {"facts": small_detector.facts.plain(), "model": dict(small_detector.heads.network.state_dict())}
    name = "head.classification_head.cls_logits.weight"
    spoilt = state["model"][name].clone()
    spoilt[0, 0] = torch.nan
    for weights, message in (
        ({name: spoilt}, "no finite numbers"),
        ({name: state["model"][name][:1]}, f"lacks {name}"),
        ({name: spoilt[:1, :1, :1, :1].expand(spoilt.shape)}, "no finite numbers"),
    ):
        torch.save(state | {"model": state["model"] | weights}, path)
        with pytest.raises(UserError, match=message):
            Detector.from_checkpoint(path)
    torch.save({"facts": small_detector.facts.plain(), "model": {}}, path)
    with pytest.raises(UserError, match="holds no weights"):
        Detector.from_checkpoint(path)


def test_pickled_objects_and_other_files_are_refused(small_detector, tmp_path):
    path = tmp_path / "detector.pth"
    torch.save({"facts": small_detector.facts, "model": {}}, path)
    with pytest.raises(UserError, match="not opened for safety"):
        Detector.from_checkpoint(path)
    path.write_bytes(b"no detector")
    with pytest.raises(UserError, match="not a file of weights"):
        Detector.from_checkpoint(path)
    with pytest.raises(UserError, match="is missing"):
        Detector.from_checkpoint(tmp_path / "nothing.safetensors")


def test_facts_come_back(small_facts):
    assert read_facts(json.loads(json.dumps(small_facts.plain())), "x") == small_facts
    with pytest.raises(UserError, match="needs the key 'side'"):
        read_facts({key: value for key, value in small_facts.plain().items() if key != "side"}, "x")
    with pytest.raises(UserError, match="ids"):
        DetectorFacts(("a", "b"), (1,))


def perfect(records) -> list[Detection]:
    return [
        Detection(record.scene_id, record.im_id, item.obj_id, item.bbox_visib, 0.9)
        for record in records
        for item in record.instances
        if item.bbox_visib is not None
    ]


def test_true_boxes_have_an_ap_of_1(toy_records):
    scores = evaluate_detections(perfect(toy_records), toy_records, make_targets(toy_records))
    assert scores["modal"].ap == pytest.approx(1.0) and scores["modal"].ar100 == pytest.approx(1.0)
    moved = [replace(item, bbox=item.bbox + 0.25 * (item.bbox[2] - item.bbox[0])) for item in perfect(toy_records)]
    assert evaluate_detections(moved, toy_records, make_targets(toy_records))["modal"].ap < 0.3


def test_nothing_found_is_an_ap_of_0(toy_records):
    assert evaluate_detections([], toy_records, make_targets(toy_records))["modal"].ap == 0


def test_a_split_without_boxes_has_no_ap(toy_records, caplog):
    bare = [
        replace(r, instances=tuple(replace(i, bbox_obj=None, bbox_visib=None, visib_fract=None) for i in r.instances))
        for r in toy_records
    ]
    assert evaluate_detections(perfect(toy_records), bare, make_targets(toy_records)) == {}
    assert "no AP" in caplog.text


def test_images_without_ground_truth_give_the_json_of_bops_detection_task(toy_records, toy_spec, tmp_path, capsys):
    """One list, boxes as x, y, width, height, and the detector's time of the whole image on each entry."""
    bare = [replace(record, instances=(), is_annotated=False) for record in toy_records]
    found = [replace(item, time=0.5 + item.im_id) for item in perfect(toy_records)]
    assert report(found, bare, [], toy_spec.object_names, tmp_path) == {}
    entries = json.loads((tmp_path / "detections.json").read_text())
    assert len(entries) == len(found) and str(tmp_path / "detections.json") in capsys.readouterr().out
    for entry, item in zip(entries, found, strict=True):
        ids = {"scene_id": item.scene_id, "image_id": item.im_id, "category_id": item.obj_id}
        x1, y1, x2, y2 = item.bbox.tolist()
        assert entry == {**ids, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": item.score, "time": 0.5 + item.im_id}


def test_detections_of_a_split_are_read_again(small_detector, toy_records, toy_spec, tmp_path):
    obj_ids = {name: obj_id for obj_id, name in toy_spec.object_names.items() if obj_id < 3}
    detections = detect_images(small_detector, toy_records[:2], obj_ids)
    assert {item.obj_id for item in detections} <= set(obj_ids.values()) and detections
    write_detections(tmp_path / "detections.json", detections)
    again = read_detections(tmp_path / "detections.json")
    assert [item.score for item in again] == [item.score for item in detections]
    np.testing.assert_allclose([item.bbox for item in again], [item.bbox for item in detections], atol=1e-9)
    assert len({item.time for item in again if item.im_id == again[0].im_id}) == 1


def test_overlap_of_boxes():
    box = np.array([0.0, 0.0, 10.0, 10.0])
    assert box_overlap(box, box) == 1
    assert box_overlap(box, box + np.array([5, 0, 5, 0])) == pytest.approx(50 / 150)
    assert box_overlap(box, box + 20) == 0
    assert box_overlap(np.zeros(4), np.zeros(4)) == 0


def test_the_first_right_one_takes_the_truth():
    box = np.array([0.0, 0.0, 10.0, 10.0])
    found = [
        FoundObject("a", 0.9, box),
        FoundObject("a", 0.8, box),
        FoundObject("b", 0.7, box),
        FoundObject("a", 0.6, box + 30),
    ]
    right, missed = judge(found, [("a", box + 0.1), ("b", box + 50), ("a", box + 31)])
    assert right == [True, False, False, True] and missed == [1]
    assert judge(found[:1], [("a", box + (1 - RIGHT_IOU) * 10)]) == ([False], [0])


def test_a_picture_is_large_enough_to_read(image):
    box = np.array([10.0, 10.0, 40.0, 40.0])
    drawn = draw_found(image, [FoundObject("mug", 0.9, box)], [("mug", box), ("bottle", box + 30)])
    assert drawn.shape == (5 * 72, 5 * 96, 3)
    assert (drawn != image.repeat(5, axis=0).repeat(5, axis=1)).any()
