"""``retriever data``: look at a corpus before anything is made of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from retriever.cli import options
from retriever.cli.show import RichReporter, print_json

app = typer.Typer(no_args_is_help=True, help="Look at a corpus.")


@app.callback()
def _group() -> None:
    pass


@app.command("stats")
def stats(
    data: Annotated[str, typer.Argument(help=options.DATA_HELP)],
    text_field: options.TextField = None,
    title_field: options.TitleField = None,
    id_field: options.IdField = None,
    skip_bad_lines: options.SkipBadLines = False,
    split: options.Split = "train",
    streaming: options.Streaming = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Count documents, duplicates, titles and words."""
    import numpy as np

    corpus = options.read_corpus(data, text_field, title_field, id_field, skip_bad_lines, split, streaming)
    words, titles = [], 0
    with RichReporter(quiet or json).stage("read") as advance:
        for document in corpus:
            words.append(len(document.content.split()))
            titles += bool(document.title)
            advance(1)
    low, middle, high = (int(value) for value in np.percentile(words, [5, 50, 95]))
    assert corpus.report is not None  # all was read
    facts = {
        "corpus": corpus.name,
        "documents": len(words),
        "with a title": titles,
        "words": sum(words),
        "words a document (5 %, median, 95 %)": [low, middle, high],
        **{name.replace("_", " "): value for name, value in asdict(corpus.report).items() if name != "documents"},
    }
    if json:
        print_json(facts)
        return
    for name, value in facts.items():
        typer.echo(f"{name:<38} {value:,}" if isinstance(value, int) else f"{name:<38} {value}")
