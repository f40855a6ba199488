"""``retriever compare``: do two recipes differ by more than their seeds do?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from retriever.cli import options
from retriever.cli.show import print_json

if TYPE_CHECKING:
    from retriever.training.seeds import Comparison


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Runs of one recipe, from `retriever train … --seeds`.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Runs of another, with the same seeds.")],
    metric: Annotated[str | None, typer.Option(help="Of the log; what chose the steps, if omitted.")] = None,
    json: options.Json = False,
) -> None:
    """Compare two recipes, each trained with several seeds: means, sd, and a paired t-test.

    retriever compare simcse whitenedcse
    """
    from retriever.training.seeds import compare_runs, read_runs

    found = compare_runs(read_runs(first), read_runs(second), metric)
    if json:
        print_json(found.to_json())
        return
    table = Table("seed", *(escape(str(folder)) for folder in (first, second)), "difference")
    for seed, ours, theirs in zip(found.seeds, found.first, found.second, strict=True):
        table.add_row(str(seed), f"{ours:.4f}", f"{theirs:.4f}", f"{theirs - ours:+.4f}")
    gaps = found.second - found.first
    sides = (found.first, found.second)
    table.add_section()
    table.add_row("mean", *(f"{side.mean():.4f}" for side in sides), f"{found.difference:+.4f}")
    table.add_row("sd", *(f"{side.std(ddof=1):.4f}" for side in (*sides, gaps)))
    console = Console(soft_wrap=True)
    console.print(table)
    console.print(_verdict(found), markup=False, highlight=False)


def _verdict(found: Comparison) -> str:
    low, high = found.interval
    spread = "alike with all seeds" if found.alike else f"95 % interval {low:+.4f} to {high:+.4f}"
    p = "p < .001" if found.p_value < 0.001 else f"p = {found.p_value:.3f}"
    return f"{found.metric}: {found.difference:+.4f}, {spread}, {p} ({found.test}, {len(found.seeds)} seeds)"
