"""Postings: which documents hold a word, how often, and how long each document is.

1. A word is the first 64 bits of the BLAKE2b hash of its UTF-8 bytes. Among a million words, two share a hash with a
   probability of 3 in 10⁸; they would then count as one word.
2. The words of N documents stand by rising hash; the postings of word v are ``rows[starts[v]:starts[v + 1]]``, rising,
   with the word's count in each of these documents beside them.
3. Postings never change. Documents are added as further postings, deleted by a mask of the rows that are alive, and
   :meth:`Postings.merge` joins several without what is deleted: the result is that of the remaining texts, byte by
   byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retriever.errors import IndexFolderError
from retriever.indexing.arrays import read_array
from retriever.indexing.damage import is_lack, mend


def word_hash(word: str) -> int:
    """The 64 bits that stand for a word."""
    return int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


@dataclass(frozen=True, slots=True)
class Postings:
    """The words of N documents; make them with :meth:`build`, :meth:`open` or :meth:`merge`.

    Attributes:
        words: Hashes of the V words, rising.
        starts: Where the postings of each word start, and where the last ones end.
        rows: The document of each of P postings.
        counts: How often the document holds the word.
        lengths: Words of each document.
    """

    words: NDArray[np.uint64]  # (V,)
    starts: NDArray[np.int64]  # (V + 1,)
    rows: NDArray[np.int32]  # (P,)
    counts: NDArray[np.int32]  # (P,)
    lengths: NDArray[np.int32]  # (N,)

    @classmethod
    def build(cls, documents: Iterable[Sequence[str]]) -> Postings:
        """The postings of documents.

        Args:
            documents: The words of each document; they are read once.
        """
        vocabulary: dict[str, int] = {}
        tokens, lengths = [], []
        for document in documents:
            lengths.append(len(document))
            tokens.append(np.array([vocabulary.setdefault(word, len(vocabulary)) for word in document], np.int64))
        words, places = np.unique(np.array([*map(word_hash, vocabulary)], np.uint64), return_inverse=True)
        of_token = places[np.concatenate([*tokens, np.empty(0, np.int64)])]  # (T,)
        rows = np.repeat(np.arange(len(lengths)), lengths)
        pairs, counts = np.unique(of_token * len(lengths) + rows, return_counts=True)  # by word, then by row
        of_posting, rows = np.divmod(pairs, max(1, len(lengths)))
        starts = np.searchsorted(of_posting, np.arange(len(words) + 1))
        return cls._of(words, starts, rows, counts, lengths)

    @classmethod
    def merge(cls, parts: Sequence[Postings], alive: Sequence[NDArray[np.bool_]]) -> Postings:
        """Join postings, one after the other, and leave out documents.

        Args:
            parts: Postings of N₁, N₂ … documents.
            alive: For each part, which documents stay, (Nᵢ,).

        Returns:
            The postings that :meth:`build` makes of the remaining documents.
        """
        words, rows, counts, count = [np.empty(0, np.uint64)], [np.empty(0, np.int64)], [np.empty(0, np.int32)], 0
        for part, kept in zip(parts, alive, strict=True):
            stays = kept[part.rows]
            words.append(np.repeat(part.words, np.diff(part.starts))[stays])
            rows.append((count + np.cumsum(kept) - 1)[part.rows[stays]])
            counts.append(part.counts[stays])
            count += int(kept.sum())
        of_posting = np.concatenate(words)  # (P,)
        order = np.argsort(of_posting, kind="stable")  # rows of a word keep rising
        unique, starts = np.unique(of_posting[order], return_index=True)
        lengths = [part.lengths[kept] for part, kept in zip(parts, alive, strict=True)]
        return cls._of(
            unique,
            np.append(starts, len(order)),
            np.concatenate(rows)[order],
            np.concatenate(counts)[order],
            np.concatenate([*lengths, np.empty(0, np.int32)]),
        )

    @classmethod
    def open(cls, folder: str | Path) -> Postings:
        """Map the saved postings of a segment from disk, so that processes share them; small files are read.

        Raises:
            IndexFolderError: The folder is missing or damaged.
            OSError: Too many files are open, or memory is lacking.
        """
        try:
            arrays = {name: read_array(Path(folder) / file) for name, file in FILES.items()}
            postings = cls(**arrays)
            sizes = len(postings.starts) - 1, int(postings.starts[-1]), len(postings.counts)
            if sizes != (len(postings.words), len(postings.rows), len(postings.rows)):
                raise ValueError("the files do not fit together")
        except (OSError, ValueError, TypeError, IndexError) as error:
            if is_lack(error):
                raise
            raise IndexFolderError(
                f"The postings in {folder} are missing or damaged ({error}): {mend(Path(folder).parent.parent)}."
            ) from error
        return postings

    def save(self, folder: str | Path) -> None:
        """Write one ``.npy`` file for each attribute into a folder, which is made."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, file in FILES.items():
            np.save(Path(folder) / file, getattr(self, name))

    def find(self, word: int) -> slice:
        """Where the postings of a word's hash are; an empty slice if no document holds it."""
        place = int(self.words.searchsorted(np.uint64(word)))
        if place == len(self.words) or int(self.words[place]) != word:
            return slice(0, 0)
        return slice(int(self.starts[place]), int(self.starts[place + 1]))

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def _of(cls, words: Any, starts: Any, rows: Any, counts: Any, lengths: Any) -> Postings:  # noqa: ANN401
        return cls(
            np.asarray(words, np.uint64),
            np.asarray(starts, np.int64),
            np.asarray(rows, np.int32),
            np.asarray(counts, np.int32),
            np.asarray(lengths, np.int32),
        )


FILES = {field.name: f"{field.name}.npy" for field in fields(Postings)}
"""The file of each attribute."""
