"""``retriever demo``: the whole path once, on the documentation inside your own Python."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from retriever.cli import options
from retriever.cli.show import RichReporter, output_console, print_json


class Family(str, Enum):
    """The encoder families of the demo."""

    static = "static"
    transformer = "transformer"


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where model, index and report go.")] = Path("demo"),
    encoder: Annotated[
        Family, typer.Option(help="static: minutes; transformer: twenty minutes, and worse.")
    ] = Family.static,
    seed: Annotated[int, typer.Option(min=0, help="Of the queries and of training.")] = 0,
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train, index, evaluate and search the documentation inside your own Python."""
    from retriever.demo import next_commands, run_demo
    from retriever.eval.report import snippet
    from retriever.eval.tables import metrics_table

    options.use_threads(threads)
    outcome = run_demo(output, family=encoder.value, seed=seed, reporter=RichReporter(quiet))
    if json:
        print_json(outcome.to_json())
        return
    console = output_console()
    title = f"{outcome.queries:,} first sentences as queries for {outcome.documents:,} docstring bodies"
    console.print(metrics_table(outcome.metrics, outcome.intervals, title=title))
    for difference in outcome.differences:
        console.print(str(difference), highlight=False)
    for query, hits in outcome.searches.items():
        console.print(f"\n› {query}", style="bold", markup=False, highlight=False)
        for hit in hits:
            console.print(f"  {hit.rank}. {hit.id}: {snippet(hit.text, 80)}", markup=False, highlight=False)
    console.print(f"\nReport: {outcome.report}\nNext:", markup=False, highlight=False)
    for command in next_commands(outcome):
        console.print(f"  {command}", markup=False, highlight=False)
