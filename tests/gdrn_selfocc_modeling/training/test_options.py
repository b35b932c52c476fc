"""Every option of network and losses does something: one that were ignored would leave a fingerprint as it is."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from functools import cache
from itertools import combinations
from typing import NamedTuple

import pytest
import timm
import torch
import torchvision

from sopose.core.utils.errors import UserError
from sopose.models.backbone import backbone_channels, backbone_strides, make_backbone
from sopose.training.parity import reference_weight
from tests.support.builders import criterion_of, model_of, parameter_groups_of

NET = "MODEL.POSE_NET"
SHORT = {
    "BACKBONE": f"{NET}.BACKBONE",
    "GEO": f"{NET}.GEO_HEAD",
    "SELFOCC": f"{NET}.SELFOCC_HEAD",
    "PNP": f"{NET}.PNP_NET",
    "LOSS": f"{NET}.LOSS_CFG",
    "NECK": f"{NET}.NECK",
    "NET": NET,
}
ALL_LOSSES = "LOSS.ROT_LW=1 LOSS.TRANS_LW=1 LOSS.BIND_LW=1"
# What each case needs to be seen, then the values that must all differ. A value is one or more KEY=VALUE.
CASES = {
    # model
    "XYZ_CLASS_AWARE": ("NET.NUM_CLASSES=3", ["GEO.XYZ_CLASS_AWARE=False", "GEO.XYZ_CLASS_AWARE=True"]),
    "MASK_CLASS_AWARE": ("NET.NUM_CLASSES=3", ["GEO.MASK_CLASS_AWARE=False", "GEO.MASK_CLASS_AWARE=True"]),
    "REGION_CLASS_AWARE": ("NET.NUM_CLASSES=3", ["GEO.REGION_CLASS_AWARE=False", "GEO.REGION_CLASS_AWARE=True"]),
    "Q0_CLASS_AWARE": ("NET.NUM_CLASSES=3", ["SELFOCC.Q0_CLASS_AWARE=False", "SELFOCC.Q0_CLASS_AWARE=True"]),
    "NUM_CLASSES": ("GEO.XYZ_CLASS_AWARE=True", ["NET.NUM_CLASSES=3", "NET.NUM_CLASSES=4"]),
    "OCCMASK_AWARE": ("", ["SELFOCC.OCCMASK_AWARE=False", "SELFOCC.OCCMASK_AWARE=True"]),
    "OCC_LW": ("SELFOCC.OCCMASK_AWARE=True", ["LOSS.OCC_LW=0", "LOSS.OCC_LW=1", "LOSS.OCC_LW=2"]),
    "occlusion mask by class": (
        "NET.NUM_CLASSES=3 SELFOCC.OCCMASK_AWARE=True LOSS.OCC_LW=1",
        ["SELFOCC.MASK_CLASS_AWARE=False", "SELFOCC.MASK_CLASS_AWARE=True"],
    ),
    "SELFOCC_HEAD.ENABLED": ("", ["SELFOCC.ENABLED=True", "SELFOCC.ENABLED=False"]),
    "MIN_Q0_REGION": ("", ["SELFOCC.MIN_Q0_REGION=20", "SELFOCC.MIN_Q0_REGION=100000"]),
    "NUM_REGIONS": (
        "PNP.REGION_ATTENTION=False",
        ["GEO.NUM_REGIONS=64", "GEO.NUM_REGIONS=70", "GEO.NUM_REGIONS=1"],
    ),
    "REGION_ATTENTION": ("", ["PNP.REGION_ATTENTION=True", "PNP.REGION_ATTENTION=False"]),
    "MASK_ATTENTION": ("", [f"PNP.MASK_ATTENTION={value}" for value in ("none", "concat", "mul")]),
    "WITH_2D_COORD": ("", ["PNP.WITH_2D_COORD=True", "PNP.WITH_2D_COORD=False"]),
    "ROT_TYPE": (
        "",
        [
            f"PNP.ROT_TYPE={frame}_{name}"
            for frame in ("allo", "ego")
            for name in ("quat", "rot6d", "log_quat", "lie_vec")
        ],
    ),
    "TRANS_TYPE": (
        "LOSS.CENTROID_LW=0 LOSS.Z_LW=0",
        [f"PNP.TRANS_TYPE={value}" for value in ("centroid_z", "centroid_z_abs", "trans")],
    ),
    "Z_TYPE": ("", ["PNP.Z_TYPE=REL", "PNP.Z_TYPE=ABS"]),
    "XYZ_LOSS_TYPE": ("", ["LOSS.XYZ_LOSS_TYPE=L1", "LOSS.XYZ_LOSS_TYPE=CE_coor"]),
    "XYZ_BIN": ("LOSS.XYZ_LOSS_TYPE=CE_coor", ["GEO.XYZ_BIN=64", "GEO.XYZ_BIN=16"]),
    "MASK_LOSS_TYPE": (
        "PNP.MASK_ATTENTION=mul",
        [f"LOSS.MASK_LOSS_TYPE={value}" for value in ("L1", "BCE", "CE")],
    ),
    "GEO_HEAD norm": ("", [f"GEO.INIT_CFG.norm={value}" for value in ("GN", "BN", "SyncBN", "FrozenBN")]),
    "SELFOCC_HEAD norm": ("", [f"SELFOCC.INIT_CFG.norm={value}" for value in ("GN", "BN", "SyncBN", "FrozenBN")]),
    "PNP_NET norm": ("", [f"PNP.INIT_CFG.norm={value}" for value in ("GN", "BN", "SyncBN", "FrozenBN")]),
    "GEO_HEAD act": ("", [f"GEO.INIT_CFG.act={value}" for value in ("relu", "lrelu", "silu", "gelu", "mish")]),
    "SELFOCC_HEAD act": ("", [f"SELFOCC.INIT_CFG.act={value}" for value in ("relu", "lrelu", "silu", "gelu", "mish")]),
    "PNP_NET act": ("", [f"PNP.INIT_CFG.act={value}" for value in ("relu", "lrelu", "silu", "gelu", "mish")]),
    "num_gn_groups": (
        "",
        [
            *("GEO.INIT_CFG.num_gn_groups=8", "GEO.INIT_CFG.num_gn_groups=4", "SELFOCC.INIT_CFG.num_gn_groups=4"),
            "PNP.INIT_CFG.num_gn_groups=16",
        ],
    ),
    "feat_dim": ("", ["GEO.INIT_CFG.feat_dim=32", "GEO.INIT_CFG.feat_dim=16", "SELFOCC.INIT_CFG.feat_dim=16"]),
    "feat_kernel_size": ("", ["GEO.INIT_CFG.feat_kernel_size=3", "GEO.INIT_CFG.feat_kernel_size=5"]),
    "deconv_kernel_size": ("", [f"GEO.INIT_CFG.deconv_kernel_size={size}" for size in (2, 3, 4)]),
    "num_conv_per_block": ("", ["GEO.INIT_CFG.num_conv_per_block=2", "GEO.INIT_CFG.num_conv_per_block=1"]),
    "out_kernel_size": ("", ["GEO.INIT_CFG.out_kernel_size=1", "GEO.INIT_CFG.out_kernel_size=3"]),
    "up_types": (
        "",
        [
            f"GEO.INIT_CFG.up_types=({a},'{b}','bilinear')"
            for a, b in (("'deconv'", "bilinear"), ("'bilinear'", "bilinear"), ("'deconv'", "nearest"))
        ],
    ),
    "GEO_HEAD out_layer_shared": ("", [f"GEO.INIT_CFG.out_layer_shared={value}" for value in (True, False)]),
    "SELFOCC_HEAD out_layer_shared": (
        "SELFOCC.OCCMASK_AWARE=True",
        [f"SELFOCC.INIT_CFG.out_layer_shared={value}" for value in (True, False)],
    ),
    "PNP_NET type": ("", [f"PNP.INIT_CFG.type={value}" for value in ("ConvPnPNet", "SimplePointPnPNet")]),
    "flat_op": ("", [f"PNP.INIT_CFG.flat_op={value}" for value in ("flatten", "avg", "avg-max", "avg-max-min")]),
    "flat_op of points": (
        "PNP.INIT_CFG.type=SimplePointPnPNet",
        [f"PNP.INIT_CFG.flat_op={value}" for value in ("flatten", "avg", "avg-max", "avg-max-min")],
    ),
    "featdim": ("", ["PNP.INIT_CFG.featdim=128", "PNP.INIT_CFG.featdim=64"]),
    "denormalize_by_extent": (
        "SELFOCC.ENABLED=False",
        [f"PNP.INIT_CFG.denormalize_by_extent={value}" for value in (True, False)],
    ),
    "NECK": (
        "BACKBONE.INIT_CFG.out_indices=(2,3) NECK.INIT_CFG.in_channels=[128,256] NECK.INIT_CFG.num_outs=2",
        [
            "NECK.ENABLED=False",
            "NECK.ENABLED=True",
            "NECK.ENABLED=True NECK.INIT_CFG.out_channels=64 GEO.INIT_CFG.in_dim=64 SELFOCC.INIT_CFG.in_dim=64",
            # one doubling less: the heads see the finer map
            "NECK.ENABLED=True GEO.INIT_CFG.up_types=('deconv','bilinear')"
            " SELFOCC.INIT_CFG.up_types=('deconv','bilinear')",
        ],
    ),
    "backbone": (
        "",
        [
            "BACKBONE.INIT_CFG.type=timm/resnet10t",
            "BACKBONE.INIT_CFG.type=timm/resnet18",
            "BACKBONE.INIT_CFG.type=tv/resnet18",
            "BACKBONE.INIT_CFG.type=timm/resnet18 BACKBONE.INIT_CFG.out_indices=(4,) NET.INPUT_RES=128"
            " GEO.INIT_CFG.in_dim=512 SELFOCC.INIT_CFG.in_dim=512",
        ],
    ),
    # losses
    "XYZ_LOSS_MASK_GT": ("", [f"LOSS.XYZ_LOSS_MASK_GT={value}" for value in ("obj", "visib", "trunc", "erode")]),
    "MASK_LOSS_GT": ("", [f"LOSS.MASK_LOSS_GT={value}" for value in ("obj", "visib", "trunc", "erode")]),
    "REGION_LOSS_MASK_GT": ("", [f"LOSS.REGION_LOSS_MASK_GT={value}" for value in ("obj", "visib", "trunc", "erode")]),
    "HANDLE_SYM": ("", ["LOSS.HANDLE_SYM=False", "LOSS.HANDLE_SYM=True"]),
    "PM_LOSS_SYM": ("", ["LOSS.PM_LOSS_SYM=False", "LOSS.PM_LOSS_SYM=True"]),
    "PM_NORM_BY_EXTENT": ("", ["LOSS.PM_NORM_BY_EXTENT=False", "LOSS.PM_NORM_BY_EXTENT=True"]),
    "PM_LOSS_TYPE": ("", [f"LOSS.PM_LOSS_TYPE={value}" for value in ("L1", "L2", "MSE", "smooth_l1")]),
    "PM_SMOOTH_L1_BETA": (
        "LOSS.PM_LOSS_TYPE=smooth_l1",
        ["LOSS.PM_SMOOTH_L1_BETA=1.0", "LOSS.PM_SMOOTH_L1_BETA=0.01"],
    ),
    "disentangling": (
        "LOSS.PM_R_ONLY=False",
        [
            "LOSS.PM_R_ONLY=True",
            "LOSS.PM_DISENTANGLE_T=False",
            "LOSS.PM_DISENTANGLE_T=True",
            "LOSS.PM_DISENTANGLE_Z=True",
            "LOSS.PM_DISENTANGLE_T=True LOSS.PM_T_USE_POINTS=False",
            "LOSS.PM_DISENTANGLE_Z=True LOSS.PM_T_USE_POINTS=False",
        ],
    ),
    "ROT_LOSS_TYPE": (ALL_LOSSES, ["LOSS.ROT_LOSS_TYPE=angular", "LOSS.ROT_LOSS_TYPE=L2"]),
    "CENTROID_LOSS_TYPE": ("", [f"LOSS.CENTROID_LOSS_TYPE={value}" for value in ("L1", "L2", "MSE", "smooth_l1")]),
    "Z_LOSS_TYPE": ("", [f"LOSS.Z_LOSS_TYPE={value}" for value in ("L1", "MSE", "smooth_l1")]),
    "TRANS_LOSS_TYPE": (ALL_LOSSES, [f"LOSS.TRANS_LOSS_TYPE={value}" for value in ("L1", "L2", "MSE", "smooth_l1")]),
    "TRANS_LOSS_DISENTANGLE": (ALL_LOSSES, [f"LOSS.TRANS_LOSS_DISENTANGLE={value}" for value in (True, False)]),
    "BIND_LOSS_TYPE": (ALL_LOSSES, [f"LOSS.BIND_LOSS_TYPE={value}" for value in ("L1", "L2", "MSE", "smooth_l1")]),
    "USE_MTL": ("", ["NET.USE_MTL=False", "NET.USE_MTL=True"]),
    "FOCAL_NORM": ("", ["LOSS.FOCAL_NORM=mean", "LOSS.FOCAL_NORM=lm"]),
    "CT_START": ("", ["TRAIN.CT_START=0.2", "TRAIN.CT_START=1.0"]),
    "CT_P_START": ("", ["TRAIN.CT_P_START=0.2", "TRAIN.CT_P_START=1.0"]),
    **{
        key: ("", [f"LOSS.{key}=0", f"LOSS.{key}=1", f"LOSS.{key}=2"])
        for key in (
            *("XYZ_LW", "MASK_LW", "REGION_LW", "PM_LW", "ROT_LW", "CENTROID_LW", "Z_LW", "TRANS_LW", "BIND_LW"),
            *("Q0_LW", "Q0_DEF_LW", "CT_LW", "CT_P_LW"),
        )
    },
    "GEO_HEAD.FREEZE": ("", ["GEO.FREEZE=False", "GEO.FREEZE=True"]),
    "SELFOCC_HEAD.FREEZE": ("", ["SELFOCC.FREEZE=False", "SELFOCC.FREEZE=True"]),
}


class Fingerprint(NamedTuple):
    """What an option can change."""

    shapes: dict[str, tuple[int, ...]]
    modules: Counter[str]
    maps: torch.Tensor  # all outputs, flat
    losses: dict[str, float]

    def equals(self, other: Fingerprint) -> bool:
        return (
            self.shapes == other.shapes
            and self.modules == other.modules
            and self.maps.shape == other.maps.shape
            and torch.allclose(self.maps, other.maps, rtol=1e-6, atol=1e-7)
            and self.losses == pytest.approx(other.losses, rel=1e-5)
        )


def overrides(text: str) -> list[str]:
    """`"GEO.KEY=VALUE ..."` with the section's whole name."""
    words = []
    for word in text.split():
        section, _, rest = word.partition(".")
        words.append(f"{SHORT[section]}.{rest}" if section in SHORT else word)
    return words


