"""From rankings to means and intervals, whatever system the rankings came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from retriever.eval.metrics import Qrels, Run, score_run
from retriever.eval.significance import bootstrap_intervals
from retriever.indexing.ranking import Ranking


def to_run(ranking: Ranking, queries: Sequence[str], documents: Sequence[str]) -> Run:
    """Name the rows of a ranking.

    Args:
        ranking: Rows and scores (Q, K); row −1 is no hit.
        queries: Q query ids.
        documents: N document ids, by row.

    Returns:
        Query id → document id → score. A query without hits is there, with none.
    """
    run: Run = {}
    for query, rows, scores in zip(queries, ranking.rows, ranking.scores, strict=True):
        hits = rows >= 0
        names = (documents[row] for row in rows[hits].tolist())
        run[query] = dict(zip(names, scores[hits].tolist(), strict=True))
    return run


def drop_identical(ranking: Ranking, queries: Sequence[str], documents: Sequence[str], depth: int) -> Ranking:
    """Drop the hit whose document id equals the query id and keep the first `depth` of the others.

    Args:
        ranking: Rows and scores (Q, K); with K = depth + 1 nothing is lost by the drop.
        queries: Q query ids.
        documents: N document ids, by row.
        depth: Hits kept per query.

    Returns:
        A new ranking, (Q, min(K, depth)), in the order of the old one.
    """
    row_of = {document: row for row, document in enumerate(documents)}
    own = np.array([row_of.get(query, -1) for query in queries], dtype=np.int64)  # (Q,)
    return ranking.without(ranking.rows == own[:, None], depth)


def judge(
    runs: Mapping[str, Run], qrels: Qrels, *, seed: int = 0
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, list[float]]]]:
    """Score several runs over the same judgments.

    Args:
        runs: Name → run.
        qrels: Query id → document id → grade.
        seed: Seed of the bootstrap, whose draws all runs share.

    Returns:
        Name → metric → mean over all judged queries, and name → metric → low and high end of its 95 % interval.

    Raises:
        DataError: Nothing is judged, a run holds none of the judged queries, or a score is not finite.
    """
    scores = {name: score_run(run, qrels) for name, run in runs.items()}
    pairs = [(name, metric) for name, of_run in scores.items() for metric in of_run.values]
    table = np.column_stack([scores[name].values[metric] for name, metric in pairs])  # (Q, runs · metrics)
    intervals: dict[str, dict[str, list[float]]] = {name: {} for name in runs}
    for (name, metric), ends in zip(pairs, bootstrap_intervals(table, seed=seed).tolist(), strict=True):
        intervals[name][metric] = ends
    return {name: of_run.means for name, of_run in scores.items()}, intervals
