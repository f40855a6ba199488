"""One state of an index: what a search sees, whatever is written meanwhile.

1. The documents of all segments have one row number after the other, in the order in which they were added; rows of
   deleted documents stay, and are never found.
2. Vectors are searched segment by segment, and the best of all segments are the hits. Backgrounds are pooled: with
   shares w of the segments, the mean is Σ w·mean and the variance Σ w·(deviation² + mean²) − mean². Deleted documents
   count in them until they are gone, so that the order of a hybrid search can differ a little until then.
3. Words are searched over all segments at once, see :mod:`retriever.indexing.bm25`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retriever.data.document import Document
from retriever.data.words import WordAnalyzer
from retriever.errors import DataError, IndexFolderError
from retriever.indexing.arrays import read_array
from retriever.indexing.bm25 import Bm25Index
from retriever.indexing.damage import is_lack, mend
from retriever.indexing.dense import DenseIndex
from retriever.indexing.filters import Condition, unknown_field
from retriever.indexing.kinds import SearchSettings, heeds
from retriever.indexing.manifest import DOCUMENTS, POSTINGS, VECTORS, Manifest, SegmentRecord, read_manifest
from retriever.indexing.postings import Postings
from retriever.indexing.ranking import NO_HIT, Background, Ranking, depth
from retriever.indexing.store import CHUNK, DocumentStore

Mask = NDArray[np.bool_]
USES = {"nprobe": "inverted lists", "ef": "graphs", "rerank": "codes"}  # what search settings are for


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """N documents that never change: their vectors, words and texts."""

    dense: DenseIndex
    postings: Postings
    store: DocumentStore

    @classmethod
    def open(cls, folder: Path, record: SegmentRecord, manifest: Manifest) -> Segment:
        """Open a segment of the index in ``folder``.

        Raises:
            IndexFolderError: A file is damaged, or the files do not fit together.
        """
        place = folder / record.name
        dense = DenseIndex.open(place / VECTORS, manifest.similarity)
        segment = cls(dense, Postings.open(place / POSTINGS), DocumentStore(place / DOCUMENTS))
        counts = {len(dense), len(segment.postings), len(segment.store), record.documents}
        if len(counts) != 1 or dense.dimension != manifest.dimension:
            segment.store.close()
            raise IndexFolderError(f"The files of the index {folder} do not fit together: {mend(folder)}.")
        return segment


class View:
    """The documents of an index at one moment; threads may share it.

    Args:
        folder: The index folder.
        manifest: What it holds.
        known: An older view, whose segments are taken over where they still count.

    Raises:
        IndexFolderError: A file is missing or damaged.
    """

    def __init__(self, folder: Path, manifest: Manifest, known: View | None = None) -> None:
        manifest.check_sizes(folder)
        self.folder, self.manifest = folder, manifest
        self.segments: list[Segment] = []
        same = {} if known is None else known._same(manifest)
        for record in manifest.segments:
            self.segments.append(same.get(record.name) or Segment.open(folder, record, manifest))
        self.alive = [read_alive(folder, record) for record in manifest.segments]
        self.starts = np.cumsum([0, *(record.documents for record in manifest.segments)])
        if sum(int(mask.sum()) for mask in self.alive) != manifest.documents:
            raise IndexFolderError(f"The files of the index {folder} do not fit together: {mend(folder)}.")

    @classmethod
    def open(cls, folder: Path, known: View | None = None) -> View:
        """The state that counts now; see the class."""
        manifest = read_manifest(folder)
        while True:
            try:
                return cls(folder, manifest, known)
            except IndexFolderError:
                generation = manifest.generation
                manifest = read_manifest(folder)
                if manifest.generation == generation:  # otherwise it was changed between two looks
                    raise

    @cached_property
    def bm25(self) -> Bm25Index:
        """Search by words."""
        settings = self.manifest.bm25
        alive = np.concatenate([*self.alive, np.empty(0, bool)])
        parts = [segment.postings for segment in self.segments]
        return Bm25Index(parts, alive, WordAnalyzer(settings.stemmer), settings.k1, settings.b)

    def matching(self, conditions: Sequence[Condition]) -> Mask | None:
        """Which documents are alive and meet all conditions, (N,); None without any condition.

        Raises:
            DataError: No document has a field.
        """
        if not conditions:
            return None
        allowed = [np.zeros(0, bool)]
        for segment, alive in zip(self.segments, self.alive, strict=True):
            allowed.append(segment.store.matching(conditions) & alive)
        found = np.concatenate(allowed)
        if not found.any():
            self._check_fields(conditions)
        return found

    def dense(
        self,
        vectors: NDArray[np.float32],
        k: int,
        allowed: Mask | None = None,
        settings: SearchSettings | None = None,
        *,
        background: bool = True,
        surely: int | None = None,
    ) -> Ranking:
        """The ``k`` documents nearest to each query vector (Q, D); see :meth:`DenseIndex.search`.

        Args:
            vectors: Query vectors (Q, D).
            k: Hits wanted.
            allowed: Which documents may be hits, (N,), all of them alive; all that are alive if not given.
            settings: What the search may spend; what is not given is as each segment was tuned to.
            background: Whether to tell how the queries score all documents, which fusions want to know.
            surely: How many of the hits the search may spend that for; ``k`` if not given.

        Raises:
            DataError: A setting is given that no segment heeds.
        """
        width = depth(k, len(self) if allowed is None else int(np.count_nonzero(allowed)))
        masks = self.alive if allowed is None else np.split(allowed, self.starts[1:-1])
        found = [
            segment.dense.search(vectors, k, alive=mask, parameters=one, background=background, surely=surely)
            for segment, mask, one in zip(self.segments, masks, self._spending(settings), strict=False)
        ]
        if len(found) == 1:
            return found[0]
        nothing = np.empty((len(vectors), 0))
        rows = [
            np.where(one.rows == NO_HIT, NO_HIT, one.rows + start)
            for one, start in zip(found, self.starts[:-1], strict=True)
        ]
        ranking = Ranking.sorted(
            np.hstack([nothing.astype(np.int64), *rows]),
            np.hstack([nothing.astype(np.float32), *(one.scores for one in found)]),
        )
        shares = [record.documents / self.starts[-1] for record in self.manifest.segments]
        backgrounds = [one.background for one in found if one.background is not None]
        pooled = _pooled(backgrounds, shares, len(vectors)) if background else None
        return Ranking(ranking.rows[:, :width], ranking.scores[:, :width], pooled)

    def documents(self, rows: NDArray[np.int64]) -> list[Document]:
        """The documents of rows, in their order."""
        found: dict[int, Document] = {}
        owners = np.searchsorted(self.starts, rows, side="right") - 1
        for owner in np.unique(owners).tolist():
            own = rows[owners == owner]
            found.update(zip(own.tolist(), self.segments[owner].store.get(own - self.starts[owner]), strict=True))
        return [found[row] for row in rows.tolist()]

    def find(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The row of each id, −1 for one that no document alive has."""
        rows = np.full(len(ids), NO_HIT, np.int64)
        for segment, alive, start in zip(self.segments, self.alive, self.starts[:-1], strict=True):
            own = segment.store.find(ids)
            lives = (own != NO_HIT) & alive[own]
            rows[lives] = own[lives] + start
        return rows

    def live(self, first: int = 0) -> Iterator[Document]:
        """The documents alive of the segments from ``first`` on."""
        for segment, alive in zip(self.segments[first:], self.alive[first:], strict=True):
            rows = np.flatnonzero(alive)
            for start in range(0, len(rows), CHUNK):
                yield from segment.store.get(rows[start : start + CHUNK])

    def close(self) -> None:
        """Close the files."""
        for segment in self.segments:
            segment.store.close()

    def __len__(self) -> int:
        return self.manifest.documents

    def _spending(self, told: SearchSettings | None) -> list[SearchSettings]:
        """What a search of each segment may spend: what that was tuned to, but for what is told."""
        tuned = [one.tuning.chosen.settings if one.tuning else SearchSettings() for one in self.manifest.segments]
        if told is None or not tuned:
            return tuned
        changes = told.model_dump(exclude_none=True)
        known = [heeds(segment.dense.kind, segment.dense.is_coded) for segment in self.segments]
        for name in changes:
            if not any(of_segment[name] for of_segment in known):
                raise DataError(f"The index {self.folder} has no {USES[name]}, which {name} is for: leave it out.")
        return [one.model_copy(update=changes) for one in tuned]

    def _check_fields(self, conditions: Sequence[Condition]) -> None:
        known = set[str]().union(*(segment.store.fields() for segment in self.segments))
        for condition in conditions:
            if condition.field not in known:
                raise unknown_field(self.folder, condition.field, known)

    def _same(self, manifest: Manifest) -> dict[str, Segment]:
        """The segments of ``manifest`` that this view has, by name."""
        own, others = self.manifest.files_by_segment(), manifest.files_by_segment()
        held = zip((record.name for record in self.manifest.segments), self.segments, strict=True)
        return {name: segment for name, segment in held if own[name] == others.get(name)}


def read_alive(folder: Path, record: SegmentRecord) -> Mask:
    """Which documents of a segment are not deleted, (N,).

    Raises:
        IndexFolderError: The file that tells it is missing or damaged.
        OSError: Too many files are open, or memory is lacking.
    """
    if record.deleted is None:
        return np.ones(record.documents, bool)
    try:
        return ~np.unpackbits(read_array(folder / record.deleted), count=record.documents).astype(bool)
    except (OSError, ValueError, TypeError) as error:
        if is_lack(error):
            raise
        raise IndexFolderError(f"The index file {folder / record.deleted} is damaged: {mend(folder)}.") from error


def _pooled(parts: Sequence[Background], shares: Sequence[float], queries: int) -> Background:
    """The background over all segments."""
    mean, square, known = np.zeros(queries), np.zeros(queries), np.zeros(queries)
    for part, share in zip(parts, shares, strict=True):
        mean += share * part.mean
        square += share * (part.deviation**2 + part.mean**2)
        known = np.maximum(known, part.known)
    least = min((part.least for part in parts), default=-np.inf)
    return Background(mean, np.sqrt(np.maximum(square - mean**2, 0)), known, least)
