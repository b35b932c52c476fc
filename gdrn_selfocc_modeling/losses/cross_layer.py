"""Losses between the two layers: P, Q and the camera lie on one line (Di et al., ICCV 2021, section 3.3).

Maps: P is (B, 3, H, W), Q (B, plane, xyz, H, W), q_mask (B, plane, H, W), pixel (B, 2, H, W) source (u, v).
"""

from __future__ import annotations

import torch
from torch import Tensor

from sopose.losses.dense import masked_mean

MIN_DEPTH = 1e-4  # metres; a point nearer to the camera's plane has no projection


def to_camera(points_obj: Tensor, cam_R_obj: Tensor, cam_t_obj: Tensor) -> Tensor:
    """(B, ..., 3, H, W) points of the object's frame in the camera's, metres."""
    rotated = torch.einsum("bij,b...jhw->b...ihw", cam_R_obj, points_obj)
    return rotated + cam_t_obj.view(len(cam_t_obj), *[1] * (points_obj.ndim - 4), 3, 1, 1)


def project_map(points_cam: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
    """(B, ..., 3, H, W) camera points -> pixels (B, ..., 2, H, W), and if they exist (B, ..., H, W)."""
    homogeneous = torch.einsum("bij,b...jhw->b...ihw", K, points_cam)
    depth = homogeneous.select(-3, 2)
    has_pixel = depth.abs() > MIN_DEPTH
    # A constant depth where there is none keeps the gradient finite there; the caller masks those cells out.
    safe = torch.where(has_pixel, depth, 1.0)
    return homogeneous.narrow(-3, 0, 2) / safe.unsqueeze(-3), has_pixel


def cross_task_residual(P_cam: Tensor, Q_cam: Tensor, cam_R_obj: Tensor, cam_t_obj: Tensor) -> Tensor:
    """(n·t) P - (n·P) Q with n = R e_k, (B, plane, xyz, H, W) square metres.

    Zero where the camera, P and Q are collinear and Q lies on its plane.
    """
    n_dot_t = torch.einsum("bik,bi->bk", cam_R_obj, cam_t_obj)  # plane normals are R's columns
    n_dot_P = torch.einsum("bik,bihw->bkhw", cam_R_obj, P_cam)
    return n_dot_t[:, :, None, None, None] * P_cam[:, None] - n_dot_P[:, :, None] * Q_cam


def cross_task_loss(P_obj: Tensor, Q_obj: Tensor, q_mask: Tensor, cam_R_obj: Tensor, cam_t_obj: Tensor) -> Tensor:
    """Cross-layer 3D consistency: the residual's length, mean over the planes' masks together."""
    P_cam = to_camera(P_obj, cam_R_obj, cam_t_obj)
    Q_cam = to_camera(Q_obj, cam_R_obj, cam_t_obj)
    residual = cross_task_residual(P_cam, Q_cam, cam_R_obj, cam_t_obj)
    return masked_mean(torch.linalg.vector_norm(residual, dim=2), q_mask)


def cross_projection_loss(
    P_uv: tuple[Tensor, Tensor], Q_uv: tuple[Tensor, Tensor], pixel: Tensor, q_mask: Tensor, focal: Tensor
) -> Tensor:
    """Cross-layer 2D consistency: |π(Q_k) - (u,v)|₁ + |π(P) - π(Q_k)|₁ over valid cells, in focal lengths.

    P_uv, Q_uv: pixels and their validity as from `project_map`; focal is a scalar in pixels.
    """
    (P_pixel, P_valid), (Q_pixel, Q_valid) = P_uv, Q_uv
    to_ray = (Q_pixel - pixel[:, None]).abs().sum(dim=2)
    to_P = (P_pixel[:, None] - Q_pixel).abs().sum(dim=2)
    return masked_mean(to_ray + to_P, q_mask * Q_valid * P_valid[:, None]) / focal


def plane_reprojection_loss(Q_uv: tuple[Tensor, Tensor], pixel: Tensor, q_mask: Tensor, focal: Tensor) -> Tensor:
    """|π(Q_k) - (u,v)|, mean over valid cells and both coordinates, summed over k, in focal lengths."""
    Q_pixel, Q_valid = Q_uv
    to_ray = (Q_pixel - pixel[:, None]).abs().mean(dim=2)
    return masked_mean(to_ray, q_mask * Q_valid, dim=(0, 2, 3)).sum() / focal
