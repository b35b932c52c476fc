"""One palette for pictures and plots: Okabe and Ito's, which colour-blind readers can distinguish."""

from __future__ import annotations

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#8C6D31", "#7F7F7F")
ESTIMATE = "#FF9F1C"  # on photographs: orange
TRUTH = "#3FC1FF"  # on photographs: sky blue
AXES = ("#FF5A36", "#2EC27E", "#3D8BFF")  # x, y, z


def bgr(color: str) -> tuple[int, int, int]:
    """`#RRGGBB` as OpenCV takes it."""
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return blue, green, red
