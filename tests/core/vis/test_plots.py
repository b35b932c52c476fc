"""Plots are pictures of the size asked for, with many objects, misses and gaps as well."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
import pytest

from sopose.core.vis import plots

THRESHOLDS = np.linspace(0, 1, 11)
CURVE = THRESHOLDS**2
MANY_CURVES = {f"object {index}": CURVE for index in range(21)}
DRAWINGS = {
    "curves": partial(plots.recall_curves, thresholds=THRESHOLDS, recalls={"a": CURVE}, mean=CURVE, xlabel="d"),
    "many curves": partial(plots.recall_curves, thresholds=THRESHOLDS, recalls=MANY_CURVES, mean=CURVE, xlabel="d"),
    "bars": partial(plots.object_bars, labels=["a", "b"], series={"one": [0.1, 0.2], "two": [0.3, 1.0]}),
    "errors": partial(
        plots.error_against,
        quantity=[0.1, 0.5, 0.9],
        errors=[0.2, np.inf, 0.1],
        limit=0.5,
        xlabel="",
        ylabel="",
    ),
    "one error": partial(plots.error_against, quantity=[0.1], errors=[np.inf], limit=0.5, xlabel="x", ylabel="y"),
    "training": partial(plots.training_curves, steps=[1, 2, 3], series={"loss": [1.0, np.nan, 0.0]}),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_plot_is_a_transparent_png_of_its_size(name):
    for theme in (plots.LIGHT, plots.DARK):
        data = plots.plot_png(DRAWINGS[name], theme, size=(4, 3))
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert picture.shape == (450, 600, 4)
        assert (picture[..., 3] == 0).mean() > 0.3 and (picture[..., 3] > 0).any()


def test_a_plot_is_the_same_each_time():
    assert plots.plot_png(DRAWINGS["curves"]) == plots.plot_png(DRAWINGS["curves"])
