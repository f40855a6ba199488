"""Changing an index: adding, replacing, deleting documents, and joining what the changes left.

1. Added documents become a segment of their own; documents that they replace, and deleted ones, are marked in a file of
   a bit a document. What is written is as large as the change.
2. A segment of few documents is searched exactly, whatever the factory of the index is: see
   :func:`retriever.indexing.build.kind_for`. Others get the kind that the factory says, or that ``auto`` chooses for
   their size, and are tuned to the recall of the index.
3. After an addition, segments at the end are joined while the last is at least a quarter as large as the one before
   it: N documents lie in at most log₄ N segments or so, and each is copied a few times at most. Where that fails, as on
   a full disk, the documents are in the index all the same, and a later addition joins the segments.
4. Joining copies documents, vectors and postings; nothing is encoded again. Deleted documents go.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from retriever.data.document import Document
from retriever.data.words import WordAnalyzer
from retriever.errors import DataError, RetrieverError
from retriever.files import replacing
from retriever.indexing.build import CHUNK, kind_for, write_parts, writing
from retriever.indexing.dense import DenseIndex
from retriever.indexing.factory import AUTO, possible
from retriever.indexing.manifest import (
    DELETED,
    DOCUMENTS,
    POSTINGS,
    VECTORS,
    Manifest,
    SegmentRecord,
    generation_name,
    publish,
    read_manifest,
    records,
)
from retriever.indexing.model import IndexModel
from retriever.indexing.postings import Postings
from retriever.indexing.store import DocumentStore, write
from retriever.indexing.tuning import check_queries, check_target, tune_to
from retriever.indexing.view import Mask, View

logger = logging.getLogger("retriever.indexing")

RATIO = 4  # a segment is joined with the next one unless it is more than so many times larger


def add(
    folder: Path,
    model: IndexModel,
    documents: Iterable[Document],
    dtype: str = "auto",
    progress: Callable[[int], None] | None = None,
) -> tuple[int, int]:
    """Add documents; see :meth:`retriever.indexing.index.Index.add`.

    Returns:
        How many documents were added, and how many of them replaced another.
    """
    with _changing(folder) as (view, generation):
        name = generation_name(generation)
        manifest = view.manifest
        encoder = model.of(manifest).encoder
        with replacing(folder / name) as temporary:
            count = write(temporary / DOCUMENTS, documents)
            is_joined = bool(manifest.segments) and manifest.segments[-1].documents <= RATIO * count
            dense = _empty(manifest, 0 if is_joined else count)  # what is joined at once may wait
            write_parts(temporary, encoder, dense, WordAnalyzer(manifest.bm25.stemmer), dtype, progress)
            tuning = tune_to(dense, manifest.recall)
            replaced = _rows_replaced(view, temporary)
            segments = _mark(view, replaced, temporary, name)
            files = records(temporary, name)
        segments.append(SegmentRecord(name=name, documents=count, factory=dense.factory, tuning=tuning))
        total = manifest.documents - len(replaced) + count
        publish(folder, manifest.changed(generation, segments, total, files))
        _settle(folder, generation + 1)
    return count, len(replaced)


def delete(folder: Path, ids: Sequence[str]) -> list[str]:
    """Delete documents; see :meth:`retriever.indexing.index.Index.delete`.

    Returns:
        The ids that are not there.
    """
    with _changing(folder) as (view, generation):
        wanted = list(dict.fromkeys(ids))
        rows = view.find(wanted)
        there = rows[rows >= 0]
        if len(there):
            name = generation_name(generation)
            with replacing(folder / name) as temporary:
                segments = _mark(view, there, temporary, name)
                files = records(temporary, name)
            total = view.manifest.documents - len(there)
            publish(folder, view.manifest.changed(generation, segments, total, files))
    return [one for one, row in zip(wanted, rows.tolist(), strict=True) if row < 0]


def compact(folder: Path) -> None:
    """Join all segments into one without deleted documents; see :meth:`retriever.indexing.index.Index.compact`."""
    with _changing(folder) as (view, generation):
        _join(view, view.manifest, 0, generation)


def tune(
    folder: Path,
    recall: float,
    queries: NDArray[np.float32] | None = None,
    factory: str | None = None,
    memory: int | None = None,
) -> None:
    """Find the cheapest search settings that reach a recall, and let searches use them from now on.

    Args:
        folder: The index folder.
        recall: Share of the ten nearest vectors that searches find at least.
        queries: Vectors (Q, D) of queries as users ask them, at least 20; documents if not given, which are easier.
        factory: Make this kind of index first, of the stored vectors; nothing is encoded again.
        memory: Bytes that searches may hold in memory, where the factory is ``auto``.

    Raises:
        DataError: The recall is out of range, the queries are too few, the memory is given for a kind that is given
            too, or the documents are in Milvus.
        IndexFolderError: The factory is unknown, or needs more memory or documents.
        OutputError: Another process is writing the index, or the folder cannot be written.
    """
    check_target(recall)
    if read_manifest(folder).milvus is not None:
        raise DataError(f"The index {folder} is searched by Milvus, which tunes itself: there is nothing to tune here.")
    if queries is not None:
        check_queries(queries)
    with _changing(folder) as (view, generation):
        old = view.manifest
        if memory and (factory or old.factory) != AUTO:
            raise DataError(
                f"The memory is what the factory auto chooses by, and the index is of {factory or old.factory}: leave "
                "--memory out, or pass --factory auto."
            )
        wanted = {"factory": factory or old.factory, "memory": memory or old.memory, "recall": recall}
        manifest = old.model_copy(update=wanted)
        if factory or memory:
            held = {one.factory or old.factory for one in old.segments}
            fits = all((one.factory or old.factory) in _kinds(manifest, one.documents) for one in old.segments)
            fits &= not held or bool(held & _kinds(manifest, old.documents))  # small segments are exact, but not joined
            most = max((one.documents for one in old.segments), default=0) if fits else old.documents
            DenseIndex.empty(old.dimension, old.similarity, manifest.factory, most, manifest.memory)  # or refuse
            if not fits:
                _join(view, manifest, 0, generation, queries)
                return
        segments = [
            record.model_copy(update={"tuning": tune_to(segment.dense, recall, queries)})
            for record, segment in zip(old.segments, view.segments, strict=True)
        ]
        publish(folder, manifest.model_copy(update={"segments": segments, "generation": generation}))


def configure(folder: Path, **settings: BaseModel) -> None:
    """Change settings of an index, by their names in the manifest, and nothing else."""
    read_manifest(folder)  # no index, no folder is made
    with writing(folder) as generation:
        publish(folder, read_manifest(folder).model_copy(update={**settings, "generation": generation}))


def _settle(folder: Path, generation: int) -> None:
    """Join segments at the end that are of similar size."""
    sizes = [segment.documents for segment in read_manifest(folder).segments]
    first = len(sizes) - 1
    while first > 0 and sizes[first - 1] <= RATIO * sum(sizes[first:]):
        first -= 1
    if first == len(sizes) - 1:
        return
    try:
        with closing(View.open(folder)) as view:
            _join(view, view.manifest, first, generation)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("Stopped; the documents are in the index, only segments are not joined.") from None
    except (RetrieverError, OSError, RuntimeError, MemoryError) as error:  # FAISS has no errors of its own
        logger.warning("The documents are in the index %s, but its segments could not be joined yet: %s", folder, error)


def _join(
    view: View, manifest: Manifest, first: int, generation: int, queries: NDArray[np.float32] | None = None
) -> None:
    """Replace the segments from ``first`` on by one without deleted documents, as the manifest wants it.

    It is tuned by the ``queries`` (Q, D), by documents if not given.
    """
    folder, name = view.folder, generation_name(generation)
    segments, alive = view.segments[first:], view.alive[first:]
    kept, count = manifest.segments[:first], sum(int(mask.sum()) for mask in alive)
    if not count:
        publish(folder, manifest.changed(generation, kept, manifest.documents, {}))
        return
    dense = _empty(manifest, count)
    with replacing(folder / name) as temporary:
        write(temporary / DOCUMENTS, view.live(first))
        for segment, mask in zip(segments, alive, strict=True):
            rows = np.flatnonzero(mask)
            for start in range(0, len(rows), CHUNK):
                dense.add(segment.dense.vectors(rows[start : start + CHUNK]))
        dense.save(temporary / VECTORS)
        Postings.merge([segment.postings for segment in segments], alive).save(temporary / POSTINGS)
        files = records(temporary, name)
        tuning = tune_to(dense, manifest.recall, queries)
    joined = [*kept, SegmentRecord(name=name, documents=count, factory=dense.factory, tuning=tuning)]
    publish(folder, manifest.changed(generation, joined, manifest.documents, files))


def _empty(manifest: Manifest, count: int) -> DenseIndex:
    """The index of a segment of so many vectors."""
    factory = kind_for(manifest.factory, count, manifest.dimension)
    return DenseIndex.empty(manifest.dimension, manifest.similarity, factory, count, manifest.memory)


def _kinds(manifest: Manifest, count: int) -> set[str]:
    """What :func:`_empty` can turn out to be."""
    factory = kind_for(manifest.factory, count, manifest.dimension)
    return possible(factory, count, manifest.dimension, manifest.memory)


@contextmanager
def _changing(folder: Path) -> Iterator[tuple[View, int]]:
    """Lock an index and give its state and the number of the new generation."""
    read_manifest(folder)  # no index, no folder is made
    with writing(folder) as generation, closing(View.open(folder)) as view:
        yield view, generation


def _rows_replaced(view: View, added: Path) -> NDArray[np.int64]:
    """The rows of documents that have the id of an added one."""
    with closing(DocumentStore(added / DOCUMENTS)) as store:
        found = view.find([document.id for document in store])
    return found[found >= 0]


def _mark(view: View, rows: NDArray[np.int64], folder: Path, name: str) -> list[SegmentRecord]:
    """Write which documents are deleted when ``rows`` are, too, into a new generation; the segments after that."""
    marked = []
    for place, record in enumerate(view.manifest.segments):
        own = rows[(view.starts[place] <= rows) & (rows < view.starts[place + 1])] - view.starts[place]
        if len(own):
            deleted: Mask = ~view.alive[place]
            deleted[own] = True
            file = f"{DELETED}{record.name.rpartition('-')[2]}.npy"
            np.save(folder / file, np.packbits(deleted))
            record = record.model_copy(update={"deleted": f"{name}/{file}"})
        marked.append(record)
    return marked
