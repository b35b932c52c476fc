"""Second looks: what is rendered is the object at that pose, and true displacements lead to the true pose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from sopose.batch import Displacements, LookBatch, LookTargets, collate
from sopose.core.data.replay import Place, ReplaySchedule
from sopose.core.geometry.camera import project
from sopose.core.geometry.pose import Pose
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.synthesis.ground_range import GroundRange
from sopose.core.synthesis.scene_sampling import OccluderRange
from sopose.core.synthesis.scenes import SceneDrawer, SceneOptions
from sopose.core.synthesis.sensor import Sensor
from sopose.core.utils.errors import UserError
from sopose.data.cad_source import CadSource
from sopose.data.look import look_view, make_look, nearest_equal_pose, render_object
from sopose.data.look_source import LookSample, LookSource, StartRange
from sopose.data.mapper import TrainAugmentation
from sopose.data.roi_input import RoiFormat
from sopose.data.targets import prepare_objects
from sopose.losses.look import look_losses, pose_loss, true_shift
from sopose.models.neck import TopDownPath
from sopose.models.plain_backbone import PLAIN, PlainBackbone
from sopose.models.refiner import Refiner, refined
from sopose.models.refiner_design import seen_points

K = np.array([[572.4, 0, 325.3], [0, 573.6, 242.0], [0, 0, 1]])
SIZE = (640, 480)
PERFECT = Sensor(blur=(0, 0), gain=0, tint=0, gamma=0, noise=(0, 0), jpeg_prob=0)
FORMAT = RoiFormat(64, 32)
REPLAY = ReplaySchedule(size=8, reuse=4, batch=4)


@pytest.fixture(scope="module")
def make_source(models):
    """`make_source(starts, replay)`: looks at objects alone, by a perfect camera."""
    objects = prepare_objects(models, {k: i for i, k in enumerate(models)}, num_points=100)
    alone = OccluderRange(max_count=0)
    options = SceneOptions(K, SIZE, ground=GroundRange(prob=0.0), occluders=alone, sensor=PERFECT)
    plain = TrainAugmentation(color_prob=0.0, change_bg_prob=0.0)

    def make(starts: StartRange | None = None, replay: ReplaySchedule | None = None) -> LookSource:
        drawer = SceneDrawer(models, options, Backgrounds())
        return LookSource(CadSource(objects, drawer, FORMAT, plain, length=100), starts or StartRange(), replay=replay)

    return make


def displacements(shift: torch.Tensor, look: LookBatch, log_scale: float) -> Displacements:
    """Displacements that are equally sure everywhere."""
    sure = torch.full_like(look.mask, log_scale)
    return Displacements(shift, sure, sure)


def looks_at(source: LookSource, count: int) -> tuple[LookBatch, LookTargets, list[LookSample]]:
    samples = [source.sample(index, np.random.default_rng(index)) for index in range(count)]
    looks, targets, _ = zip(*samples, strict=True)
    return collate(looks), collate(targets), samples


@pytest.fixture(scope="module")
def looks(make_source):
    return looks_at(make_source(), 24)


def test_each_cell_shows_the_point_that_its_pixel_sees(looks):
    look, _, _ = looks
    points_cam = look.points_obj.flatten(2).mT @ look.cam_R_obj.mT + look.cam_t_obj[:, None]
    pixels = project(points_cam, look.K[:, None]).mT.unflatten(2, look.mask.shape[1:])
    inside = look.mask[:, None].expand_as(pixels) > 0
    torch.testing.assert_close(pixels[inside], look.pixel[inside], atol=1e-2, rtol=0)
    assert 0.1 < look.mask.mean() < 0.8
    torch.testing.assert_close(look.rendered[:, 6, ::2, ::2], look.mask)


def test_normals_are_unit_and_face_the_camera(looks):
    look, _, _ = looks
    inside = look.rendered[:, 6] > 0
    normals = look.rendered[:, 3:6].movedim(1, -1)[inside]
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(len(normals)), atol=1e-5, rtol=0)
    # Turned to the look's centre, whose ray is (0, 0, 1); rays of other cells are a few degrees off it.
    assert normals[:, 2].max() < 0.25
    assert (look.rendered.movedim(1, -1)[~inside] == 0).all()


def test_a_turn_of_the_camera_about_its_own_centre_changes_no_normal(models):
    """Objects beside the image's middle look as in the middle."""
    model = next(iter(models.values()))
    seen = []
    for shift in (0.0, 0.25):
        turn = Rotation.from_rotvec([0, shift, 0]).as_matrix()
        pose = Pose(turn, turn @ np.array([0.0, 0.0, 0.8]))
        view = look_view(model, pose, K, SIZE, 1.2, 32)
        seen.append(make_look(np.zeros((64, 64, 3), np.uint8), model, pose, view, FORMAT))
    inside = (seen[0].mask > 0) & (seen[1].mask > 0)
    apart = (seen[0].rendered[3:6, ::2, ::2] - seen[1].rendered[3:6, ::2, ::2])[:, inside]
    assert np.median(np.abs(apart)) < 0.03 and inside.sum() > 100


