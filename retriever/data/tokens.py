"""The token store: a corpus tokenised once, memory-mapped, with the boundaries of documents and their parts kept.

1. Cut each document into its parts: title, headings, first sentence, text (:mod:`retriever.data.parts`).
2. Tokenise the parts one by one; a document is the tokens of its parts end to end. Parts without a token are dropped.
3. A heading that stands more than ``max(1, N / 1000)`` times in a corpus of N documents is a label ("Parameters"): it
   says nothing of the text below it.

Five arrays in one folder: token ids, the boundaries of documents and of parts among them, the kind of each part, and
which parts are a document's. Any document or part is read in O(1), and nothing but the pages touched is in memory. A
store is cached under a hash of the corpus' content and the tokenizer, and dropped when it was not used for long.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from retriever.data.cache import cache_dir, drop_unused, mark_used
from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.data.parts import PartKind, Parts
from retriever.data.ragged import Ragged, offsets_of, slices
from retriever.data.tokenizers import TextTokenizer
from retriever.data.workers import cores, worker_pool
from retriever.errors import DataError
from retriever.files import replacing

FORMAT = "2"
CHUNK = 2_000  # documents tokenised at a time
LABEL_RATE = 1e-3  # headings that stand more often a document are labels
ARRAYS = {"ids": np.int32, "offsets": np.int64, "parts": np.int64, "bounds": np.int64, "kinds": np.uint8}


@dataclass(frozen=True, slots=True)
class TokenStore:
    """Token ids of N documents and their P parts, memory-mapped.

    Document i has the parts ``parts[i]`` to ``parts[i + 1]``, part p the tokens ``bounds[p]`` to ``bounds[p + 1]``.
    """

    ids: NDArray[np.int32]  # (T,)
    offsets: NDArray[np.int64]  # (N + 1,) of documents in ids
    parts: NDArray[np.int64]  # (N + 1,) of documents in the parts
    bounds: NDArray[np.int64]  # (P + 1,) of parts in ids
    kinds: NDArray[np.uint8]  # (P,) a PartKind each
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
    if folder.is_dir():
        mark_used(folder)
    else:
        with replacing(folder) as temporary:
            _write(temporary, _encoded(corpus, tokenizer, processes or cores()), progress)
        drop_unused(folder.parent)
        progress = None
    store = TokenStore.open(folder)
    if progress is not None:
        progress(len(store))
    if not len(store.ids):
        raise DataError(f"The corpus {corpus.name} holds no words the tokenizer knows.")
    return store


class _Chunk(NamedTuple):
    """A few documents, tokenised; everything counts from the chunk's beginning."""

    texts: Ragged  # a row a part
    kinds: NDArray[np.uint8]  # of the parts
    parts: NDArray[np.int64]  # (documents + 1,)


def _write(folder: Path, chunks: Iterable[_Chunk], progress: Callable[[int], None] | None) -> None:
    tokens = parts = 0
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.bin").open("wb")) for name in ARRAYS}
        for name in ("offsets", "parts", "bounds"):
            files[name].write(np.zeros(1, np.int64).tobytes())
        for chunk in chunks:
            bounds = chunk.texts.offsets
            for name, array in (
                ("ids", chunk.texts.ids),
                ("offsets", bounds[chunk.parts[1:]] + tokens),
                ("parts", chunk.parts[1:] + parts),
                ("bounds", bounds[1:] + tokens),
                ("kinds", chunk.kinds),
            ):
                files[name].write(array.tobytes())
            tokens, parts = tokens + int(bounds[-1]), parts + len(chunk.kinds)
            if progress is not None:
                progress(len(chunk.parts) - 1)
    _mark_labels(folder)


def _mark_labels(folder: Path) -> None:
    """Make labels of the headings that stand too often to say what is below them."""
    store = TokenStore.open(folder)
    headings = np.flatnonzero(store.kinds == PartKind.HEADING)
    texts = slices(store.ids, store.bounds[headings], np.diff(store.bounds)[headings])
    _, which, counts = np.unique(texts.fingerprints(), return_inverse=True, return_counts=True)
    common = headings[counts[which] > max(1, LABEL_RATE * len(store))]
    if len(common):
        kinds = np.memmap(folder / "kinds.bin", np.uint8, mode="r+")
        kinds[common] = PartKind.LABEL
        kinds.flush()


def _encoded(corpus: Corpus, tokenizer: TextTokenizer, processes: int) -> Iterator[_Chunk]:
    """The chunks of documents, tokenised, in order; several processes once there is work for them."""
    documents = iter(corpus)
    chunks = iter(lambda: list(islice(documents, CHUNK)), [])
    head = list(islice(chunks, 4))
    if processes == 1 or len(head) < 4:
        yield from (_encode_chunk(tokenizer, chunk) for chunk in (*head, *chunks))
        return
    with worker_pool(processes, _set_tokenizer, (tokenizer,)) as pool:
        waiting = [pool.submit(_encode_in_worker, chunk) for chunk in head]
        for chunk in chunks:  # a bounded window: the corpus may be larger than memory
            yield waiting.pop(0).result()
            waiting.append(pool.submit(_encode_in_worker, chunk))
        yield from (future.result() for future in waiting)


def _encode_chunk(tokenizer: TextTokenizer, chunk: list[Document]) -> _Chunk:
    parts, ends = Parts(), [0]
    for document in chunk:
        parts.split(document)
        ends.append(len(parts))
    texts = tokenizer.encode(parts.texts)
    kept = texts.lengths > 0
    bounds = np.concatenate((texts.offsets[:1], texts.offsets[1:][kept]))
    kinds = np.frombuffer(bytes(parts.kinds), np.uint8)[kept]
    return _Chunk(Ragged(texts.ids, bounds), kinds, offsets_of(kept.astype(np.int64))[ends])


_worker_tokenizer: TextTokenizer


def _set_tokenizer(tokenizer: TextTokenizer) -> None:
    global _worker_tokenizer  # a worker process holds one tokenizer for its life
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _worker_tokenizer = tokenizer


def _encode_in_worker(chunk: list[Document]) -> _Chunk:
    return _encode_chunk(_worker_tokenizer, chunk)


def _map(path: Path, dtype: DTypeLike) -> NDArray[Any]:
    if path.stat().st_size == 0:
        return np.empty(0, dtype)
    return np.memmap(path, dtype, mode="r")
