"""The network of the second look: where does each rendered surface point lie in the image?

Refiners of this kind align a rendering and an image by dense displacements, and solve for the pose: PFA (Hu et al.,
ECCV 2022), SCFlow (Hai et al., CVPR 2023), GenFlow (Moon et al., CVPR 2024). Here a plain network sees both at once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sopose.batch import Displacements, LookBatch
from sopose.core.geometry.pose_fit import PoseFit, fit_poses
from sopose.models.refiner_design import seen_points

OUTPUTS = 4  # displacement along u and v, logarithms of its scale and of its spread in a fit
LOG_SCALES = (-4.0, 4.0)  # bounds of the logarithms, cells: a fiftieth of one, more than a crop


class Refiner(nn.Module):
    """Image and rendering of looks -> displacements of the rendered surface points.

    Args:
        backbone: maps (B, 10, in, in) to feature maps.
        neck: these to one map (B, channels, out, out).
        channels: of that map.
    """

    def __init__(self, backbone: nn.Module, neck: nn.Module, channels: int) -> None:
        super().__init__()
        self.backbone, self.neck = backbone, neck
        self.head = nn.Conv2d(channels, OUTPUTS, 3, padding=1)
        # At first nothing moves, and nothing is sure.
        nn.init.normal_(self.head.weight, std=1e-3)
        nn.init.zeros_(self.head.bias)

    def forward(self, look: LookBatch) -> Displacements:
        """Displacements of B looks, float32."""
        return self.displacements(look.image, look.rendered)

    def displacements(self, image: Tensor, rendered: Tensor) -> Displacements:
        """The same of what a network sees of looks, see `LookBatch`."""
        (features,) = self.neck(self.backbone(torch.cat([image, rendered], dim=1)))
        output = self.head(features).float()
        scale, spread = output[:, 2:].clamp(*LOG_SCALES).unbind(1)
        return Displacements(output[:, :2], scale, spread)


def refined(look: LookBatch, moved: Displacements) -> PoseFit[Tensor]:
    """The poses that the displacements of B looks lead to."""
    return fit_poses(seen_points(look, moved), look.cam_R_obj, look.cam_t_obj)
