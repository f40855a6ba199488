"""``retriever index tune``: search settings that reach a recall, and what recall costs; or hybrid search."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from retriever.cli import options
from retriever.cli.show import RichReporter, print_json
from retriever.cli.tune_hybrid import tune_hybrid
from retriever.errors import DataError

if TYPE_CHECKING:
    from retriever.indexing.tuning import TradeOff, Tuning

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
Recall = Annotated[float, typer.Option(help="Share of the ten nearest vectors that searches find at least.")]
Memory = Annotated[
    str | None, typer.Option(metavar="SIZE", help="What searches may hold in memory, such as 500MB; auto obeys it.")
]


def tune(
    context: typer.Context,
    index: Annotated[Path, typer.Argument(help="The index folder.")],
    recall: Recall = 0.99,
    queries: Annotated[
        str | None, typer.Option(help="Queries as users ask them: a file as --data takes; documents if omitted.")
    ] = None,
    factory: Annotated[
        str | None, typer.Option(help="Make this kind first, of the kept vectors: auto, or a FAISS factory string.")
    ] = None,
    memory: Memory = None,
    hybrid: Annotated[
        bool, typer.Option("--hybrid", help="Choose fusion and weight of hybrid search, with --queries and --qrels.")
    ] = False,
    qrels: Annotated[
        Path | None, typer.Option(help="For --hybrid, judgments: query id, document id and grade between tabs.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --hybrid: leave the index as it is.")] = False,
    seed: Annotated[int, typer.Option(help="With --hybrid: of the splits of the cross-validation.")] = 0,
    model: Annotated[str | None, typer.Option(help="The model, if it is not where it was.")] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Find the cheapest search settings that reach a recall; the index remembers them. Nothing is encoded again.

    retriever index tune index --recall 0.95 --queries queries.jsonl

    With --hybrid, choose fusion and weight of hybrid search by nDCG@10 on judged queries instead.

    retriever index tune index --hybrid --queries queries.jsonl --qrels qrels/dev.tsv
    """
    if hybrid:
        options.refuse_given(context, "recall", "factory", "memory", why="says nothing about a hybrid search")
        if queries is None or qrels is None:
            raise DataError("--hybrid needs judged queries: give --queries and --qrels.")
        tune_hybrid(index, queries, qrels, model=model, dry_run=dry_run, seed=seed, json=json, quiet=quiet)
        return
    options.refuse_given(context, "qrels", "dry_run", "seed", why="is read with --hybrid only")
    from retriever.data.corpus import open_corpus
    from retriever.indexing.build import kind_for
    from retriever.indexing.factory import AUTO
    from retriever.indexing.index import Index

    reporter = RichReporter(quiet or json)
    texts = [] if queries is None else [query.content for query in open_corpus(queries)]
    if queries is not None and not texts:
        raise DataError(f"{queries} holds no query: give at least 20.")
    with Index.open(index, model) as opened:
        reporter.note("Tuning …")
        found = opened.tune(recall, texts, factory, parse_size(memory))
        facts = opened.info()
    if json:
        print_json({"kinds": facts["kinds"], "tuning": found and found.model_dump()})
    elif found is None:
        count = facts["documents"]
        is_ignored = factory not in (None, AUTO) and factory != kind_for(factory, count, facts["dimension"])
        few = " So few are searched exactly, whatever the factory." if is_ignored else ""
        typer.echo(f"Every search of {index} compares with all {count:,} vectors: nothing is to be tuned.{few}")
    else:
        show_tuning(found, index, facts["kinds"])


def parse_size(text: str | None) -> int | None:
    """Bytes of a size such as ``500MB`` or ``1.5 GB``; None of None.

    Raises:
        DataError: It is no size.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", text.strip().upper())
    if not match or not float(match[1]):
        raise DataError(f"{text!r} is no size of memory: write bytes, or a number with KB, MB, GB or TB, as in 500MB.")
    return int(float(match[1]) * UNITS[match[2]])


def show_tuning(found: Tuning, index: Path, kinds: list[str]) -> None:
    """What recall costs, as a table on stdout."""
    console = Console(soft_wrap=True, highlight=False)
    chosen = found.chosen
    kind = next((one for one in kinds if one != "Flat"), kinds[0])
    columns = [name for name, value in chosen.settings.model_dump().items() if value is not None]
    table = Table(title=f"{kind}: what recall costs", title_justify="left")
    for name in (*columns, "recall@10", "queries/s", "x exact", ""):
        table.add_column(name, justify="right")
    for row in found.table:
        told = [f"{getattr(row.settings, name)}" for name in columns]
        table.add_row(*told, *_cells(row, found), "chosen" if row.settings == chosen.settings else "")
    table.add_row(*([""] * len(columns)), "1", f"{found.exact_per_second:,.0f}", "1.0", "exact")
    console.print(table)
    source = "your own" if found.own else "documents, which are easier than what people ask; see --queries"
    console.print(f"Chosen on {found.queries:,} queries, measured on as many others, one thread; they are {source}.")
    if found.reached:
        share = f"{chosen.recall:.3f} ± {chosen.error:.3f}"
        console.print(f"Searches of {index} now find {share} of the ten nearest vectors.")
    else:
        console.print(
            f"No settings reach {found.target:g} on the queries that choose. Searches of {index} now find "
            f"{chosen.recall:.3f}, the most there is: choose another --factory, or more --memory where it is limited."
        )


def _cells(row: TradeOff, found: Tuning) -> tuple[str, str, str]:
    return f"{row.recall:.3f}", f"{row.per_second:,.0f}", f"{row.per_second / found.exact_per_second:.1f}"
