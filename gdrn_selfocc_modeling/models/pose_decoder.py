"""From regressed numbers to a pose: rotation parametrisations, SITE translation, allocentric frames."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sopose.batch import RoiBatch
from sopose.core.geometry.pose import allo_to_ego
from sopose.core.geometry.rotation import (
    lie_vec_to_matrix,
    log_quat_to_matrix,
    quat_to_matrix,
    rot6d_to_matrix,
)
from sopose.core.utils.errors import UserError

# parametrisation -> (its numbers, conversion of (B, numbers) to (B, 3, 3))
ROTATIONS: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "rot6d": (6, rot6d_to_matrix),
    "quat": (4, quat_to_matrix),
    "log_quat": (3, log_quat_to_matrix),
    "lie_vec": (3, lie_vec_to_matrix),
}
ROT_TYPES = [f"{frame}_{name}" for frame in ("allo", "ego") for name in ROTATIONS]
TRANS_TYPES = ["centroid_z", "centroid_z_abs", "trans"]
Z_TYPES = ["REL", "ABS"]


class PoseDecoder(nn.Module):
    """Regressed rotation and translation -> egocentric pose.

    Args:
        rot_type: "<allo|ego>_<rot6d|quat|log_quat|lie_vec>".
        trans_type: "centroid_z" (SITE: centroid relative to the box, and depth), "centroid_z_abs" (centroid
            in pixels, depth in metres) or "trans" (metres).
        z_type: for centroid_z: "REL" (depth / resize_ratio) or "ABS" (metres).
    """

    def __init__(self, rot_type: str = "allo_rot6d", trans_type: str = "centroid_z", z_type: str = "REL") -> None:
        super().__init__()
        for key, value, known in (
            ("ROT_TYPE", rot_type, ROT_TYPES),
            ("TRANS_TYPE", trans_type, TRANS_TYPES),
            ("Z_TYPE", z_type, Z_TYPES),
        ):
            if value not in known:
                raise UserError(f"PNP_NET.{key} is '{value}'; known: {', '.join(known)}")
        frame, _, parametrisation = rot_type.partition("_")
        self.is_allocentric = frame == "allo"
        self.rot_dim, self.to_matrix = ROTATIONS[parametrisation]
        self.trans_type = trans_type
        self.z_type = z_type

    def forward(self, rot_raw: Tensor, trans_raw: Tensor, batch: RoiBatch) -> tuple[Tensor, Tensor, Tensor]:
        """(B, rot_dim), (B, 3) -> rotation as regressed (B, 3, 3), cam_R_obj (B, 3, 3), cam_t_obj (B, 3) m.

        Float32 or better throughout, whatever the network's precision: half precision loses degrees.
        """
        with torch.autocast(rot_raw.device.type, enabled=False):
            dtype = torch.promote_types(rot_raw.dtype, torch.float32)
            cam_R_raw = self.to_matrix(rot_raw.to(dtype))
            cam_t_obj = self.translation(trans_raw.to(dtype), batch)
            cam_R_obj = allo_to_ego(cam_R_raw, cam_t_obj) if self.is_allocentric else cam_R_raw
        return cam_R_raw, cam_R_obj, cam_t_obj

    def translation(self, trans_raw: Tensor, batch: RoiBatch) -> Tensor:
        """(B, 3) as regressed -> cam_t_obj (B, 3) metres (GDR-Net, eq. 4)."""
        if self.trans_type == "trans":
            return trans_raw
        centroid, depth = trans_raw[:, :2], trans_raw[:, 2:]
        if self.trans_type == "centroid_z":
            centroid = centroid * batch.box_wh + batch.box_center
            if self.z_type == "REL":
                depth = depth * batch.resize_ratio[:, None]
        focal = batch.K.diagonal(dim1=1, dim2=2)[:, :2]
        principal_point = batch.K[:, :2, 2]
        return torch.cat([depth * (centroid - principal_point) / focal, depth], dim=1)
