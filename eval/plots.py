"""Plots of results, as SVG text to embed in a report."""

from __future__ import annotations

from retriever.eval.tables import Intervals, Metrics, columns
from retriever.figure import INK, PALETTE, house_style, to_svg


def bars_svg(metrics: Metrics, intervals: Intervals | None = None) -> str:
    """Grouped bars: one group a metric, one bar a row, with its interval as a line.

    Args:
        metrics: Row → metric → value, a fraction. Rows need not have the same metrics.
        intervals: Row → metric → low and high end, where known.

    Returns:
        An ``<svg>`` element.

    Raises:
        RetrieverError: Matplotlib is not installed.
    """
    with house_style():
        from matplotlib.figure import Figure

        groups = columns(metrics)
        width = 0.8 / max(1, len(metrics))
        figure = Figure(figsize=(7.6, 3.4), layout="constrained")
        axes = figure.subplots()
        for index, (row, values) in enumerate(metrics.items()):
            offset = (index - (len(metrics) - 1) / 2) * width
            known = [metric for metric in groups if metric in values]
            places = [groups.index(metric) + offset for metric in known]
            color = PALETTE[index % len(PALETTE)]
            axes.bar(places, [values[metric] for metric in known], width * 0.92, color=color, label=_plain(row))
            for place, metric in zip(places, known, strict=True):
                if interval := (intervals or {}).get(row, {}).get(metric):
                    axes.vlines(place, interval[0], interval[1], color=INK, linewidth=1.1)
        axes.set_xticks(range(len(groups)), [_plain(metric) for metric in groups])
        axes.tick_params(axis="x", length=0)
        axes.set_ylim(0, 1)
        axes.spines["left"].set_visible(False)
        figure.legend(loc="outside upper left", ncols=5, handlelength=0.9, handleheight=0.9)
        return to_svg(figure)


def _plain(label: str) -> str:
    """A label in which matplotlib reads no mathematics and hides nothing."""
    return label.replace("$", r"\$").lstrip("_")
