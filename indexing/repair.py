"""Mending a damaged index from what is left of it.

1. Words are indexed again from the stored documents.
2. Codes, lists and graphs are made again from the full vectors, where these are kept beside them.
3. Vectors that are lost are encoded again from the stored documents, by the model that built the index.
4. Which documents are deleted is known again where all of them were replaced: a document is replaced if a later segment
   holds its id, and the manifest tells how many are alive. Which ones were deleted by name is told nowhere else.
5. Lost documents cannot be mended.

What is mended is a new generation like any other change: a mended segment is written whole and the manifest replaced.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retriever.data.words import WordAnalyzer
from retriever.files import replacing
from retriever.indexing.build import CHUNK, writing
from retriever.indexing.dense import DenseIndex
from retriever.indexing.manifest import (
    DELETED,
    DOCUMENTS,
    POSTINGS,
    VECTORS,
    FileRecord,
    Manifest,
    SegmentRecord,
    generation_name,
    publish,
    read_manifest,
    records,
)
from retriever.indexing.postings import Postings
from retriever.indexing.store import DocumentStore
from retriever.indexing.vector_files import store_path
from retriever.indexing.verify import Fault, find_faults, part_of, without_documents
from retriever.indexing.view import Mask, read_alive

if TYPE_CHECKING:
    from retriever.encoder.encoder import Encoder

Open = Callable[[], "Encoder"]
"""Opens the model, when it is needed."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """What became of the damages.

    Attributes:
        mended: Those that are no more.
        lost: Those that cannot be mended.
    """

    mended: list[Fault]
    lost: list[Fault]


def repair(folder: Path, encoder: Open, sample: int = 0) -> Repaired:
    """Mend what can be mended; see :meth:`retriever.indexing.index.Index.repair`."""
    read_manifest(folder)  # no index, no folder is made
    with writing(folder) as generation:
        manifest = read_manifest(folder)
        faults = find_faults(folder, manifest, encoder() if sample else None, sample)
        gone, masks = without_documents(faults), _masks(folder, manifest, faults)
        segments, files = list[SegmentRecord](), dict[str, FileRecord]()
        mended, lost = list[list[Fault]](), list[Fault]()
        for segment in manifest.segments:
            own = [fault for fault in faults if fault.segment == segment.name]
            beyond = [fault for fault in own if fault in gone or (fault.part == "deleted" and masks is None)]
            lost += beyond
            own = [fault for fault in own if fault not in beyond]
            if not own:
                segments.append(segment)
                continue
            parts = {fault.part for fault in own}
            name = generation_name(generation + len(mended))
            with replacing(folder / name) as temporary:
                mask = masks[segment.name] if masks is not None and "deleted" in parts else None
                segments.append(_mend(folder, manifest, segment, own, temporary, name, mask, encoder))
                files |= records(temporary, name)
            mended.append(own)
        if mended:
            last = generation + len(mended) - 1
            publish(folder, manifest.changed(last, segments, manifest.documents, files))
    return Repaired([fault for own in mended for fault in own], lost)


def _mend(
    folder: Path,
    manifest: Manifest,
    segment: SegmentRecord,
    faults: Sequence[Fault],
    temporary: Path,
    name: str,
    deleted: Mask | None,
    encoder: Open,
) -> SegmentRecord:
    """Write a segment into ``temporary``, what is damaged of it anew; ``name`` is the name it will have."""
    place, parts = folder / segment.name, {fault.part for fault in faults}
    for path in manifest.files_by_segment()[segment.name]:
        if part_of(path) not in parts:
            target = temporary / Path(path).relative_to(segment.name)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(folder / path, target)
    with closing(DocumentStore(place / DOCUMENTS)) as store:
        if "vectors" in parts:
            is_kept = store_path(VECTORS).name not in {Path(fault.path).name for fault in faults}
            _vectors(manifest, segment, place, store, encoder, is_kept).save(temporary / VECTORS)
        if "postings" in parts:
            analyzer = WordAnalyzer(manifest.bm25.stemmer)
            Postings.build(analyzer(document.content) for document in store).save(temporary / POSTINGS)
    marks = segment.deleted
    if deleted is not None:
        marks = f"{name}/{DELETED}{name.rpartition('-')[2]}.npy"
        np.save(temporary / Path(marks).name, np.packbits(deleted))
    return segment.model_copy(update={"name": name, "deleted": marks})


def _vectors(
    manifest: Manifest, segment: SegmentRecord, place: Path, store: DocumentStore, encoder: Open, is_kept: bool
) -> DenseIndex:
    """The vectors of a segment: from those kept in full, where there are such, or encoded again."""
    factory = segment.factory or manifest.factory
    kept = store_path(place / VECTORS)
    if is_kept and kept.exists():
        return DenseIndex.of_store(kept, manifest.similarity, factory)
    dense, model = DenseIndex.empty(manifest.dimension, manifest.similarity, factory), encoder()
    for chunk in store.chunks(CHUNK):
        dense.add(model.encode([document.content for document in chunk], "document"))
    return dense


def _masks(folder: Path, manifest: Manifest, faults: Sequence[Fault]) -> dict[str, Mask] | None:
    """Which documents are deleted (N,) of each segment whose file of them is damaged; None if that is lost."""
    lost = {fault.segment for fault in faults if fault.part == "deleted"}
    if not lost:
        return {}
    if without_documents(faults):
        return None
    later, masks, count = set[str](), dict[str, Mask](), 0
    for segment in reversed(manifest.segments):
        with closing(DocumentStore(folder / segment.name / DOCUMENTS)) as store:
            names = [document.id for document in store]
        if segment.name in lost:
            masks[segment.name] = np.array([name in later for name in names])
            count += int((~masks[segment.name]).sum())
        else:
            count += int(read_alive(folder, segment).sum())
        later.update(names)
    return masks if count == manifest.documents else None
