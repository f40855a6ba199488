"""Fusion against plain loops, its symmetries, and refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever.errors import DataError
from retriever.indexing.bm25 import Bm25Index
from retriever.indexing.dense import DenseIndex
from retriever.indexing.hybrid import fuse
from retriever.indexing.ranking import Background, Ranking, best

METHODS = ["fisher", "zscore", "minmax", "tmm", "product", "rrf"]
LEAST = -14.0


def ranking_of(*queries, width=None, mean=0.0, deviation=1.0, known=1.0, least=-math.inf):
    """A ranking from one {row: score} a query; the background is the same for all queries."""
    hits = [
        best(np.array(sorted(found), np.int64), np.array([found[row] for row in sorted(found)], np.float32), len(found))
        for found in queries
    ]
    background = Background(*(np.full(len(queries), value) for value in (mean, deviation, known)), least)
    return Ranking.stack(hits, width or max([1, *map(len, queries)]), background)


def fisher_loops(lists, weights, backgrounds):
    """{row: fused score} of one query."""
    fused = {}
    for found, weight, (mean, deviation, known) in zip(lists, weights, backgrounds, strict=True):
        for row, score in found.items():
            z = math.sqrt(known) * (score - mean) / deviation
            fused[row] = fused.get(row, 0.0) - weight * math.log(math.erfc(z / math.sqrt(2)) / 2)
    return fused


def zscore_loops(lists, weights):
    """{row: fused score} of one query."""
    fused = dict.fromkeys(sorted({row for found in lists for row in found}), 0.0)
    for found, weight in zip(lists, weights, strict=True):
        if not found:
            continue
        mean = sum(found.values()) / len(found)
        deviation = math.sqrt(sum((score - mean) ** 2 for score in found.values()) / len(found))
        tied = len(set(found.values())) == 1
        values = {row: 0.0 if tied else (score - mean) / deviation for row, score in found.items()}
        missing = -1.0 if tied else min(values.values())
        for row in fused:
            fused[row] += weight * values.get(row, missing)
    return fused


def scaled_loops(lists, weights, low_of):
    """{row: fused score} of one query; ``low_of`` a ranking is what is brought to 0. The rankings are not cut off."""
    fused = dict.fromkeys(sorted({row for found in lists for row in found}), 0.0)
    for found, weight, low in zip(lists, weights, low_of, strict=True):
        if found:
            high, low = max(found.values()), min(found.values()) if low is None else low
        for row, score in found.items():
            fused[row] += weight * ((score - low) / (high - low) if high > low else 1.0)
    return fused


def product_loops(lists, weights):
    """{row: fused score} of one query; the rankings are not cut off."""
    fused = dict.fromkeys(sorted({row for found in lists for row in found}), 0.0)
    for found, weight in zip(lists, weights, strict=True):
        high = max(found.values(), default=0.0)
        for row in fused if found else []:
            ratio = found.get(row, 0.0) / high if high > 0 else 0.0
            fused[row] += weight * (max(LEAST, math.log(ratio)) if ratio > 0 else LEAST)
    return fused


def rrf_loops(lists, weights):
    """{row: fused score} of one query."""
    fused = {}
    for found, weight in zip(lists, weights, strict=True):
        for rank, row in enumerate(sorted(found, key=lambda row: (-found[row], row)), start=1):
            fused[row] = fused.get(row, 0.0) + weight / (60 + rank)
    return fused


hits = st.dictionaries(st.integers(0, 20), st.integers(-40, 40).map(lambda value: value / 4), max_size=10)
queries = st.lists(st.tuples(hits, hits, hits), min_size=1, max_size=4)
weighting = st.tuples(*[st.integers(1, 4).map(float)] * 3)


def check(fused, expected, k):
    assert len(fused) == len(expected)
    for query, scores in enumerate(expected):
        rows, values = fused.hits(query)
        assert len(rows) == min(k, len(scores))
        np.testing.assert_allclose(values, [scores[row] for row in rows], rtol=1e-5, atol=1e-6)
        assert (np.diff(values) <= 0).all()
        left = [score for row, score in scores.items() if row not in rows]
        assert not left or max(left) <= values.min() + 1e-5


scores_around = st.tuples(st.integers(-4, 4).map(float), st.sampled_from([0.5, 1.0, 3.0]), st.sampled_from([0, 0.3, 1]))


@settings(deadline=None)
@given(queries, weighting, st.integers(1, 35), st.tuples(scores_around, scores_around, scores_around))
def test_combined_surprise_equals_plain_loops(lists, weights, k, backgrounds):
    rankings = [
        ranking_of(*column, mean=mean, deviation=deviation, known=known)
        for column, (mean, deviation, known) in zip(zip(*lists, strict=True), backgrounds, strict=True)
    ]
    check(fuse(rankings, k, weights=weights), [fisher_loops(query, weights, backgrounds) for query in lists], k)


@settings(deadline=None)
@given(queries, weighting, st.integers(1, 35))
def test_standardised_scores_equal_plain_loops(lists, weights, k):
    rankings = [ranking_of(*column) for column in zip(*lists, strict=True)]
    check(fuse(rankings, k, method="zscore", weights=weights), [zscore_loops(query, weights) for query in lists], k)


@settings(deadline=None)
@given(queries, weighting, st.integers(1, 35))
def test_convex_combinations_equal_plain_loops(lists, weights, k):
    """No score is below −10, the least there can be; the second ranking has none."""
    columns, least = list(zip(*lists, strict=True)), (-10.0, -math.inf, -10.5)
    rankings = [ranking_of(*column, width=11, least=low) for column, low in zip(columns, least, strict=True)]
    expected = [scaled_loops(query, weights, [None] * 3) for query in lists]
    check(fuse(rankings, k, method="minmax", weights=weights), expected, k)
    expected = [scaled_loops(query, weights, [-10.0, None, -10.5]) for query in lists]
    check(fuse(rankings, k, method="tmm", weights=weights), expected, k)


@settings(deadline=None)
@given(queries, weighting, st.integers(1, 35))
def test_products_equal_plain_loops(lists, weights, k):
    rankings = [ranking_of(*column, width=11) for column in zip(*lists, strict=True)]
    check(fuse(rankings, k, method="product", weights=weights), [product_loops(query, weights) for query in lists], k)


@settings(deadline=None)
@given(queries, weighting, st.integers(1, 35))
def test_reciprocal_ranks_equal_plain_loops(lists, weights, k):
    rankings = [ranking_of(*column) for column in zip(*lists, strict=True)]
    expected = [rrf_loops(query, weights) for query in lists]
    check(fuse(rankings, k, method="rrf", weights=weights), expected, k)


@settings(deadline=None)
@given(hits, hits, st.sampled_from([2, 0.5, 8]), st.integers(-8, 8))
def test_scale_and_shift_of_the_scores_do_not_matter(first, second, scale, shift):
    moved = {row: scale * score + shift for row, score in second.items()}
    for method in ("fisher", "zscore", "minmax"):
        a = fuse([ranking_of(first), ranking_of(second)], 30, method=method)
        b = fuse([ranking_of(first), ranking_of(moved, mean=shift, deviation=scale)], 30, method=method)
        np.testing.assert_allclose(a.scores, b.scores, rtol=1e-4, atol=1e-5)


@settings(deadline=None)
@given(hits, st.sampled_from(METHODS))
def test_fusing_a_ranking_with_itself_or_with_nothing_keeps_its_order(found, method):
    if method == "product":  # of scores above 0
        found = {row: score + 11 for row, score in found.items()}
    ranking = ranking_of(found)
    empty = ranking_of({})
    for others in ([], [ranking], [empty], [empty, ranking]):
        np.testing.assert_array_equal(
            fuse([ranking, *others], max(1, len(found)), method=method).hits(0)[0], ranking.hits(0)[0]
        )


def test_a_lone_hit_of_one_ranking_counts():
    dense = ranking_of({1: 0.50, 2: 0.49, 3: 0.48, 4: 0.47}, mean=0.3, deviation=0.1, least=-1.0)
    words = ranking_of({2: 7.0}, width=4, mean=0.1, deviation=1.0, least=0.0)
    for method in METHODS:
        assert fuse([dense, words], 4, method=method).rows.tolist() == [[2, 1, 3, 4]]


def test_the_ranking_in_which_a_document_stands_out_decides():
    lukewarm = ranking_of({1: 2.2, 2: 2.1, 3: 2.0})
    sure = ranking_of({3: 6.0, 2: 2.0, 1: 1.9})
    assert fuse([lukewarm, sure], 3).rows.tolist() == [[3, 1, 2]]
    assert fuse([lukewarm, sure], 1, method="rrf").rows.tolist() != [[2]]


def test_the_product_is_bm25_times_cosine():
    """As in LEDR, where a document that BM25 does not find has no score; here it comes after the others."""
    cosines = {1: 0.9, 2: 0.8, 3: 0.5, 4: 0.2, 5: -0.1}
    words = {2: 3.0, 3: 9.0, 4: 12.0, 5: 20.0}
    products = {row: cosines[row] * words[row] for row in words}
    fused = fuse([ranking_of(cosines), ranking_of(words, width=9)], 5, method="product")
    by_product = sorted(products, key=products.get, reverse=True)
    assert fused.rows[0].tolist() == [*by_product[:3], 1, 5] == [3, 2, 4, 1, 5]
    np.testing.assert_allclose(
        np.exp(fused.scores[0, :3]), [products[row] / 0.9 / 20.0 for row in (3, 2, 4)], rtol=1e-5
    )


@pytest.mark.parametrize("method", ["tmm", "product"])
def test_what_a_cut_ranking_left_out_scores_like_its_last_hit(method):
    dense = {1: 0.9, 2: 0.6, 3: 0.5}
    words = {4: 4.0, 1: 3.0}
    missing = {"cut": {2: 3.0, 3: 3.0}, "out": {}}
    for case, width in (("cut", 2), ("out", 3)):
        fused = fuse(
            [ranking_of(dense, width=4, least=0.0), ranking_of(words, width=width, least=0.0)], 4, method=method
        )
        whole = words | missing[case]
        same = fuse([ranking_of(dense, width=5, least=0.0), ranking_of(whole, width=5, least=0.0)], 4, method=method)
        assert fused.rows.tolist() == same.rows.tolist()
        np.testing.assert_array_equal(fused.scores, same.scores)


def test_searches_tell_the_least_score_there_can_be():
    query = np.array([[1, 0]], np.float32)
    assert DenseIndex.build(np.eye(2, dtype=np.float32)).search(query, 1).background.least == -1.0
    assert DenseIndex.build(np.eye(2, dtype=np.float32), "dot").search(query, 1).background.least == -math.inf
    assert Bm25Index.build(["amber", "heron"]).search(["heron"], 1).background.least == 0.0


@pytest.mark.parametrize("method", METHODS)
def test_all_weight_on_one_ranking_gives_its_order(method):
    dense, words = ranking_of({1: 0.9, 2: 0.6, 3: 0.5}, least=-1.0), ranking_of({3: 4.0, 2: 3.0, 1: 2.5}, least=0.0)
    assert fuse([dense, words], 3, method=method, weights=[1, 0]).rows.tolist() == [[1, 2, 3]]
    assert fuse([dense, words], 3, method=method, weights=[0, 1]).rows.tolist() == [[3, 2, 1]]


@pytest.mark.parametrize("method", METHODS)
def test_what_a_ranking_without_weight_alone_found_is_no_hit(method):
    dense, words = ranking_of({1: 0.9, 2: 0.6, 4: 0.5}, least=-1.0), ranking_of({3: 4.0, 2: 3.0}, least=0.0)
    assert fuse([dense, words], 4, method=method, weights=[0, 1]).hits(0)[0].tolist() == [3, 2]
    assert fuse([dense, words], 4, method=method, weights=[0, 0]).hits(0)[0].tolist() == []


def test_what_a_search_does_not_know_counts_for_nothing():
    dense, words = {1: 3.0, 2: 2.0}, {2: 9.0, 1: 1.0}
    assert fuse([ranking_of(dense), ranking_of(words)], 2).rows.tolist() == [[2, 1]]
    assert fuse([ranking_of(dense), ranking_of(words, known=0.01)], 2).rows.tolist() == [[1, 2]]


def test_scores_without_deviation_say_nothing():
    tied = ranking_of({1: 0.7, 2: 0.7}, mean=0.7, deviation=1e-9)
    assert fuse([tied, ranking_of({2: 3.0, 1: 2.0})], 2).rows.tolist() == [[2, 1]]
    np.testing.assert_allclose(fuse([tied], 2).scores, math.log(2), rtol=1e-6)


def test_scores_of_any_size_stay_finite():
    fused = fuse([ranking_of({1: 1e6, 2: 3.0, 3: -1e6}), ranking_of({1: 40.0})], 3)
    assert np.isfinite(fused.scores).all()
    assert fused.rows.tolist() == [[1, 2, 3]]


def test_a_question_in_unknown_words_is_left_to_the_vectors():
    """The only known word of the question is frequent in the wrong text."""
    texts = ["the river runs north", "der die das is is", "stone and wood", "a quiet valley", "birds of the coast"]
    vectors = np.eye(5, dtype=np.float32)
    dense = DenseIndex.build(vectors).search(np.array([[1, 0.2, 0, 0, 0]], np.float32), 5)
    words = Bm25Index.build(texts).search(["wo ist der fluss geblieben"], 5)
    assert words.rows[0, 0] == 1
    assert fuse([dense, words], 5).rows[0, 0] == 0


def test_equal_scores_stand_by_rising_row():
    first, second = ranking_of({5: 2.0, 9: 1.0}), ranking_of({9: 2.0, 5: 1.0})
    for method in METHODS:
        assert fuse([first, second], 2, method=method).rows.tolist() == [[5, 9]]


def test_no_hits_at_all_give_no_hits():
    assert fuse([ranking_of({}), ranking_of({})], 2).rows.tolist() == [[-1, -1]]
    assert len(fuse([ranking_of(width=3)] * 2, 2)) == 0


def test_the_width_is_k_or_all_there_can_be():
    assert fuse([ranking_of({1: 1.0}, width=3), ranking_of({2: 1.0})], 2).rows.shape == (1, 2)
    assert fuse([ranking_of({1: 1.0}, width=3), ranking_of({2: 1.0})], 99).rows.shape == (1, 4)


def test_a_weight_moves_the_fusion():
    first, second = ranking_of({1: 2.0, 2: 1.0}), ranking_of({2: 2.0, 1: 1.0})
    assert fuse([first, second], 2, weights=[1, 2]).rows.tolist() == [[2, 1]]
    assert fuse([first, second], 2, weights=[2, 1]).rows.tolist() == [[1, 2]]


def test_mistakes_are_refused():
    one, two = ranking_of({1: 1.0}), ranking_of({1: 1.0}, {2: 1.0})
    with pytest.raises(DataError, match="'max' is unknown: choose fisher, zscore, minmax, tmm, product, rrf"):
        fuse([one], 1, method="max")
    with pytest.raises(DataError, match="needs rankings with the background of their scores"):
        fuse([one, Ranking(one.rows, one.scores)], 1)
    with pytest.raises(DataError, match=r"the same queries, not of \[1, 2\]"):
        fuse([one, two], 1)
    with pytest.raises(DataError, match="the same queries"):
        fuse([], 1)
    with pytest.raises(DataError, match="2 rankings need as many weights, not 1"):
        fuse([one, one], 1, weights=[1.0])
    with pytest.raises(DataError, match="k is 0"):
        fuse([one, one], 0)
