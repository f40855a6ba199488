"""Pseudo-queries: what users might ask of a corpus that nobody has asked anything yet.

1. Draw a pool of documents. Those held out as known items are no part of it.
2. A pseudo-query is, half the time each, what names a document of the pool (its title, or failing that its first
   sentence), or some consecutive words of its text. Where there is no such name, it is words.
3. Its own document is no answer to it: it would be found by any system, and teaches nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.data.knownitem import split_query
from retriever.training.sampler import ORDER, VIEWS, generator

NAMED = 0.5  # share of the pseudo-queries that are a document's name, where it has one
LONGEST = 40  # words: a longer name is no query

Ids = NDArray[np.int64]
Random = np.random.Generator


@dataclass(frozen=True)
class Pseudo:
    """Q pseudo-queries over a pool of N documents.

    Attributes:
        documents: Texts of the pool.
        queries: Texts of the pseudo-queries.
        own: The document each was made from, (Q,).
    """

    documents: list[str]
    queries: list[str]
    own: Ids


def pseudo_queries(corpus: Corpus, held_out: Ids, pool: int, count: int, words: tuple[int, int], seed: int) -> Pseudo:
    """Draw a pool and pseudo-queries; the same corpus and seed give the same ones.

    Args:
        corpus: Read twice.
        held_out: Rows that are no part of the pool.
        pool: Documents drawn at most.
        count: Pseudo-queries drawn at most, each from another document.
        words: Least and largest number of words of one that is no name.
        seed: Of all draws.
    """
    rows = np.setdiff1d(np.arange(sum(1 for _ in corpus)), held_out)
    drawn = np.sort(generator(ORDER, seed).permutation(rows)[:pool])
    documents = _rows(corpus, drawn)
    queries: list[str] = []
    own: list[int] = []
    for place in generator(VIEWS, seed).permutation(len(documents)).tolist():
        query = _query(documents[place], words, generator(VIEWS, seed, place))
        if len(own) < count and len(query.split()) >= min(2, words[0]):
            queries.append(query)
            own.append(place)
    return Pseudo([document.content for document in documents], queries, np.array(own, np.int64))


def _query(document: Document, words: tuple[int, int], random: Random) -> str:
    """A document's name or some of its words."""
    name, rest = split_query(document)
    named = random.random() < NAMED
    if named and name and rest and len(name.split()) <= LONGEST:
        return name
    text = document.text.split()
    length = min(int(random.integers(words[0], words[1] + 1)), len(text))
    start = int(random.integers(0, len(text) - length + 1))
    return " ".join(text[start : start + length])


def _rows(corpus: Iterable[Document], rows: Ids) -> list[Document]:
    wanted = set(rows.tolist())
    return [document for row, document in enumerate(corpus) if row in wanted]
