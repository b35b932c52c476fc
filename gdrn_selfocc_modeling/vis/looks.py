"""Pictures of second looks: rendered surface points, where they are predicted to be, and where they truly are."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from sopose.batch import Displacements, LookBatch
from sopose.core.vis.colors import ESTIMATE, TRUTH, bgr
from sopose.core.vis.maps import grey_to_rgb, grid
from sopose.core.vis.overlays import legend
from sopose.data.roi_input import RoiFormat

TILE = 192  # side of each picture in a row, pixels
STEP = 3  # a displacement is drawn at each third cell along and across
FAR = 4000  # pixels, beyond which nothing is handed to OpenCV's integers


def look_pictures(
    look: LookBatch, shift: torch.Tensor, moved: Displacements, roi_format: RoiFormat, count: int = 4
) -> dict[str, np.ndarray]:
    """{"looks": (H, W, 3) uint8 RGB}, a row for each of the first `count` looks of a batch.

    The crop, the rendered normals, some surface points with lines to where they are predicted to be (orange) and where
    they are (blue, `shift` (B, 2, out, out) cells), and how sure each is: black where the scale is below a tenth of a
    cell, white above ten cells.
    """
    rows = []
    for b in range(min(count, len(look))):
        parts = (look.image[b], look.rendered[b], look.mask[b], shift[b], moved.shift[b], moved.log_scale[b])
        rows.append(_row(*(part.detach().float().cpu() for part in parts), roi_format))
    return {"looks": np.concatenate(rows)}


def _row(
    image: torch.Tensor,
    rendered: torch.Tensor,
    mask: torch.Tensor,
    true: torch.Tensor,
    predicted: torch.Tensor,
    log_scale: torch.Tensor,
    roi_format: RoiFormat,
) -> np.ndarray:
    crop = cv2.resize(
        roi_format.image_array(torch.nan_to_num(image).numpy()), (TILE, TILE), interpolation=cv2.INTER_LINEAR
    )
    normals = ((rendered[3:6] + 1) / 2 * rendered[6]).movedim(0, -1).numpy()
    drawn, cell = crop.copy(), TILE / len(mask)
    rows, columns = np.nonzero(mask.numpy())
    chosen = (rows % STEP == STEP // 2) & (columns % STEP == STEP // 2)
    start = np.stack([columns[chosen], rows[chosen]], 1).astype(np.float64)
    for color, moves in ((TRUTH, true), (ESTIMATE, predicted)):
        end = start + moves.numpy()[:, rows[chosen], columns[chosen]].T
        for one, other in zip(_pixels(start, cell), _pixels(end, cell), strict=True):
            cv2.line(drawn, one, other, bgr(color), 1, cv2.LINE_AA)
    drawn = legend(drawn, {"truth": TRUTH, "predicted": ESTIMATE})
    sure = ((log_scale / np.log(10) + 1) / 2).clamp(0, 1) * mask
    panels = [
        ("input", crop[..., ::-1]),
        ("rendered", np.uint8(255 * normals)),
        ("displacements", drawn[..., ::-1]),
        ("scale", grey_to_rgb(sure.numpy())),
    ]
    return grid(panels, size=TILE)


def _pixels(cells: np.ndarray, cell: float) -> list[list[int]]:
    """Cells (n, 2) as positions on a tile."""
    return np.rint(np.clip(np.nan_to_num(cells) * cell, -FAR, FAR)).astype(int).tolist()
