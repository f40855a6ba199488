"""Retrieval metrics, exactly as trec_eval computes them.

1. The hits of a query are ordered by score, highest first; equal scores by document id, highest first. The order of
   the run itself does not matter. trec_eval compares scores as float32: two scores that differ in float64 only are
   equal, so a tie-free run in float32 gives the same numbers everywhere.
2. A document counts as relevant from grade 1 upwards; an unjudged document, or a grade of zero or less, as not.
3. nDCG@k sums grade / log2(rank + 1) over the first k ranks (the gain is the grade itself) and divides by the same sum
   over the best possible order. Recall@k is the share of the relevant documents within the first k ranks. MRR@k is
   1 / rank of the first relevant document, zero beyond rank k. MAP is the mean, over all relevant documents, of the
   precision at their ranks, zero for those not retrieved. Capped recall, R_cap@k, divides the relevant documents within
   the first k ranks by k where more than k are relevant (BEIR's measure for TREC-COVID); else it is Recall@k.
4. The mean is over all judged queries: a judged query without hits counts as zero, an unjudged query not at all.

The counting is trec_eval's own code (through pytrec_eval), in float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from operator import index
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pytrec_eval

from retriever.errors import DataError

Run: TypeAlias = dict[str, dict[str, float]]
"""Query id → document id → score, higher is better."""
Qrels: TypeAlias = Mapping[str, Mapping[str, int]]
"""Query id → document id → grade, relevant from 1 upwards."""

METRICS = {
    "ndcg@10": "ndcg_cut_10",
    "recall@10": "recall_10",
    "recall@100": "recall_100",
    "mrr@10": "recip_rank",  # trec_eval has no cut here; score_run makes it
    "map": "map",
    "mrr@100": "recip_rank",
    "r_cap@100": "recall_100",  # score_run puts the cap in
}
"""Our names → trec_eval's, in the order in which tables show them."""


@dataclass(frozen=True)
class Scores:
    """Per-query scores of one run.

    Attributes:
        queries: The judged query ids, sorted.
        values: Metric name → scores (Q,) float64, aligned with `queries`.
    """

    queries: tuple[str, ...]
    values: dict[str, npt.NDArray[np.float64]]

    @property
    def means(self) -> dict[str, float]:
        """Metric name → mean over all judged queries, a fraction."""
        return {metric: float(values.mean()) for metric, values in self.values.items()}


def score_run(run: Mapping[str, Mapping[str, float]], qrels: Qrels) -> Scores:
    """Score a run against judgments.

    Args:
        run: Query id → document id → score. Queries without judgments are ignored.
        qrels: Query id → document id → grade. Every query with a judgment enters the mean.

    Returns:
        One score a judged query and metric of `METRICS`.

    Raises:
        DataError: Nothing is judged, an id is no string or a grade no whole number, the run holds none of the judged
            queries, or a score is not finite.
    """
    queries = tuple(sorted(query for query, judged in qrels.items() if judged))
    if not queries:
        raise DataError("There are no judgments to score against: give qrels with at least one judged document.")
    judged_run = {query: _floats(query, run[query]) for query in queries if query in run}
    if not judged_run:
        raise DataError(
            f"None of the {len(run)} queries of the run is among the {len(queries)} judged queries: "
            "check that run and qrels belong to the same data set and split."
        )
    evaluator = pytrec_eval.RelevanceEvaluator(
        {query: _integers(query, qrels[query]) for query in queries},
        {"ndcg_cut.10", "recall.10,100", "recip_rank", "map"},
    )
    found = evaluator.evaluate(judged_run)
    values = {
        metric: np.array([found[query][measure] if query in found else 0.0 for query in queries])
        for metric, measure in METRICS.items()
    }
    relevant = np.array([sum(grade >= 1 for grade in qrels[query].values()) for query in queries])
    values["mrr@10"][values["mrr@10"] < 1 / 10] = 0.0
    values["mrr@100"][values["mrr@100"] < 1 / 100] = 0.0
    values["r_cap@100"] *= np.maximum(relevant, 100) / 100
    return Scores(queries, values)


def _integers(query: str, judged: Mapping[str, int]) -> dict[str, int]:
    """The grades as Python integers, which pytrec_eval takes alone, under ids that are strings."""
    for id_ in (query, *judged):
        if not isinstance(id_, str):
            raise DataError(f"The id {id_!r} of a judgment is a {type(id_).__name__}: give ids as strings.")
    try:
        return {document: index(grade) for document, grade in judged.items()}
    except TypeError as error:
        raise DataError(f"A grade of query {query!r} is no whole number: give grades such as 0 and 1.") from error


def _floats(query: str, hits: Mapping[str, float]) -> dict[str, float]:
    """The hits as Python floats, the only number type that pytrec_eval takes besides int."""
    floats = {document: float(score) for document, score in hits.items()}
    for document, score in floats.items():
        if not math.isfinite(score):
            raise DataError(
                f"Document {document!r} has the score {score} for query {query!r}: a run needs finite scores, "
                "so look for NaN or infinity in the vectors it came from."
            )
    return floats
