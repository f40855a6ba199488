"""The manifest of an index folder: what it holds, which model made it, and how to see that nothing is damaged.

    manifest.json              published last, by an atomic replace: it decides what counts
    generation-000001/         what the first change wrote; never changed
        documents.sqlite       ids, titles, texts, metadata, by row
        vectors.faiss          vectors, by row
        postings/              words of the documents, by row
    generation-000002/
        deleted-000001.npy     which rows of the first generation are deleted, a bit a row
        documents.sqlite …     the documents that the second change added

Every change of an index writes a new generation, as large as the change, and then replaces the manifest. So a crash
leaves the old state or the new one, and a reader that has the old one open keeps it.
"""

from __future__ import annotations

import json
import os
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from retriever.errors import IndexFolderError
from retriever.files import sha256, write_atomically
from retriever.indexing.damage import is_lack, mend
from retriever.indexing.hybrid import Fusion
from retriever.indexing.postings import FILES
from retriever.indexing.tuning import Tuning

MANIFEST, UNFINISHED, COLLECTIONS = "manifest.json", "unfinished.json", "collections.json"
DOCUMENTS, VECTORS, POSTINGS = "documents.sqlite", "vectors.faiss", "postings"
FORMAT = 2
DELETED = "deleted-"


class FileRecord(BaseModel):
    """Size and hash of one file."""

    bytes: int
    sha256: str


class ModelRecord(BaseModel):
    """The encoder that made the vectors.

    Attributes:
        path: Its folder (absolute) or hub name, if known.
        relative: Its folder as seen from the index folder, so that a pair that moved together still opens.
        fingerprint: :attr:`retriever.encoder.Encoder.fingerprint`.
        prompts: Its prompts, by kind.
    """

    path: str | None
    relative: str | None
    fingerprint: str
    prompts: dict[str, str]


class Bm25Record(BaseModel):
    """Settings of BM25."""

    k1: float
    b: float
    stemmer: str


class FusionRecord(BaseModel):
    """How a hybrid search fuses, unless told otherwise.

    Attributes:
        method: See :mod:`retriever.indexing.hybrid`.
        weight: Share of the vectors, from 0 to 1; the rest is that of the words.
    """

    method: Fusion = "fisher"
    weight: float = Field(default=0.5, ge=0, le=1)


class SegmentRecord(BaseModel):
    """Documents that one change added.

    Attributes:
        name: The folder of their generation.
        documents: How many there are, also those that are deleted.
        factory: The FAISS factory string of its vectors; the index's where that is not told.
        tuning: What searches of its vectors spend, and what they find; nothing where they are exact or were not tuned.
        deleted: The file that tells which are deleted, if any are.
    """

    name: str
    documents: int
    factory: str | None = None
    tuning: Tuning | None = None
    deleted: str | None = None


class MilvusRecord(BaseModel):
    """Where the documents of an index are that Milvus holds.

    Attributes:
        uri: The address of Milvus.
        collection: The collection.
        words: The file that counts which words documents hold.
        mean_length: Mean number of words a document when the index was built.
        rows: The row of the next document.
        fields: Names of the fields of the metadata.
    """

    uri: str
    collection: str
    words: str
    mean_length: float
    rows: int
    fields: list[str]


