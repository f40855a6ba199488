"""Results on extreme multi-label data for people: metrics, label groups, and how they came about.

The terminal shows percentages with their 95 % intervals, as the papers of this field do.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from retriever.eval.tables import new_table
from retriever.eval.xmc import XmcResults

GROUP_METRICS = ("p@1", "p@5", "recall@10", "recall@100")


def conditions(results: XmcResults) -> str:
    """What was evaluated and how, in one line."""
    counts, (a, b) = results.counts, results.propensity
    return (
        f"{results.dataset}, {results.split}: {counts['points']:,} points, {counts['pairs']:,} pairs, "
        f"{counts['labels']:,} labels; propensities A {a:g}, B {b:g}; in percent"
    )


def xmc_table(results: XmcResults) -> Table:
    """One row a metric, one column a mode: the value and its interval."""
    table = new_table()
    modes = list(results.metrics)
    table.add_column("", no_wrap=True)
    for mode in modes:
        table.add_column(mode, justify="right", no_wrap=True)
    for metric in results.metrics[modes[0]]:
        values = [round(100 * results.metrics[mode][metric], 2) for mode in modes]
        cells = [
            Text(
                _cell(value, results.intervals.get(mode, {}).get(metric)),
                style="bold" if value == max(values) and len(modes) > 1 else "",
            )
            for mode, value in zip(modes, values, strict=True)
        ]
        table.add_row(metric, *cells)
    return table


def group_table(results: XmcResults) -> Table:
    """One row a group of labels and a mode: how many, and the metrics over the points that have one of them."""
    table = new_table("By label frequency in training, over the points with such a label")
    for head in ("group", "labels", "points", "mode", *GROUP_METRICS):
        table.add_column(head, justify="left" if head in ("group", "mode") else "right", no_wrap=True)
    for name, group in results.groups.items():
        for mode in results.metrics if group["points"] else ():
            cells = [f"{100 * group[mode][metric]:.2f}" for metric in GROUP_METRICS]
            is_first = mode == next(iter(results.metrics))
            about = [name, f"{group['labels']:,}", f"{group['points']:,}"]
            table.add_row(*(about if is_first else ["", "", ""]), mode, *cells)
    return table


def sentences(results: XmcResults) -> list[str]:
    """What the data set lacks, and what dense search is worth beside the others."""
    counts = results.counts
    odd = {
        "points without labels": counts["points_without_labels"],
        "labels without text (found only by own tokens or a memory)": counts["labels_without_text"],
        "labels that repeat another's text": counts["labels_repeated"],
        "labels merged into others of the same text": counts["labels_merged"],
        "filter pairs (not to be predicted)": counts["filtered_pairs"],
    }
    found = [f"{what}: {count:,}" for what, count in odd.items() if count]
    lines = [f"{results.dataset} has {'; '.join(found)}."] if found else []
    if results.mix:
        lines.append(
            f"The memory was tuned on training points: share {results.mix['share']:g}, temperature "
            f"{results.mix['temperature']:g}."
        )
    lines += [
        f"Dense search minus {mode} at P@1: {100 * test['p@1']:+.2f}, p = {test['p']:.4f} (paired randomisation)."
        for mode, test in results.tests.items()
    ]
    return lines


def _cell(value: float, interval: Sequence[float] | None) -> str:
    return f"{value:.2f}" + (f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else "")
