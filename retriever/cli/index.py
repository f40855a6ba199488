"""``retriever index``: build an index, change it, look at it, check it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retriever.cli import options
from retriever.cli.show import RichReporter, print_json
from retriever.cli.tune import Memory, Recall, parse_size, show_tuning
from retriever.errors import DataError, IndexFolderError

if TYPE_CHECKING:
    from retriever.data.corpus import Corpus
    from retriever.data.document import Document
    from retriever.indexing.index import Index

app = typer.Typer(no_args_is_help=True, help="Build an index, change it, look at it, check it.")
Folder = Annotated[Path, typer.Argument(help="The index folder.")]

Backend = Annotated[str, typer.Option(help="local, or milvus: Milvus holds the documents.")]
Uri = Annotated[
    str | None, typer.Option(help="Of Milvus: a file that ends in .db, or http://host:19530. Token: MILVUS_TOKEN.")
]


@app.command("build")
def build(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A model folder or a hub name.")],
    data: Annotated[str, typer.Argument(help=options.DATA_HELP)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The index folder to write.")] = ...,  # type: ignore[assignment]
    vectors: Annotated[
        Path | None, typer.Option(help="What `retriever encode` wrote for this model and corpus: nothing is encoded.")
    ] = None,
    backend: Backend = "local",
    uri: Uri = None,
    factory: Annotated[
        str, typer.Option(help="auto chooses by size; Flat (exact), or another FAISS factory string.")
    ] = "auto",
    recall: Recall = 0.99,
    memory: Memory = None,
    k1: Annotated[float, typer.Option(help="BM25: saturation of repeated words.")] = 1.5,
    b: Annotated[float, typer.Option(help="BM25: discount of long documents.")] = 0.75,
    stemmer: Annotated[str, typer.Option(help="BM25: a Snowball algorithm, or none.")] = "porter",
    segment_size: Annotated[
        int, typer.Option(min=1, help="Documents written at a time: memory holds so many, and --resume loses no more.")
    ] = 500_000,
    overwrite: options.Overwrite = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted build.")] = False,
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
    """Encode a corpus and build its vectors, BM25 and document store.

    retriever index build model notes.jsonl --output index
    """
    from retriever.encoder import Encoder
    from retriever.encoder.export import open_vectors
    from retriever.indexing.index import Index

    if backend == "milvus":
        options.refuse_given(context, "recall", "memory", "segment_size", why="is not for Milvus, which tunes itself")
    options.use_threads(threads)
    reporter = RichReporter(quiet or json)
    corpus = options.read_corpus(data, text_field, title_field, id_field, skip_bad_lines, split, streaming)
    encoder = Encoder.load(model, device)
    try:
        with reporter.stage("index") as advance:
            index = Index.build(
                encoder,
                corpus,
                output,
                factory=factory,
                recall=recall,
                memory=parse_size(memory),
                k1=k1,
                b=b,
                stemmer=stemmer,
                dtype=dtype,
                model=model,
                vectors=None if vectors is None else open_vectors(vectors, encoder, corpus),
                segment=segment_size,
                backend=backend,
                uri=uri,
                overwrite=overwrite,
                resume=resume,
                progress=advance,
            )
    except KeyboardInterrupt as stop:
        raise _how_to_go_on(output, stop) from None
    options.note_counts(corpus, encoder, reporter)
    if json:
        print_json(index.info())
        return
    if (tuned := index.manifest.tuning) and not quiet:
        show_tuning(tuned, output, index.info()["kinds"])
    reporter.note(f'The index is in {output}. Next: retriever search {output} "your query"')


@app.command("add")
@app.command("update")
def add(
    context: typer.Context,
    index: Folder,
    data: Annotated[str, typer.Argument(help=options.DATA_HELP)],
    model: Annotated[str | None, typer.Option(help="The model, if it is not where it was.")] = None,
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
    """Add documents; one whose id is there already replaces the old one.

    `add` and `update` are the same, but that `add` refuses to replace documents by rows of a source without ids, which
    are numbered from 0 in every source. Unlike a build, both drop no document because another one has the same text.

    retriever index add index more.jsonl
    """
    from retriever.indexing.index import Index
    from retriever.indexing.model import opener

    options.use_threads(threads)
    reporter = RichReporter(quiet or json)
    fields = text_field, title_field, id_field
    corpus = options.read_corpus(data, *fields, skip_bad_lines, split, streaming, deduplicate=False)
    with Index.open(index, model if device is None else opener(index, model, device)()) as opened:
        documents = corpus if context.info_name == "update" else _without_collisions(corpus, opened, data)
        with reporter.stage("index") as advance:
            added, replaced = opened.add(documents, dtype=dtype, progress=advance)
        options.note_counts(corpus, opened.encoder, reporter)
        _tell({"added": added - replaced, "replaced": replaced, "documents": len(opened)}, json)


def _without_collisions(corpus: Corpus, index: Index, data: str) -> Iterator[Document]:
    """The documents, none of which may replace another one only because both are rows of the same number."""
    from retriever.data.fields import RowNumber

    for document in corpus:
        if isinstance(document.id, RowNumber) and index.rows([document.id])[0] >= 0:
            raise DataError(
                f"{data} has no ids, and its row {document.id} would replace the document {document.id!r} of the "
                "index: name a field with ids (--id-field), or run `retriever index update` to replace."
            )
        yield document


@app.command("delete")
def delete(
    index: Folder,
    ids: Annotated[list[str], typer.Argument(help="Ids of documents.")],
    json: options.Json = False,
) -> None:
    """Delete documents. Ids that are not there are reported; the others are deleted.

    retriever index delete index note-17 note-18
    """
    from retriever.indexing.index import Index

    with Index.open(index) as opened:
        missing = opened.delete(ids)
        _tell({"deleted": len(set(ids)) - len(missing), "missing": missing, "documents": len(opened)}, json)
    if missing:
        raise DataError(f"The index {index} holds no document {', '.join(map(repr, missing))}: check the id.")


@app.command("compact")
def compact(index: Folder, json: options.Json = False) -> None:
    """Join what changes have left behind and free the space of deleted documents, without encoding anything again."""
    from retriever.indexing.index import Index

    with Index.open(index) as opened:
        before = opened.info()["bytes"]
        opened.compact()
        _tell({"documents": len(opened), "bytes": opened.info()["bytes"], "bytes_before": before}, json)


@app.command("move")
def move(
    index: Folder,
    output: Annotated[Path, typer.Option("--output", "-o", help="The index folder to write.")],
    uri: Annotated[str, typer.Option(help="Of Milvus: a file that ends in .db, or http://host:19530.")],
    factory: Annotated[str, typer.Option(help="How Milvus searches: Flat (exact), auto or HNSW32.")] = "Flat",
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Copy an index into Milvus with the vectors it holds, without encoding anything again.

    retriever index move index --output big --uri http://localhost:19530
    """
    from retriever.indexing.index import Index

    with Index.open(index) as opened:
        opened.move(output, uri, factory=factory, overwrite=overwrite)
    with Index.open(output) as moved:
        _tell({"documents": len(moved), "index": str(output)}, json)


