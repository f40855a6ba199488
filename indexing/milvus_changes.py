"""Building and changing an index whose documents Milvus holds.

    manifest.json              as of a local index; it also tells the address and the collection
    generation-000002/
        words.npy              which words documents hold
        changing               there from the moment on when a change may have left these counts behind

1. The folder stands where that of a local index would, and is small. Milvus holds texts, vectors and words; they stay
   where they are when the folder is moved or copied.
2. The corpus is read into a temporary store, so that an id that occurs twice shows before anything is encoded. A build
   then fills a new collection and publishes the manifest. What is not needed any more goes after that:
   :mod:`retriever.indexing.milvus_collections`.
3. An addition replaces by id, document by document, and a deletion goes through the ids likewise; counts are written
   when all is done. One that is killed leaves a part of its documents in Milvus, and ``changing``, where the next
   change, whichever it is, finds it and counts anew before it begins. So the same once more completes it, and no row is
   given twice; ids that were deleted by then are told as not there.
4. Compacting counts documents and words anew, from what Milvus holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retriever.data.document import Document
from retriever.data.words import WordAnalyzer
from retriever.errors import DataError
from retriever.files import replacing, write_atomically
from retriever.indexing.backend import State
from retriever.indexing.bm25 import check_settings
from retriever.indexing.build import BuildOptions, unlike, writing
from retriever.indexing.filters import fields_of
from retriever.indexing.manifest import (
    Bm25Record,
    Manifest,
    MilvusRecord,
    generation_name,
    model_record,
    package_version,
    publish,
    read_manifest,
    records,
)
from retriever.indexing.milvus import Collection
from retriever.indexing.milvus_collections import note, note_replaced
from retriever.indexing.milvus_view import MilvusView
from retriever.indexing.milvus_words import WordCounts
from retriever.indexing.model import IndexModel
from retriever.indexing.store import DocumentStore, write
from retriever.indexing.unfinished import goes_on
from retriever.indexing.vectors import unit
from retriever.indexing.view import View

if TYPE_CHECKING:
    from retriever.encoder.encoder import Encoder

CHUNK = 2_048  # documents encoded and stored at a time
WORDS, CHANGING = "words.npy", "changing"

Source = Callable[[int, list[Document]], NDArray[np.float32]]
"""First row and documents of a chunk → their vectors (N, D)."""


@dataclass
class _Change:
    """What a change has made of an index so far."""

    manifest: Manifest
    record: MilvusRecord
    collection: Collection
    counts: WordCounts
    documents: int
    fields: set[str] = field(default_factory=set)


def build_folder(
    encoder: Encoder,
    documents: Iterable[Document],
    folder: Path,
    options: BuildOptions,
    *,
    uri: str,
    model: str | Path | None = None,
    vectors: NDArray[np.float32] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Build an index in Milvus at ``uri``; see :meth:`retriever.indexing.index.Index.build`.

    It cannot be resumed: what can be is :mod:`retriever.encoder.export`, whose vectors are then given.
    """
    if resume:
        raise DataError("A build in Milvus cannot be resumed: make the vectors with `retriever encode`, which can.")
    source = _encoding(encoder, options.dtype, progress) if vectors is None else _kept(vectors, progress)
    manifest = Manifest(
        package=package_version(),
        generation=0,
        model=model_record(encoder.fingerprint, dict(encoder.prompts), model or encoder.path, folder),
        dimension=encoder.dimension,
        similarity=encoder.similarity,
        factory=options.factory,
        documents=0,
        bm25=Bm25Record(k1=options.k1, b=options.b, stemmer=options.stemmer),
        segments=[],
        files={},
    )
    with _stored(documents) as store:
        if vectors is not None and len(vectors) != len(store):
            raise unlike(len(vectors), len(store))
        _fill(manifest, store, folder, uri, source, overwrite)


def move(view: State, folder: Path, uri: str, *, factory: str = "Flat", overwrite: bool = False) -> None:
    """Copy a local index into Milvus, with the vectors that it holds; nothing is encoded again.

    Args:
        view: The documents.
        folder: The index folder to write, another than that of the view.
        uri: The address of Milvus.
        factory: How Milvus searches vectors; see :meth:`retriever.indexing.milvus.Collection.create`.
        overwrite: Replace an index that is there already.

    Raises:
        DataError: Milvus holds the documents already.
    """
    if not isinstance(view, View):
        raise DataError("Milvus holds the documents of this index already: back it up with Milvus' own tools.")
    rows = np.flatnonzero(np.concatenate([*view.alive, np.empty(0, bool)]))

    def source(first: int, documents: list[Document]) -> NDArray[np.float32]:
        wanted = rows[first : first + len(documents)]
        owners = np.searchsorted(view.starts, wanted, side="right") - 1
        found = np.empty((len(wanted), view.manifest.dimension), np.float32)
        for owner in np.unique(owners).tolist():
            found[owners == owner] = view.segments[owner].dense.vectors(wanted[owners == owner] - view.starts[owner])
        return found

    new = {"generation": 0, "factory": factory, "documents": 0, "segments": [], "files": {}}
    with _stored(view.live()) as store:
        _fill(view.manifest.model_copy(update=new), store, folder, uri, source, overwrite)


def add(
    folder: Path,
    model: IndexModel,
    documents: Iterable[Document],
    dtype: str = "auto",
    progress: Callable[[int], None] | None = None,
) -> tuple[int, int]:
    """Add documents; see :meth:`retriever.indexing.index.Index.add`, and 3. of this module's header."""
    with _stored(documents) as store, _changing(folder) as change:
        encoder = model.of(change.manifest).encoder
        first = change.record.rows
        change.record = change.record.model_copy(update={"rows": first + len(store)})
        _begin(folder, change.record)
        publish(folder, change.manifest.model_copy(update={"milvus": change.record}))
        change.counts.add(document.content for document in store)
        replaced = _put(change, store, first, _encoding(encoder, dtype, progress), is_new=False)
        change.documents += len(store) - replaced
        return len(store), replaced


