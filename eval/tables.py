"""Tables of results: one row a system, one column a metric, the best of each column marked.

The inputs are those of `Results`: row → metric → value, and row → metric → (low, high). A summary of several data sets
has one row a data set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text, TextType

Metrics: TypeAlias = Mapping[str, Mapping[str, float]]
"""Row → metric → value, a fraction."""
Intervals: TypeAlias = Mapping[str, Mapping[str, Sequence[float]]]
"""Row → metric → low and high end."""


def new_table(title: TextType | None = None) -> Table:
    """An empty table in the style of all results."""
    return Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), title=title, title_justify="left")


def columns(metrics: Metrics) -> list[str]:
    """The metrics of all rows, in order of first appearance."""
    return list(dict.fromkeys(metric for values in metrics.values() for metric in values))


def best(metrics: Metrics) -> dict[str, float]:
    """Metric → highest value over the rows, rounded as shown, so that what looks equal is marked alike."""
    return {
        metric: max(round(values[metric], 3) for values in metrics.values() if metric in values)
        for metric in columns(metrics)
    }


def cell(value: float | None, interval: Sequence[float] | None) -> str:
    """One value with its interval: ``0.645 [0.60, 0.69]``; an en dash where there is none."""
    if value is None:
        return "–"
    return f"{value:.3f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")


def metrics_table(metrics: Metrics, intervals: Intervals | None = None, *, title: str | None = None) -> Table:
    """A table for the terminal; where it is narrow, intervals stand below their values.

    Args:
        metrics: Row → metric → value. Rows need not have the same metrics.
        intervals: Row → metric → low and high end, where known.
        title: A line above the table.

    Returns:
        A rich table, for a rich console to print.
    """
    table = new_table(None if title is None else Text(title))
    table.add_column("", no_wrap=True)
    for metric in columns(metrics):
        table.add_column(Text(metric), justify="right")
    highest = best(metrics)
    for row, values in metrics.items():
        cells = [
            _Cell(
                cell(values.get(metric), (intervals or {}).get(row, {}).get(metric)),
                metric in values and round(values[metric], 3) == highest[metric],
            )
            for metric in columns(metrics)
        ]
        table.add_row(Text(row), *cells)
    return table


def summary_table(found: Mapping[str, Metrics], shown: Sequence[str], *, title: str | None = None) -> Table:
    """One row a data set, one column a metric and mode; the best mode of each row and metric is marked.

    Args:
        found: Row (a data set, or a mean over data sets) → mode → metric → value. Rows need not have the same modes.
        shown: The metrics to show.
        title: A line above the table.

    Returns:
        A rich table, for a rich console to print.
    """
    modes = list(dict.fromkeys(mode for metrics in found.values() for mode in metrics))
    table = new_table(None if title is None else Text(title))
    table.add_column("", overflow="fold")
    for metric in shown:
        for number, mode in enumerate(modes):
            table.add_column(Text(f"{metric}\n{mode}" if number == 0 else f"\n{mode}"), justify="right", no_wrap=True)
    for row, metrics in found.items():
        cells = []
        for metric in shown:
            highest = best(metrics).get(metric)
            for mode in modes:
                value = metrics.get(mode, {}).get(metric)
                is_best = value is not None and round(value, 3) == highest
                cells.append(Text(cell(value, None), style="bold" if is_best else ""))
        table.add_row(Text(row), *cells)
    return table


class _Cell:
    """A value and its interval on one line, or on two where one does not fit."""

    def __init__(self, words: str, is_best: bool) -> None:
        self.words = words
        self.style = "bold" if is_best else ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        fits = len(self.words) <= options.max_width
        yield Text(self.words if fits else self.words.replace(" ", "\n", 1), style=self.style)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(max(map(len, self.words.split(" ", 1))), len(self.words))
