"""Writing an index folder: the lock, and the segments of documents it is made of.

1. One process at a time: the folder is locked, and what killed processes left behind is swept away.
2. The documents are read once and written in segments, so that a build holds the vectors and words of one segment.
3. The documents of a segment go into its document store. A duplicate id, whatever segment holds the first one, shows
   before they are encoded.
4. The stored texts are encoded in chunks and added to the vectors; then their words become postings.
5. All files are synced to disk under a temporary name, and the folder gets its name. A build that is interrupted can go
   on after this: :mod:`retriever.indexing.unfinished`.
6. When all segments are there, the manifest is replaced. Only then does go what no longer counts.

Until step 6 is done, an index that was there before answers as before, whatever happens.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retriever.data.corpus import Corpus
from retriever.data.document import Document, strings
from retriever.data.words import WordAnalyzer
from retriever.errors import DataError, IndexFolderError, OutputError
from retriever.files import check_beginning, replacing, sync
from retriever.indexing.bm25 import check_settings
from retriever.indexing.dense import DenseIndex
from retriever.indexing.factory import AUTO
from retriever.indexing.kinds import create, lists
from retriever.indexing.lock import WRITER, locked
from retriever.indexing.manifest import (
    COLLECTIONS,
    DOCUMENTS,
    MANIFEST,
    POSTINGS,
    UNFINISHED,
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
from retriever.indexing.milvus_collections import drop_unneeded, note_replaced
from retriever.indexing.postings import Postings
from retriever.indexing.store import DocumentStore, no_document, twice, write
from retriever.indexing.tuning import check_target, tune_to
from retriever.indexing.unfinished import (
    Digest,
    Piece,
    Unfinished,
    goes_on,
    read_unfinished,
    skip,
    unlike_corpus,
    vectors_digest,
)

if TYPE_CHECKING:
    from retriever.encoder.encoder import Encoder

CHUNK = 8_192  # documents encoded at a time
SEGMENT = 500_000  # documents of a segment, unless told otherwise: a gigabyte or two while it is built
RECALL = 0.99  # what searches are tuned to, unless told otherwise
OWN = WRITER, UNFINISHED, COLLECTIONS  # files of a folder without an index
FEW = 10_000  # documents below which a segment that is not the first is searched exactly
LEFTOVER = re.compile(
    r"\.?generation-(\d+)(\.tmp\d+)?|"
    rf"\.(?:{'|'.join(map(re.escape, (MANIFEST, WRITER, UNFINISHED, COLLECTIONS)))})\.\d+\.partial"
)


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How an index is built.

    Attributes:
        factory: See :meth:`retriever.indexing.dense.DenseIndex.empty`; ``auto`` chooses by size.
        k1: See :meth:`retriever.indexing.bm25.Bm25Index.build`.
        b: Likewise.
        stemmer: Likewise.
        dtype: See :meth:`retriever.encoder.Encoder.encode`.
        segment: Documents of a segment at most.
        memory: Bytes that searches of a segment may hold in memory, where ``auto`` chooses.
        recall: Recall@10 that searches which are not exact are tuned to; they are not tuned if not given.
    """

    factory: str = AUTO
    k1: float = 1.5
    b: float = 0.75
    stemmer: str = "porter"
    dtype: str = "auto"
    segment: int = SEGMENT
    memory: int | None = None
    recall: float | None = RECALL