@app.command("info")
def info(index: Folder, json: options.Json = False) -> None:
    """Show what an index holds."""
    from retriever.indexing.index import Index

    with Index.open(index) as opened:
        facts = opened.info()
    _tell(facts, json)


@app.command("verify")
def verify(
    index: Folder,
    sample: Annotated[int, typer.Option(min=0, help="Documents of each segment to encode again.")] = 0,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended.")] = False,
    model: Annotated[str | None, typer.Option(help="The model, if it is not where it was.")] = None,
    json: options.Json = False,
) -> None:
    """Look for damaged files and whether all parts fit together; with --repair, mend what can be mended.

    retriever index verify index --sample 100 --repair
    """
    from retriever.indexing.index import Index
    from retriever.indexing.verify import refuse

    if repair:
        found = Index.repair(index, model, sample)
        if json or found.mended or found.lost:
            _tell({"mended": [*map(str, found.mended)], "lost": [*map(str, found.lost)]}, json)
        if found.lost:
            lost = "; ".join(map(str, found.lost))
            raise IndexFolderError(f"The index {index} has lost what nothing else tells: {lost}. Build it again.")
    else:
        refuse(index, Index.damage(index, model, sample))
    if not json:
        typer.echo(f"{index} is whole.")
    elif not repair:
        print_json({"index": str(index), "whole": True})


@app.command("migrate")
def migrate(index: Folder) -> None:
    """Bring an index of an earlier release to the present format, without encoding anything again.

    retriever index migrate index
    """
    from retriever.indexing.migrate import migrate

    was_old = migrate(index)
    typer.echo(f"{index} {'now has' if was_old else 'has'} the present format.")


def _how_to_go_on(index: Path, stop: KeyboardInterrupt) -> KeyboardInterrupt:
    """What to say after Ctrl-C during a build: how to go on, if something is done already."""
    from retriever.indexing.unfinished import read_unfinished

    build = read_unfinished(index)
    if build is None or not build.pieces:
        return stop
    return KeyboardInterrupt(f"Stopped; {build.documents:,} documents are done. Go on: {options.resume_command()}")


def _tell(facts: dict[str, Any], json: bool) -> None:
    """Print facts as one JSON object or as lines."""
    if json:
        print_json(facts)
        return
    for name, value in facts.items():
        typer.echo(f"{name:<12} {_shown(value)}")


def _shown(value: Any) -> str:  # noqa: ANN401
    if value is None or value in ([], {}):
        return "–"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(value)
    return f"{value:,}" if isinstance(value, int) else str(value)
