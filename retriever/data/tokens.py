"""The token store: a corpus tokenised once, memory-mapped, with document boundaries kept.

Three arrays in one folder: the token ids of all documents end to end, the boundaries between documents, and how many
of a document's tokens are its title. Any document is read in O(1), and nothing but the pages touched is in memory.
A store is cached under a hash of the corpus' content and the tokenizer.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from retriever.data.cache import cache_dir
from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.data.ragged import Ragged, slices
from retriever.data.tokenizers import TextTokenizer
from retriever.data.workers import cores, worker_pool
from retriever.errors import DataError
from retriever.files import replacing

FORMAT = "1"
CHUNK = 2_000  # documents tokenised at a time
ARRAYS = {"ids": np.int32, "offsets": np.int64, "titles": np.int32}


@dataclass(frozen=True, slots=True)
class TokenStore:
    """Token ids of N documents, title first, memory-mapped."""

    ids: NDArray[np.int32]  # (T,)
    offsets: NDArray[np.int64]  # (N + 1,)
    titles: NDArray[np.int32]  # (N,) title tokens of each document
    fingerprint: str  # of the corpus and the tokenizer

    @classmethod
    def open(cls, folder: Path) -> TokenStore:
        """Map the arrays of a folder written by :func:`tokenise`."""
        arrays = {name: _map(folder / f"{name}.bin", dtype) for name, dtype in ARRAYS.items()}
        return cls(**arrays, fingerprint=folder.name)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[np.int32]:
        return self.ids[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens a document, (N,)."""
        return np.diff(self.offsets)

    def spans(self, rows: NDArray[np.int64], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Ragged:
        """``length`` tokens from ``start`` on of each document."""
        return slices(self.ids, self.offsets[rows] + starts, lengths)


def tokenise(
    corpus: Corpus,
    tokenizer: TextTokenizer,
    *,
    processes: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> TokenStore:
    """Tokenise a corpus, or find it in the cache.

    Args:
        corpus: Read once if it is not cached.
        tokenizer: Its fingerprint is part of the cache key.
        processes: Worker processes; all cores if omitted, none for a small corpus.
        progress: Called with the number of documents just finished, or found.

    Raises:
        DataError: The corpus holds no token the tokenizer knows.
        OutputError: The cache cannot be written.
    """
    key = hashlib.sha256(f"{FORMAT} {corpus.fingerprint()} {tokenizer.fingerprint}".encode()).hexdigest()[:32]
    folder = cache_dir() / "tokens" / key
    if not folder.is_dir():
        with replacing(folder) as temporary:
            _write(temporary, _encoded(corpus, tokenizer, processes or cores()), progress)
        progress = None
    store = TokenStore.open(folder)
    if progress is not None:
        progress(len(store))
    if not len(store.ids):
        raise DataError(f"The corpus {corpus.name} holds no words the tokenizer knows.")
    return store


def _write(folder: Path, parts: Iterable[tuple[Ragged, Ragged]], progress: Callable[[int], None] | None) -> None:
    end = 0
    with ExitStack() as stack:
        ids, offsets, titles = (stack.enter_context((folder / f"{name}.bin").open("wb")) for name in ARRAYS)
        offsets.write(np.zeros(1, np.int64).tobytes())
        for title, content in parts:
            ids.write(content.ids.tobytes())
            offsets.write((content.offsets[1:] + end).tobytes())
            titles.write(title.lengths.astype(np.int32).tobytes())
            end += int(content.offsets[-1])
            if progress is not None:
                progress(len(content))


def _encoded(corpus: Corpus, tokenizer: TextTokenizer, processes: int) -> Iterator[tuple[Ragged, Ragged]]:
    """Title and content ids of each chunk of documents, in order; several processes once there is work for them."""
    chunks = _chunks(corpus)
    head = [chunk for _, chunk in zip(range(4), chunks, strict=False)]
    if processes == 1 or len(head) < 4:
        yield from (_encode_chunk(tokenizer, chunk) for chunk in (*head, *chunks))
        return
    with worker_pool(processes, _set_tokenizer, (tokenizer,)) as pool:
        waiting = [pool.submit(_encode_in_worker, chunk) for chunk in head]
        for chunk in chunks:  # a bounded window: the corpus may be larger than memory
            yield waiting.pop(0).result()
            waiting.append(pool.submit(_encode_in_worker, chunk))
        yield from (future.result() for future in waiting)


def _chunks(corpus: Iterable[Document]) -> Iterator[list[Document]]:
    chunk: list[Document] = []
    for document in corpus:
        chunk.append(document)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _encode_chunk(tokenizer: TextTokenizer, chunk: list[Document]) -> tuple[Ragged, Ragged]:
    return tokenizer.encode([d.title for d in chunk]), tokenizer.encode([d.content for d in chunk])


_worker_tokenizer: TextTokenizer


def _set_tokenizer(tokenizer: TextTokenizer) -> None:
    global _worker_tokenizer  # a worker process holds one tokenizer for its life
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _worker_tokenizer = tokenizer


def _encode_in_worker(chunk: list[Document]) -> tuple[Ragged, Ragged]:
    return _encode_chunk(_worker_tokenizer, chunk)


def _map(path: Path, dtype: DTypeLike) -> NDArray[Any]:
    if path.stat().st_size == 0:
        return np.empty(0, dtype)
    return np.memmap(path, dtype, mode="r")
