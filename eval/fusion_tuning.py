"""Tuning hybrid search on judged queries: which fusion, and how much the vectors weigh.

1. Every fusion of :mod:`retriever.indexing.hybrid` is tried with the weights 0, 0.1 … 1 of the vectors. Each setting
   has an nDCG@10 for each query; the best setting has the highest mean.
2. The mean of the best of many settings is too good: a part of it is chance. So the gain is estimated by
   cross-validation: the queries are split into five parts, a setting is chosen on four of them and scored on the fifth,
   in turn. Ten random splits are averaged, which gives each query a held-out score.
3. These scores are compared with those of the default, combined surprise with half the weight, by a bootstrap interval
   and a paired randomisation test. Unless they are higher and p is below .05, the default is kept.

Among settings of equal mean the default wins, then the one that comes first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retriever.errors import DataError, IndexFolderError
from retriever.eval.judge import drop_identical, to_run
from retriever.eval.metrics import Qrels, score_run
from retriever.eval.significance import bootstrap_interval, paired_randomisation
from retriever.indexing.hybrid import METHODS, Fusion, fuse, shares
from retriever.indexing.index import Index
from retriever.indexing.ranking import NO_HIT, Ranking

Array = NDArray[np.float64]

DEFAULT: tuple[Fusion, float] = ("fisher", 0.5)
WEIGHTS = tuple(step / 10 for step in range(11))
SETTINGS = (DEFAULT, *((method, weight) for method in METHODS for weight in WEIGHTS if (method, weight) != DEFAULT))
FOLDS, REPEATS = 5, 10
FEWEST = 10  # judged queries
DIGITS = 12  # of a score: two that differ by rounding are equal
DEPTH = 10  # hits that nDCG@10 looks at
PROVEN = 0.05  # p below which a gain is no chance


@dataclass(frozen=True, slots=True)
class FusionTuning:
    """What tuning found.

    Attributes:
        queries: Q, how many queries there were.
        best: The fusion and weight of the highest mean nDCG@10 over all queries.
        means: Fusion → mean nDCG@10 with each of the ``WEIGHTS``.
        default: Mean nDCG@10 of the default.
        held_out: Mean nDCG@10 of settings chosen on other queries.
        interval: Of ``held_out`` − ``default``, 95 %.
        p: Of the same difference.
    """

    queries: int
    best: tuple[Fusion, float]
    means: dict[Fusion, list[float]]
    default: float
    held_out: float
    interval: tuple[float, float]
    p: float

    @property
    def gain(self) -> float:
        """What tuning is worth on queries that it has not seen."""
        return self.held_out - self.default

    @property
    def chosen(self) -> tuple[Fusion, float]:
        """The best setting, or the default where no gain of tuning is proven."""
        return self.best if self.gain > 0 and self.p < PROVEN else DEFAULT


def tune_fusion(
    dense: Ranking, bm25: Ranking, queries: Sequence[str], documents: Sequence[str], qrels: Qrels, *, seed: int = 0
) -> FusionTuning:
    """Find a fusion and a weight for rankings of judged queries.

    Args:
        dense: By vectors, of Q queries.
        bm25: By words, of the same queries.
        queries: Q query ids, all of them judged.
        documents: N document ids, by row.
        qrels: Query id → document id → grade; of these queries alone.
        seed: Of the random splits.

    Raises:
        DataError: There are fewer than ten judged queries.
    """
    _check_count(queries)
    scores = np.stack([_scores((dense, bm25), queries, documents, qrels, *setting) for setting in SETTINGS])  # (S, Q)
    held_out, default = cross_validate(scores, seed), scores[0].round(DIGITS)
    means = dict(zip(SETTINGS, scores.mean(axis=1).tolist(), strict=True))
    return FusionTuning(
        queries=scores.shape[1],
        best=SETTINGS[int(scores.mean(axis=1).argmax())],
        means={method: [means[method, weight] for weight in WEIGHTS] for method in METHODS},
        default=float(default.mean()),
        held_out=float(held_out.mean()),
        interval=bootstrap_interval(held_out - default),
        p=paired_randomisation(held_out, default),
    )


def cross_validate(scores: Array, seed: int = 0) -> Array:
    """The score of each query (Q,) under the setting that is best for other queries.

    Args:
        scores: Of S settings for Q queries, (S, Q).
        seed: Of the random splits.
    """
    rng, held_out = np.random.default_rng(seed), np.zeros(scores.shape[1])
    for _ in range(REPEATS):
        for fold in np.array_split(rng.permutation(scores.shape[1]), FOLDS):
            others = np.delete(scores, fold, axis=1)
            held_out[fold] += scores[others.mean(axis=1).argmax(), fold] / REPEATS
    return held_out.round(DIGITS)


def tune_index(index: Index, queries: Mapping[str, str], qrels: Qrels, *, seed: int = 0) -> FusionTuning:
    """Find a fusion and a weight for an index; :meth:`retriever.indexing.index.Index.set_fusion` makes it use them.

    A document whose id equals that of the query is not counted, as in ``retriever eval beir``.

    Args:
        index: The index.
        queries: Query id → text.
        qrels: Query id → document id → grade.
        seed: Of the random splits.

    Raises:
        DataError: A judged query is not among the queries or is empty, no document of the index is judged relevant, or
            fewer than ten queries are judged.
        IndexFolderError: The index was changed meanwhile, or its model is not there.
    """
    judged = sorted(query for query, grades in qrels.items() if grades)
    if missing := [query for query in judged if query not in queries]:
        raise DataError(f"Query {missing[0]!r} is judged and not among the queries: complete them or the judgments.")
    if blank := [query for query in judged if not queries[query].strip()]:
        raise DataError(f"Query {blank[0]!r} is judged and empty: complete it, or leave its judgments out.")
    _check_count(judged)
    generation = index.manifest.generation
    ids = sorted({name for query in judged for name in qrels[query]})
    row_of = {name: row for name, row in zip(ids, index.rows(ids).tolist(), strict=True) if row != NO_HIT}
    relevant = {name for query in judged for name, grade in qrels[query].items() if grade > 0}
    if relevant.isdisjoint(row_of):
        raise DataError(
            f"No document of the index {index.folder} is judged relevant: give judgments of its documents, some "
            "of them with a grade above 0."
        )
    dense, bm25 = index.parts([queries[query] for query in judged], DEPTH + 1)
    own = index.rows(judged).tolist()
    if index.manifest.generation != generation:
        raise IndexFolderError(f"The index {index.folder} was changed during tuning: tune it again.")
    last = max(int(dense.rows.max(initial=0)), int(bm25.rows.max(initial=0)), *row_of.values(), *own)
    names = [str(row) for row in range(last + 1)]
    as_rows = {
        query: {str(row_of.get(name, f"absent {name}")): grade for name, grade in qrels[query].items()}
        for query in judged
    }
    parts = [drop_identical(part, [str(row) for row in own], names, part.rows.shape[1]) for part in (dense, bm25)]
    return tune_fusion(parts[0], parts[1], judged, names, as_rows, seed=seed)


def _check_count(queries: Sequence[str]) -> None:
    if len(queries) < FEWEST:
        raise DataError(f"Tuning needs at least {FEWEST} judged queries, not {len(queries)}: judge more of them.")


def _scores(
    parts: Sequence[Ranking],
    queries: Sequence[str],
    documents: Sequence[str],
    qrels: Qrels,
    method: Fusion,
    weight: float,
) -> Array:
    """The nDCG@10 of each query (Q,) under one setting."""
    fused = fuse(parts, DEPTH, method=method, weights=shares(weight))
    return score_run(to_run(fused, queries, documents), qrels).values["ndcg@10"]
