"""The training curve: loss and selection metrics over steps, from the JSONL training log.

1. Read the log: ``{"step", "loss", …}`` lines are training, ``{"step", "evaluation": {metric: value}}`` lines are
   evaluations. A step that was run again after a resume counts as logged last.
2. Smooth the loss by a centred moving average over a twenty-fifth of the points.
3. Draw two panels over the same steps: the loss (raw thin, smoothed thick) and the metrics, with the best step marked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retriever.errors import DataError
from retriever.figure import INK, PALETTE, house_style, save_figure, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class TrainingLog:
    """What a training log says, by ascending step.

    Attributes:
        losses: Step → training loss.
        evaluations: Step → metric → value, finite values only.
    """

    losses: dict[int, float]
    evaluations: dict[int, dict[str, float]]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of all evaluations, in order of first appearance."""
        return tuple(dict.fromkeys(metric for scores in self.evaluations.values() for metric in scores))

    def best(self, metric: str) -> tuple[int, float]:
        """The first step with the highest value of a metric, and that value."""
        values = {step: scores[metric] for step, scores in self.evaluations.items() if metric in scores}
        step = max(values, key=lambda step: values[step])
        return step, values[step]


def read_log(path: str | Path) -> TrainingLog:
    """Read a JSONL training log.

    Raises:
        DataError: The file is missing, a line is mangled, or nothing in it can be drawn.
    """
    path = Path(path)
    losses: dict[int, float] = {}
    evaluations: dict[int, dict[str, float]] = {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read the training log {path} ({error}): give the JSONL log of a run.") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry: dict[str, Any] = json.loads(line)
            scores = entry.get("evaluation")
            if scores is not None:
                values = {name: float(value) for name, value in scores.items()}
                evaluations[int(entry["step"])] = {
                    name: value for name, value in values.items() if math.isfinite(value)
                }
            elif "loss" in entry:
                losses[int(entry["step"])] = float(entry["loss"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}:{number} is no line of a training log: it needs an object with a number as 'step' and as "
                "'loss', or with an object of numbers as 'evaluation'."
            ) from error
    if not losses and not any(evaluations.values()):
        raise DataError(f"The training log {path} holds neither a loss nor an evaluation: there is nothing to draw.")
    return TrainingLog(dict(sorted(losses.items())), dict(sorted(evaluations.items())))


def smooth(values: Sequence[float], width: int) -> list[float]:
    """Centred moving average, which does not lag behind a falling loss as an exponential one does.

    Args:
        values: N numbers; those not finite are left out of every mean.
        width: Points in a full window; the window is cut at both ends of the curve.

    Returns:
        N means; NaN where the window holds no finite number.
    """
    numbers = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(numbers)
    before, after = width // 2, (width - 1) // 2
    sums, counts = (
        np.convolve(np.pad(part, (before, after)), np.ones(width), "valid")
        for part in (np.where(finite, numbers, 0.0), finite.astype(np.float64))
    )
    return [float(total / count) if count else math.nan for total, count in zip(sums, counts, strict=True)]


def draw_curve(log_path: str | Path, output: str | Path, metric: str | None = None) -> Path:
    """Draw a training log into a file.

    Args:
        log_path: The JSONL training log.
        output: A ``.svg`` or ``.png`` file, written whole or not at all.
        metric: The metric that selects the best step; the log's first metric if not given.

    Returns:
        The output path.

    Raises:
        DataError: The log cannot be read or holds nothing to draw, or not this metric.
        OutputError: The output cannot be written or ends otherwise.
        RetrieverError: Matplotlib is not installed.
    """
    log = read_log(log_path)
    with house_style():
        return save_figure(_draw(log, metric), output)


def curve_svg(log_path: str | Path, metric: str | None = None) -> str:
    """A training log as an ``<svg>`` element to embed in HTML; arguments and errors as for `draw_curve`."""
    log = read_log(log_path)
    with house_style():
        return to_svg(_draw(log, metric))


def _draw(log: TrainingLog, metric: str | None) -> Figure:
    """One panel for each kind of line that the log has."""
    from matplotlib.figure import Figure

    if metric is not None and metric not in log.metrics:
        raise DataError(f"The log has no metric {metric!r}: choose one of {', '.join(log.metrics) or 'none at all'}.")
    panels = [bool(log.losses), bool(log.metrics)]
    figure = Figure(figsize=(7.6, 1.2 + 2.1 * sum(panels)), layout="constrained")
    axes = iter(figure.subplots(sum(panels), 1, sharex=True, squeeze=False).flat)
    if log.losses:
        panel = next(axes)
        _draw_losses(panel, log.losses)
    if log.metrics:
        panel = next(axes)
        _draw_metrics(panel, log, metric or log.metrics[0])
    panel.set_xlabel("step")
    return figure


def _draw_losses(axes: Axes, losses: dict[int, float]) -> None:
    steps, values = list(losses), list(losses.values())
    axes.plot(steps, values, color=PALETTE[0], linewidth=0.6, alpha=0.45)
    axes.plot(steps, smooth(values, 1 + len(values) // 25), color=PALETTE[0], linewidth=1.8)
    axes.set_ylabel("loss")


def _draw_metrics(axes: Axes, log: TrainingLog, selection: str) -> None:
    for metric, color in zip(log.metrics, PALETTE, strict=False):
        points = [(step, scores[metric]) for step, scores in log.evaluations.items() if metric in scores]
        axes.plot(*zip(*points, strict=True), color=color, marker="o", markersize=3, linewidth=1.4, label=metric)
    step, value = log.best(selection)
    axes.axvline(step, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), alpha=0.6)
    axes.plot([step], [value], marker="o", markersize=8, markerfacecolor="none", markeredgecolor=INK)
    axes.set_title(f"best step {step:,}: {selection} {value:.3f}", fontsize=10, loc="right")
    axes.set_ylabel("score")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, ncols=4, handlelength=1.2)
