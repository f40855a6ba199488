"""``retriever whiten``: a linear map after a finished model, without training."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from retriever.cli import options
from retriever.cli.show import RichReporter, print_json


class Method(str, Enum):
    """Which map."""

    whitening = "bert-whitening"
    common = "common-component"
    sif = "sif"


def whiten(
    model: Annotated[str, typer.Argument(help="A model folder or a hub name.")],
    data: Annotated[str, typer.Argument(help=f"Texts to take the statistics of: {options.DATA_HELP}")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The model folder to write.")] = ...,  # type: ignore[assignment]
    method: Annotated[
        Method,
        typer.Option(
            help="bert-whitening: mean 0, covariance I; common-component: without what most vectors share; sif: words "
            "of a static model weighed by rarity, then common-component."
        ),
    ] = Method.whitening,
    dimension: Annotated[
        int | None, typer.Option(min=1, help="bert-whitening: dimensions to keep; all that vary, if omitted.")
    ] = None,
    components: Annotated[int, typer.Option(min=1, help="common-component and sif: directions to remove.")] = 1,
    limit: Annotated[int, typer.Option(min=2, help="Texts to read at most, the first ones.")] = 100_000,
    overwrite: options.Overwrite = False,
    text_field: options.TextField = None,
    title_field: options.TitleField = None,
    id_field: options.IdField = None,
    skip_bad_lines: options.SkipBadLines = False,
    split: options.Split = "train",
    streaming: options.Streaming = False,
    device: options.Device = None,
    dtype: options.Dtype = "float32",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Whiten the vectors of a model, or remove their common component, by the statistics of some texts.

    retriever whiten model sentences.txt --output whitened
    """
    from retriever.encoder import Encoder
    from retriever.encoder.folder import check_free
    from retriever.encoder.linear import linear_map

    check_free(output, overwrite)
    options.use_threads(threads)
    reporter = RichReporter(quiet or json)
    corpus = options.read_corpus(data, text_field, title_field, id_field, skip_bad_lines, split, streaming)
    texts = [document.content for document, _ in zip(corpus, range(limit), strict=False)]
    encoder = Encoder.load(model, device)
    with reporter.stage("encode", len(texts)) as advance:
        changed = linear_map(
            encoder, texts, method.value, dimension=dimension, components=components, dtype=dtype, progress=advance
        )
    changed.save(output, overwrite=overwrite)
    if json:
        print_json({"texts": len(texts), "dimension": changed.dimension, "output": str(output)})
        return
    reporter.note(
        f"{output} holds the model with {method.value} by {len(texts):,} texts, {changed.dimension} dimensions. Next: "
        f"retriever eval sts {output} STS_FOLDER"
    )