def build_folder(
    encoder: Encoder,
    documents: Iterable[Document],
    folder: Path,
    options: BuildOptions,
    *,
    model: str | Path | None = None,
    vectors: NDArray[np.float32] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Build an index; see :meth:`retriever.indexing.index.Index.build`."""
    check_beginning(resume, overwrite)
    check_settings(options.k1, options.b)
    WordAnalyzer(options.stemmer)  # or refuse
    if options.memory is not None and options.factory != AUTO:
        raise DataError(
            f"The memory is what the factory auto chooses by, and has no effect on {options.factory}: leave one out."
        )
    DenseIndex.empty(encoder.dimension, encoder.similarity, options.factory)  # or refuse
    if options.recall is not None:
        check_target(options.recall)
    if options.segment < 1:
        raise DataError(f"A segment of {options.segment} documents holds none: give a size of at least 1.")
    settings = json.dumps([encoder.fingerprint, asdict(options)], default=np.generic.item)
    begins = partial(goes_on, folder, settings, resume=resume, overwrite=overwrite)
    with writing(folder, begins, overwrite) as generation:
        build = read_unfinished(folder) or Unfinished(settings=settings)
        write_pieces(build, folder, documents, encoder, options, generation, vectors, progress)
        files = {path: record for piece in build.pieces for path, record in piece.files.items()}
        manifest = Manifest(
            package=package_version(),
            generation=max(generation, generation_of(folder / build.pieces[-1].segment.name)),
            model=model_record(encoder.fingerprint, dict(encoder.prompts), model or encoder.path, folder),
            dimension=encoder.dimension,
            similarity=encoder.similarity,
            factory=options.factory,
            memory=options.memory,
            recall=options.recall,
            documents=build.documents,
            bm25=Bm25Record(k1=options.k1, b=options.b, stemmer=options.stemmer),
            segments=[piece.segment for piece in build.pieces],
            files=files,
        )
        note_replaced(folder)
        publish(folder, manifest)
        (folder / UNFINISHED).unlink(missing_ok=True)


def write_pieces(
    build: Unfinished,
    folder: Path,
    documents: Iterable[Document],
    encoder: Encoder,
    options: BuildOptions,
    generation: int,
    vectors: NDArray[np.float32] | None,
    progress: Callable[[int], None] | None,
) -> None:
    """Write the segments that a build does not have yet; ``generation`` is the first free number."""
    analyzer, done = WordAnalyzer(options.stemmer), len(build.pieces)
    place = -1
    checked = documents if isinstance(documents, Corpus) else _once(documents)
    for place, part in enumerate(_parts(checked, options.segment)):
        if place < done:
            first = sum(piece.segment.documents for piece in build.pieces[:place])
            count = build.pieces[place].segment.documents
            skip(folder, build.pieces[place], part, None if vectors is None else vectors[first : first + count])
            continue
        name, digest, first = generation_name(generation + place - done), Digest(), build.documents
        with replacing(folder / name) as temporary:
            count = write(temporary / DOCUMENTS, digest(part))
            own = None if vectors is None else vectors[first : first + count]
            if own is not None and len(own) < count:
                raise unlike(first + len(own), first + count)
            factory = kind_for(options.factory, count, encoder.dimension) if place > 0 else options.factory
            dense = DenseIndex.empty(encoder.dimension, encoder.similarity, factory, count, options.memory)
            write_parts(temporary, encoder, dense, analyzer, options.dtype, progress, own)
            files = records(temporary, name)
            tuning = tune_to(dense, options.recall)
        segment = SegmentRecord(name=name, documents=count, factory=dense.factory, tuning=tuning)
        given = vectors_digest(own)
        build.pieces.append(Piece(segment=segment, digest=digest.hexdigest(), vectors=given, files=files))
        build.save(folder)
    if vectors is not None and len(vectors) != build.documents:
        raise unlike(len(vectors), build.documents)
    if place + 1 < done:
        raise unlike_corpus(folder)
    if not build.pieces:
        raise no_document()


def write_parts(
    folder: Path,
    encoder: Encoder,
    dense: DenseIndex,
    analyzer: WordAnalyzer,
    dtype: str,
    progress: Callable[[int], None] | None = None,
    vectors: NDArray[np.float32] | None = None,
) -> None:
    """Write vectors and postings beside the documents of a folder; ``vectors`` (N, D) if they are encoded already.

    Raises:
        DataError: A vector is not finite.
    """
    with closing(DocumentStore(folder / DOCUMENTS)) as store:
        for number, chunk in enumerate(store.chunks(CHUNK)):
            if vectors is None:
                texts = [document.content for document in chunk]
                dense.add(encoder.encode(texts, "document", dtype=dtype, progress=progress))
            else:
                dense.add(vectors[number * CHUNK : (number + 1) * CHUNK])
                if progress is not None:
                    progress(len(chunk))
        dense.save(folder / VECTORS)
        Postings.build(analyzer(document.content) for document in store).save(folder / POSTINGS)


def kind_for(factory: str, count: int, dimension: int) -> str:
    """What a segment of ``count`` vectors that is not the first is made of, of an index with this factory.

    Few vectors are compared one by one: fewer than ``FEW``, or than the lists that a factory string asks for.
    """
    wanted = 0 if factory == AUTO else lists(create(factory, dimension))
    return factory if count >= max(FEW, wanted) else "Flat"


def _once(documents: Iterable[Document]) -> Iterator[Document]:
    """Documents, none of whose ids may occur twice, as in a :class:`Corpus`."""
    seen = set[str]()
    for document in documents:
        name = strings(document)[0]
        if name in seen:
            raise twice(name)
        seen.add(name)
        yield document


def _parts(documents: Iterable[Document], size: int) -> Iterator[Iterator[Document]]:
    """Documents in turns of ``size``, each of which must be read before the next one is asked for."""
    rest = iter(documents)
    for first in rest:
        yield chain([first], islice(rest, size - 1))


def unlike(vectors: int, documents: int) -> DataError:
    """The error that says that vectors are not those of the documents."""
    return DataError(f"There are {vectors:,} vectors for {documents:,} documents: give those of the same corpus.")


@contextmanager
def writing(folder: Path, goes_on: Callable[[], bool] = lambda: True, overwrite: bool = False) -> Iterator[int]:
    """Lock an index folder for a change and sweep it before and after.

    Args:
        folder: The index folder; it is made if it does not exist.
        goes_on: Tells, once no other process writes, whether the change goes on with what is there.
        overwrite: Whether an index may be there otherwise; an unfinished build is thrown away.

    Yields:
        The number of the new generation. If its manifest is not published, the folder ends as it was.

    Raises:
        OutputError: An index is there already, or other files are, or another process is writing the folder.
    """
    is_new, made = not folder.exists(), [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in made:
            with suppress(PermissionError):  # a parent that may be written, but not read
                sync(path.parent)
    except OSError as error:
        raise OutputError(f"Cannot write the index {folder}: {error.strerror}.") from error
    try:
        with locked(folder):
            is_kept = goes_on()
            _check_writable(folder, overwrite or is_kept)
            if not is_kept:
                (folder / UNFINISHED).unlink(missing_ok=True)
            known = _sweep(folder)
            try:
                yield 1 + max([known, *map(generation_of, folder.iterdir())])
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
    elif others := sorted(name for name in names if not LEFTOVER.fullmatch(name) and name not in OWN):
        raise OutputError(f"{folder} is no index and holds other files ({others[0]}): choose another folder.")


def _sweep(folder: Path) -> int:
    """Remove what neither the manifest nor an unfinished build names.

    A damaged manifest might name anything: then nothing is removed.

    Returns:
        The generation of the manifest, 0 without one.
    """
    counting, generation, milvus = set[str](), 0, None
    if (folder / MANIFEST).exists():
        try:
            manifest = read_manifest(folder)
        except IndexFolderError:
            return 0
        milvus = manifest.milvus
        counting, generation = {Path(file).parts[0] for file in manifest.files}, manifest.generation
    build = read_unfinished(folder)
    pieces = {piece.segment.name for piece in build.pieces} if build else set()
    if pieces & counting or not pieces:  # it is finished, or never began
        (folder / UNFINISHED).unlink(missing_ok=True)
    counting |= pieces
    for path in folder.iterdir():
        if LEFTOVER.fullmatch(path.name) and path.name not in counting:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    drop_unneeded(folder, milvus)
    return generation


def generation_of(path: Path) -> int:
    """The number of a generation folder, 0 of anything else."""
    match = LEFTOVER.fullmatch(path.name)
    return int(match[1] or 0) if match else 0
