"""The bootstrap of rank correlations against plain loops, scipy and textbook values."""

from __future__ import annotations

import statistics
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from retriever.encoder.pairs import spearman
from retriever.eval import significance
from retriever.eval.sts_bootstrap import percentiles, resampled_spearman


def plain_ranks(values):
    """The mean of the places that equal values take."""
    return [sum(v < value for v in values) + (sum(v == value for v in values) + 1) / 2 for value in values]


def plain_spearman(x, y):
    """Pearson's correlation of plain ranks; NaN where one of them is constant."""
    if len(set(x)) < 2 or len(set(y)) < 2:
        return float("nan")
    return statistics.correlation(plain_ranks(x), plain_ranks(y))


def drawn_rows(pairs, resamples, seed):
    """The draws of one block, as lists of rows."""
    return np.random.default_rng(seed).integers(pairs, size=(resamples, pairs)).tolist()


grid = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0, 2.5]), st.sampled_from([-1.0, 0.5, 3.0, 4.0])), min_size=2, max_size=9
)


@settings(max_examples=30)
@given(grid, st.integers(0, 3))
def test_each_resample_is_ranked_anew(pairs, seed):
    x, y = map(list, zip(*pairs, strict=True))
    expected = [
        plain_spearman([x[row] for row in rows], [y[row] for row in rows]) for rows in drawn_rows(len(pairs), 20, seed)
    ]
    found = resampled_spearman(np.array(x), np.array(y), 20, np.random.default_rng(seed))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_resample_of_many_distinct_values_is_that_of_scipy():
    rng = np.random.default_rng(1)
    x = rng.normal(size=300)
    y = np.round(x + rng.normal(size=300), 1)
    found = resampled_spearman(x, y, 8, np.random.default_rng(2))
    for value, rows in zip(found, drawn_rows(300, 8, 2), strict=True):
        assert value == pytest.approx(stats.spearmanr(x[rows], y[rows]).statistic, abs=1e-12)


def test_blocks_of_draws_hold_as_many_resamples(monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 40))
    monkeypatch.setattr(significance, "BLOCK", 130)
    found = resampled_spearman(x, y, 7, np.random.default_rng(3))
    assert found.shape == (7,) and len(set(found)) == 7
    monkeypatch.setattr(significance, "BLOCK", 1)
    assert resampled_spearman(x, y, 3, np.random.default_rng(3)).shape == (3,)
    assert resampled_spearman(x, y, 0, np.random.default_rng(3)).shape == (0,)


def test_the_interval_is_that_of_the_normal_approximation():
    """Fisher's transformation, with the variance of Bonett and Wright (2000) for ranks."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=2000)
    y = x + rng.normal(size=2000)
    value = spearman(x, y)
    error = 1.96 * ((1 + value**2 / 2) / (2000 - 3)) ** 0.5
    expected = np.tanh(np.arctanh(value) + np.array([-error, error]))
    assert percentiles(resampled_spearman(x, y, 1000, rng)) == pytest.approx(expected, abs=6e-3)


def test_a_thousand_resamples_of_sick_take_seconds():
    rng = np.random.default_rng(0)
    x = rng.normal(size=9_927)
    began = time.process_time()
    resampled_spearman(x, np.round(x), 1000, rng)
    assert time.process_time() - began < 10  # sorting each of them twice takes longer


def test_a_perfect_order_has_no_width():
    x = np.array([0.1, 0.2, 0.5, 0.9])
    drawn = resampled_spearman(x, x**3, 200, np.random.default_rng(0))
    assert np.nanmin(drawn) == pytest.approx(1) and np.isnan(drawn).any()  # four equal draws have no order
    assert percentiles(drawn) == pytest.approx([1, 1])


def test_percentiles_leave_out_what_is_undefined():
    assert percentiles(np.array([np.nan, 1.0, np.nan, 1.0])) == [1.0, 1.0]
    assert percentiles(np.array([np.nan])) is None and percentiles(np.empty(0)) is None
    assert percentiles(np.arange(101.0), 0.9) == pytest.approx([5, 95])
