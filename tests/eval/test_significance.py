"""Bootstrap intervals and randomisation tests against plain loops and textbook values."""

from __future__ import annotations

import itertools
import random
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever.errors import DataError
from retriever.eval import significance
from retriever.eval.significance import bootstrap_interval, bootstrap_intervals, paired_randomisation


def exact_p(a, b):
    """Every sign pattern of the differences, one by one."""
    differences = [x - y for x, y in zip(a, b, strict=True)]
    bar = abs(sum(differences)) - 1e-9
    patterns = list(itertools.product([1, -1], repeat=len(differences)))
    extreme = sum(abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= bar for signs in patterns)
    return extreme / len(patterns)


def plain_bootstrap(values, resamples, seed):
    """The percentile bootstrap with the standard library's generator."""
    rng = random.Random(seed)
    means = sorted(statistics.fmean(rng.choices(values, k=len(values))) for _ in range(resamples))
    return means[int(0.025 * resamples)], means[int(0.975 * resamples)]


def test_interval_agrees_with_a_plain_bootstrap():
    values = np.random.default_rng(3).beta(0.5, 0.5, size=80).tolist()
    low, high = bootstrap_interval(values)
    plain_low, plain_high = plain_bootstrap(values, 4000, seed=1)
    assert low == pytest.approx(plain_low, abs=0.01)
    assert high == pytest.approx(plain_high, abs=0.01)


def test_interval_agrees_with_the_normal_approximation():
    values = np.random.default_rng(0).normal(0.4, 0.2, size=2000)
    error = 1.96 * values.std() / 2000**0.5
    assert bootstrap_interval(values) == pytest.approx((values.mean() - error, values.mean() + error), abs=1e-3)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_interval_lies_within_the_values_and_depends_on_the_seed_only(values):
    low, high = bootstrap_interval(values, resamples=200, seed=5)
    assert min(values) - 1e-12 <= low <= high <= max(values) + 1e-12
    assert (low, high) == bootstrap_interval(values, resamples=200, seed=5)


def test_higher_confidence_is_wider_and_equal_scores_have_no_width():
    values = np.random.default_rng(1).random(50)
    low, high = bootstrap_interval(values, confidence=0.99)
    assert low < bootstrap_interval(values)[0] < bootstrap_interval(values)[1] < high
    assert bootstrap_interval([0.25] * 7) == (0.25, 0.25)


def test_columns_share_their_draws():
    values = np.random.default_rng(2).random((40, 2))
    together = bootstrap_intervals(np.column_stack([values, values[:, 0] + 1]))
    assert together.shape == (3, 2)
    np.testing.assert_allclose(together[2], together[0] + 1)
    np.testing.assert_allclose(together[1], bootstrap_interval(values[:, 1]))


def test_ratios_of_means_are_resampled_as_ratios():
    rng = np.random.default_rng(4)
    above, below = rng.random((60, 2)) * [1.0, 0.0], rng.random((60, 2)) * [1.0, 0.0]
    found = bootstrap_intervals(above, below, resamples=500, seed=3)
    rng = random.Random(1)
    ratios = []
    for _ in range(4000):
        rows = rng.choices(range(60), k=60)
        ratios.append(above[rows, 0].sum() / below[rows, 0].sum())
    assert found[1].tolist() == [0, 0], "a mean over nothing counts as 0"
    assert found[0] == pytest.approx(np.quantile(ratios, [0.025, 0.975]), rel=0.1)
    means = bootstrap_intervals(above, np.ones((60, 2)), resamples=500, seed=3)
    np.testing.assert_allclose(means, bootstrap_intervals(above, resamples=500, seed=3))


def test_small_blocks_hold_as_many_resamples(monkeypatch):
    monkeypatch.setattr(significance, "BLOCK", 64)
    assert list(significance._blocks(10, 20)) == [3, 3, 3, 1]
    assert list(significance._blocks(2, 1000)) == [1, 1]
    values = np.random.default_rng(1).random(20)
    assert bootstrap_interval(values) == pytest.approx(plain_bootstrap(values.tolist(), 4000, seed=2), abs=0.02)


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.sampled_from([0.0, 0.1, 0.7])), min_size=1, max_size=9)
)
def test_p_value_agrees_with_all_sign_patterns(pairs):
    a, b = zip(*pairs, strict=True)
    p = paired_randomisation(a, b, resamples=20_000)
    assert p == pytest.approx(exact_p(a, b), abs=0.015)
    assert p == paired_randomisation(b, a, resamples=20_000)


def test_p_value_of_known_cases():
    same = [0.2, 0.4, 0.9]
    assert paired_randomisation(same, same) == 1.0
    better = np.full(40, 0.1)
    assert paired_randomisation(better, np.zeros(40), resamples=999) == 1 / 1000
    assert paired_randomisation([1.0, 0.0], [0.0, 1.0]) == 1.0


def test_p_values_are_uniform_where_nothing_differs():
    rng = np.random.default_rng(0)
    p_values = [paired_randomisation(rng.random(30), rng.random(30), resamples=500) for _ in range(400)]
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.03)
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.06)


def test_wrong_inputs_are_refused():
    with pytest.raises(DataError, match="no queries"):
        bootstrap_interval([])
    with pytest.raises(DataError, match="NaN"):
        bootstrap_interval([0.1, float("nan")])
    with pytest.raises(DataError, match="not 2 and 1"):
        paired_randomisation([0.1, 0.2], [0.1])
    with pytest.raises(ValueError, match="dimension"):
        bootstrap_interval([[0.1]])
    with pytest.raises(ValueError, match="between 0 and 1, not 95"):
        bootstrap_interval([0.1], confidence=95)
    with pytest.raises(ValueError, match="resamples"):
        bootstrap_interval([0.1], resamples=0)
