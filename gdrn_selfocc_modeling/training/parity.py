"""Numbers of the original network, held against ours: inputs, outputs and losses of one configuration.

A pair of files of one name: `.json` with `parameters` (name -> shape, in state-dict order) and `losses`
(`epoch_<n>` -> name -> value); `.npz` with the inputs `in_*` and the outputs `out_*` (maps may be sampled at every
n-th cell). Weights are made from the parameters' names, so that no file of weights is needed.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sopose.batch import Prediction, RoiBatch, RoiTargets
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import read_arrays, read_json, require_file, require_key
from sopose.losses.build import build_criterion
from sopose.models.build import build_model
from sopose.models.gdrn import GDRN
from sopose.settings.groups import TrainSettings
from sopose.settings.network import PoseNetSettings

OUTPUT_TOLERANCE = 1e-4  # normalised map values, entries of the rotation, metres
LOSS_TOLERANCE = 1e-3  # relative
# A few predicted points lie almost in the camera's plane, where projections magnify rounding.
PROJECTED_TOLERANCE = {"loss_ct_pro": 1e-2}
OUTPUTS = {"rot": "cam_R_obj", "trans": "cam_t_obj", "occmask": "q_mask"}  # others have the names of `Prediction`
# Arrays every pair has; `in_roi_classes`, `in_sym_rot`, `in_mask_visib` and `in_mask_trunc` may be there, too.
INPUTS = (
    *("roi_img", "roi_coord_2d", "roi_cams", "roi_centers", "roi_whs", "resize_ratios", "roi_extents", "im_W", "im_H"),
    *("mask", "mask_erode", "gt_xyz", "gt_q0", "gt_occmask", "gt_region", "gt_points"),
    *("gt_ego_rot", "gt_trans", "gt_trans_ratio"),
)
# What the reference numbers were made with: no pretrained weights, LM's focal length in the losses.
REFERENCE_OPTIONS = ("MODEL.POSE_NET.BACKBONE.PRETRAINED=''", "MODEL.POSE_NET.LOSS_CFG.FOCAL_NORM='lm'")


@dataclass(frozen=True, eq=False)
class ParityPair:
    """One configuration's reference numbers."""

    parameters: dict[str, tuple[int, ...]]
    losses: dict[int, dict[str, float]]  # by epoch
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


@dataclass(frozen=True)
class Comparison:
    """How far one number, or the worst of a map's, is from its reference."""

    name: str
    deviation: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the deviation, which may be NaN, is within the tolerance."""
        return self.deviation <= self.tolerance


def read_pair(path: Path) -> ParityPair:
    """The pair that `path` names, by one of its files or without a suffix. Raises `UserError` for damaged ones."""
    json_path, npz_path = (require_file(path.with_suffix(suffix), "a pair has both") for suffix in (".json", ".npz"))
    facts = read_json(json_path)
    try:
        arrays = {name: torch.from_numpy(array) for name, array in read_arrays(npz_path, None).items()}
        parameters = {name: tuple(shape) for name, shape in require_key(facts, "parameters", str(json_path)).items()}
        losses = {
            int(epoch.removeprefix("epoch_")): {name: float(value) for name, value in values.items()}
            for epoch, values in require_key(facts, "losses", str(json_path)).items()
        }
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise UserError(f"{path} is no pair of reference numbers ({error}); see the format in its reader") from error
    inputs = _starting(arrays, "in_")
    missing = [f"in_{name}" for name in INPUTS if name not in inputs]
    if missing:
        raise UserError(f"{npz_path} lacks {', '.join(missing)}; make the pair again")
    return ParityPair(parameters, losses, inputs, _starting(arrays, "out_"))


def _starting(arrays: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def reference_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weights of a state-dict entry, from its name alone."""
    if name.endswith("num_batches_tracked"):
        return np.asarray(1)
    values = np.random.Generator(np.random.Philox(zlib.crc32(name.encode()))).standard_normal(shape)
    if name.endswith("running_var"):
        values = np.abs(values) * 0.1 + 1.0
    elif name.endswith("running_mean"):
        values = values * 0.1
    elif len(shape) >= 2:
        values = values / np.sqrt(max(np.prod(shape[1:]), 1))
    elif name.endswith("weight"):
        values = 1 + 0.1 * values
    else:
        values = 0.05 * values
    return values.astype(np.float32)


