"""``retriever index tune-hybrid``: fit hybrid search to judged queries."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from retriever.cli import options
from retriever.cli.show import RichReporter, print_json

if TYPE_CHECKING:
    from retriever.eval.fusion_tuning import FusionTuning


def tune_hybrid(
    index: Annotated[Path, typer.Argument(help="The index folder.")],
    queries: Annotated[Path, typer.Option(help="Queries with ids, as queries.jsonl of a BEIR folder.")],
    qrels: Annotated[Path, typer.Option(help="Judgments: lines of query id, document id and grade, between tabs.")],
    model: Annotated[str | None, typer.Option(help="The model, if it is not where it was.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell, and leave the index as it is.")] = False,
    seed: Annotated[int, typer.Option(help="Of the splits of the cross-validation.")] = 0,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Choose fusion and weight of hybrid search by nDCG@10 on judged queries; the index remembers them.

    retriever index tune-hybrid index --queries queries.jsonl --qrels qrels/dev.tsv
    """
    from retriever.data.beir import read_qrels
    from retriever.data.corpus import open_corpus
    from retriever.eval.fusion_tuning import WEIGHTS, tune_index
    from retriever.indexing.index import Index

    reporter = RichReporter(quiet or json)
    texts = {query.id: query.text for query in open_corpus(str(queries), deduplicate=False)}
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
    why = "" if found.gain > 0 else "Tuning gains nothing on held-out queries. "
    console.print(f"{why}The index {told} with {method} and weight {chosen:g}.")
