"""Known-item queries: test queries made from a corpus that has none.

A document's title, or its first sentence where it has no title, is the query; the document with that query cut out is
what a search should find. Which documents are used depends on the seed and on their ids alone: those with the smallest
keyed hashes (bottom-k sampling), so that one streaming pass and memory for the chosen ones are enough.
"""

from __future__ import annotations

import hashlib
import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.data.sentences import first_sentence
from retriever.data.words import WORD

QUERY_WORDS = 3  # at least
DOCUMENT_WORDS = 10  # at least, without the query
LARGEST_PART = 10  # at most a tenth of the eligible documents is taken


@dataclass(frozen=True)
class KnownItems:
    """N queries with the documents they came from, by ascending row.

    Attributes:
        queries: The queries.
        documents: The text of each query's document, without the query.
        rows: Row of each document in the corpus' order, (N,).
    """

    queries: list[str]
    documents: list[str]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.queries)


def known_items(corpus: Corpus, count: int, seed: int) -> KnownItems:
    """Draw known-item queries; the same corpus and seed give the same ones.

    Args:
        corpus: Read once.
        count: Queries wanted; at most a tenth of the eligible documents is taken, but one if there is any.
        seed: Another seed draws other documents.

    Returns:
        As many as there are, perhaps none: a document needs 3 words of query and 10 beside it.
    """
    eligible = 0
    chosen: list[tuple[int, int, str, str]] = []  # a heap with the largest hash on top: (-hash, row, query, rest)
    for row, document in enumerate(corpus):
        query, rest = split_query(document)
        if not (_has_words(query, QUERY_WORDS) and _has_words(rest, DOCUMENT_WORDS)):
            continue
        eligible += 1
        item = (-_hash(document.id, seed), row, query, rest)
        if len(chosen) < count:
            heapq.heappush(chosen, item)
        elif chosen and item > chosen[0]:
            heapq.heapreplace(chosen, item)
    limit = max(1, eligible // LARGEST_PART)
    kept = sorted(heapq.nlargest(limit, chosen), key=lambda item: item[1])
    rows = np.array([row for _, row, _, _ in kept], np.int64)
    return KnownItems([query for _, _, query, _ in kept], [rest for _, _, _, rest in kept], rows)


def split_query(document: Document) -> tuple[str, str]:
    """A document's query and the rest of it: title and text, or the first sentence and what follows it."""
    title, text = document.title.strip(), document.text.strip()
    if not title:
        return first_sentence(text)
    rest = text.removeprefix(title)  # some collections repeat the title at the start of the text
    return " ".join(title.split()), text if WORD.match(rest) else rest.strip()


def _has_words(text: str, least: int) -> bool:
    return sum(1 for _, _ in zip(range(least), WORD.finditer(text), strict=False)) == least


def _hash(id_: str, seed: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed} {id_}".encode(), digest_size=8).digest(), "big")
