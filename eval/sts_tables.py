"""Results on STS sets for people: a table for the terminal, and the sections of a report.

The terminal shows correlations × 100 with two decimals, as the papers of this field do; a report shows fractions.
"""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from retriever.eval.plots import bars_svg
from retriever.eval.report import Section, facts, figure_block, metrics_block, paragraph
from retriever.eval.sts import StsResults
from retriever.eval.tables import new_table

AGGREGATES = {
    "all": "all subsets of a set as one",
    "mean": "mean over subsets",
    "wmean": "mean over subsets, weighted by pairs",
}


def conditions(results: StsResults) -> str:
    """How the numbers came about, in one line."""
    text = "lower-cased text" if results.lower else "text as it is"
    return f"{AGGREGATES[results.aggregate]}, {results.similarity}, {text}"


def sts_table(results: StsResults, published: Mapping[str, float]) -> Table:
    """One row a set: pairs, Spearman × 100 with its interval, Pearson × 100, and what is published of the model.

    Args:
        results: What was measured.
        published: Set → Spearman correlation, a fraction; without any, the column is left out.

    Returns:
        A rich table, for a rich console to print.
    """
    table = new_table()
    heads = ["pairs", "Spearman", "95 % interval", "Pearson", *(["published"] if published else [])]
    table.add_column("", no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right")
    for name, score in results.metrics.items():
        low, high = results.intervals.get(name, (None, None))
        cells = [
            f"{results.pairs[name]:,}" if name in results.pairs else "",
            f"{100 * score:.2f}",
            "–" if low is None or high is None else f"{100 * low:.2f} to {100 * high:.2f}",
            _percent(results.pearson.get(name)),
            _percent(published.get(name)),
        ]
        table.add_row(Text(_label(results, name)), *cells[: len(heads)], style="bold" if name == "avg" else "")
    return table


def sts_sections(results: StsResults, published: Mapping[str, float]) -> list[Section]:
    """The sections of an HTML report: scores with intervals and a plot, then the subsets of each set."""
    rows = {"measured": results.metrics} | ({"published": published} if published else {})
    intervals = {"measured": results.intervals}
    pearson = metrics_block({"Pearson": results.pearson}, caption="Pearson correlation, put together alike.")
    scores = Section(
        "Semantic textual similarity",
        [
            paragraph(f"Spearman correlation with the gold scores: {conditions(results)}."),
            metrics_block(rows, intervals, caption="The average is that of the scores in percent, rounded first."),
            pearson,
            figure_block(bars_svg(rows, intervals), "Spearman correlation with its 95 % bootstrap interval."),
            facts({f"pairs of {_label(results, name)}": count for name, count in results.pairs.items()}),
        ],
    )
    subsets = [
        metrics_block({name: {part: value for part, value in parts.items() if value is not None}})
        for name, parts in results.subsets.items()
    ]
    return [scores, Section("Subsets", subsets)] if subsets else [scores]


def _label(results: StsResults, name: str) -> str:
    """A set, with its split where that is not the test split."""
    split = results.splits.get(name, "test")
    return name if split == "test" else f"{name} {split}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"
