"""``retriever search``: ask an index."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retriever.cli import options
from retriever.cli.show import harmless, output_console, print_json

if TYPE_CHECKING:
    from retriever.indexing.searching import Hit

SIDES = {"dense": "vectors", "bm25": "words"}


class Mode(str, Enum):
    """How to search."""

    hybrid = "hybrid"
    dense = "dense"
    bm25 = "bm25"


class Fusion(str, Enum):
    """How hybrid search fuses."""

    fisher = "fisher"
    zscore = "zscore"
    minmax = "minmax"
    tmm = "tmm"
    product = "product"
    rrf = "rrf"


def search(
    context: typer.Context,
    index: Annotated[Path, typer.Argument(help="The index folder.")],
    query: Annotated[str, typer.Argument(help="What to look for; - reads it from standard input.")],
    k: Annotated[int, typer.Option("-k", "--top-k", min=1, help="Hits to show.")] = 10,
    mode: Annotated[Mode, typer.Option(help="hybrid, dense or bm25.")] = Mode.hybrid,
    fusion: Annotated[
        Fusion | None, typer.Option(help="Of hybrid; as the index was tuned to, or fisher, if omitted.")
    ] = None,
    weight: Annotated[
        float | None, typer.Option(min=0, max=1, help="Of hybrid: share of the vectors; tuned, or half, if omitted.")
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", help="A condition on the metadata: year>=2020, lang=en,de, author!=Ann. Repeatable."),
    ] = None,
    nprobe: Annotated[int | None, typer.Option(min=1, help="Of inverted lists: how many to visit; tuned.")] = None,
    ef: Annotated[int | None, typer.Option(min=1, help="Of graphs: breadth of the walk; tuned.")] = None,
    rerank: Annotated[int | None, typer.Option(min=1, help="Of codes: candidates to compare for a hit; tuned.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Tell the score and rank of each hit by vectors and by words.")
    ] = False,
    model: Annotated[str | None, typer.Option(help="The model, if it is not where it was.")] = None,
    json: options.Json = False,
) -> None:
    """Search an index.

    retriever search index "how to parse dates" -k 5 --mode dense --json
    """
    from retriever.eval.report import snippet
    from retriever.indexing.index import Index
    from retriever.indexing.kinds import SearchSettings

    if mode != Mode.hybrid:
        options.refuse_given(context, "fusion", "weight", why=f"is for --mode hybrid, not {mode.value}")
    if mode == Mode.bm25:
        options.refuse_given(context, "nprobe", "ef", "rerank", why="is for vectors, and --mode bm25 has none")
    if query == "-":
        query = options.read_stdin()
    settings = SearchSettings(nprobe=nprobe, ef=ef, rerank=rerank)
    with Index.open(index, model) as opened:
        hits = opened.search(
            query,
            k,
            mode.value,
            fusion.value if fusion else None,
            filters or (),
            weight,
            settings if settings != SearchSettings() else None,
            explain=explain,
        )
    if json:
        print_json({"query": query, "mode": mode.value, "hits": [_record(hit, explain) for hit in hits]})
        return
    console = output_console()
    if not hits:
        console.print("Nothing found.")
    for hit in hits:
        heading = harmless(f"{hit.id}  {hit.title}".rstrip())
        console.print(f"{hit.rank:>3}  {hit.score:7.3f}  {heading}", style="bold", markup=False, highlight=False)
        for line in [*([_sides(hit)] if explain else []), harmless(snippet(hit.text, 160))]:
            console.print(f"              {line}", markup=False, highlight=False)


def _record(hit: Hit, explain: bool) -> dict[str, Any]:
    return {name: value for name, value in asdict(hit).items() if explain or name != "parts"}


def _sides(hit: Hit) -> str:
    """What each side of the search says about a hit."""
    told = {SIDES[side]: part for side, part in hit.parts.items()}
    return "; ".join(
        f"{name}: {part.score:.3f}, rank {part.rank}" if part else f"{name}: not among the candidates"
        for name, part in told.items()
    )
