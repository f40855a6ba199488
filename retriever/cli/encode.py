"""``retriever encode``: the vectors of a corpus as a file."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from retriever.cli import options
from retriever.cli.show import RichReporter, print_json


class Kind(str, Enum):
    """What the texts are to the encoder."""

    document = "document"
    query = "query"


def encode(
    model: Annotated[str, typer.Argument(help="A model folder or a hub name.")],
    data: Annotated[str, typer.Argument(help=options.DATA_HELP)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")] = ...,  # type: ignore[assignment]
    kind: Annotated[Kind, typer.Option(help="document or query: whose prompt is used.")] = Kind.document,
    overwrite: options.Overwrite = False,
    text_field: options.TextField = None,
    title_field: options.TitleField = None,
    id_field: options.IdField = None,
    skip_bad_lines: options.SkipBadLines = False,
    split: options.Split = "train",
    streaming: options.Streaming = False,
    device: options.Device = None,
    dtype: options.Dtype = "auto",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the vectors of a corpus: vectors.npy, float32, a row a document, and ids.jsonl.

    retriever encode model notes.jsonl --output vectors
    """
    from retriever.encoder import Encoder
    from retriever.encoder.export import export_vectors

    options.use_threads(threads)
    reporter = RichReporter(quiet or json)
    corpus = options.read_corpus(data, text_field, title_field, id_field, skip_bad_lines, split, streaming)
    encoder = Encoder.load(model, device)
    with reporter.stage("encode") as advance:
        count = export_vectors(
            encoder, corpus, output, kind=kind.value, dtype=dtype, overwrite=overwrite, progress=advance
        )
    options.note_counts(corpus, encoder, reporter)
    if json:
        print_json({"documents": count, "dimension": encoder.dimension, "output": str(output)})
        return
    reporter.note(
        f"{output} holds {count:,} vectors of {encoder.dimension} dimensions: np.load('{output}/vectors.npy')"
    )
