"""trec_eval's metrics against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever.errors import DataError
from retriever.eval.metrics import METRICS, score_run

DOCUMENTS = [f"d{number}" for number in range(15)] + ["é", "z", "Z"]


def oracle(hits: dict[str, float], judged: dict[str, int]) -> dict[str, float]:
    """All metrics of one query, by the book."""
    ranking = list(hits)
    ranking.sort(reverse=True)  # ties: the higher document id first
    ranking.sort(key=lambda document: np.float32(hits[document]), reverse=True)
    grades = [max(0, judged.get(document, 0)) for document in ranking]
    relevant = sum(grade >= 1 for grade in judged.values())

    dcg = ideal = precisions = 0.0
    first = {10: 0.0, 100: 0.0}
    for rank, grade in enumerate(grades[:10], start=1):
        dcg += grade / math.log2(rank + 1)
    for rank, grade in enumerate(sorted(judged.values(), reverse=True)[:10], start=1):
        ideal += max(0, grade) / math.log2(rank + 1)
    for depth in first:
        for rank, grade in enumerate(grades[:depth], start=1):
            if grade >= 1:
                first[depth] = 1 / rank
                break
    found = 0
    for rank, grade in enumerate(grades, start=1):
        if grade >= 1:
            found += 1
            precisions += found / rank
    return {
        "ndcg@10": dcg / ideal if ideal else 0.0,
        "recall@10": sum(grade >= 1 for grade in grades[:10]) / relevant if relevant else 0.0,
        "recall@100": sum(grade >= 1 for grade in grades[:100]) / relevant if relevant else 0.0,
        "mrr@10": first[10],
        "map": precisions / relevant if relevant else 0.0,
        "mrr@100": first[100],
        "r_cap@100": sum(grade >= 1 for grade in grades[:100]) / min(100, relevant) if relevant else 0.0,
    }


hit_lists = st.dictionaries(st.sampled_from(DOCUMENTS), st.sampled_from([-1.0, 0.0, 0.1, 0.5, 2.0]) | st.floats(-9, 9))
judgments = st.dictionaries(st.sampled_from(DOCUMENTS), st.integers(-1, 4), min_size=1)


@given(
    run=st.dictionaries(st.sampled_from("abcx"), hit_lists, min_size=1),
    qrels=st.dictionaries(st.sampled_from("abc"), judgments, min_size=1),
)
def test_every_metric_equals_the_oracle(run, qrels):
    if not run.keys() & qrels.keys():
        with pytest.raises(DataError, match="None of the"):
            score_run(run, qrels)
        return
    scores = score_run(run, qrels)
    assert scores.queries == tuple(sorted(qrels))
    assert list(scores.values) == list(METRICS)
    for metric, values in scores.values.items():
        expected = [oracle(run.get(query, {}), qrels[query])[metric] for query in scores.queries]
        np.testing.assert_allclose(values, expected, atol=1e-12)
        assert scores.means[metric] == pytest.approx(sum(expected) / len(expected), abs=1e-12)


@pytest.mark.parametrize("rank", range(1, 13))
def test_reciprocal_rank_is_cut_after_ten_ranks(rank):
    run = {"q": {f"d{place:02}": -float(place) for place in range(1, 20)}}
    scores = score_run(run, {"q": {f"d{rank:02}": 1}})
    assert scores.means["mrr@10"] == (1 / rank if rank <= 10 else 0.0)
    assert scores.means["map"] == 1 / rank


@pytest.mark.parametrize("rank", [1, 10, 11, 99, 100, 101])
def test_the_deeper_reciprocal_rank_is_cut_after_a_hundred_ranks(rank):
    run = {"q": {f"d{place:03}": -float(place) for place in range(1, 150)}}
    assert score_run(run, {"q": {f"d{rank:03}": 1}}).means["mrr@100"] == (1 / rank if rank <= 100 else 0.0)


@pytest.mark.parametrize(
    ("relevant", "hits", "capped"), [(400, 30, 0.3), (400, 150, 1.0), (80, 20, 0.25), (100, 7, 0.07)]
)
def test_recall_is_capped_where_more_are_relevant_than_fit(relevant, hits, capped):
    qrels = {"q": {f"d{number}": 1 for number in range(relevant)} | {"judged, not relevant": 0}}
    run = {"q": {f"d{number}": 1.0 for number in range(hits)}}
    means = score_run(run, qrels).means
    assert means["r_cap@100"] == pytest.approx(capped)
    assert means["recall@100"] == pytest.approx(min(hits, 100) / relevant)


def test_gains_are_the_grades_themselves():
    run = {"q": {"low": 2.0, "high": 1.0}}
    expected = (1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3))
    assert score_run(run, {"q": {"low": 1, "high": 3}}).means["ndcg@10"] == pytest.approx(expected)


def test_equal_scores_are_ordered_by_descending_document_id():
    run = {"q": {"a": 1.0, "b": 1.0}}
    assert score_run(run, {"q": {"b": 1}}).means["mrr@10"] == 1.0
    assert score_run(run, {"q": {"a": 1}}).means["mrr@10"] == 0.5


def test_scores_are_compared_as_float32():
    run = {"q": {"a": 1.0 + 1e-9, "b": 1.0}}
    assert score_run(run, {"q": {"a": 1}}).means["mrr@10"] == 0.5


def test_a_judged_query_without_hits_counts_as_zero_and_an_unjudged_one_not_at_all():
    run = {"found": {"d": 1.0}, "empty": {}, "unjudged": {"d": 1.0}}
    qrels = {"found": {"d": 1}, "empty": {"d": 1}, "missing": {"d": 1}, "no judgment": {}}
    scores = score_run(run, qrels)
    assert scores.queries == ("empty", "found", "missing")
    assert scores.values["ndcg@10"].tolist() == [0.0, 1.0, 0.0]
    assert scores.means["ndcg@10"] == pytest.approx(1 / 3)


def test_numpy_scores_are_taken_and_nothing_is_changed():
    run = {"q": {"a": np.float32(1), "b": 2}}
    qrels = {"q": {"b": 1}}
    assert score_run(run, qrels).means["map"] == 1.0
    assert run == {"q": {"a": np.float32(1), "b": 2}} and qrels == {"q": {"b": 1}}


def test_numpy_grades_are_taken():
    run = {"q": {"a": 2.0, "b": 1.0}}
    numpy = score_run(run, {"q": {"b": np.int64(2), "c": np.int32(0)}})
    assert numpy.means == score_run(run, {"q": {"b": 2, "c": 0}}).means


@pytest.mark.parametrize(
    ("qrels", "message"),
    [
        ({"q": {"d": 1.0}}, "A grade of query 'q' is no whole number: give grades such as 0 and 1"),
        ({"q": {7: 1}}, "The id 7 of a judgment is a int: give ids as strings"),
        ({7: {"d": 1}}, "The id 7 of a judgment is a int: give ids as strings"),
    ],
)
def test_judgments_are_whole_numbers_under_strings(qrels, message):
    with pytest.raises(DataError, match=message):
        score_run({"q": {"d": 1.0}, 7: {"d": 1.0}}, qrels)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_refused(score):
    with pytest.raises(DataError, match=r"'d' has the score .* for query 'q'"):
        score_run({"q": {"d": score}}, {"q": {"d": 1}})


@pytest.mark.parametrize(
    ("run", "qrels", "message"),
    [
        ({"q": {"d": 1.0}}, {}, "no judgments"),
        ({"q": {"d": 1.0}}, {"q": {}}, "no judgments"),
        ({}, {"q": {"d": 1}}, "None of the 0 queries"),
        ({"x": {"d": 1.0}}, {"q": {"d": 1}}, "None of the 1 queries of the run is among the 1 judged"),
    ],
)
def test_run_and_judgments_that_do_not_meet_are_refused(run, qrels, message):
    with pytest.raises(DataError, match=message):
        score_run(run, qrels)