def compare(pair: ParityPair, net: PoseNetSettings, train: TrainSettings, epochs: int) -> Iterator[Comparison]:
    """Every output and loss of a network against the pair's; `train` and `epochs` say when some losses join.

    Outputs deviate by their largest absolute difference, losses relatively; a loss that only one side has deviates
    infinitely. Raises `UserError` where the network's parameters are not the pair's.
    """
    model = reference_model(pair, net)
    batch = roi_batch(pair.inputs)
    with torch.no_grad():
        prediction = model(batch)
        yield from _compare_outputs(pair, prediction)
        criterion, targets = build_criterion(net, train, epochs), roi_targets(pair.inputs)
        for epoch, expected in pair.losses.items():
            found = criterion(prediction, batch, targets, epoch)
            for name in {**expected, **found}:
                both = name in found and name in expected
                scale = max(abs(expected.get(name, 0.0)), 1e-9)
                deviation = abs(float(found[name]) - expected[name]) / scale if both else float("inf")
                tolerance = PROJECTED_TOLERANCE.get(name, LOSS_TOLERANCE)
                yield Comparison(f"epoch {epoch} {name}", deviation, tolerance)


def reference_model(pair: ParityPair, net: PoseNetSettings) -> GDRN:
    """The network of these settings with the reference weights, in evaluation mode."""
    model = build_model(net, pretrained=False).eval()
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    differing = [name for name in {**own, **pair.parameters} if own.get(name) != pair.parameters.get(name)]
    if differing:
        name = differing[0]
        raise UserError(
            f"the configuration's network is not the pair's: {len(differing)} parameters differ, such as {name} "
            f"(ours {own.get(name, 'has none')}, the pair's {pair.parameters.get(name, 'has none')}); correct --opts"
        )
    # A tensor of two names gets the values of the later one, as in the reference.
    weights = {name: torch.from_numpy(reference_weight(name, shape)) for name, shape in pair.parameters.items()}
    model.load_state_dict(weights)
    model.pnp_net.fc_t.bias.data[2] += 1  # the object in front of the camera
    return model


def roi_batch(inputs: dict[str, Tensor]) -> RoiBatch:
    """What the network sees of a pair's inputs."""
    count = len(inputs["roi_img"])
    return RoiBatch(
        image=inputs["roi_img"].float(),
        roi_coord_2d=inputs["roi_coord_2d"],
        K=inputs["roi_cams"],
        box_center=inputs["roi_centers"],
        box_wh=inputs["roi_whs"],
        resize_ratio=inputs["resize_ratios"],
        extent=inputs["roi_extents"],
        class_index=inputs.get("roi_classes", torch.zeros(count, dtype=torch.long)),
    )


def roi_targets(inputs: dict[str, Tensor]) -> RoiTargets:
    """The truth of a pair's inputs. Masks of its own for visib and trunc are used where the pair has them."""
    mask = inputs["mask"]
    count = len(mask)
    last_pixel = torch.stack([inputs["im_W"], inputs["im_H"]], dim=1) - 1
    return RoiTargets(
        P=inputs["gt_xyz"],
        Q=inputs["gt_q0"],
        mask_obj=mask,
        mask_visib=inputs.get("mask_visib", mask),
        mask_trunc=inputs.get("mask_trunc", mask),
        mask_erode=inputs["mask_erode"],
        q_mask=inputs["gt_occmask"],
        region=inputs["gt_region"],
        cam_R_obj=inputs["gt_ego_rot"],
        cam_t_obj=inputs["gt_trans"],
        trans_ratio=inputs["gt_trans_ratio"],
        pixel=inputs["roi_coord_2d"] * last_pixel[:, :, None, None],
        model_points=inputs["gt_points"],
        symmetry_rotations=inputs.get("sym_rot", torch.eye(3).expand(count, 1, 3, 3)),
    )


def _compare_outputs(pair: ParityPair, prediction: Prediction) -> Iterator[Comparison]:
    for name, expected in pair.outputs.items():
        found = getattr(prediction, OUTPUTS.get(name, name), None)
        if found is None:
            raise UserError(f"the pair has the output '{name}', the configuration's network has not; correct --opts")
        if found.ndim == 4:
            step = found.shape[-1] // expected.shape[-1]
            found = found[:, :, ::step, ::step]
        if found.shape != expected.shape:
            shapes = f"{tuple(found.shape)}, the pair's {tuple(expected.shape)}"
            raise UserError(f"the network's output '{name}' has the shape {shapes}; correct --opts")
        yield Comparison(f"out {name}", float((found - expected).abs().max()), OUTPUT_TOLERANCE)
