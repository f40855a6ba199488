"""Recurring spans: two places of one document that share a phrase (Spider, Ram et al. 2021, arXiv 2112.07708).

1. Hash every n-gram of every window of the batch, and sort: equal ones are neighbours then.
2. A phrase recurs if one window holds it twice, without overlap, and no other window of the batch holds it: what others
   say too is a turn of phrase and no topic. (Spider leaves out phrases of stop words instead.)
3. Choose one phrase and two of its places at random for each window, and lengthen it as far as both places agree.
4. Cut the window between the two places. One side gives the query, the other the document: crops around the phrase,
   which is itself cut out of the query with some probability.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retriever.data.ragged import Ragged, slices
from retriever.data.tokens import TokenStore
from retriever.training.view_crops import crop_lengths, window, without
from retriever.training.view_settings import Crop, Views

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Random = np.random.Generator

REACH = 2_048  # tokens of a document looked at where the recipe sets no window
LONGEST = 16  # tokens of a phrase
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # of the polynomial hash of n-grams, modulo 2⁶⁴


class Recurrence(NamedTuple):
    """For each of B rows, two places of a phrase in the ids, the first one first, and its tokens; 0 if none. (B,)."""

    first: Ints
    second: Ints
    length: Ints


def spans(store: TokenStore, rows: Ints, views: Views, random: Random) -> tuple[Flags, Ragged, list[Ragged]]:
    """Pairs of views around recurring phrases.

    Returns:
        Which of the B documents have one, (B,); the queries of those R that do, and ``views.positives`` lots of R
        documents.
    """
    windows = window(store, rows, views.window or REACH, random)
    found = recurrence(windows, views.ngram, random)
    has = found.length > 0
    low, high = windows.offsets[:-1][has], windows.offsets[1:][has]
    first, second, length = (values[has] for values in found)
    cut = random.integers(first + length, second + 1)  # between the two places
    ahead = random.random(len(cut)) < 0.5  # the query comes first
    query = _Around(np.where(ahead, low, cut), np.where(ahead, cut, high), np.where(ahead, first, second), length)
    document = _Around(np.where(ahead, cut, low), np.where(ahead, high, cut), np.where(ahead, second, first), length)
    documents = [document.crop(windows.ids, views.document, random) for _ in range(views.positives)]
    return has, query.crop(windows.ids, views.query, random, views.span_keep), documents


class _Around(NamedTuple):
    """Phrases at ``at`` of ``length`` tokens, each with the stretch from ``low`` to ``high`` around it; (R,) each."""

    low: Ints
    high: Ints
    at: Ints
    length: Ints

    def crop(self, ids: NDArray[np.int32], spec: Crop, random: Random, keep: float = 1.0) -> Ragged:
        """Random pieces around the phrases; all but the share ``keep`` lose them, if there is anything else."""
        room = self.high - self.low
        lost = np.where((random.random(len(room)) < keep) | (room == self.length), 0, self.length)
        kept = np.clip(crop_lengths(room, spec, random) + lost, self.length, room)
        earliest = np.maximum(self.low, self.at + self.length - kept)
        starts = random.integers(earliest, np.minimum(self.at, self.high - kept) + 1)
        texts = slices(ids, starts, kept)
        return without(texts, texts.offsets[:-1] + self.at - starts, lost)


def has_recurring(store: TokenStore, rows: Ints, ngram: int) -> Flags:
    """Which documents hold a phrase twice within their first ``REACH`` tokens, (B,)."""
    lengths = np.minimum(store.offsets[rows + 1] - store.offsets[rows], REACH)
    grams = _Grams(store.spans(rows, np.zeros(len(rows), np.int64), lengths), ngram)
    return np.bincount(grams.row[grams.next <= grams.last], minlength=len(rows)) > 0


def recurrence(texts: Ragged, ngram: int, random: Random) -> Recurrence:
    """A phrase of at least ``ngram`` tokens that a text holds twice and no other text holds, for each of B rows."""
    grams = _Grams(texts, ngram)
    one = np.flatnonzero((grams.next <= grams.last) & grams.alone)
    other = random.integers(grams.next[one], grams.last[one] + 1)
    row, first, second = grams.row[one], grams.places[one], grams.places[other]
    counts = np.bincount(row, minlength=len(texts))
    which = np.cumsum(counts) - counts + random.integers(0, np.maximum(counts, 1))
    chosen = np.append(np.argsort(row, kind="stable"), 0)[np.minimum(which, len(row))]
    some = counts > 0
    first, second = (np.where(some, np.append(places, 0)[chosen], 0) for places in (first, second))
    return _lengthen(texts, first, second, np.where(some, ngram, 0))


class _Grams:
    """The n-grams of B texts, G in all, sorted so that equal ones are neighbours and those of a text in order."""

    def __init__(self, texts: Ragged, ngram: int) -> None:
        row = np.repeat(np.arange(len(texts)), texts.lengths)  # (T,)
        places = np.arange(len(row))
        places = places[places + ngram <= texts.offsets[1:][row]]
        hashes = np.zeros(len(places), np.uint64)
        for shift in range(ngram):
            hashes = hashes * MULTIPLIER + texts.ids[places + shift].astype(np.uint64)
        order = np.argsort(hashes, kind="stable")
        self.places, hashes = places[order], hashes[order]  # where they start in the ids, (G,)
        self.row = row[self.places]  # (G,)
        ends = np.ones(1, bool)
        new = np.concatenate((ends, np.diff(hashes) != 0))[: len(hashes)]  # another n-gram than before
        apart = np.concatenate((ends, np.diff(self.row) != 0))[: len(hashes)]  # or another text
        starts = np.flatnonzero(new | apart)
        group = np.cumsum(new | apart) - 1
        self.last = np.append(starts[1:], len(hashes))[group] - 1  # equal one of this text, (G,)
        self.alone = new[starts[group]] & np.append(new, True)[self.last + 1]  # no other text holds it, (G,)
        ascending = group * (len(row) + 1) + self.places
        self.next = np.searchsorted(ascending, ascending + ngram)  # equal one without overlap, if not beyond last, (G,)


def _lengthen(texts: Ragged, first: Ints, second: Ints, length: Ints) -> Recurrence:
    """Let phrases grow to the right and then to the left while their two places agree and do not overlap."""
    ids, lengths = texts.ids, length.copy()
    low, high = texts.offsets[:-1], texts.offsets[1:]
    for _ in range(LONGEST):
        left, right = first + lengths, second + lengths
        grows = (lengths > 0) & (lengths < LONGEST) & (left < second) & (right < high)
        grows &= ids[np.where(grows, left, 0)] == ids[np.where(grows, right, 0)]
        lengths = lengths + grows
    for _ in range(LONGEST):
        grows = (lengths > 0) & (lengths < LONGEST) & (first > low) & (first + lengths < second)
        grows &= ids[np.where(grows, first - 1, 0)] == ids[np.where(grows, second - 1, 0)]
        first, second, lengths = first - grows, second - grows, lengths + grows
    return Recurrence(first, second, lengths)