def test_true_displacements_lead_to_the_true_pose(looks):
    look, targets, _ = looks
    shift = true_shift(look, targets)
    assert shift.abs().amax() > 1, "starts are wrong by cells"
    found = refined(look, displacements(shift, look, -2.0))
    torch.testing.assert_close(found.cam_t_obj, targets.cam_t_obj, atol=5e-4, rtol=0)
    torch.testing.assert_close(found.cam_R_obj, targets.cam_R_obj, atol=5e-3, rtol=0)


def test_without_displacement_a_pose_stays(looks):
    look, _, _ = looks
    found = refined(look, displacements(torch.zeros_like(look.pixel), look, 0.0))
    torch.testing.assert_close(found.cam_t_obj, look.cam_t_obj, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.cam_R_obj, look.cam_R_obj, atol=1e-3, rtol=0)


def test_the_picture_shows_the_object_at_the_true_pose(make_source):
    """From the true pose the rendered mask covers what is not background."""
    source = make_source(StartRange(0.0, 0.0, 0.0))
    pink = (255, 0, 255)
    source.pictures.drawer.backgrounds.sample = lambda size, rng: np.full((size[1], size[0], 3), pink, np.uint8)
    for index in range(12):
        look, targets, _ = source.sample(index, np.random.default_rng(index))
        torch.testing.assert_close(targets.cam_t_obj, look.cam_t_obj)
        image = FORMAT.image_array(look.image.numpy()).astype(int)
        background = (np.abs(image - pink) < 3).all(axis=-1) | (image == 0).all(axis=-1)
        assert (background == (look.rendered[6].numpy() > 0)).mean() < 0.06


def test_starts_are_as_wrong_as_they_are_said_to_be():
    starts, pose = StartRange(8.0, 0.03, 0.05, factors=(1.0,)), Pose(np.eye(3), np.array([0.0, 0.0, 0.8]))
    rng = np.random.default_rng(0)
    drawn = [starts.draw(pose, 0.2, rng) for _ in range(2000)]
    angles = [Rotation.from_matrix(start.cam_R_obj).magnitude() for start in drawn]
    t = np.array([start.cam_t_obj for start in drawn])
    assert np.degrees(np.sqrt(np.mean(np.square(angles)))) == pytest.approx(8, rel=0.05)
    assert np.log(t[:, 2] / 0.8).std() == pytest.approx(0.03, rel=0.05)
    np.testing.assert_allclose(t[:, :2].std(axis=0), 0.01, rtol=0.06)  # 5 % of 20 cm


def test_of_equal_poses_the_nearest_is_the_truth(models):
    model = next(model for model in models.values() if model.is_symmetric)
    rng = np.random.default_rng(1)
    pose = Pose(Rotation.random(random_state=2).as_matrix(), np.array([0.0, 0.1, 0.7]))
    for S in model.symmetry_transforms:
        start = StartRange(1.0, 0.0, 0.0).draw(pose @ Pose(S[:3, :3], S[:3, 3]), model.diameter, rng)
        nearest = nearest_equal_pose(model, pose, start)
        turn = Rotation.from_matrix(start.cam_R_obj.T @ nearest.cam_R_obj).magnitude()
        assert np.degrees(turn) < 8  # a start's error, or half a step about a continuous axis


def test_windows_used_again_give_other_looks_at_the_same_pose(make_source):
    source = make_source(replay=REPLAY)
    uses: dict[int, list[LookSample]] = {}
    for number in range(48):
        sample = source.sample_at(Place(0, number), number % 100, np.random.default_rng(number))
        uses.setdefault(REPLAY.thing(Place(0, number)), []).append(sample)
    assert source.pool.made < 24
    several = next(samples for samples in uses.values() if len(samples) == 4)
    assert len({look.cam_t_obj.numpy().tobytes() for look, _, _ in several}) == 4
    again = make_source(replay=REPLAY).sample_at(Place(0, 47), 47, np.random.default_rng(47))
    assert torch.equal(again[0].image, sample[0].image) and torch.equal(again[0].rendered, sample[0].rendered)


