"""BM25 search over stemmed words, on bm25s.

1. Words are those of :class:`retriever.data.words.WordAnalyzer`: runs of letters and digits, lower-cased and stemmed;
   no stop words.
2. The score of document d for query q is Lucene's variant, computed in fp32 and summed over the words of q, a word
   that q holds twice counting twice:

       ln(1 + (N − n + ½) / (n + ½)) · tf / (tf + k1 · (1 − b + b · |d| / mean |d|))

   with N documents, n of which hold the word, tf times in d (Kamphuis et al. 2020, Table 1, "Lucene (accurate)").
3. bm25s computes all word–document scores when the index is built; a search adds columns of that sparse matrix.
4. Only documents that share a word with the query are hits.
5. The background of a query's scores is that of its best 1,000 documents, hits or not: over a whole collection most
   scores are 0, and every hit would stand out. Its deviation is divided by √1.5, found on several collections: the
   first places of BM25 are surer than those of vectors. A query is known as far as its words are, each by its
   ln(1 + (N − n + ½) / (n + ½)), which is highest for a word that no document holds.

The defaults k1 = 1.5 and b = 0.75 without stop words give nDCG@10 0.687 and Recall@100 0.924 on BEIR's SciFact;
Anserini's k1 = 0.9 and b = 0.4 give 0.680 and 0.926.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import bm25s
import numpy as np
from numpy.typing import NDArray

from retriever.data.words import WordAnalyzer
from retriever.errors import DataError, IndexFolderError
from retriever.indexing.ranking import Background, Ranking, best, depth

SETTINGS = "words.json"  # beside the files of bm25s
BACKGROUND, SHARPNESS = 1_000, 1.5  # documents of a background; how much its variance is divided by


class Bm25Index:
    """A BM25 index; make one with :meth:`build` or :meth:`open`.

    Args:
        scorer: The word–document scores and the vocabulary.
        analyzer: Text → words, as in building.
    """

    def __init__(self, scorer: bm25s.BM25, analyzer: WordAnalyzer) -> None:
        self._scorer = scorer
        self._analyzer = analyzer

    @classmethod
    def build(cls, texts: Iterable[str], *, k1: float = 1.5, b: float = 0.75, stemmer: str = "porter") -> Bm25Index:
        """Index texts.

        Args:
            texts: N texts; their positions are the rows that a search returns. An empty text is never a hit.
            k1: How slowly the weight of a repeated word saturates, 0 or more.
            b: How strongly long texts are discounted, from 0 to 1.
            stemmer: See :class:`retriever.data.words.WordAnalyzer`.

        Raises:
            DataError: There are no texts, or ``k1`` or ``b`` is out of range.
        """
        if not (0 <= k1 < math.inf and 0 <= b <= 1):
            raise DataError(f"BM25 needs k1 of at least 0 and b between 0 and 1, not k1 = {k1} and b = {b}.")
        analyzer = WordAnalyzer(stemmer)
        vocabulary: dict[str, int] = {}
        tokens = [[vocabulary.setdefault(word, len(vocabulary)) for word in analyzer(text)] for text in texts]
        if not tokens:
            raise DataError("There are no texts to index with BM25: give at least one document.")
        scorer = bm25s.BM25(k1=k1, b=b, method="lucene")
        with np.errstate(invalid="ignore"):  # texts without a single word have mean length 0, and no word to score
            scorer.index((tokens, vocabulary), create_empty_token=False, show_progress=False)
        return cls(scorer, analyzer)

    @classmethod
    def open(cls, folder: str | Path, mmap: bool = True) -> Bm25Index:
        """Open a saved index.

        Args:
            folder: What :meth:`save` wrote.
            mmap: Map the scores from disk, so that processes share them, instead of reading them into memory.

        Raises:
            IndexFolderError: The folder is missing or damaged.
        """
        folder = Path(folder)
        try:
            settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
            scorer = bm25s.BM25.load(folder, mmap=mmap, show_progress=False)
            return cls(scorer, WordAnalyzer(settings["stemmer"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IndexFolderError(
                f"The BM25 index in {folder} is missing or damaged ({error}): build the index again."
            ) from error

    def save(self, folder: str | Path) -> None:
        """Write the files of the index into a folder, which is made."""
        folder = Path(folder)
        self._scorer.save(folder, show_progress=False)
        (folder / SETTINGS).write_text(json.dumps({"stemmer": self._analyzer.stemmer}), encoding="utf-8")

    def search(self, queries: Sequence[str], k: int) -> Ranking:
        """The ``k`` best documents of each query.

        Args:
            queries: Q queries; one without a known word has no hits.
            k: Hits wanted.

        Returns:
            Rows and scores (Q, min(k, N)).

        Raises:
            DataError: ``k`` is below 1.
        """
        words = map(self._analyzer, queries)
        return rank(((self._scores(found), self._known(found)) for found in words), k, len(self))

    def _scores(self, words: Sequence[str]) -> NDArray[np.float32]:
        """The scores of all documents, (N,)."""
        tokens = self._scorer.get_tokens_ids(words)
        scores: NDArray[np.float32] = (
            self._scorer.get_scores_from_ids(tokens) if tokens else np.zeros(len(self), np.float32)
        )
        return scores

    def _known(self, words: Sequence[str]) -> float:
        """The share of the words that the collection has, each weighing its idf."""
        tokens = np.array([self._scorer.vocab_dict.get(word, -1) for word in words], np.int64)
        starts = self._scorer.scores["indptr"]
        holding = np.where(tokens < 0, 0, starts[tokens + 1] - starts[tokens])  # documents, for each word
        idf = np.array([inverse_frequency(int(count), len(self)) for count in holding])
        return float(idf[tokens >= 0].sum() / idf.sum()) if len(words) else 0.0

    def __len__(self) -> int:
        return int(self._scorer.scores["num_docs"])


def inverse_frequency(holding: int, documents: int) -> float:
    """The weight of a word that ``holding`` of the documents hold: ln(1 + (N − n + ½) / (n + ½))."""
    return math.log1p((documents - holding + 0.5) / (holding + 0.5))


def rank(
    scored: Iterable[tuple[NDArray[np.float32], float]],
    k: int,
    documents: int,
    allowed: NDArray[np.bool_] | None = None,
) -> Ranking:
    """Hits and backgrounds of scored documents.

    Args:
        scored: For each of Q queries, the scores (N,) of all rows, 0 for no hit, and the share of it that is known.
        k: Hits wanted.
        documents: Rows that count, at most N; the others have score 0.
        allowed: Which of them may be hits, (N,); all if not given.

    Returns:
        Rows and scores (Q, K), where K is ``k`` or the number of rows that may be hits, if that is smaller.

    Raises:
        DataError: ``k`` is below 1.
    """
    width = depth(k, documents if allowed is None else int(allowed.sum()))
    size = max(1, min(BACKGROUND, documents))
    hits, backgrounds = [], []
    for scores, known in scored:
        matched = np.flatnonzero(scores > 0)
        reached = _reaching(matched, scores, max(width, size))
        own = reached if allowed is None else matched[allowed[matched]]
        hits.append(best(own, scores[own], width))
        leading = np.sort(scores[reached])[-size:].astype(np.float64)
        leading = np.pad(leading, (size - len(leading), 0))
        backgrounds.append((leading.mean(), leading.std() / math.sqrt(SHARPNESS), known))
    return Ranking.stack(hits, width, Background(*np.array(backgrounds, np.float64).reshape(-1, 3).T))


def _reaching(rows: NDArray[np.int64], scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The rows whose scores are as good as the ``count``-th best of theirs, in their order."""
    if len(rows) <= count:
        return rows
    found = scores[rows]
    reached: NDArray[np.int64] = rows[found >= np.partition(found, -count)[-count]]
    return reached
