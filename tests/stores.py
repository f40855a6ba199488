"""Token stores whose tokens tell where they come from: 1000 · row + position."""

from __future__ import annotations

import numpy as np

from retriever.data.parts import PartKind
from retriever.data.ragged import Ragged, offsets_of
from retriever.data.tokens import TokenStore

KINDS = {kind.name[0]: kind for kind in PartKind if kind is not PartKind.TEXT} | {".": PartKind.TEXT}


def rows_of(lengths):
    """Rows of the given lengths."""
    return Ragged.from_rows([np.arange(n, dtype=np.int32) + 1000 * row for row, n in enumerate(lengths)])


def store_of(lengths):
    """Documents of one part each."""
    return store_of_parts([[(".", length)] for length in lengths])


def store_of_parts(documents):
    """Documents of parts, given as (kind, length); a kind is its first letter, and ``.`` for text."""
    texts = rows_of([sum(length for _, length in document) for document in documents])
    parts = offsets_of(np.array([len(document) for document in documents]))
    bounds = offsets_of(np.array([length for document in documents for _, length in document], np.int64))
    kinds = np.array([KINDS[kind] for document in documents for kind, _ in document], np.uint8)
    return TokenStore(texts.ids, texts.offsets, parts, bounds, kinds, "test")


def store_of_texts(texts):
    """Documents of one part each, made of the given tokens."""
    ragged = Ragged.from_rows([np.array(text, np.int32) for text in texts])
    count = np.arange(len(ragged) + 1)
    return TokenStore(ragged.ids, ragged.offsets, count, ragged.offsets, np.zeros(len(ragged), np.uint8), "test")


def is_piece(piece, row, length):
    """Whether tokens are a contiguous, non-empty piece of a row of :func:`rows_of`."""
    positions = piece - 1000 * row
    return len(piece) >= 1 and positions[0] >= 0 and positions[-1] < length and (np.diff(positions) == 1).all()


def same(one, two):
    """Whether two ragged arrays hold the same rows."""
    return np.array_equal(one.ids, two.ids) and np.array_equal(one.offsets, two.offsets)
