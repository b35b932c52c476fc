"""6D poses of known objects from single images.

from sopose import Detector, PoseEstimator, draw
"""

from __future__ import annotations

from importlib import import_module

# Names that are imported when they are asked for: `import sopose` takes no time, and never needs torch.
PUBLIC = {
    "Box": "sopose.inference.found",
    "Detector": "sopose.core.detection.infer",
    "ObjectPose": "sopose.inference.found",
    "PoseEstimator": "sopose.inference.estimator",
    "draw": "sopose.inference.painter",
}
__all__ = [*PUBLIC]


def __getattr__(name: str) -> object:
    if name not in PUBLIC:
        raise AttributeError(f"module 'sopose' has no attribute '{name}' (it has: {', '.join(PUBLIC)})")
    return getattr(import_module(PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *PUBLIC])
