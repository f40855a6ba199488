"""Rankings: order, ties, padding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rankings import ranked

from retriever.errors import DataError
from retriever.indexing.ranking import Ranking, best, depth

matrices = st.tuples(st.integers(1, 4), st.integers(1, 12)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 1.0, 2.0]))
)


@settings(deadline=None)
@given(matrices, st.integers(1, 15))
def test_the_best_of_a_matrix_equal_a_full_sort(scores, k):
    ranking = ranked(scores, k)
    assert ranking.rows.shape == ranking.scores.shape == (len(scores), min(k, scores.shape[1]))
    for query, row in enumerate(scores.tolist()):
        everything = sorted(range(len(row)), key=lambda document: (-row[document], document))
        expected = [document for document in everything if row[document] > -np.inf][:k]
        rows, values = ranking.hits(query)
        assert rows.tolist() == expected
        assert values.tolist() == [row[document] for document in expected]
        assert (ranking.rows[query][len(expected) :] == -1).all()
        assert (ranking.scores[query][len(expected) :] == -np.inf).all()


def test_a_tie_at_the_border_is_not_cut_by_chance():
    scores = np.ones(1000, np.float32)
    scores[700] = 2
    rows, _ = best(np.arange(1000), scores, 4)
    assert rows.tolist() == [700, 0, 1, 2]


def test_sorted_orders_ties_by_row_and_puts_no_hits_last():
    ranking = Ranking.sorted(
        np.array([[7, -1, 3, 5]], np.int64), np.array([[1.0, 9.0, 1.0, 2.0]], np.float32)
    )  # FAISS pads with row −1 and some number
    assert ranking.rows.tolist() == [[5, 3, 7, -1]]
    assert ranking.scores.tolist() == [[2.0, 1.0, 1.0, -np.inf]]


def test_what_is_dropped_leaves_the_others_in_order():
    rows = np.array([[3, 2, 1, 0], [4, -1, -1, -1], [1, 3, -1, -1]])
    scores = np.array([[4, 3, 2, 1], [9, 0, 0, 0], [5, 4, 0, 0]], np.float32)
    kept = Ranking(rows, scores).without(np.isin(rows, [-1, 1, 3]), 2)
    assert kept.rows.tolist() == [[2, 0], [4, -1], [-1, -1]]
    assert kept.scores.tolist() == [[3, 1], [9, -np.inf], [-np.inf, -np.inf]]


def test_types_are_the_same_whatever_comes_in():
    ranking = Ranking.stack([best(np.arange(3, dtype=np.int32), np.ones(3, np.float32), 2)], 2)
    assert ranking.rows.dtype == np.int64
    assert ranking.scores.dtype == np.float32
    assert len(ranking) == 1


def test_no_queries_give_an_empty_ranking():
    assert Ranking.stack([], 3).rows.shape == (0, 3)


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(k):
    with pytest.raises(DataError, match=f"k is {k}: ask for at least one hit"):
        depth(k, 3)
