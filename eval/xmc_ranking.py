"""Rankings of labels for points: dense search, BM25 and both, without a matrix of points and labels.

1. Encode the labels that have a text as documents, and the points as queries. Search exactly, a block of points at a
   time.
2. BM25 finds labels by their text. The query is the point's whole text, which is mostly function words: Lucene's 33
   stop words are taken out of both sides, or a label called "works with …" would be everyone's.
3. Take filter pairs out of each ranking before it is cut to its depth: as many more labels are fetched as any point has
   filter pairs.
4. The hybrid fuses the filtered rankings by combined surprise.
5. The memory ranks by the labels and by remembered points (:mod:`retriever.indexing.label_memory`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
from scipy.sparse import csr_matrix

from retriever.data.words import split_words
from retriever.data.xmc_metrics import Rows
from retriever.data.xmc_points import Pairs, XmcLabels, build_targets, holds
from retriever.encoder.encoder import Encoder, Similarity
from retriever.errors import DataError
from retriever.indexing.bm25 import Bm25Index
from retriever.indexing.hybrid import fuse
from retriever.indexing.label_memory import LabelMemory
from retriever.indexing.labels import BLOCK, LabelIndex
from retriever.indexing.ranking import Ranking

Mode: TypeAlias = Literal["dense", "memory", "bm25", "hybrid"]
Search: TypeAlias = Callable[[int, int, int], Ranking]
"""First point, last point, hits → their ranking."""

LUCENE = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "
    "to was will with"
)
STOP_WORDS = frozenset(LUCENE.split())


def rank_labels(
    encoder: Encoder | None,
    labels: XmcLabels,
    texts: Sequence[str],
    filtered: Pairs,
    *,
    modes: Sequence[Mode] = ("dense", "bm25"),
    remember: Callable[[LabelIndex], LabelMemory] | None = None,
    depth: int = 100,
    similarity: Similarity | None = None,
    dtype: str = "auto",
    progress: Callable[[int], None] | None = None,
) -> dict[str, Rows]:
    """Rank all labels for each of Q texts.

    Args:
        encoder: The encoder; BM25 alone needs none.
        labels: L labels.
        texts: Q texts.
        filtered: Filter pairs (M, 2): a text and a label it must not get.
        modes: The rankings wanted: ``dense``, ``memory``, ``bm25``, ``hybrid``.
        remember: Adds points to the label index, for ``memory``.
        depth: Labels kept for each text, at least 1.
        similarity: Similarity of the vectors, instead of the encoder's own.
        dtype: Precision of encoding.
        progress: Called with the number of texts just encoded: the labels, then the texts.

    Returns:
        Mode → rows of labels (Q, K), best first, K ≤ depth; −1 where there is none.

    Raises:
        DataError: A mode is unknown or needs an encoder or points, or no label has a text.
    """
    if not modes or not set(modes) <= set(get_args(Mode)):
        raise DataError(f"The modes {list(modes)} cannot be evaluated: choose from {', '.join(get_args(Mode))}.")
    searches: dict[Mode, Search] = {}
    if {"dense", "memory", "hybrid"} & set(modes):
        if encoder is None:
            raise DataError("Dense, memory and hybrid search need an encoder: give a model, or evaluate bm25 alone.")
        index = LabelIndex.build(encoder, labels, similarity=similarity, dtype=dtype, progress=progress)
        vectors = encoder.encode(texts, "query", dtype=dtype, progress=progress)
        searches["dense"] = lambda start, stop, k: index.search(vectors[start:stop], k)
        if "memory" in modes:
            if remember is None:
                raise DataError("The mode memory needs points to remember: give them, or leave it out.")
            memory = remember(index)
            searches["memory"] = lambda start, stop, k: memory.search(vectors[start:stop], k)
    if {"bm25", "hybrid"} & set(modes):
        words = Bm25Index.build(map(_telling, labels.texts))
        searches["bm25"] = lambda start, stop, k: words.search(list(map(_telling, texts[start:stop])), k)
    forbidden = build_targets(filtered[:, 0], filtered[:, 1], np.ones(len(filtered)), (len(texts), len(labels)))
    most = int(np.diff(forbidden.indptr).max(initial=0))
    found: dict[str, list[Rows]] = {mode: [] for mode in modes}
    for start in range(0, len(texts), BLOCK):
        stop = min(start + BLOCK, len(texts))
        rankings = {
            mode: drop_pairs(search(start, stop, depth + most), forbidden[start:stop], depth)
            for mode, search in searches.items()
        }
        if "hybrid" in modes:
            rankings["hybrid"] = fuse([rankings["dense"], rankings["bm25"]], depth)
        for mode in modes:
            found[mode].append(rankings[mode].rows)
    return {mode: np.concatenate(blocks) for mode, blocks in found.items()}


def drop_pairs(ranking: Ranking, pairs: csr_matrix, depth: int) -> Ranking:
    """Take filter pairs out of a ranking.

    Args:
        ranking: Labels and scores (Q, K); with K = depth + the most pairs of a text nothing is lost by the cut.
        pairs: What each text must not get, (Q, L); whatever is stored counts.
        depth: Labels kept for each text.

    Returns:
        A new ranking, (Q, min(K, depth)), in the order of the old one.
    """
    return ranking.without(holds(pairs, np.arange(len(ranking))[:, None], ranking.rows), depth)


def _telling(text: str) -> str:
    """The words of a text that are no stop words."""
    return " ".join(word for word in split_words(text) if word not in STOP_WORDS)
