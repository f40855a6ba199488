"""Options that several commands share, and what they do to the process."""

from __future__ import annotations

import shlex
import sys
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from retriever.cli.show import RichReporter
from retriever.errors import BadRecordError, DataError, RetrieverError

if TYPE_CHECKING:
    from retriever.data.corpus import Corpus
    from retriever.encoder import Encoder


class Similarity(str, Enum):
    """How vectors are compared."""

    cosine = "cosine"
    dot = "dot"


class Kind(str, Enum):
    """What texts are to the encoder: whose prompt they get."""

    document = "document"
    query = "query"


DATA_HELP = (
    "pydocs, a .txt, .jsonl, .csv, .tsv or .parquet file (also .gz), a folder of texts, a BEIR folder, or a Hugging "
    "Face dataset."
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")]
Compare = Annotated[Similarity | None, typer.Option(help="cosine or dot; the model's own if omitted.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:0 …; the best there is, if omitted.")]
Dtype = Annotated[str, typer.Option(help="auto, float32 or bfloat16.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; all cores if omitted.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what the output folder holds.")]
TextField = Annotated[str | None, typer.Option(help="Field that holds the text.")]
TitleField = Annotated[str | None, typer.Option(help="Field that holds the title.")]
IdField = Annotated[str | None, typer.Option(help="Field that holds the id.")]
SkipBadLines = Annotated[
    bool,
    typer.Option(
        "--skip-bad-lines",
        help="Count mangled lines instead of refusing them.",
        callback=lambda context, on: _note_skipping(context, on),
    ),
]
Split = Annotated[str, typer.Option(help="Split of a Hugging Face dataset.")]
Streaming = Annotated[bool, typer.Option("--streaming", help="Read a Hugging Face dataset without downloading it.")]


SKIPS = f"{__name__}.skips"  # among what the contexts of a command share


def _note_skipping(context: typer.Context, on: bool) -> bool:
    """Note that the command can leave bad lines out, for :func:`way_out`."""
    context.meta[SKIPS] = True
    return on


def way_out(context: typer.Context, error: RetrieverError) -> str:
    """An error's sentence, with what the command offers to get by it."""
    if isinstance(error, BadRecordError) and SKIPS in context.meta:
        return f"{str(error).removesuffix('.')}, or pass --skip-bad-lines to leave such lines out."
    return str(error)


def use_threads(threads: int | None) -> None:
    """Limit the CPU threads of torch and FAISS, if they are to be."""
    if threads is not None:
        from retriever import kernels

        kernels.use_threads(threads)


def read_corpus(
    data: str,
    text_field: str | None,
    title_field: str | None,
    id_field: str | None,
    skip_bad_lines: bool,
    split: str = "train",
    streaming: bool = False,
    *,
    deduplicate: bool = True,
) -> Corpus:
    """Open a corpus with the options of the command line."""
    from retriever.data.corpus import open_corpus

    return open_corpus(
        data,
        text_field=text_field,
        title_field=title_field,
        id_field=id_field,
        skip_bad_lines=skip_bad_lines,
        deduplicate=deduplicate,
        split=split,
        streaming=streaming,
    )


def refuse_given(context: typer.Context, *names: str, why: str) -> None:
    """Refuse options that would do nothing, by the names of their parameters.

    Raises:
        DataError: One of them is given.
    """
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            raise DataError(f"--{name.replace('_', '-')} {why}: leave it out.")


def read_stdin() -> str:
    """What standard input holds.

    Raises:
        DataError: It is written in another encoding than standard input's.
    """
    try:
        return typer.get_text_stream("stdin").read()
    except UnicodeDecodeError as error:
        raise DataError(f"Standard input is no {error.encoding.upper()}: convert it, as with iconv.") from error


def resume_command() -> str:
    """The command line that goes on with this one."""
    arguments = [argument for argument in sys.argv[1:] if argument not in ("--overwrite", "--resume")]
    return shlex.join(["retriever", *arguments, "--resume"])


def note_counts(corpus: Corpus, encoder: Encoder | None, reporter: RichReporter) -> None:
    """Say what reading a corpus dropped, and how many of its texts did not fit the model."""
    counts = corpus.report
    if counts is not None:
        dropped = {"duplicate": counts.duplicates, "bad line": counts.bad_lines, "empty document": counts.empty}
        parts = [counted(count, name, f"{name}s") for name, count in dropped.items() if count]
        held = counted(counts.documents, "document", "documents")
        reporter.note(f"{corpus.name}: {held}" + (f"; {', '.join(parts)}." if parts else "."))
    if encoder is not None:
        note_truncated(encoder, reporter)


def counted(count: int, one: str, many: str) -> str:
    """A number and what it counts."""
    return f"{count:,} {one if count == 1 else many}"


def note_truncated(encoder: Encoder, reporter: RichReporter) -> None:
    """Say how many of the texts encoded so far did not fit the model."""
    if cut := encoder.truncated:
        reporter.note(f"Texts cut to the {encoder.limit} tokens that the model reads: {cut:,}.")
