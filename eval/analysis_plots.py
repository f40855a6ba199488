"""Pictures of an analysis, as files: cosines by gold score, and the spectrum of the vectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retriever.eval.analysis import Analysis
from retriever.figure import INK, PALETTE, house_style, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_analysis(analysis: Analysis, folder: str | Path) -> list[Path]:
    """Draw ``spectrum`` and, of STS sets, ``similarity`` into a folder, each as ``.png`` and ``.svg``.

    Args:
        analysis: What to draw.
        folder: Where to; made if missing.

    Returns:
        The files, each written whole or not at all.

    Raises:
        OutputError: A file cannot be written.
        RetrieverError: Matplotlib is not installed.
    """
    with house_style():
        figures = {"similarity": _draw_buckets(analysis)} if analysis.buckets else {}
        figures["spectrum"] = _draw_spectrum(analysis)
        return [
            save_figure(figure, Path(folder) / f"{name}.{kind}")
            for name, figure in figures.items()
            for kind in ("png", "svg")
        ]


def _draw_buckets(analysis: Analysis) -> Figure:
    """One histogram a bucket, the highest gold scores on top, all over the same cosines."""
    from matplotlib.figure import Figure

    edges = np.array(analysis.edges)
    used = np.flatnonzero(np.sum([bucket.counts for bucket in analysis.buckets.values()], axis=0))
    figure = Figure(figsize=(7.6, 5.2), layout="constrained")
    panels = figure.subplots(len(analysis.buckets), 1, sharex=True, sharey=True)
    for axes, (name, bucket) in zip(panels, reversed(analysis.buckets.items()), strict=True):
        shares = np.array(bucket.counts) / max(1, bucket.pairs)
        axes.stairs(shares, edges, fill=True, color=PALETTE[0], alpha=0.85)
        axes.set_ylabel(name.replace("-", " to "), rotation=0, ha="right", va="center")
        label = f"{bucket.pairs:,} pairs"
        if bucket.mean is not None:
            axes.axvline(bucket.mean, color=INK, linewidth=1.1)
            label += f", mean {bucket.mean:.2f}"
        axes.set_title(label, fontsize=9, loc="left", pad=2)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
    if len(used):
        panels[0].set_xlim(edges[used[0]], edges[used[-1] + 1])
    panels[-1].set_xlabel("cosine of a pair")
    figure.supylabel("share of pairs by gold score", fontsize=10)
    return figure


def _draw_spectrum(analysis: Analysis) -> Figure:
    """The standard deviation along each principal axis, and where the effective rank lies."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 3.4), layout="constrained")
    axes = figure.subplots()
    values = [value for value in analysis.spectrum if value > 0]
    axes.plot(range(1, len(values) + 1), values, color=PALETTE[0], linewidth=1.8)
    axes.axvline(analysis.effective_rank, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), alpha=0.6)
    axes.set_title(f"effective rank {analysis.effective_rank:.1f} of {analysis.dimension}", fontsize=10, loc="right")
    axes.set_xlim(1, max(2, len(analysis.spectrum)))
    if values:
        axes.set_yscale("log")
    axes.set_xlabel("principal axis")
    axes.set_ylabel("standard deviation")
    return figure
