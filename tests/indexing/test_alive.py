"""Searches of which only a part of the rows may be found, against a loop over that part."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever.errors import DataError
from retriever.indexing import alive as module
from retriever.indexing import dense
from retriever.indexing.alive import compare
from retriever.indexing.dense import DenseIndex
from retriever.indexing.kinds import SearchSettings, create

FACTORIES = ["Flat", "HNSW16", "HNSW16_SQfp16", "HNSW16_SQ8", "PQ8x4fs", "IVF8,PQ8x4fs", "IVF8,Flat", "SQ8", "RaBitQfs"]
WIDE = SearchSettings(nprobe=8, ef=700, rerank=70)
COUNT = 600


def gaussian(count, seed=0):
    vectors = np.random.default_rng(seed).standard_normal((count, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


DOCUMENTS, QUERIES = gaussian(COUNT), gaussian(5, seed=1)


@pytest.fixture(scope="module")
def built():
    return {factory: DenseIndex.build(DOCUMENTS, factory=factory) for factory in FACTORIES}


def nearest(query, alive, k):
    """Scores of the best rows alive, one document at a time."""
    scores = [float(query @ document) for document, lives in zip(DOCUMENTS, alive, strict=True) if lives]
    return sorted(scores, reverse=True)[:k]


def check(ranking, alive, k, atol=1e-3):
    assert ranking.rows.shape == (len(QUERIES), min(k, alive.sum()))
    for query, rows, scores in zip(QUERIES, ranking.rows, ranking.scores, strict=True):
        assert alive[rows].all() and len(set(rows)) == len(rows)
        np.testing.assert_allclose(scores, [query @ DOCUMENTS[row] for row in rows], atol=atol)
        np.testing.assert_allclose(scores, nearest(query, alive, k), atol=atol)


masks = st.tuples(st.integers(0, 99), st.sampled_from([0, 1, 3, 30, 300, 570, 599, 600])).map(
    lambda drawn: np.isin(np.arange(COUNT), np.random.default_rng(drawn[0]).permutation(COUNT)[: drawn[1]])
)


@settings(deadline=None, max_examples=25)
@given(masks, st.sampled_from([1, 10, 100, 700]), st.booleans())
@pytest.mark.parametrize("factory", FACTORIES)
def test_what_is_found_is_alive_and_the_best_of_it(factory, built, mask, k, few):
    """With few rows compared one by one, and without that short cut."""
    limit, dense.FEW = dense.FEW, 20_000 if few else 0
    try:
        check(built[factory].search(QUERIES, k, alive=mask, parameters=WIDE), mask, k)
    finally:
        dense.FEW = limit


@pytest.mark.parametrize("factory", FACTORIES)
def test_narrow_searches_still_fill_up_with_rows_alive(factory, built, monkeypatch):
    monkeypatch.setattr(dense, "FEW", 0)
    mask = DOCUMENTS @ QUERIES[0] < 0  # half of the rows, none of them near the first query
    ranking = built[factory].search(QUERIES, 20, alive=mask, parameters=SearchSettings(nprobe=1, ef=1, rerank=1))
    assert mask[ranking.rows].all() and ranking.rows.shape == (5, 20)
    assert all(len(set(rows)) == 20 for rows in ranking.rows)


@pytest.mark.parametrize("factory", FACTORIES)
def test_all_rows_alive_is_as_if_nothing_were_said(factory, built):
    one, other = (built[factory].search(QUERIES, 9, alive=mask) for mask in (None, np.ones(COUNT, bool)))
    np.testing.assert_array_equal(one.rows, other.rows)
    np.testing.assert_array_equal(one.scores, other.scores)


@pytest.mark.parametrize("factory", ["Flat", "PQ8x4fs"])
def test_no_row_alive_gives_no_hits_but_a_background(factory, built):
    ranking = built[factory].search(QUERIES, 3, alive=np.zeros(COUNT, bool))
    assert ranking.rows.shape == (5, 0)
    np.testing.assert_allclose(ranking.background.mean, (QUERIES @ DOCUMENTS.T).mean(axis=1), atol=1e-3)


def test_an_empty_index_can_be_searched():
    ranking = DenseIndex.empty(16).search(QUERIES, 3, alive=np.zeros(0, bool))
    assert ranking.rows.shape == (5, 0)
    assert ranking.background.deviation.tolist() == [0] * 5


def test_a_query_without_direction_finds_nothing(built):
    mask = np.arange(COUNT) < 50
    ranking = built["Flat"].search(np.zeros((2, 16), np.float32), 3, alive=mask)
    assert ranking.rows.tolist() == [[-1] * 3] * 2


@pytest.mark.parametrize("length", [0, 599, 601])
def test_a_mask_of_another_length_is_refused(length, built):
    with pytest.raises(DataError, match=r"alive have shape \(\d+,\) and the index has 600 rows"):
        built["Flat"].search(QUERIES, 3, alive=np.ones(length, bool))


@pytest.mark.parametrize("kind", ["Flat", "SQfp16"])
@pytest.mark.parametrize("copy", [0.0, 1e9])  # rows are copied; others are skipped
def test_comparing_is_exact_either_way(kind, copy, monkeypatch):
    monkeypatch.setattr(module, "COPY", copy)
    monkeypatch.setattr(module, "CHUNK", 64)
    store = create(kind, 16)
    store.add(DOCUMENTS)
    mask = np.random.default_rng(5).random(COUNT) < 0.4
    for k in (1, 50, int(mask.sum())):
        rows, scores = compare(store, QUERIES, k, mask)
        for query, found, values in zip(QUERIES, rows, scores, strict=True):
            assert mask[found].all() and len(set(found)) == k
            np.testing.assert_allclose(np.sort(values)[::-1], nearest(query, mask, k), atol=1e-3)
    assert compare(store, QUERIES, 7)[0].shape == (5, 7)
