"""What a build has finished before it was interrupted.

1. A build writes its documents in segments, each a generation of its own. When one is whole on disk,
   ``unfinished.json`` in the index folder takes up its name, its files, and a digest of the documents it was made of.
2. A build that goes on reads the corpus from the start again. As long as the documents have the digests that are noted,
   nothing is written or encoded; then it continues with the next segment.
3. When the manifest names all segments, the file goes.

A build that goes on must have the same model, options, corpus and given vectors as the one that was interrupted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from retriever.data.document import Document, strings
from retriever.errors import DataError, OutputError
from retriever.files import write_atomically
from retriever.indexing.manifest import UNFINISHED, FileRecord, SegmentRecord


class Piece(BaseModel):
    """A segment that is whole.

    Attributes:
        segment: Its record in the manifest.
        digest: Of its documents.
        vectors: Of its vectors, if they were given and not encoded.
        files: Its files.
    """

    segment: SegmentRecord
    digest: str
    vectors: str | None = None
    files: dict[str, FileRecord]


class Unfinished(BaseModel):
    """A build.

    Attributes:
        settings: What decides its bytes: the fingerprint of the model, and the options, as text.
        pieces: Its segments so far.
    """

    settings: str
    pieces: list[Piece] = []

    @property
    def documents(self) -> int:
        """How many documents are in the segments."""
        return sum(piece.segment.documents for piece in self.pieces)

    def save(self, folder: Path) -> None:
        """Note it in an index folder."""
        write_atomically(folder / UNFINISHED, self.model_dump_json(indent=2) + "\n")


class Digest:
    """Documents on their way, of which a digest is taken."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def __call__(self, documents: Iterable[Document]) -> Iterator[Document]:
        """The documents."""
        for document in documents:
            yield document  # whoever takes it sees whether it can be stored
            for part in (*strings(document), repr(dict(document.metadata or {}))):
                content = part.encode("utf-8", "surrogatepass")
                self._hash.update(len(content).to_bytes(8, "little") + content)

    def hexdigest(self) -> str:
        """The digest of what has passed so far."""
        return self._hash.hexdigest()


def read_unfinished(folder: Path) -> Unfinished | None:
    """The unfinished build of an index folder, up to the first segment of which a file is missing; None without one."""
    try:
        build = Unfinished.model_validate_json((folder / UNFINISHED).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # there is none, or none that could be gone on with
        return None
    whole = []
    for piece in build.pieces:
        if not all(_is_whole(folder / path, record) for path, record in piece.files.items()):
            break
        whole.append(piece)
    return build.model_copy(update={"pieces": whole})


def vectors_digest(vectors: NDArray[np.float32] | None) -> str | None:
    """The digest of vectors (N, D) that are given, None where they are encoded."""
    return None if vectors is None else hashlib.sha256(np.ascontiguousarray(vectors).data).hexdigest()


def skip(folder: Path, piece: Piece, documents: Iterator[Document], vectors: NDArray[np.float32] | None) -> None:
    """Read the documents of a segment that is whole, and its vectors (N, D) if they are given.

    Raises:
        DataError: They are others.
    """
    if vectors_digest(vectors) != piece.vectors:
        raise DataError(
            f"The vectors are not those that the unfinished build in {folder} was made of: give the same, or pass "
            "--overwrite to start anew."
        )
    digest, count = Digest(), 0
    for count, _ in enumerate(digest(documents), start=1):  # noqa: B007 — counted
        pass
    if (count, digest.hexdigest()) != (piece.segment.documents, piece.digest):
        raise unlike_corpus(folder)


def unlike_corpus(folder: Path) -> DataError:
    """The error that says that a build does not go on with its own corpus."""
    return DataError(
        f"The corpus is not the one that the unfinished build in {folder} was made of: give that one, or pass "
        "--overwrite to start anew."
    )


def goes_on(folder: Path, settings: str, *, resume: bool, overwrite: bool) -> bool:
    """Whether a build goes on with the unfinished one of an index folder.

    Raises:
        OutputError: That has other settings, or would be thrown away by accident.
    """
    build = read_unfinished(folder)
    if resume and build is not None:
        if build.settings != settings:
            raise OutputError(
                f"The unfinished build in {folder} has another model or other options: give the same ones, or pass "
                "--overwrite to start anew."
            )
        return True
    if build is not None and build.pieces and not overwrite:
        raise OutputError(
            f"An unfinished build with {build.documents:,} documents is in {folder}: pass --resume to go on with it, "
            "or --overwrite to start anew."
        )
    return False


def _is_whole(path: Path, record: FileRecord) -> bool:
    try:
        return path.stat().st_size == record.bytes
    except OSError:
        return False
