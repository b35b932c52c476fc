"""Plots as PNG bytes, drawn without a display and without matplotlib's global state."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sopose.core.vis.colors import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MANY = len(PALETTE)  # more curves than colours are drawn grey, behind their mean
BINS = 8
DASHES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Theme:
    """Colours of text and grid on a page's background, which shows through."""

    text: str
    grid: str


LIGHT = Theme(text="#24292f", grid="#d0d7de")
DARK = Theme(text="#e6edf3", grid="#3d444d")


def plot_png(draw: Callable[[Axes], None], theme: Theme = LIGHT, size: tuple[float, float] = (5.6, 3.6)) -> bytes:
    """What `draw` puts on one pair of axes as a PNG with a transparent background; `size` in inches."""
    return plots_png([[draw]], theme, size)


def plots_png(
    draws: Sequence[Sequence[Callable[[Axes], None]]], theme: Theme = LIGHT, size: tuple[float, float] = (5.6, 3.6)
) -> bytes:
    """Rows of as many plots each as one PNG with a transparent background; `size` of a plot in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, columns = len(draws), len(draws[0])
    figure = Figure(figsize=(columns * size[0], rows * size[1]), layout="constrained")
    every = figure.subplots(rows, columns, squeeze=False)
    for draw, axes in zip((draw for row in draws for draw in row), every.flat, strict=True):
        draw(axes)
        _style(axes, theme)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def recall_curves(
    axes: Axes,
    thresholds: Sequence[float],
    recalls: Mapping[str, Sequence[float]],
    mean: Sequence[float] | None,
    xlabel: str,
) -> None:
    """Recall (shown in percent) over the threshold: a curve per name of `recalls`, and their mean in bold."""
    few = len(recalls) <= MANY
    for index, (label, values) in enumerate(recalls.items()):
        style = {"color": PALETTE[index], "label": label} if few else {"color": "#9aa4ae", "alpha": 0.6}
        axes.plot(thresholds, 100 * np.asarray(values), linewidth=1.3, **style)
    bold = list(recalls.values()) if mean is None else [mean]
    if mean is not None:
        axes.plot(thresholds, 100 * np.asarray(mean), linewidth=2.6, linestyle="--", label="mean", gid="mean")
    axes.set(xlabel=xlabel, ylabel="recall, %", ylim=(0, 102), xlim=(thresholds[0], thresholds[-1]))
    columns = 1 if mean is None or not few else 2
    axes.legend(fontsize=8, loc="upper left" if np.mean(bold) < 0.5 else "lower right", ncols=columns)


def object_bars(axes: Axes, labels: Sequence[str], series: Mapping[str, Sequence[float]]) -> None:
    """Grouped bars, shown in percent: for each of `labels` one bar per entry of `series`."""
    positions = np.arange(len(labels))
    width = 0.8 / len(series)
    for index, (label, values) in enumerate(series.items()):
        offset = (index - (len(series) - 1) / 2) * width
        axes.bar(positions + offset, 100 * np.asarray(values), 0.92 * width, label=label, color=PALETTE[index])
    axes.set(ylabel="%", ylim=(0, 112))
    axes.set_xticks(
        positions, labels, rotation=30 if len(labels) > 4 else 0, ha="right" if len(labels) > 4 else "center"
    )
    axes.tick_params(axis="x", length=0)
    axes.legend(fontsize=8, ncols=len(series), loc="upper center")


def error_against(
    axes: Axes, quantity: Sequence[float], errors: Sequence[float], limit: float, xlabel: str, ylabel: str
) -> None:
    """Errors (inf for a miss) over a quantity; those beyond `limit` lie on the upper edge.

    The line joins the medians of bins with equally many points each.
    """
    quantity, errors = np.asarray(quantity, float), np.asarray(errors, float)
    shown = np.minimum(errors, limit)
    inside = errors < limit
    axes.scatter(quantity[inside], shown[inside], s=9, alpha=0.45, linewidths=0, color=PALETTE[0], label="instance")
    if not inside.all():
        axes.scatter(quantity[~inside], shown[~inside], s=12, alpha=0.5, marker="x", linewidths=0.8,
                     color=PALETTE[3], label="missed, or beyond the scale")  # fmt: skip
    bins = np.array_split(np.argsort(quantity, kind="stable"), min(BINS, len(quantity)))
    centers = [np.median(quantity[members]) for members in bins]
    medians = [np.median(shown[members]) for members in bins]
    axes.plot(centers, medians, color=PALETTE[1], linewidth=2.2, marker="o", markersize=4, label="median")
    axes.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, 1.28 * limit))
    axes.set_yticks(np.linspace(0, limit, 6))
    axes.legend(fontsize=8, ncols=3, loc="upper center", markerscale=1.6)


def training_curves(axes: Axes, steps: Sequence[float], series: Mapping[str, Sequence[float]]) -> None:
    """Losses over the iteration on a logarithmic scale; what is not positive is left out."""
    for index, (label, values) in enumerate(series.items()):
        positive = np.where(np.asarray(values, float) > 0, np.asarray(values, float), np.nan)
        style = DASHES[(index // len(PALETTE)) % len(DASHES)]
        axes.plot(steps, positive, linewidth=1.4, linestyle=style, color=PALETTE[index % len(PALETTE)], label=label)
    axes.set(xlabel="iteration", yscale="log")
    axes.legend(fontsize=7, ncols=2, loc="best")


def _style(axes: Axes, theme: Theme) -> None:
    axes.grid(True, axis="y" if axes.patches else "both", color=theme.grid, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_facecolor("none")
    axes.figure.set_facecolor("none")
    axes.figure.set_dpi(150)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.grid)
    axes.tick_params(which="both", colors=theme.text, labelsize=8)
    for text in (axes.xaxis.label, axes.yaxis.label):
        text.set(color=theme.text, fontsize=9)
    for line in axes.lines:
        if line.get_gid() == "mean":  # the boldest line has the page's text colour
            line.set_color(theme.text)
    legend = axes.get_legend()
    if legend is not None:
        legend.set_frame_on(False)
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            text.set_color(theme.text)
            if text.get_text() == "mean":
                handle.set_color(theme.text)
