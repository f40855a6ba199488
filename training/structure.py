"""The structure of documents: which text names which other text.

1. A title names the body, a heading the text below it up to the next heading, a first sentence what follows it. The
   token store keeps where these parts are; finding them for a batch takes a few array operations.
2. Headings that many documents share ("Parameters") name nothing: the store calls them labels, and they only end the
   text of the heading before them.
3. A phrase that recurs within a document ties two of its places together (:mod:`retriever.training.view_spans`).
4. Before training, count the documents that have what the recipe asks for: the others are cropped, and a recipe that
   would crop them all is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retriever.data.parts import PartKind
from retriever.data.ragged import offsets_of
from retriever.data.tokens import TokenStore
from retriever.errors import RecipeError
from retriever.training.view_settings import Views
from retriever.training.view_spans import has_recurring

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Span = tuple[Ints, Ints]
Random = np.random.Generator

BLOCK = 1_000  # documents looked at together
NAMES = {
    "title": "a title and a body",
    "heading": "a heading of their own with text below it",
    "sentence": "a first sentence and more",
    "span": "a phrase that recurs",
}


@dataclass(frozen=True, slots=True)
class Named:
    """Texts and what names them, for B documents, as stretches of the store's ids; all (B,).

    Where a document has no such pair, the lengths are 0.
    """

    name_starts: Ints
    name_lengths: Ints
    text_starts: Ints
    text_lengths: Ints

    @classmethod
    def where(cls, found: Flags, name: Span, text: Span) -> Named:
        """Pairs given by the starts and ends of the name and of the text, where they are found."""
        lengths = [np.where(found, ends - starts, 0) for starts, ends in (name, text)]
        return cls(name[0], lengths[0], text[0], lengths[1])

    @property
    def found(self) -> Flags:
        """Which documents have the pair."""
        return self.text_lengths > 0


class _Parts:
    """The parts of B documents end to end: Q parts."""

    def __init__(self, store: TokenStore, rows: Ints) -> None:
        counts = store.parts[rows + 1] - store.parts[rows]
        self.offsets = offsets_of(counts)  # (B + 1,)
        self.end = np.repeat(self.offsets[1:], counts)  # the next document's first part, (Q,)
        numbers = np.arange(len(self.end)) + np.repeat(store.parts[rows] - self.offsets[:-1], counts)
        self.kinds = store.kinds[numbers]  # (Q,)
        self.starts, self.ends = store.bounds[numbers], store.bounds[numbers + 1]  # in the store's ids, (Q,)

    def choose(self, wanted: Flags, random: Random | None = None) -> tuple[Ints, Flags]:
        """The first wanted part of each document, or a random one, and whether there is any; (B,) each."""
        before = offsets_of(wanted.astype(np.int64))[self.offsets]
        counts = np.diff(before)
        which = before[:-1] if random is None else before[:-1] + random.integers(0, np.maximum(counts, 1))
        places = np.append(np.flatnonzero(wanted), 0)
        return places[np.minimum(which, len(places) - 1)], counts > 0

    def after(self, part: Ints) -> tuple[Ints, Flags]:
        """The next part that is no markup, and whether the document has one; the shape of ``part``."""
        solid = np.where(self.kinds == PartKind.MARKUP, len(self.kinds), np.arange(len(self.kinds)))
        following = np.append(np.minimum.accumulate(solid[::-1])[::-1], len(self.kinds))[part + 1]
        there = following < self.end[part]
        return np.where(there, following, part), there


def titles(store: TokenStore, rows: Ints, random: Random) -> Named:
    """Title and body; the title is not part of the body, also where the text begins with it once more."""
    parts = _Parts(store, rows)
    title, titled = parts.choose(parts.kinds == PartKind.TITLE)
    body, more = parts.choose(~np.isin(parts.kinds, (PartKind.TITLE, PartKind.MARKUP)))
    name = parts.starts[title], parts.ends[title]
    return Named.where(titled & more, name, (parts.starts[body], store.offsets[rows + 1]))


def sentences(store: TokenStore, rows: Ints, random: Random) -> Named:
    """First sentence and what follows it."""
    parts = _Parts(store, rows)
    sentence, found = parts.choose(parts.kinds == PartKind.SENTENCE)
    rest, more = parts.after(sentence)
    name = parts.starts[sentence], parts.ends[sentence]
    return Named.where(found & more, name, (parts.starts[rest], store.offsets[rows + 1]))


def headings(store: TokenStore, rows: Ints, random: Random) -> Named:
    """A random heading and the text below it, up to the next heading or label."""
    parts = _Parts(store, rows)
    below, more = parts.after(np.arange(len(parts.kinds)))  # (Q,)
    texts = more & np.isin(parts.kinds[below], (PartKind.TEXT, PartKind.SENTENCE))
    heading, found = parts.choose((parts.kinds == PartKind.HEADING) & texts, random)
    first = below[heading]
    second, more = parts.after(first)  # a first sentence has its text after it
    last = np.where(more & (parts.kinds[second] == PartKind.TEXT), second, first)
    name = parts.starts[heading], parts.ends[heading]
    return Named.where(found, name, (parts.starts[first], parts.ends[last]))


FINDERS: dict[str, Callable[[TokenStore, Ints, Random], Named]] = {
    "title": titles,
    "heading": headings,
    "sentence": sentences,
}
"""For B documents of at least one token each."""


@dataclass(frozen=True, slots=True)
class Survey:
    """How many of a corpus' documents have the structures a recipe asks for."""

    documents: int
    counts: Mapping[str, int]

    def __str__(self) -> str:
        found = [f"{count:,} have {NAMES[kind]}" for kind, count in self.counts.items()]
        return f"Of {self.documents:,} documents, {', '.join(found)}; the others are cropped."


def survey(store: TokenStore, rows: Ints, views: Views) -> Survey:
    """Count the documents that have each structure of ``views.mix``.

    Args:
        store: The corpus.
        rows: The documents to train on, of at least one token each.
        views: Which kinds of pairs are wanted.

    Raises:
        RecipeError: Only structures are wanted, and no document has any.
    """
    counts = dict.fromkeys((kind for kind in views.mix.weights if kind in NAMES), 0)
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        for kind in counts:
            counts[kind] += int(_has(kind, store, block, views.ngram).sum())
    if not any(counts.values()) and len(counts) == len(views.mix.weights):
        wanted = " or ".join(NAMES[kind] for kind in counts)
        raise RecipeError(f"views.mix asks for documents with {wanted}, and the corpus has none; give crop a weight.")
    return Survey(len(rows), counts)


def _has(kind: str, store: TokenStore, rows: Ints, ngram: int) -> Flags:
    if kind == "span":
        return has_recurring(store, rows, ngram)
    return FINDERS[kind](store, rows, np.random.default_rng(0)).found
