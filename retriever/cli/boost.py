"""``retriever boost``: a pretrained model and a static one of the user's own corpus, joined into one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from retriever.cli import options
from retriever.cli.show import RichReporter, print_json

if TYPE_CHECKING:
    from retriever.training.boost import Boosted


def boost(
    model: Annotated[str, typer.Argument(help="The pretrained model: a folder or a hub name.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[key=value]...", help="Settings of the static model's recipe, such as steps=1000."),
    ] = None,
    data: Annotated[str, typer.Option(help=options.DATA_HELP)] = ...,  # type: ignore[assignment]
    output: Annotated[Path, typer.Option("--output", "-o", help="The model folder to write.")] = ...,  # type: ignore[assignment]
    static: Annotated[str | None, typer.Option(help="A finished static model, instead of training one.")] = None,
    weight: Annotated[
        float | None, typer.Option(help="The pretrained model's share of the cosine, 0 to 1, instead of choosing it.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="How to train the static model: a name or a .yaml file.")] = (
        "contriever-cpu"
    ),
    overwrite: options.Overwrite = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Short for seed=N.")] = None,
    text_field: options.TextField = None,
    title_field: options.TitleField = None,
    id_field: options.IdField = None,
    skip_bad_lines: options.SkipBadLines = False,
    split: options.Split = "train",
    streaming: options.Streaming = False,
    device: options.Device = None,
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Join a pretrained model to a static one trained on a corpus: one model, one index.

    retriever boost sentence-transformers/all-MiniLM-L6-v2 --data notes.jsonl --output boosted
    """
    from retriever.training.boost import boost as run
    from retriever.training.boost import resolve_recipe

    changes = [*(overrides or []), *([] if seed is None else [f"seed={seed}"])]
    settings = resolve_recipe(recipe, static, changes)
    options.use_threads(threads)
    reporter = RichReporter(quiet)
    corpus = options.read_corpus(data, text_field, title_field, id_field, skip_bad_lines, split, streaming)
    boosted = run(
        model,
        corpus,
        output,
        static=static,
        weight=weight,
        recipe=settings,
        overwrite=overwrite,
        device=device,
        reporter=reporter,
    )
    options.note_counts(corpus, None, reporter)
    if json:
        print_json({"output": str(output), **boosted.to_json()})
        return
    _print_scores(boosted)
    reporter.note(f"The model is in {output}. Next: retriever index build {output} {data} --output INDEX")


def _print_scores(boosted: Boosted) -> None:
    """The scores by weight, the chosen one marked."""
    from retriever.eval.tables import metrics_table
    from retriever.training.boost import DEPTH, UNDECIDED

    if boosted.scores:
        rows = {f"{w:.1f}" + " ←" * (w == boosted.weight): scores for w, scores in boosted.scores.items()}
        title = f"Share of the pretrained model, on {boosted.queries:,} held-out known items"
        console = Console(highlight=False)
        console.print(metrics_table(rows, title=title))
        console.print(f"← within one standard error of the best recall@{DEPTH}, and nearest to {UNDECIDED}")
