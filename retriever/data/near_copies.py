"""Texts that are partly copies of each other: what one says of them it says of the others.

1. Two texts belong together if they share a sentence of eight words or more, case and white space aside.
2. So do those that are linked by a chain of such pairs: the groups are connected components.
3. A sentence that more than fifty texts have is a phrase of the collection, not a sign of copying; it links nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

WORDS = 8  # a shorter sentence is shared by chance
COMMON = 50  # texts

SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")


def groups_of_copies(texts: Sequence[str]) -> NDArray[np.int64]:
    """The group of each text, (N,), numbered by their first texts.

    Args:
        texts: N texts; one that shares nothing is a group of its own.
    """
    numbers: dict[tuple[str, ...], int] = {}
    rows, columns = [], []
    for row, text in enumerate(texts):
        sentences = {tuple(sentence.lower().split()) for sentence in SENTENCE.split(text)}
        for words in sentences:
            if len(words) >= WORDS:
                rows.append(row)
                columns.append(numbers.setdefault(words, len(numbers)))
    found, width = np.array(columns, np.int64), len(numbers)
    linking = np.bincount(found, minlength=width)[found] <= COMMON
    ends = (np.array(rows, np.int64)[linking], len(texts) + found[linking])
    nodes = len(texts) + width  # texts and their sentences
    graph = csr_matrix((np.ones(len(ends[0]), np.int8), ends), shape=(nodes, nodes))
    return by_first_member(connected_components(graph, directed=False)[1][: len(texts)])


def by_first_member(groups: NDArray[np.integer]) -> NDArray[np.int64]:
    """The same groups (N,), numbered 0, 1, … by their first members."""
    _, first, place = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[place].astype(np.int64)