@pytest.fixture(scope="module")
def fingerprint(make_small_config, make_ellipsoids):
    batch, targets = make_ellipsoids(2, out=32)
    turns = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])  # half turns about each axis
    targets.symmetry_rotations = torch.diag_embed(turns).expand(2, 4, 3, 3)
    # Four masks, each smaller than the one before.
    columns = torch.arange(32).expand(2, 32, 32)
    targets.mask_visib = targets.mask_obj * (columns > 12)
    targets.mask_trunc = targets.mask_visib * (columns > 14)

    @cache
    def weight(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.from_numpy(reference_weight(name, shape))

    @cache
    def of(text: str) -> Fingerprint:
        cfg = make_small_config(*overrides(text))
        model = model_of(cfg).eval()
        state = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        model.load_state_dict({name: weight(name, shape) for name, shape in state.items()})
        model.pnp_net.fc_t.bias.data[2] += 1
        image = torch.nn.functional.interpolate(batch.image, size=(cfg.model.pose_net.input_res,) * 2)
        with torch.no_grad():
            rois = type(batch)(**{**vars(batch), "image": image})
            prediction = model(rois)
            losses = criterion_of(cfg)(prediction, rois, targets, epoch=40)
        maps = [getattr(prediction, field.name) for field in fields(prediction)]
        return Fingerprint(
            state,
            Counter(type(module).__name__ for module in model.modules()),
            torch.cat([x.flatten() for x in maps if x is not None]),
            {name: float(value.detach()) for name, value in losses.items()},
        )

    return of


@pytest.mark.parametrize("name", CASES)
def test_every_value_makes_a_difference(name, fingerprint):
    needed, values = CASES[name]
    prints = {value: fingerprint(f"{needed} {value}") for value in values}
    for first, second in combinations(values, 2):
        assert not prints[first].equals(prints[second]), (first, second)


def test_a_fingerprint_is_the_same_twice(fingerprint):
    assert fingerprint("").equals(fingerprint(" "))


@pytest.mark.parametrize("key", ["BACKBONE", "NECK", "GEO_HEAD", "SELFOCC_HEAD", "PNP_NET"])
def test_every_part_can_be_frozen_and_slowed(key, make_small_config):
    neck = overrides(f"{CASES['NECK'][0]} NECK.ENABLED=True")
    cfg = make_small_config(*neck, f"{NET}.{key}.LR_MULT=0.5")
    rates = Counter(group["lr"] for group in parameter_groups_of(model_of(cfg), cfg))
    assert rates == {5e-5: 1, 1e-4: 4}
    cfg = make_small_config(*neck, f"{NET}.{key}.FREEZE=True")
    groups = parameter_groups_of(model_of(cfg), cfg)
    assert len(groups) == 4
    learning = sum(p.numel() for group in groups for p in group["params"])
    cfg = make_small_config(*neck)
    assert learning < sum(p.numel() for p in model_of(cfg).parameters())


def test_biases_have_a_rate_of_their_own(make_small_config):
    cfg = make_small_config("SOLVER.BIAS_LR_FACTOR=2.0")
    model = model_of(cfg)
    groups = {group["name"]: group for group in parameter_groups_of(model, cfg)}
    assert groups["pnp_net"]["lr"] == pytest.approx(1e-4) and groups["pnp_net biases"]["lr"] == pytest.approx(2e-4)
    grouped = [p for group in groups.values() for p in group["params"]]
    assert len({id(p) for p in grouped}) == len([*model.parameters()])


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("backbone", ["timm/resnet18", "tv/resnet18"])
def test_the_first_stages_can_be_frozen(stages, backbone, make_small_config):
    cfg = make_small_config(*overrides(f"BACKBONE.INIT_CFG.type={backbone} BACKBONE.FREEZE_AT={stages}"))
    frozen = [name for name, p in model_of(cfg).backbone.named_parameters() if not p.requires_grad]
    whole = ["conv1", "bn1"] + (["layer1"] if stages == 2 else [])
    assert {name.split(".")[0] for name in frozen} == set(whole)


def test_depthwise_filters_can_be_frozen(make_small_config):
    lite0 = "BACKBONE.INIT_CFG.type=timm/tf_efficientnet_lite0 BACKBONE.FREEZE_DEPTHWISE=True"
    heads = [f"{NET}.{head}.INIT_CFG.in_dim=112" for head in ("GEO_HEAD", "SELFOCC_HEAD")]
    model = model_of(make_small_config(*overrides(lite0), *heads))
    learning = {tuple(p.shape[1:]) for p in model.backbone.parameters() if p.requires_grad and p.ndim == 4}
    frozen = {name: p for name, p in model.backbone.named_parameters() if not p.requires_grad}
    assert all(shape[1:] == (1, 1) or shape[0] == 3 for shape in learning)
    assert frozen and all("conv_dw" in name and p.shape[1] == 1 for name, p in frozen.items())


@pytest.mark.parametrize(("key", "values"), [("drop_prob", (0.3, 0.6)), ("dropblock_size", (1, 5))])
def test_dropblock_drops_while_training(key, values, make_small_config):
    maps = torch.ones(8, 75, 32, 32)
    kept = []
    for value in values:
        cfg = make_small_config(f"{NET}.PNP_NET.INIT_CFG.drop_prob=0.3", f"{NET}.PNP_NET.INIT_CFG.{key}={value}")
        dropblock = model_of(cfg).pnp_net.dropblock
        torch.manual_seed(0)
        kept.append(dropblock.train()(maps) != 0)
        assert torch.equal(dropblock.eval()(maps), maps)
    assert not kept[0].all()
    assert not torch.equal(*kept)


def test_linear_layers_start_as_set(make_small_config):
    spreads = [
        model_of(make_small_config(f"{NET}.PNP_NET.INIT_CFG.linear_init={kind}")).pnp_net.fc2.weight.std().item()
        for kind in ("normal", "kaiming")
    ]
    assert spreads == pytest.approx([0.001, (2 / 1024) ** 0.5], rel=0.02)


def test_points_do_not_have_an_order(make_small_config):
    net = model_of(make_small_config(*overrides("PNP.INIT_CFG.type=SimplePointPnPNet"))).pnp_net.eval()
    maps = torch.randn(2, 75, 32, 32, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(32 * 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        shuffled = net(maps.flatten(2)[..., order].view_as(maps))
        for ordered, again in zip(net(maps), shuffled, strict=True):
            torch.testing.assert_close(ordered, again, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("GEO.INIT_CFG.norm=LN", "unknown norm 'LN'.*FrozenBN"),
        ("PNP.INIT_CFG.flat_op=sum", r"flat_op is 'sum'.*avg-max-min"),
        ("SELFOCC.MASK_CLASS_AWARE=True", "MASK_CLASS_AWARE is True but OCCMASK_AWARE is False"),
        ("BACKBONE.INIT_CFG.type=tv/resnet43", "tv/resnet43.*did you mean 'resnet"),
        ("BACKBONE.INIT_CFG.type=tv/resnet18 BACKBONE.INIT_CFG.in_chans=4", "in_chans is 4"),
        ("BACKBONE.INIT_CFG.out_indices=(-1,)", r"out_indices is \(-1,\).*0 to 4"),
        ("BACKBONE.FREEZE_AT=9", "FREEZE_AT is 9"),
        ("NECK.ENABLED=True NECK.INIT_CFG.type=PAFPN", "NECK.INIT_CFG.type is 'PAFPN'; known: FPN"),
        ("GEO.INIT_CFG.up_types=('deconv','bilinear')", "up_types of GEO_HEAD"),
        ("LOSS.Q0_LOSS_TYPE=CE_coor", "Q0_LOSS_TYPE 'CE_coor' goes with XYZ_LOSS_TYPE"),
        ("LOSS.Q0_LOSS_TYPE=L7", "Q0_LOSS_TYPE is 'L7'"),
    ],
)
def test_values_that_do_not_fit_are_reported(text, words, make_small_config):
    with pytest.raises(UserError, match=words):
        cfg = make_small_config(*overrides(text))
        model_of(cfg)
        criterion_of(cfg)


@pytest.mark.parametrize(
    ("name", "indices", "stride"),
    [
        ("timm/convnext_atto", (4,), 32),  # its four stages are 0 to 3: 4 is the last in a backbone of five
        ("timm/convnext_atto", (3,), 32),
        ("timm/convnext_atto", (2,), 16),
        ("timm/convnext_atto", (1, 4), 32),
        ("tv/convnext_tiny", (4,), 32),
        ("tv/mobilenet_v3_small", (3,), 16),
        ("timm/resnet18", (4,), 32),
    ],
)
def test_stages_that_a_backbone_lacks_are_counted_from_its_end(name, indices, stride):
    backbone = make_backbone(name, indices)
    maps = backbone(torch.zeros(1, 3, 64, 64))
    assert len(maps) == len(indices) and backbone_strides(backbone)[-1] == stride
    assert maps[-1].shape == (1, backbone_channels(backbone)[-1], 64 // stride, 64 // stride)


def test_torchvision_weights_have_torchvisions_names(tmp_path):
    reference = torchvision.models.resnet18(weights=None).eval()
    torch.save(reference.state_dict(), tmp_path / "resnet18.pth")
    backbone = make_backbone("tv/resnet18", (3, 4), pretrained=str(tmp_path / "resnet18.pth")).eval()
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        last = backbone(image)[-1]
        torch.testing.assert_close(reference.fc(last.mean((2, 3))), reference(image), rtol=0, atol=1e-5)


def test_files_of_whole_timm_models_fit_their_feature_extractors(tmp_path):
    whole = timm.create_model("convnext_atto", pretrained=False)
    torch.save(whole.state_dict(), tmp_path / "convnext.pth")
    backbone = make_backbone("timm/convnext_atto", (3,), pretrained=str(tmp_path / "convnext.pth"))
    assert torch.equal(backbone.stages_2.blocks[0].conv_dw.weight, whole.stages[2].blocks[0].conv_dw.weight)


def test_a_library_without_network_names_the_way_out(monkeypatch):
    def offline(name, weights):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("torchvision.models.get_model", offline)
    with pytest.raises(UserError, match=r"weights of resnet18 could not be had \(no route to host\).*PRETRAINED=''"):
        make_backbone("tv/resnet18", pretrained="tv")
