"""``retriever index tune --hybrid``: fit hybrid search to judged queries."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from retriever.cli.show import RichReporter, print_json

if TYPE_CHECKING:
    from retriever.eval.fusion_tuning import FusionTuning


def tune_hybrid(
    index: Path, queries: str, qrels: Path, *, model: str | None, dry_run: bool, seed: int, json: bool, quiet: bool
) -> None:
    """Choose fusion and weight by nDCG@10 and print the table; the index remembers them unless ``dry_run``."""
    from retriever.data.beir import read_qrels
    from retriever.data.corpus import open_corpus
    from retriever.eval.fusion_tuning import WEIGHTS, tune_index
    from retriever.indexing.index import Index

    reporter = RichReporter(quiet or json)
    texts = {query.id: query.text for query in open_corpus(queries, deduplicate=False)}
    with Index.open(index, model) as opened:
        reporter.note("Searching and fusing …")
        found = tune_index(opened, texts, read_qrels(qrels), seed=seed)
        method, weight = found.chosen
        if not dry_run:
            opened.set_fusion(method, weight)
    if json:
        facts = asdict(found) | {"weights": WEIGHTS, "gain": found.gain, "chosen": found.chosen, "stored": not dry_run}
        print_json(facts)
        return
    _show(found, WEIGHTS, dry_run)


def _show(found: FusionTuning, weights: tuple[float, ...], dry_run: bool) -> None:
    console = Console(soft_wrap=True, highlight=False)
    table = Table("weight", *found.means, title="nDCG@10 by weight of the vectors", title_justify="left")
    for weight, means in zip(weights, zip(*found.means.values(), strict=True), strict=True):
        table.add_row(f"{weight:g}", *(f"{mean:.3f}" for mean in means))
    console.print(table)
    (best, share), (method, chosen) = found.best, found.chosen
    low, high = found.interval
    console.print(f"Best on all {found.queries:,} queries: {best} with weight {share:g}.")
    console.print(
        f"On held-out queries: {found.held_out:.4f}, the default {found.default:.4f}; "
        f"{found.gain:+.4f} [{low:+.4f}, {high:+.4f}], p = {found.p:.5f}.",
        markup=False,
    )
    told = "would search" if dry_run else "now searches"
    why = "" if found.chosen == found.best else "That is no proven gain over the default. "
    console.print(f"{why}The index {told} with {method} and weight {chosen:g}.")