def test_there_is_no_look_at_what_is_not_before_the_camera(models):
    model = next(iter(models.values()))
    for t in ([0.0, 0.0, -1.0], [0.0, 0.0, 0.0], [5.0, 0.0, 1.0]):
        assert look_view(model, Pose(np.eye(3), np.array(t)), K, SIZE, 1.2, 32) is None
    empty = render_object(model, Pose(np.eye(3), np.array([5.0, 0, 1])), K, np.zeros((4, 4, 2)))
    assert not empty.mask.any() and not empty.points_obj.any()


def test_maps_that_are_no_part_of_the_input_are_refused(models):
    model, pose = next(iter(models.values())), Pose(np.eye(3), np.array([0.0, 0.0, 0.8]))
    view = look_view(model, pose, K, SIZE, 1.2, 24)
    with pytest.raises(UserError, match="got 64 and 24"):
        make_look(np.zeros((64, 64, 3), np.uint8), model, pose, view, FORMAT)


def make_refiner(seed: int = 0) -> Refiner:
    torch.manual_seed(seed)
    widths = replace(PLAIN["plain_light"], channels=(16, 24, 32), blocks=(1, 1, 1))
    return Refiner(PlainBackbone(widths, (0, 1), in_chans=10), TopDownPath((16, 24), 16), 16)


def test_an_untrained_refiner_moves_nothing(looks):
    look, _, _ = looks
    input_format = replace(look, mask=look.mask[:, ::2, ::2], points_obj=look.points_obj[..., ::2, ::2])
    moved = make_refiner().eval()(input_format)
    assert moved.shift.shape[2:] == moved.log_scale.shape[1:] == (16, 16)
    assert moved.shift.abs().max() < 0.2 and moved.log_scale.abs().max() < 0.2


def test_the_loss_is_least_at_the_truth_and_at_the_errors_own_scale(looks):
    look, targets, _ = looks
    truth = true_shift(look, targets)

    def loss(off: float, log_scale: float) -> float:
        return float(look_losses(displacements(truth + off, look, log_scale), look, targets)["loss_shift"])

    assert loss(0.0, 0.0) == pytest.approx(0, abs=1e-3)
    assert loss(0.5, 0.0) == pytest.approx(1.0, abs=1e-3)  # |e_u| + |e_v| in cells
    # Of errors e along both axes the best scale is b = |e|, where the loss is 2 + 2 log b.
    assert loss(0.5, np.log(0.5)) == pytest.approx(2 + 2 * np.log(0.5), abs=1e-3)
    assert loss(0.5, np.log(0.5)) < min(loss(0.5, np.log(0.4)), loss(0.5, np.log(0.6)))
    hidden = replace(look, mask=torch.zeros_like(look.mask))
    assert float(look_losses(displacements(truth, look, 0.0), hidden, targets)["loss_shift"]) == 0


def test_the_pose_loss_is_least_where_displacements_spread_as_much_as_they_say(looks):
    """Noise of a known Laplace law in each cell: its scale is the spread that the loss likes best."""
    look, targets, _ = looks
    truth, scale = true_shift(look, targets), 0.8
    # Nothing is known before: what is left is what the displacements give.
    targets = replace(targets, precision=1e-6 * targets.precision)
    law = torch.distributions.Laplace(0.0, scale)
    torch.manual_seed(0)
    noisy = [truth + law.sample(truth.shape) for _ in range(60)]

    def loss(factor: float) -> float:
        given = [displacements(shift, look, float(np.log(factor * scale))) for shift in noisy]
        return float(np.mean([float(pose_loss(seen_points(look, one), look, targets)) for one in given]))

    assert loss(1.0) < min(loss(0.7), loss(1.5))


def test_the_pose_loss_pulls_displacements_to_the_truth(looks):
    look, targets, _ = looks
    shift = (0.9 * true_shift(look, targets)).requires_grad_()
    given = displacements(shift, look, -1.0)
    before = pose_loss(seen_points(look, given, 50.0), look, targets)
    before.backward()
    assert torch.isfinite(shift.grad).all() and (shift.grad.abs().amax(1) > 0)[look.mask > 0].all()
    step = shift.detach() - 0.01 * shift.grad / shift.grad.abs().max()
    assert pose_loss(seen_points(look, displacements(step, look, -1.0), 50.0), look, targets) < before
