"""Metrics of extreme classification against plain loops written from the formulas."""

from __future__ import annotations

from math import log, log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rankings import ranked
from scipy.sparse import csr_matrix

from retriever.data.xmc_metrics import (
    Ratio,
    all_metrics,
    inverse_propensity,
    ndcg,
    precision,
    propensity_constants,
    ps_ndcg,
    ps_precision,
    recall,
)

LABELS = 7


def plain_metrics(ranked, truth, w, k):
    """P, R, nDCG of one point, and numerator and denominator of PSP and PSnDCG."""
    gain = dcg = ps_gain = ps_dcg = 0.0
    for place, label in enumerate(ranked[:k], 1):
        if label in truth:
            gain += 1
            dcg += 1 / log2(place + 1)
            ps_gain += w[label]
            ps_dcg += w[label] / log2(place + 1)
    ideal = sum(1 / log2(place + 1) for place in range(1, min(k, len(truth)) + 1)) or 1
    best = sorted((w[label] for label in truth), reverse=True)[:k]
    best_dcg = sum(weight / log2(place + 1) for place, weight in enumerate(best, 1))
    return {
        "p": gain / k,
        "recall": gain / (len(truth) or 1),
        "ndcg": dcg / ideal,
        "psp": (ps_gain / k, sum(best) / k),
        "psndcg": (ps_dcg / ideal, best_dcg / ideal),
    }


point = st.tuples(
    st.lists(
        st.sampled_from([-np.inf, -2.0, -0.5, 0.0, 0.5, 3.0]), min_size=LABELS, max_size=LABELS
    ),  # ties, negatives
    st.sets(st.integers(0, LABELS - 1)),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(point, min_size=1, max_size=6),
    st.integers(1, 9),
    st.lists(st.integers(0, 9), min_size=LABELS, max_size=LABELS),
)
def test_metrics_are_those_of_plain_loops(points, k, frequency):
    scores = np.array([values for values, _ in points], np.float32)
    rows = ranked(scores, LABELS).rows  # −∞ is no prediction, ties by rising label
    truths = [labels for _, labels in points]
    truth = csr_matrix([[float(label in labels) for label in range(LABELS)] for labels in truths])
    w = inverse_propensity(np.array(frequency), 20, 0.55, 1.5)
    expected = [plain_metrics(row, labels, w, k) for row, labels in zip(rows.tolist(), truths, strict=True)]
    for name, found in (("p", precision), ("recall", recall), ("ndcg", ndcg)):
        assert found(rows, truth, k) == pytest.approx([one[name] for one in expected], abs=1e-12)
    for name, found in (("psp", ps_precision), ("psndcg", ps_ndcg)):
        ratio = found(rows, truth, w, k)
        assert ratio.numerators == pytest.approx([one[name][0] for one in expected], abs=1e-12)
        assert ratio.denominators == pytest.approx([one[name][1] for one in expected], abs=1e-12)
        above, below = (sum(one[name][part] for one in expected) for part in (0, 1))
        assert ratio.value == pytest.approx(above / below if below else 0, abs=1e-12)
        assert ratio.value <= 1 + 1e-12


def test_metrics_of_a_large_random_ranking():
    rng = np.random.default_rng(0)
    truths = [set(rng.choice(500, size=rng.integers(0, 9), replace=False).tolist()) for _ in range(200)]
    truth = csr_matrix([[float(label in labels) for label in range(500)] for labels in truths])
    rows = np.argsort(rng.normal(size=(200, 500)) - 2 * truth.toarray(), axis=1)[:, :100]
    rows[::7, 60:] = -1
    w = inverse_propensity(rng.integers(0, 40, size=500), 2000, 0.6, 2.6)
    found = all_metrics(rows, truth, w)
    assert list(found) == [
        *(f"{name}@{k}" for name in ("p", "psp", "ndcg", "psndcg") for k in (1, 3, 5)),
        *("recall@10", "recall@100"),
    ]
    for metric, ratio in found.items():
        name, k = metric.split("@")
        plain = [plain_metrics(row, labels, w, int(k))[name] for row, labels in zip(rows.tolist(), truths, strict=True)]
        above, below = map(sum, zip(*plain, strict=True)) if name.startswith("ps") else (sum(plain), len(plain))
        assert ratio.value == pytest.approx(above / below, abs=1e-12)


def test_a_perfect_ranking_of_enough_labels_has_every_metric_at_one():
    truth = csr_matrix(np.ones((3, 6)))
    w = inverse_propensity(np.array([9, 7, 5, 3, 1, 0]), 30, 0.55, 1.5)
    rows = np.tile(np.argsort(-w), (3, 1))
    assert {name: ratio.value for name, ratio in all_metrics(rows, truth, w).items()} == pytest.approx(
        dict.fromkeys(all_metrics(rows, truth, w), 1.0)
    )


def test_ratio_of_means_is_no_mean_of_ratios():
    truth = csr_matrix([[1.0, 0.0], [0.0, 1.0]])
    ratio = ps_precision(np.array([[0], [0]]), truth, np.array([1.0, 3.0]), 1)
    assert ratio.numerators.tolist() == [1, 0] and ratio.denominators.tolist() == [1, 3]
    assert ratio.value == 0.25
    assert Ratio(np.zeros(2), np.zeros(2)).value == 0


def test_inverse_propensity_is_that_of_the_formula():
    frequency = [0, 1, 5, 1000]
    for a, b in ((0.5, 0.4), (0.6, 2.6), (0.55, 1.5)):
        c = (log(5000) - 1) * (b + 1) ** a
        expected = [1 + c * (n + b) ** (-a) for n in frequency]
        assert inverse_propensity(np.array(frequency), 5000, a, b) == pytest.approx(expected)
    assert inverse_propensity(np.array([1]), 5000, 0.6, 2.6) == pytest.approx([log(5000)])


@pytest.mark.parametrize(
    ("name", "constants"),
    [
        ("LF-AmazonTitles-131K", (0.6, 2.6)),
        ("Amazon-670K", (0.6, 2.6)),
        ("AmazonCat-13K", (0.55, 1.5)),
        ("LF-Wikipedia-500K", (0.5, 0.4)),
        ("WikiLSHTC-325K", (0.5, 0.4)),
        ("LF-WikiSeeAlso-320K", (0.55, 1.5)),
        ("EURLex-4K", (0.55, 1.5)),
        ("debtags", (0.55, 1.5)),
    ],
)
def test_constants_go_by_the_family(name, constants):
    assert propensity_constants(name) == propensity_constants(name.lower()) == constants
