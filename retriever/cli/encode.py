"""``retriever encode``: the vectors of a corpus as a file."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retriever.cli import options
from retriever.cli.show import RichReporter, print_json
from retriever.errors import DataError

if TYPE_CHECKING:
    from retriever.encoder.shards import Shard


def encode(
    model: Annotated[str, typer.Argument(help="A model folder or a hub name.")],
    data: Annotated[str, typer.Argument(help=options.DATA_HELP)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")] = ...,  # type: ignore[assignment]
    shard: Annotated[
        str | None,
        typer.Option(help="Encode a part: 2/3 is the second of three. torchrun and accelerate launch say it, too."),
    ] = None,
    kind: Annotated[
        options.Kind, typer.Option(help="document or query: whose prompt is used.")
    ] = options.Kind.document,
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

    A run that was stopped goes on where it was when it is started again. Several processes share the work, also on
    several machines with a common folder; the last one joins what all have made.

    retriever encode model notes.jsonl --output vectors

    torchrun --nproc-per-node 4 -m retriever encode model notes.jsonl --output vectors
    """
    from retriever.encoder import Encoder
    from retriever.encoder.export import export_vectors
    from retriever.encoder.shards import listed

    options.use_threads(threads)
    reporter = RichReporter(quiet or json)
    own = _shard(shard)
    corpus = options.read_corpus(data, text_field, title_field, id_field, skip_bad_lines, split, streaming)
    encoder = Encoder.load(model, device or _own_device())
    with reporter.stage("encode") as advance:
        done = export_vectors(
            encoder, corpus, output, shard=own, kind=kind.value, dtype=dtype, overwrite=overwrite, progress=advance
        )
    options.note_counts(corpus, encoder, reporter)
    if json:
        facts = {"documents": done.documents, "dimension": encoder.dimension, "output": str(output)}
        print_json(facts | ({"shard": str(own), "missing": done.missing} if own.count > 1 else {}))
        return
    if done.resumed:
        reporter.note(f"{done.resumed:,} vectors were there from an earlier run.")
    if done.missing:
        reporter.note(f"Shard {own} is complete: {done.documents:,} vectors. Missing: {listed(done.missing)}.")
        return
    reporter.note(
        f"{output} holds {done.total:,} vectors of {encoder.dimension} dimensions: np.load('{output}/vectors.npy'), or "
        f"retriever index build {model} {data} --vectors {output} --output index"
    )


def _shard(text: str | None) -> Shard:
    """The part of the work that an option, or the variables of a launcher, leave to this process.

    Raises:
        DataError: They name none.
    """
    from retriever.encoder.shards import Shard

    if text is not None:
        if match := re.fullmatch(r"(\d+)/(\d+)", text):
            return Shard(int(match[1]), int(match[2]))
        raise DataError(f"--shard is {text!r}: write 2/3 for the second of three.")
    rank, size = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if rank is None and size is None:
        return Shard()
    try:
        return Shard(int(rank or "") + 1, int(size or ""))
    except ValueError as error:
        raise DataError(
            f"RANK is {rank!r} and WORLD_SIZE is {size!r}: set both to numbers, such as 0 and 3, or neither."
        ) from error


def _own_device() -> str | None:
    """The GPU of this process, where a launcher started several on a machine that has several."""
    import torch

    local, count = os.environ.get("LOCAL_RANK", ""), torch.cuda.device_count()
    return f"cuda:{int(local) % count}" if local.isdecimal() and count > 1 else None
