"""Pseudo-queries: what users might ask of a corpus that nobody has asked anything yet.

1. Draw a pool of documents. Those held out as known items are no part of it.
2. A pseudo-query is, half the time each, what names a document of the pool (its title, or failing that its first
   sentence), or some consecutive words of its text. Where there is no such name, it is words.
3. Its own document is no answer to it: it would be found by any system, and teaches nothing.

Since training never sees a query together with its own document, finding that document is an independent test. A corpus
whose documents have no names is tested on words cut out of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.data.knownitem import DOCUMENT_WORDS, LARGEST_PART, KnownItems, split_query
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
        if len(own) == count:
            break
        query = _query(documents[place], words, generator(VIEWS, seed, place))
        if len(query.split()) >= min(2, words[0]):
            queries.append(query)
            own.append(place)
    return Pseudo([document.content for document in documents], queries, np.array(own, np.int64))


def cloze_items(corpus: Corpus, count: int, words: tuple[int, int], seed: int) -> KnownItems:
    """Known items of a corpus without names: some words of a document, and the document without them.

    Args:
        corpus: Read twice.
        count: Queries wanted; at most a tenth of the documents that are long enough is taken.
        words: Least and largest number of words of a query; ten more are left.
        seed: Of all draws.
    """
    long = [row for row, document in enumerate(corpus) if len(document.text.split()) >= words[1] + DOCUMENT_WORDS]
    rows = np.sort(generator(ORDER, seed).permutation(long)[: min(count, len(long) // LARGEST_PART)]).astype(np.int64)
    queries, documents = [], []
    for row, document in zip(rows.tolist(), _rows(corpus, rows), strict=True):
        text = document.text.split()
        first, last = _some_words(text, words, generator(VIEWS, seed, row))
        queries.append(" ".join(text[first:last]))
        documents.append(" ".join(text[:first] + text[last:]))
    return KnownItems(queries, documents, rows)


def _query(document: Document, words: tuple[int, int], random: Random) -> str:
    """A document's name or some of its words."""
    name, rest = split_query(document)
    named = random.random() < NAMED
    if named and name and rest and len(name.split()) <= LONGEST:
        return name
    text = document.text.split()
    first, last = _some_words(text, words, random)
    return " ".join(text[first:last])


def _some_words(text: list[str], words: tuple[int, int], random: Random) -> tuple[int, int]:
    """Where some consecutive words begin and end."""
    length = min(int(random.integers(words[0], words[1] + 1)), len(text))
    first = int(random.integers(0, len(text) - length + 1))
    return first, first + length


def _rows(corpus: Iterable[Document], rows: Ids) -> list[Document]:
    wanted = set(rows.tolist())
    return [document for row, document in enumerate(corpus) if row in wanted]