class Manifest(BaseModel):
    """What an index folder holds.

    Attributes:
        format: Version of this layout.
        package: Version of the package that wrote it.
        generation: Counts the changes of the index.
        model: The encoder.
        dimension: D, the width of a vector.
        similarity: How vectors are compared.
        factory: The FAISS factory string of large segments, or ``auto``.
        memory: Bytes that searches may hold in memory, where ``auto`` chooses.
        recall: Recall@10 that large segments are tuned to, if they are.
        documents: How many there are, without the deleted.
        bm25: Settings of BM25.
        fusion: How a hybrid search fuses.
        milvus: Where the documents are, if Milvus holds them.
        segments: Where the documents are, in the order in which they were added, if they are in the folder.
        files: Path from the index folder → size and hash.
    """

    format: int = FORMAT
    package: str
    generation: int
    model: ModelRecord
    dimension: int
    similarity: Literal["cosine", "dot"]
    factory: str
    memory: int | None = None
    recall: float | None = None
    documents: int
    bm25: Bm25Record
    fusion: FusionRecord = FusionRecord()
    milvus: MilvusRecord | None = None
    segments: list[SegmentRecord]
    files: dict[str, FileRecord]

    @property
    def tuning(self) -> Tuning | None:
        """What the largest segment that is not exact was tuned to."""
        tuned = [segment for segment in self.segments if segment.tuning]
        return max(tuned, key=lambda segment: segment.documents).tuning if tuned else None

    def files_by_segment(self) -> dict[str, dict[str, FileRecord]]:
        """The files that the documents of each segment are in, by its name, without what tells of deletion."""
        found: dict[str, dict[str, FileRecord]] = {segment.name: {} for segment in self.segments}
        for path, record in self.files.items():
            name, _, file = path.partition("/")
            if name in found and not file.rpartition("/")[2].startswith(DELETED):
                found[name][path] = record
        return found

    def misnamed(self) -> str | None:
        """The first file that a segment lacks or that belongs to none, as the end of a sentence; None without any."""
        if self.milvus is not None:
            return None
        needed = [DOCUMENTS, VECTORS, *(f"{POSTINGS}/{file}" for file in FILES.values())]
        rest, files = set(self.files), self.files_by_segment()
        for segment in self.segments:
            own = {f"{segment.name}/{path}" for path in needed} | ({segment.deleted} if segment.deleted else set())
            if missing := [path for path in own if path not in self.files]:
                return f"does not tell of {min(missing)}"
            rest -= own | files[segment.name].keys()
        return f"tells of {min(rest)}, which belongs to no documents" if rest else None

    def changed(
        self, generation: int, segments: list[SegmentRecord], documents: int, files: dict[str, FileRecord]
    ) -> Manifest:
        """The manifest after a change that wrote ``files``; those that count no more are left out."""
        new = {"generation": generation, "segments": segments, "documents": documents, "package": package_version()}
        whole = self.model_copy(update={**new, "files": {**self.files, **files}})
        counting = {segment.deleted: whole.files[segment.deleted] for segment in segments if segment.deleted}
        for own in whole.files_by_segment().values():
            counting |= own
        return whole.model_copy(update={"files": counting})

    def check_sizes(self, folder: Path) -> None:
        """See that every file is there in full.

        Raises:
            IndexFolderError: A file is missing or has another size.
        """
        for name, record in self.files.items():
            path = folder / name
            try:
                size = path.stat().st_size
            except OSError as error:
                raise IndexFolderError(f"The index file {path} is missing: {mend(folder)}.") from error
            if size != record.bytes:
                raise IndexFolderError(
                    f"The index file {path} is damaged ({size} bytes instead of {record.bytes}): {mend(folder)}."
                )


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of an index folder.

    Raises:
        IndexFolderError: The folder holds no index, one of a newer release, or the manifest is damaged.
        OSError: Too many files are open, or memory is lacking.
    """
    path = folder / MANIFEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(values, dict) and isinstance(values.get("format"), int) and values["format"] > FORMAT:
            raise IndexFolderError(
                f"The index {folder} has format {values['format']} and this release reads up to {FORMAT}: upgrade it."
            )
        if isinstance(values, dict) and values.get("format") == 1 and "factory" in values:
            raise IndexFolderError(
                f"The index {folder} has format 1 of an earlier release: run `retriever index migrate {folder}`."
            )
        manifest = Manifest.model_validate(values)
    except OSError as error:
        if is_lack(error):
            raise
        if isinstance(error, FileNotFoundError) and (folder / UNFINISHED).exists():
            raise IndexFolderError(
                f"{folder} holds an unfinished build and no index yet: go on with `retriever index build`, the same "
                "options and --resume."
            ) from error
        raise IndexFolderError(
            f"{folder} holds no index ({MANIFEST}: {error.strerror}): build one with `retriever index build`."
        ) from error
    except ValueError as error:  # no JSON, or JSON of another shape
        raise IndexFolderError(f"The manifest {path} is damaged: build the index again.") from error
    if what := manifest.misnamed():
        raise IndexFolderError(f"The manifest {path} is damaged (it {what}): build the index again.")
    return manifest


def publish(folder: Path, manifest: Manifest) -> None:
    """Make a manifest the one that counts.

    Raises:
        OutputError: It cannot be written.
    """
    write_atomically(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")


def generation_name(generation: int) -> str:
    """The folder of a generation."""
    return f"generation-{generation:06d}"


def records(folder: Path, name: str) -> dict[str, FileRecord]:
    """Size and hash of every file below ``folder``, by path from its parent, with ``name`` as the folder's name."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        f"{name}/{path.relative_to(folder).as_posix()}": FileRecord(bytes=path.stat().st_size, sha256=sha256(path))
        for path in paths
    }


def model_record(fingerprint: str, prompts: dict[str, str], path: str | Path | None, folder: Path) -> ModelRecord:
    """The record of a model that lies at ``path``, for an index in ``folder``."""
    if path is None or not Path(path).is_dir():  # in memory only, or the name of a hub model
        name = None if path is None else str(path)
        return ModelRecord(path=name, relative=None, fingerprint=fingerprint, prompts=prompts)
    absolute = Path(path).resolve()
    relative = os.path.relpath(absolute, folder.resolve())
    return ModelRecord(path=str(absolute), relative=relative, fingerprint=fingerprint, prompts=prompts)


def model_places(record: ModelRecord, folder: Path) -> list[str]:
    """Where the model of an index may be now: beside the index as it was when built, and where it was then.

    Raises:
        IndexFolderError: It is in neither place, or never had one.
    """
    if record.path is None:
        raise IndexFolderError(f"The index {folder} was built by a model that was not saved: give the model.")
    if record.relative is None:
        return [record.path]
    places = [str(path) for path in (folder / record.relative, Path(record.path)) if path.is_dir()]
    if places:
        return places
    raise IndexFolderError(f"The model {record.path} of the index {folder} is not there: give its new place.")


@cache
def package_version() -> str:
    """The version of this package."""
    try:
        return version("dense-retriever")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"
