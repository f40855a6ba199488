"""``retriever train``: from a corpus and a recipe to a model folder."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from retriever.cli import options
from retriever.cli.show import RichReporter


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name (`retriever recipes ls`) or a .yaml file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[key=value]...", help="Settings to change, such as lr=0.005.")
    ] = None,
    data: Annotated[str, typer.Option(help=options.DATA_HELP)] = ...,  # type: ignore[assignment]
    output: Annotated[Path, typer.Option("--output", "-o", help="The model folder to write.")] = ...,  # type: ignore[assignment]
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the output folder.")] = False,
    overwrite: options.Overwrite = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and stop.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Short for seed=N.")] = None,
    text_field: options.TextField = None,
    title_field: options.TitleField = None,
    id_field: options.IdField = None,
    skip_bad_lines: options.SkipBadLines = False,
    split: options.Split = "train",
    streaming: options.Streaming = False,
    device: options.Device = None,
    dtype: Annotated[str | None, typer.Option(help="Short for dtype=auto, float32 or bfloat16.")] = None,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
) -> None:
    """Train an encoder on a corpus.

    retriever train contriever-cpu --data notes.jsonl --output model
    """
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
    reporter = RichReporter(quiet)
    corpus = options.read_corpus(data, text_field, title_field, id_field, skip_bad_lines, split, streaming)
    try:
        run(settings, corpus, output, resume=resume, overwrite=overwrite, device=device, reporter=reporter)
    except TrainingInterrupted as stop:
        arguments = [a for a in sys.argv[1:] if a not in ("--overwrite", "--resume")]
        command = shlex.join(["retriever", *arguments, "--resume"])
        raise KeyboardInterrupt(f"{stop} Go on with:\n  {command}") from stop
    options.note_counts(corpus, None, reporter)
    reporter.note(f"The model is in {output}. Next: retriever index build {output} {data} --output INDEX")
