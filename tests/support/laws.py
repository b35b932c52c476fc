"""Laws that every training sample obeys, whatever it was made from."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from sopose.batch import Sample
from sopose.data.targets import CROSS, TrainedObject
from sopose.layers import unpack_Q

PIXEL_TOLERANCE = 0.01  # float32 maps and poses, at a few hundred pixels of focal length


def assert_lawful(sample: Sample, target: TrainedObject) -> None:
    """P, Q, masks, regions and SITE agree with the pose and the pixels."""
    roi, targets, info = sample
    assert info.obj_id == target.model.obj_id and int(roi.class_index) == target.class_index
    extent = roi.extent.double().numpy()
    R, t = targets.cam_R_obj.double().numpy(), targets.cam_t_obj.double().numpy()
    K, pixel = roi.K.double().numpy(), targets.pixel.double().numpy()
    obj, visib, trunc, erode = (
        getattr(targets, name).numpy() > 0 for name in ("mask_obj", "mask_visib", "mask_trunc", "mask_erode")
    )

    def reprojection(points_obj: np.ndarray, where: np.ndarray) -> np.ndarray:
        points_cam = points_obj[where] @ R.T + t
        uv = points_cam @ K.T
        return np.abs(uv[:, :2] / uv[:, 2:] - pixel[:, where].T)

    # P projects to its own pixel and lies on the mesh.
    P = (targets.P.double().numpy().transpose(1, 2, 0) - 0.5) * extent
    assert reprojection(P, obj).max(initial=0) < PIXEL_TOLERANCE
    low, high = target.centered.bounds_min, target.centered.bounds_min + target.centered.extent
    assert (P[obj] >= low - 1e-6).all() and (P[obj] <= high + 1e-6).all()

    # Q projects to the same pixel, on its plane, and is 0 off the object.
    Q6 = targets.Q.double().numpy().transpose(1, 2, 0)
    assert (Q6[~obj] == 0).all()
    lengths = extent[[1, 2, 0, 2, 0, 1]]
    Q = unpack_Q((Q6 - 0.5) * lengths)
    q_mask = targets.q_mask.numpy() > 0
    for k in range(3):
        assert reprojection(Q[:, :, k], q_mask[k]).max(initial=0) < PIXEL_TOLERANCE

    # Masks are nested; erosion is by a 3x3 cross, where the map's border counts as object.
    assert not (visib & ~obj).any() and not (trunc & ~visib).any()
    np.testing.assert_array_equal(erode, ndimage.binary_erosion(obj, CROSS, border_value=1))
    assert not (q_mask & ~erode).any()
    np.testing.assert_array_equal(targets.region.numpy() > 0, obj)

    # SITE gives the translation back: spec section 4.
    shift, z = targets.trans_ratio[:2].double().numpy(), float(targets.trans_ratio[2])
    tz = z * float(roi.resize_ratio)
    o2d = shift * roi.box_wh.double().numpy() + roi.box_center.double().numpy()
    recovered = tz * np.array([(o2d[0] - K[0, 2]) / K[0, 0], (o2d[1] - K[1, 2]) / K[1, 1], 1])
    np.testing.assert_allclose(recovered, t, rtol=0, atol=1e-6)  # a micrometre
