"""An analysis of a model's vectors for people: two tables for the terminal."""

from __future__ import annotations

from rich.table import Table

from retriever.eval.analysis import Analysis
from retriever.eval.tables import new_table


def measures_table(analysis: Analysis) -> Table:
    """One row a measure, with what its ends mean."""
    table = new_table()
    for head in ("", "value", "best to worst"):
        table.add_column(head, justify="right" if head == "value" else "left", no_wrap=True)
    if analysis.pairs:
        value = "–" if analysis.alignment is None else f"{analysis.alignment:.4f}"
        table.add_row("alignment", value, f"0 to 4; {analysis.positives:,} pairs with a gold score above 4")
    table.add_row("uniformity", f"{analysis.uniformity:.4f}", "about -4 to 0")
    table.add_row("anisotropy", f"{analysis.anisotropy:.4f}", "0 to 1")
    table.add_row("effective rank", f"{analysis.effective_rank:.1f}", f"{analysis.dimension} to 1")
    return table


def buckets_table(analysis: Analysis) -> Table:
    """One row a bucket of gold scores: pairs, and mean and standard deviation of their cosines."""
    table = new_table()
    table.add_column("gold score", no_wrap=True)
    for head in ("pairs", "mean cosine", "sd"):
        table.add_column(head, justify="right")
    for name, bucket in analysis.buckets.items():
        mean, sd = ("–" if value is None else f"{value:.3f}" for value in (bucket.mean, bucket.sd))
        table.add_row(name.replace("-", " to "), f"{bucket.pairs:,}", mean, sd)
    return table
