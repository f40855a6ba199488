"""Bringing an index of format 1 to the present one, without encoding anything.

    manifest.json              format 1: one generation, no segments
    generation-000001/
        documents.sqlite       ids, titles, texts, metadata, by row: as today
        vectors.faiss          vectors, by row: as today
        bm25/                  scores of words and documents, of another library

1. Documents and vectors are compared with their hashes and copied into a new generation, which is the first segment.
2. The words are indexed from the documents.
3. The manifest of the present format replaces the old one in one step; then the old generation goes.

So a crash leaves the old index or the new one.
"""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from retriever.data.words import WordAnalyzer
from retriever.errors import IndexFolderError
from retriever.files import replacing
from retriever.indexing.build import writing
from retriever.indexing.dense import DenseIndex
from retriever.indexing.manifest import (
    DOCUMENTS,
    MANIFEST,
    POSTINGS,
    VECTORS,
    Bm25Record,
    FileRecord,
    Manifest,
    ModelRecord,
    SegmentRecord,
    generation_name,
    package_version,
    publish,
    read_manifest,
    records,
)
from retriever.indexing.postings import Postings
from retriever.indexing.store import DocumentStore
from retriever.indexing.verify import difference

WORDS = "bm25"


class ManifestOfFormat1(BaseModel):
    """What an index folder of format 1 holds; see :class:`retriever.indexing.manifest.Manifest`."""

    format: Literal[1]
    generation: int
    model: ModelRecord
    dimension: int
    similarity: Literal["cosine", "dot"]
    factory: str
    documents: int
    bm25: Bm25Record
    files: dict[str, FileRecord]


def migrate(folder: Path) -> bool:
    """Bring an index to the present format.

    Args:
        folder: The index folder.

    Returns:
        Whether it was of an older one.

    Raises:
        IndexFolderError: There is no index, or a file is missing or damaged; the index is as it was.
        OutputError: Another process is writing the index, or the folder cannot be written.
    """
    if not _is_old(folder):
        read_manifest(folder)
        return False
    with writing(folder) as generation:
        old = _read(folder)
        name = generation_name(generation)
        with replacing(folder / name) as temporary:
            _copy(folder, old, temporary)
            _index_words(temporary, old)
            files = records(temporary, name)
        manifest = Manifest(
            package=package_version(),
            generation=generation,
            files=files,
            segments=[SegmentRecord(name=name, documents=old.documents, factory=old.factory)],
            **old.model_dump(exclude={"format", "generation", "files"}),
        )
        publish(folder, manifest)
    return True


def _is_old(folder: Path) -> bool:
    try:
        values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and values.get("format") == 1


def _read(folder: Path) -> ManifestOfFormat1:
    try:
        return ManifestOfFormat1.model_validate_json((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IndexFolderError(f"The manifest {folder / MANIFEST} is damaged: build the index again.") from error


def _copy(folder: Path, old: ManifestOfFormat1, target: Path) -> None:
    """Copy documents and vectors as they are."""
    for path, record in old.files.items():
        _, _, inner = path.partition("/")
        if inner.startswith(f"{WORDS}/"):
            continue
        what = difference(folder / path, record)
        if what is not None:
            raise IndexFolderError(f"The index file {folder / path} {what}: build the index again.")
        shutil.copyfile(folder / path, target / inner)


def _index_words(target: Path, old: ManifestOfFormat1) -> None:
    """Write the postings beside the documents, which must be as many as the vectors."""
    dense = DenseIndex.open(target / VECTORS, old.similarity)
    with closing(DocumentStore(target / DOCUMENTS)) as store:
        if not len(store) == len(dense) == old.documents:
            raise IndexFolderError(
                f"The old index has {len(store):,} documents, {len(dense):,} vectors and a manifest that tells of "
                f"{old.documents:,}: build the index again."
            )
        analyzer = WordAnalyzer(old.bm25.stemmer)
        Postings.build(analyzer(document.content) for document in store).save(target / POSTINGS)
