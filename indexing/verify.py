"""Looking for damage in an index folder.

1. The manifest tells of all files of each segment and of no others; every file is there, of its size, and of its hash.
2. The parts of each segment fit together: SQLite finds its file in order, and documents, vectors and postings are as
   many as the manifest tells.
3. Over all segments, as many documents are alive as the manifest tells, and no two of them share an id.
4. On request, a sample of the documents is encoded again, and their vectors must be those stored, up to the precision
   of fp16 and bfloat16.

What is found is told file by file; :mod:`retriever.indexing.repair` mends it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from retriever.errors import DataError, IndexFolderError
from retriever.files import sha256
from retriever.indexing.damage import is_lack
from retriever.indexing.kinds import evenly
from retriever.indexing.manifest import (
    DELETED,
    DOCUMENTS,
    POSTINGS,
    VECTORS,
    FileRecord,
    Manifest,
    MilvusRecord,
    SegmentRecord,
    read_manifest,
)
from retriever.indexing.store import CHUNK
from retriever.indexing.vector_files import store_path
from retriever.indexing.view import Segment, read_alive

if TYPE_CHECKING:
    from retriever.encoder.encoder import Encoder

Part: TypeAlias = Literal["documents", "vectors", "postings", "deleted"]

TOLERANCE = 0.1  # distance of an encoded and a stored vector, over the length of the vector


@dataclass(frozen=True, slots=True)
class Fault:
    """One damage.

    Attributes:
        segment: Name of the segment.
        part: Which part of it does not count any more.
        path: From the index folder to the file.
        what: What is wrong with it, as the end of a sentence.
    """

    segment: str
    part: Part
    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path} {self.what}"


def damage(folder: Path, encoder: Encoder | None = None, sample: int = 0) -> list[Fault]:
    """What is damaged in an index folder that others may change meanwhile; see :func:`find_faults`.

    Raises:
        IndexFolderError: There is no index, or its manifest is damaged.
    """
    while True:
        manifest, failure, faults = read_manifest(folder), None, list[Fault]()
        try:
            faults = find_faults(folder, manifest, encoder, sample)
        except IndexFolderError as error:
            failure = error
        if not faults and failure is None:
            return []
        if read_manifest(folder).generation == manifest.generation:  # otherwise it was changed meanwhile
            if failure is not None:
                raise failure
            return faults


def refuse(folder: Path, faults: Sequence[Fault]) -> None:
    """Tell of damages.

    Raises:
        IndexFolderError: There are any.
    """
    if faults:
        can_mend = len(without_documents(faults)) < len(faults)
        mend = f"Mend it with `retriever index verify {folder} --repair`." if can_mend else "Build it again."
        raise IndexFolderError(f"The index {folder} is damaged: {'; '.join(map(str, faults))}. {mend}")


def without_documents(faults: Sequence[Fault]) -> list[Fault]:
    """Those of segments that have lost their documents, of which everything else could be made again."""
    lost = {fault.segment for fault in faults if fault.part == "documents"}
    return [fault for fault in faults if fault.segment in lost]


def find_faults(folder: Path, manifest: Manifest, encoder: Encoder | None = None, sample: int = 0) -> list[Fault]:
    """What is damaged in an index folder.

    Args:
        folder: The index folder.
        manifest: What it should hold.
        encoder: The model that built it, for the sample.
        sample: Documents of each segment to encode again.

    Raises:
        DataError: The sample is below 0.
        IndexFolderError: Milvus holds the documents, and something is wrong with them; or a sample is asked of it.
    """
    if sample < 0:
        raise DataError(f"A sample of {sample} documents is none: give 0 or more.")
    if manifest.milvus is not None:
        _check_milvus(folder, manifest, manifest.milvus, sample)
        return []
    faults, files = [], manifest.files_by_segment()
    for segment in manifest.segments:
        found = list(_file_faults(folder, manifest, segment, files[segment.name])) or list(
            _inner_faults(folder, manifest, segment)
        )
        if not found and encoder is not None and sample:
            found = list(_vector_faults(folder, manifest, segment, encoder, sample))
        faults += found
    return faults or list(_whole_faults(folder, manifest))


def _check_milvus(folder: Path, manifest: Manifest, record: MilvusRecord, sample: int) -> None:
    """See that Milvus holds as many documents as the manifest tells; it looks after its files itself."""
    from retriever.indexing.milvus_changes import was_stopped
    from retriever.indexing.milvus_view import MilvusView

    if sample:
        raise IndexFolderError(f"Milvus holds the documents of the index {folder}: verify it without --sample.")
    for name, file in manifest.files.items():
        path = folder / name
        if not path.exists() or sha256(path) != file.sha256:
            raise IndexFolderError(f"The index file {path} is damaged: run `retriever index compact {folder}`.")
    if was_stopped(folder, record):
        raise IndexFolderError(
            f"A change of the index {folder} was stopped, and its counts may be wrong: make it again, or run "
            f"`retriever index compact {folder}`."
        )
    with closing(MilvusView.open(folder)) as view:
        held = len(view.collection)
    if held != manifest.documents:
        raise IndexFolderError(
            f"Milvus holds {held:,} documents and the index {folder} counts {manifest.documents:,}: run "
            f"`retriever index compact {folder}`."
        )


def _file_faults(
    folder: Path, manifest: Manifest, segment: SegmentRecord, files: dict[str, FileRecord]
) -> Iterator[Fault]:
    """Files of a segment, what tells of deletion included, that are missing or differ from what was written."""
    if segment.deleted is not None:
        files = files | {segment.deleted: manifest.files[segment.deleted]}
    for path, record in files.items():
        what = difference(folder / path, record)
        if what is not None:
            yield Fault(segment.name, part_of(path), path, what)


def difference(path: Path, record: FileRecord) -> str | None:
    """What is wrong with a file, as the end of a sentence; None if it is as it was written.

    Raises:
        OSError: Too many files are open, or memory is lacking.
    """
    try:
        size = path.stat().st_size
        if size != record.bytes:
            return f"has {size:,} bytes instead of {record.bytes:,}"
        return None if sha256(path) == record.sha256 else "has another content than was written"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        if is_lack(error):
            raise
        return f"cannot be read ({error.strerror})"


def part_of(path: str) -> Part:
    """The part of a segment that a file of the index belongs to."""
    _, _, inner = path.partition("/")
    if inner.startswith(DELETED):
        return "deleted"
    if inner == DOCUMENTS:
        return "documents"
    return "postings" if inner.startswith(f"{POSTINGS}/") else "vectors"


def _inner_faults(folder: Path, manifest: Manifest, record: SegmentRecord) -> Iterator[Fault]:
    """Parts that are as they were written, and wrong all the same."""
    try:
        segment = Segment.open(folder, record, manifest)
    except IndexFolderError as error:
        yield Fault(record.name, "documents", f"{record.name}/{DOCUMENTS}", f"does not fit its segment ({error})")
        return
    with closing(segment.store):
        what = segment.store.check()
    if what is not None:
        yield Fault(record.name, "documents", f"{record.name}/{DOCUMENTS}", f"is no sound SQLite file ({what})")


def _vector_faults(
    folder: Path, manifest: Manifest, record: SegmentRecord, encoder: Encoder, sample: int
) -> Iterator[Fault]:
    """Vectors that are not those of their documents."""
    segment = Segment.open(folder, record, manifest)
    with closing(segment.store):
        rows = evenly(record.documents, sample)
        texts = [document.content for document in segment.store.get(rows)]
        expected = encoder.encode(texts, "document").astype(np.float64)  # (R, D)
        if manifest.similarity == "cosine":
            expected /= np.maximum(np.linalg.norm(expected, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        distance = np.linalg.norm(segment.dense.vectors(rows) - expected, axis=1)
        wrong = distance > TOLERANCE * np.linalg.norm(expected, axis=1) + np.finfo(np.float32).eps
    if wrong.any():
        kept = f"{record.name}/{store_path(VECTORS).name}"
        yield Fault(
            record.name,
            "vectors",
            kept if kept in manifest.files else f"{record.name}/{VECTORS}",
            f"holds other vectors than the model gives for {int(wrong.sum()):,} of {len(rows):,} documents",
        )


def _whole_faults(folder: Path, manifest: Manifest) -> Iterator[Fault]:
    """What is wrong between segments that are each in order."""
    names, count = set[str](), 0
    for record in manifest.segments:
        segment = Segment.open(folder, record, manifest)
        with closing(segment.store):
            rows = np.flatnonzero(read_alive(folder, record))
            for start in range(0, len(rows), CHUNK):
                names.update(document.id for document in segment.store.get(rows[start : start + CHUNK]))
        count += len(rows)
    if not count == len(names) == manifest.documents:
        what = f"tells of {manifest.documents:,} documents where {count:,} with {len(names):,} ids are alive"
        for record in manifest.segments:
            if record.deleted is not None:
                yield Fault(record.name, "deleted", record.deleted, what)
                return
        raise IndexFolderError(f"The manifest of the index {folder} {what}: build the index again.")
