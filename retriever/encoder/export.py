"""Vectors of a whole corpus on disk, made by one process or by many, on one machine or on several that share a folder.

The folder holds ``vectors.npy``, float32 (N, D), row by row in the corpus' order; ``ids.jsonl``, the id of each row as
a JSON string a line; and ``vectors.json``, which tells what the vectors are made of. The corpus may be larger than
memory.

1. Each process reads the whole corpus, and encodes every n-th chunk of it: :mod:`retriever.encoder.shards`.
2. A process that is killed goes on where it was when it is started again.
3. The one that completes the last shard joins them all. The bytes are those of a single process.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.encoder import shards
from retriever.encoder.encoder import Encoder, Kind
from retriever.encoder.shards import IDS, RECORD, VECTORS, Part, Shard, VectorsRecord, read_record, told_missing
from retriever.errors import DataError


@dataclass(frozen=True, slots=True)
class Exported:
    """What :func:`export_vectors` did.

    Attributes:
        documents: Documents of the shard.
        total: N, documents of the corpus.
        resumed: How many of the shard's an earlier run had encoded.
        missing: Shards without which the vectors cannot be joined, counted from 1; if there are none, they are joined.
    """

    documents: int
    total: int
    resumed: int
    missing: list[int]


def export_vectors(
    encoder: Encoder,
    corpus: Corpus,
    folder: str | Path,
    *,
    shard: Shard | None = None,
    kind: Kind = "document",
    dtype: str = "auto",
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Exported:
    """Encode a corpus, or a shard of it, into a folder that appears whole or not at all.

    Args:
        encoder: Of dimension D.
        corpus: N documents, read once.
        folder: Where to write. Until all is there, it is in a folder beside it whose name ends in ``.part``.
        shard: The part of the work that is this process's; all of it if not given.
        kind: Whose prompt is put before each text.
        dtype: ``float32``, ``bfloat16`` or ``auto``, of the arithmetic; vectors are float32.
        overwrite: Replace vectors that are there already, and unfinished ones that are made of something else.
        progress: Called with the number of documents just encoded.

    Raises:
        DataError: The corpus is mangled or empty.
        OutputError: The folder holds something already, or cannot be written; or other shards are made of something
            else than this one, or damaged; or another process has the shard.
    """
    shard, folder = shard or Shard(), Path(folder).expanduser()
    record = VectorsRecord(
        model=None if encoder.path is None else str(encoder.path),
        fingerprint=encoder.fingerprint,
        dimension=encoder.dimension,
        corpus=corpus.fingerprint(),
        kind=kind,
        dtype=dtype,
    )

    def encode(chunk: list[Document]) -> NDArray[np.float32]:
        return encoder.encode([document.content for document in chunk], kind, dtype=dtype, progress=progress)

    with Part.claimed(folder, shard, record, overwrite) as part:
        known = part.documents
        resumed, documents = _fill(part, corpus, encode) if known is None else (shard.rows(known), known)
    return Exported(shard.rows(documents), documents, resumed, part.join())


def open_vectors(folder: str | Path, encoder: Encoder, corpus: Corpus) -> NDArray[np.float32]:
    """The vectors of a corpus, encoded before.

    Args:
        folder: What :func:`export_vectors` wrote.
        encoder: The encoder that made them.
        corpus: The corpus they are of.

    Returns:
        Vectors (N, D) in the order of the documents, as a memory map.

    Raises:
        DataError: They are not there or not complete, or of another model, of other data, or of queries.
    """
    folder = Path(folder).expanduser()
    path = folder / VECTORS
    if not (folder / RECORD).exists():
        if missing := told_missing(folder):
            raise DataError(f"The vectors {folder} are not complete: encode what is missing, {missing}.")
        raise DataError(f"{folder} holds no vectors: make them with `retriever encode MODEL DATA --output {folder}`.")
    record = read_record(folder / RECORD)
    wanted = {"model": encoder.fingerprint, "corpus": corpus.fingerprint(), "kind": "document"}
    found = {"model": record.fingerprint, "corpus": record.corpus, "kind": record.kind}
    if other := [name for name, value in wanted.items() if found[name] != value]:
        raise DataError(f"The vectors {folder} are of another {' and another '.join(other)}: encode the corpus again.")
    try:
        vectors: NDArray[np.float32] = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"The vectors {path} are missing or damaged: encode the corpus again.") from error
    if vectors.shape != (record.documents, record.dimension):
        raise DataError(f"The vectors {path} are damaged: encode the corpus again.")
    return vectors


def _fill(part: Part, corpus: Corpus, encode: Callable[[list[Document]], NDArray[np.float32]]) -> tuple[int, int]:
    """Encode what a shard lacks.

    Returns:
        How many documents it had already, and how many the corpus has.
    """
    done = part.chunks()
    own = documents = 0
    for number, chunk in enumerate(_chunks(part, corpus)):
        documents += len(chunk)
        if part.shard.owns(number):
            own += 1
            if own > done:
                part.add(encode(chunk))
    part.complete(documents)
    return done * shards.CHUNK, documents


def _chunks(part: Part, corpus: Corpus) -> Iterator[list[Document]]:
    """The documents of a corpus, a chunk at a time; the first shard writes their ids."""
    documents = iter(corpus)
    path = part.folder / IDS if part.shard.number == 1 else Path(os.devnull)
    with path.open("w", encoding="utf-8") as file:
        while chunk := list(islice(documents, shards.CHUNK)):
            file.writelines(json.dumps(document.id, ensure_ascii=False) + "\n" for document in chunk)
            file.flush()  # on a full disk, here and not when the generator is thrown away
            yield chunk
