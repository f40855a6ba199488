"""From rankings to runs, dropped self-hits, means and intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever.errors import DataError
from retriever.eval.judge import drop_identical, judge, to_run
from retriever.eval.metrics import score_run
from retriever.eval.significance import bootstrap_interval
from retriever.indexing.ranking import Background, Ranking

DOCUMENTS = ["a", "b", "c", "d", "e"]


def ranking_of(*queries):
    """A ranking of five documents a query, from rows, scores 5, 4, 3 …; −1 is no hit."""
    rows = np.array(queries, np.int64)
    scores = np.where(rows < 0, -np.inf, np.arange(5, 5 - rows.shape[1], -1)).astype(np.float32)
    return Ranking(rows, scores, Background(*np.ones((3, len(rows)))))


def test_rows_get_their_names_and_padding_goes():
    run = to_run(ranking_of([4, 0, -1], [-1, -1, -1]), ["q1", "q2"], DOCUMENTS)
    assert run == {"q1": {"e": 5.0, "a": 4.0}, "q2": {}}
    assert {type(score) for score in run["q1"].values()} == {float}


def test_queries_and_rankings_must_match():
    with pytest.raises(ValueError, match="zip"):
        to_run(ranking_of([0]), ["q1", "q2"], DOCUMENTS)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.permutations(range(5)), st.integers(0, 5)), min_size=1, max_size=3),
    st.lists(st.sampled_from([*DOCUMENTS, "another"]), min_size=3, max_size=3),
    st.integers(1, 6),
)
def test_dropping_equals_plain_loops(queries, ids, depth):
    rows = [[row if place < hits else -1 for place, row in enumerate(order)] for order, hits in queries]
    ids = ids[: len(rows)]
    ranking = ranking_of(*rows)
    dropped = drop_identical(ranking, ids, DOCUMENTS, depth)
    assert dropped.background is ranking.background
    for number, (found, own) in enumerate(zip(rows, ids, strict=True)):
        expected = [(row, 5.0 - place) for place, row in enumerate(found) if row >= 0 and DOCUMENTS[row] != own]
        kept, scores = dropped.hits(number)
        assert list(zip(kept.tolist(), scores.tolist(), strict=True)) == expected[:depth]
        hits = len(kept)
        assert (dropped.rows[number, hits:] == -1).all()


def test_means_and_intervals_are_those_of_the_single_runs():
    rng = np.random.default_rng(0)
    qrels = {f"q{query}": {"a": 1, "b": query % 3} for query in range(30)}
    runs = {
        name: {query: {document: float(rng.random()) for document in DOCUMENTS} for query in qrels}
        for name in ("one", "two")
    }
    metrics, intervals = judge(runs, qrels)
    assert list(metrics) == list(intervals) == ["one", "two"]
    for name, run in runs.items():
        scores = score_run(run, qrels)
        assert metrics[name] == scores.means
        for metric, values in scores.values.items():
            assert intervals[name][metric] == pytest.approx(list(bootstrap_interval(values)), abs=1e-12)
            low, high = intervals[name][metric]
            assert low <= metrics[name][metric] <= high
    assert judge(runs, qrels, seed=1)[1] != intervals


def test_a_run_without_any_judged_query_is_refused():
    with pytest.raises(DataError, match="None of the 1 queries"):
        judge({"one": {"other": {"a": 1.0}}}, {"q": {"a": 1}})
