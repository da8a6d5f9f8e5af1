"""The pictures of a report, as inline SVG."""

import io
import math
from collections.abc import Mapping, Sequence

import matplotlib

matplotlib.use("svg")
from matplotlib.figure import Figure

SIZE_INCHES = (7.5, 3.6)
PERCENT_TICKS = (50, 90, 99, 99.9, 99.99)
Pairs = Sequence[tuple[float, float]]


def svg_of(figure: Figure) -> str:
    """The figure as one <svg> element, the same bytes for the same figure."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "vireo"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def new_figure(title: str, x_label: str, y_label: str) -> tuple[Figure, "matplotlib.axes.Axes"]:
    """An empty plot."""
    figure = Figure(figsize=SIZE_INCHES)
    axes = figure.subplots()
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    return figure, axes


def percentile_plot(title: str, curves: Mapping[str, Pairs], target_ms: float | None = None) -> str:
    """Latency over percentile; the axis stretches the tail by -log10(1 - p)."""
    figure, axes = new_figure(title, "percentile", "latency, ms")
    for name, pairs in curves.items():
        axes.plot([nines(percent) for percent, _ in pairs], [value for _, value in pairs], label=name)
    axes.set_xticks([nines(percent) for percent in PERCENT_TICKS], [f"{percent:g}" for percent in PERCENT_TICKS])
    axes.set_yscale("log")
    _finish(axes, target_ms)
    return svg_of(figure)


def nines(percent: float) -> float:
    """0.3 for the median, 1 for p90, 2 for p99."""
    return -math.log10(1 - percent / 100)


def rate_plot(title: str, curves: Mapping[str, Pairs], target_ms: float | None = None) -> str:
    """Latency over the offered rate."""
    figure, axes = new_figure(title, "offered, requests per second", "latency, ms")
    for name, pairs in curves.items():
        ordered = sorted(pairs)
        axes.plot([rate for rate, _ in ordered], [value for _, value in ordered], marker="o", label=name)
    axes.set_yscale("log")
    _finish(axes, target_ms)
    return svg_of(figure)


def bar_plot(title: str, values: Mapping[str, float], unit: str) -> str:
    """One bar for each name."""
    figure, axes = new_figure(title, unit, "")
    bars = axes.barh(list(values), list(values.values()), color="#4878a8")
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.invert_yaxis()
    return svg_of(figure)


def _finish(axes: "matplotlib.axes.Axes", target_ms: float | None) -> None:
    if target_ms is not None:
        axes.axhline(target_ms, color="crimson", linestyle="--", label=f"target {target_ms:g} ms")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
