"""Windows and crops: random contiguous pieces of token rows, the whole batch at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retriever.data.ragged import Ragged, slices
from retriever.data.tokens import TokenStore
from retriever.training.view_settings import Crop

LEAD = 48  # tokens that count as the beginning

Ints = NDArray[np.int64]
Random = np.random.Generator


def window(store: TokenStore, rows: Ints, width: int | None, random: Random) -> Ragged:
    """A random stretch of ``width`` tokens of each document; shorter documents, and all if it is None, are whole."""
    return stretch(store.ids, store.offsets[rows], store.offsets[rows + 1] - store.offsets[rows], width, random)


def stretch(ids: NDArray[np.int32], starts: Ints, lengths: Ints, width: int | None, random: Random) -> Ragged:
    """A random stretch of ``width`` tokens of each of B pieces of ``ids``; shorter pieces are whole.

    Args:
        ids: Tokens, (T,).
        starts: Where the pieces start, (B,).
        lengths: Their tokens, at least 1, (B,).
        width: Tokens kept at most; None keeps all.
        random: Source of all draws.
    """
    kept = lengths if width is None else np.minimum(lengths, width)
    return slices(ids, starts + random.integers(0, lengths - kept + 1), kept)


def crop(texts: Ragged, spec: Crop, random: Random) -> Ragged:
    """A random contiguous piece of each row; its length as drawn by :func:`crop_lengths`, its start uniform.

    With ``spec.lead``, that share of the rows is first cut to its beginning.
    """
    return slices(texts.ids, *crop_places(texts, spec, random))


def crop_places(texts: Ragged, spec: Crop, random: Random) -> tuple[Ints, Ints]:
    """Where the crop of each row starts in ``texts.ids``, and its length, (B,) each."""
    lengths = texts.lengths
    if spec.lead:
        lengths = np.where(random.random(len(texts)) < spec.lead, np.minimum(lengths, LEAD), lengths)
    kept = crop_lengths(lengths, spec, random)
    return texts.offsets[:-1] + random.integers(0, lengths - kept + 1), kept


def crop_lengths(lengths: Ints, spec: Crop, random: Random) -> Ints:
    """Lengths of crops of rows of the given lengths, at least 1 and at most the whole row, (B,).

    Uniform over ``spec.tokens``, or ``int(n · r)`` with r uniform over ``spec.ratio`` for a row of n tokens.
    """
    if spec.tokens is not None:
        wanted = random.integers(spec.tokens[0], spec.tokens[1] + 1, len(lengths))
    else:
        low, high = spec.ratio or (1.0, 1.0)
        wanted = (lengths * random.uniform(low, high, len(lengths))).astype(np.int64)
    return np.clip(wanted, 1, lengths)


def without(texts: Ragged, starts: Ints, lengths: Ints) -> Ragged:
    """Cut a stretch out of each row.

    Args:
        texts: B rows.
        starts: Where in ``texts.ids`` the stretches start, (B,).
        lengths: Their tokens, 0 to cut nothing, (B,).
    """
    within = np.arange(len(texts.ids)) - np.repeat(starts, texts.lengths)
    return texts.keep((within < 0) | (within >= np.repeat(lengths, texts.lengths)))
