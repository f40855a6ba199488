"""``retriever train``: from a corpus and a recipe to a model folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from retriever.cli import options
from retriever.cli.show import RichReporter

DATA_HELP = (
    f"{options.DATA_HELP} Several --data are mixed. For a recipe with labels: a BEIR folder with judgments, or a file "
    "of query, positive and negative."
)


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name (`retriever recipes ls`) or a .yaml file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[key=value]...", help="Settings to change, such as lr=0.005.")
    ] = None,
    data: Annotated[list[str], typer.Option(help=DATA_HELP)] = ...,  # type: ignore[assignment]
    output: Annotated[Path, typer.Option("--output", "-o", help="The model folder to write.")] = ...,  # type: ignore[assignment]
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the output folder.")] = False,
    overwrite: options.Overwrite = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and stop.")] = False,
    show_pairs: Annotated[int, typer.Option(min=0, help="Print this many training pairs and stop.")] = 0,
    seed: Annotated[int | None, typer.Option(min=0, help="Short for seed=N.")] = None,
    text_field: options.TextField = None,
    title_field: options.TitleField = None,
    id_field: options.IdField = None,
    skip_bad_lines: options.SkipBadLines = False,
    split: Annotated[
        str, typer.Option(help="Split of a Hugging Face dataset, or judgments of a BEIR folder.")
    ] = "train",
    corpus: Annotated[Path | None, typer.Option(help="BEIR folder with the texts of labels given by id.")] = None,
    streaming: options.Streaming = False,
    device: options.Device = None,
    dtype: Annotated[str | None, typer.Option(help="Short for dtype=auto, float32 or bfloat16.")] = None,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
) -> None:
    """Train an encoder on a corpus, on several, or on labelled queries.

    retriever train contriever-cpu --data notes.jsonl --output model
    """
    from retriever.data.corpus import Corpus
    from retriever.data.labelled import Labelled, open_labelled
    from retriever.training.api import preview
    from retriever.training.api import train as run
    from retriever.training.recipebook import load_recipe, to_yaml
    from retriever.training.trainer import TrainingInterrupted

    short = {"seed": seed, "dtype": dtype}
    changes = [*(overrides or []), *(f"{key}={value}" for key, value in short.items() if value is not None)]
    settings = load_recipe(recipe, changes)
    if dry_run:
        typer.echo(to_yaml(settings), nl=False)
        return
    options.use_threads(threads)
    reporter = RichReporter(quiet or os.environ.get("RANK", "0") != "0")  # one process of several speaks
    fields = (text_field, title_field, id_field)
    given: list[Corpus | Labelled] = [
        open_labelled(source, split=split, corpus=corpus, skip_bad_lines=skip_bad_lines)
        if settings.labels
        else options.read_corpus(source, *fields, skip_bad_lines, split, streaming)
        for source in data
    ]
    if show_pairs:
        typer.echo(preview(settings, given, show_pairs, reporter))
        return
    try:
        run(settings, given, output, resume=resume, overwrite=overwrite, device=device, reporter=reporter)
    except TrainingInterrupted as stop:
        raise KeyboardInterrupt(f"{stop} Go on with:\n  {options.resume_command()}") from stop
    for part in given:
        if isinstance(part, Corpus):
            options.note_counts(part, None, reporter)
    reporter.note(f"The model is in {output}. Next: retriever index build {output} {data[0]} --output INDEX")