def delete(folder: Path, ids: Sequence[str]) -> list[str]:
    """Delete documents; see :meth:`retriever.indexing.index.Index.delete`."""
    with _changing(folder) as change:
        wanted = list(dict.fromkeys(ids))
        found = change.collection.find(wanted)
        _begin(folder, change.record)
        change.collection.delete(list(found))
        change.counts.remove(document.content for _, document in found.values())
        change.documents -= len(found)
        return [name for name in wanted if name not in found]


def compact(folder: Path) -> None:
    """Count documents and words anew, from what Milvus holds."""
    with _changing(folder, is_anew=True):
        pass


@contextmanager
def _stored(documents: Iterable[Document]) -> Iterator[DocumentStore]:
    """Documents in a store that is gone afterwards.

    Raises:
        DataError: There is none, or an id occurs twice.
    """
    with TemporaryDirectory(prefix="retriever-") as folder:
        path = Path(folder) / "documents.sqlite"
        write(path, documents)
        with closing(DocumentStore(path)) as store:
            yield store


def _fill(manifest: Manifest, store: DocumentStore, folder: Path, uri: str, source: Source, overwrite: bool) -> None:
    """Put documents into a new collection, and publish an index of it."""
    check_settings(manifest.bm25.k1, manifest.bm25.b)
    counts = WordCounts(WordAnalyzer(manifest.bm25.stemmer))
    begins = partial(goes_on, folder, "", resume=False, overwrite=overwrite)
    with writing(folder, begins, overwrite) as generation:
        note_replaced(folder)
        length = counts.add(document.content for document in store)
        with closing(Collection.new(uri, folder.resolve().name)) as collection:
            note(folder, uri, collection.name)
            collection.create(manifest.dimension, manifest.factory, manifest.model.fingerprint)
            record = MilvusRecord(
                uri=uri,
                collection=collection.name,
                words=f"{generation_name(generation)}/{WORDS}",
                mean_length=length / len(store) or 1.0,
                rows=len(store),
                fields=[],
            )
            change = _Change(manifest, record, collection, counts, len(store))
            _put(change, store, 0, source, is_new=True)
            _publish(folder, change, generation)


def _put(change: _Change, store: DocumentStore, first: int, source: Source, is_new: bool) -> int:
    """Send the documents of a store to Milvus, their words counted already; returns how many replaced another."""
    replaced, bm25 = 0, change.manifest.bm25
    for start, chunk in zip(range(0, len(store), CHUNK), store.chunks(CHUNK), strict=True):
        vectors = unit(source(start, chunk), change.manifest.similarity)
        if not is_new:
            old = change.collection.find([document.id for document in chunk])
            change.counts.remove(document.content for _, document in old.values())
            replaced += len(old)
        mean = change.record.mean_length
        words = [change.counts.of_document(document.content, bm25.k1, bm25.b, mean) for document in chunk]
        change.collection.put(chunk, first + start, vectors, words)
        change.fields.update(*(fields_of(document.metadata) for document in chunk))
    return replaced


@contextmanager
def _changing(folder: Path, is_anew: bool = False) -> Iterator[_Change]:
    """Lock an index, and publish what the block makes of it; a stopped change or ``is_anew`` counts anew first."""
    read_manifest(folder)  # no index, no folder is made
    with writing(folder) as generation, closing(MilvusView.open(folder)) as view:
        change = _Change(view.manifest, view.record, view.collection, view.counts, len(view), set(view.record.fields))
        if is_anew or was_stopped(folder, change.record):
            _count_anew(change)
        yield change
        _publish(folder, change, generation)


def was_stopped(folder: Path, record: MilvusRecord) -> bool:
    """Whether a change was stopped, so that counts may be those of Milvus no more."""
    return _changing_file(folder, record).exists()


def _changing_file(folder: Path, record: MilvusRecord) -> Path:
    """What lies beside word counts that may be those of Milvus no more; it goes when they go."""
    return (folder / record.words).with_name(CHANGING)


def _begin(folder: Path, record: MilvusRecord) -> None:
    """Note that Milvus is about to change, so that what is killed from now on is noticed."""
    write_atomically(_changing_file(folder, record), "")


def _count_anew(change: _Change) -> None:
    """Count what Milvus holds."""
    change.counts, change.documents = WordCounts(change.counts.analyzer), 0
    for document in change.collection:
        change.counts.add([document.content])
        change.documents += 1
        change.fields |= fields_of(document.metadata)


def _publish(folder: Path, change: _Change, generation: int) -> None:
    name = generation_name(generation)
    with replacing(folder / name) as temporary:
        change.counts.save(temporary / WORDS)
        files = records(temporary, name)
    new = {"words": f"{name}/{WORDS}", "fields": sorted(change.fields)}
    record = change.record.model_copy(update=new)
    told = {"generation": generation, "documents": change.documents, "files": files, "milvus": record}
    publish(folder, change.manifest.model_copy(update={**told, "package": package_version()}))


def _encoding(encoder: Encoder, dtype: str, progress: Callable[[int], None] | None) -> Source:
    def source(_: int, documents: list[Document]) -> NDArray[np.float32]:
        texts = [document.content for document in documents]
        return encoder.encode(texts, "document", dtype=dtype, progress=progress)

    return source


def _kept(vectors: NDArray[np.float32], progress: Callable[[int], None] | None) -> Source:
    def source(first: int, documents: list[Document]) -> NDArray[np.float32]:
        if progress is not None:
            progress(len(documents))
        return vectors[first : first + len(documents)]

    return source
