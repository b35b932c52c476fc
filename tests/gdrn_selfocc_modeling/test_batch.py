"""Batches: stacked, moved and padded."""

from __future__ import annotations

import io
import pickle
from dataclasses import fields

import torch

from sopose.batch import Prediction, SampleInfo, collate, collate_samples


def test_collated_items_come_back(make_ellipsoids):
    batch, targets = make_ellipsoids(3)
    infos = [SampleInfo(0, i, 1) for i in range(3)]
    items = [(batch.map(lambda x, i=i: x[i]), targets.map(lambda x, i=i: x[i])) for i in range(3)]
    again, again_targets, again_infos = collate_samples(
        [(roi, target, info) for (roi, target), info in zip(items, infos, strict=True)]
    )
    assert len(again) == len(again_targets) == 3 and again_infos == infos
    for name, value in vars(batch).items():
        assert torch.equal(getattr(again, name), value), name
    for name, value in vars(targets).items():
        assert torch.equal(getattr(again_targets, name), value), name


def test_samples_without_truth_have_none(make_ellipsoids):
    batch, _ = make_ellipsoids(2)
    samples = [(batch.map(lambda x, i=i: x[i]), None, SampleInfo(0, i, 1)) for i in range(2)]
    assert collate_samples(samples)[1] is None


def test_symmetries_are_padded_with_identities(make_ellipsoids):
    _, targets = make_ellipsoids(2)
    first, second = (targets.map(lambda x, i=i: x[i]) for i in range(2))
    half_turn = torch.diag(torch.tensor([-1.0, -1, 1]))
    second.symmetry_rotations = torch.stack([torch.eye(3), half_turn, half_turn])
    padded = collate([first, second]).symmetry_rotations
    assert padded.shape == (2, 3, 3, 3)
    assert torch.equal(padded[0], torch.eye(3).expand(3, 3, 3))
    assert torch.equal(padded[1], second.symmetry_rotations)


def test_moving_keeps_none_and_integers(make_ellipsoids, predict_truth):
    batch, targets = make_ellipsoids(1)
    prediction = predict_truth(targets).to("cpu", non_blocking=True)
    assert prediction.q_mask is None
    assert batch.to("cpu").class_index.dtype == torch.int64


def test_a_batch_between_processes_is_one_tensor_and_the_same(make_ellipsoids):
    rois, targets = make_ellipsoids(3)
    for part in (rois, targets):
        sent: list[torch.Tensor] = []

        class Pickler(pickle.Pickler):
            def reducer_override(self, value: object, sent: list = sent) -> object:
                if isinstance(value, torch.Tensor):
                    sent.append(value)
                return NotImplemented

        buffer = io.BytesIO()
        Pickler(buffer).dump(part)
        assert len(sent) == 1 and sent[0].dtype == torch.uint8
        came = pickle.loads(buffer.getvalue())
        assert type(came) is type(part)
        for field in fields(part):
            one, other = getattr(part, field.name), getattr(came, field.name)
            assert one.dtype == other.dtype
            torch.testing.assert_close(other, one, rtol=0, atol=0)


def test_what_is_none_stays_none_and_empty_tensors_keep_their_shape():
    values = {field.name: torch.zeros(0, 3) for field in fields(Prediction)} | {"q": None, "region": None}
    came = pickle.loads(pickle.dumps(Prediction(**values)))
    assert came.q is None and came.region is None and came.mask.shape == (0, 3)
