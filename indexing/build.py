"""Writing an index folder: the lock, and the segments of documents it is made of.

1. One process at a time: the folder is locked, and what killed processes left behind is swept away.
2. The documents are read once, into the document store. A duplicate id shows before anything is encoded.
3. The stored texts are encoded in chunks and added to the vectors; then their words become postings.
4. All files are synced to disk under a temporary name, the folder gets its name, and the manifest is replaced.
5. Only then does go what no longer counts.

Until step 4 is done, an index that was there before answers as before, whatever happens.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retriever.data.document import Document
from retriever.data.words import WordAnalyzer
from retriever.errors import DataError, IndexFolderError, OutputError
from retriever.files import replacing
from retriever.indexing.bm25 import check_settings
from retriever.indexing.dense import DenseIndex
from retriever.indexing.lock import WRITER, locked
from retriever.indexing.manifest import (
    DOCUMENTS,
    MANIFEST,
    POSTINGS,
    VECTORS,
    Bm25Record,
    Manifest,
    SegmentRecord,
    generation_name,
    model_record,
    package_version,
    publish,
    read_manifest,
    records,
)
from retriever.indexing.postings import Postings
from retriever.indexing.store import DocumentStore, write

if TYPE_CHECKING:
    from retriever.encoder.encoder import Encoder

CHUNK = 8_192  # documents encoded at a time
LEFTOVER = re.compile(rf"\.?generation-(\d+)(\.tmp\d+)?|\.(?:{re.escape(MANIFEST)}|{re.escape(WRITER)})\.\d+\.partial")


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How an index is built.

    Attributes:
        factory: See :meth:`retriever.indexing.dense.DenseIndex.empty`.
        k1: See :meth:`retriever.indexing.bm25.Bm25Index.build`.
        b: Likewise.
        stemmer: Likewise.
        dtype: See :meth:`retriever.encoder.Encoder.encode`.
    """

    factory: str = "Flat"
    k1: float = 1.5
    b: float = 0.75
    stemmer: str = "porter"
    dtype: str = "auto"


def build_folder(
    encoder: Encoder,
    documents: Iterable[Document],
    folder: Path,
    options: BuildOptions,
    *,
    model: str | Path | None = None,
    vectors: NDArray[np.float32] | None = None,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Build an index; see :meth:`retriever.indexing.index.Index.build`."""
    check_settings(options.k1, options.b)
    dense = DenseIndex.empty(encoder.dimension, encoder.similarity, options.factory)
    analyzer = WordAnalyzer(options.stemmer)
    with writing(folder, overwrite) as generation:
        name = generation_name(generation)
        with replacing(folder / name) as temporary:
            count = write_segment(temporary, documents, encoder, dense, analyzer, options.dtype, progress, vectors)
            files = records(temporary, name)
        manifest = Manifest(
            package=package_version(),
            generation=generation,
            model=model_record(encoder.fingerprint, encoder.prompts, model or encoder.path, folder),
            dimension=encoder.dimension,
            similarity=encoder.similarity,
            factory=options.factory,
            documents=count,
            bm25=Bm25Record(k1=options.k1, b=options.b, stemmer=options.stemmer),
            segments=[SegmentRecord(name=name, documents=count, factory=options.factory)],
            files=files,
        )
        publish(folder, manifest)


def write_segment(
    folder: Path,
    documents: Iterable[Document],
    encoder: Encoder,
    dense: DenseIndex,
    analyzer: WordAnalyzer,
    dtype: str,
    progress: Callable[[int], None] | None = None,
    vectors: NDArray[np.float32] | None = None,
) -> int:
    """Write documents, their vectors and their postings into an empty folder.

    Documents are encoded unless their ``vectors`` (N, D) are given.

    Returns:
        How many documents there are.

    Raises:
        DataError: There is none, an id occurs twice, a vector is not finite, or vectors that are given are too few or
            too many.
    """
    count = write(folder / DOCUMENTS, documents)
    if not count:
        raise DataError("There is no document to index: give a corpus with text in it.")
    if vectors is not None and len(vectors) != count:
        raise DataError(f"There are {len(vectors):,} vectors for {count:,} documents: give those of the same corpus.")
    store = DocumentStore(folder / DOCUMENTS)
    try:
        for number, chunk in enumerate(store.chunks(CHUNK)):
            if vectors is None:
                texts = [document.content for document in chunk]
                dense.add(encoder.encode(texts, "document", dtype=dtype, progress=progress))
            else:
                dense.add(vectors[number * CHUNK : (number + 1) * CHUNK])
        dense.save(folder / VECTORS)
        texts_again = (document.content for chunk in store.chunks(CHUNK) for document in chunk)
        Postings.build(map(analyzer, texts_again)).save(folder / POSTINGS)
    finally:
        store.close()
    return count


@contextmanager
def writing(folder: Path, overwrite: bool) -> Iterator[int]:
    """Lock an index folder for a change and sweep it before and after.

    Args:
        folder: The index folder; it is made if it does not exist.
        overwrite: Whether an index may be there already.

    Yields:
        The number of the new generation. If its manifest is not published, the folder ends as it was.

    Raises:
        OutputError: An index is there already, or other files are, or another process is writing the folder.
    """
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot write the index {folder}: {error.strerror}.") from error
    try:
        with locked(folder):
            _check_writable(folder, overwrite)
            known = _sweep(folder)
            try:
                yield 1 + max([known, *map(_generation, folder.iterdir())])
            finally:
                _sweep(folder)
    finally:
        if is_new and not any(folder.iterdir()):
            folder.rmdir()


def _check_writable(folder: Path, overwrite: bool) -> None:
    names = {path.name for path in folder.iterdir()}
    if MANIFEST in names:
        if not overwrite:
            raise OutputError(f"The index {folder} exists already: choose another folder or pass --overwrite.")
    elif others := sorted(name for name in names if not LEFTOVER.fullmatch(name) and name != WRITER):
        raise OutputError(f"{folder} is no index and holds other files ({others[0]}): choose another folder.")


def _sweep(folder: Path) -> int:
    """Remove what no manifest names. A damaged manifest might name anything: then nothing is removed.

    Returns:
        The generation of the manifest, 0 without one.
    """
    counting, generation = set[str](), 0
    if (folder / MANIFEST).exists():
        try:
            manifest = read_manifest(folder)
        except IndexFolderError:
            return 0
        counting, generation = {Path(file).parts[0] for file in manifest.files}, manifest.generation
    for path in folder.iterdir():
        if LEFTOVER.fullmatch(path.name) and path.name not in counting:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    return generation


def _generation(path: Path) -> int:
    """The number of a generation folder, 0 of anything else."""
    match = LEFTOVER.fullmatch(path.name)
    return int(match[1] or 0) if match else 0
