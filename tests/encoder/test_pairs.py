"""Pairs of sentences: vectors of the right rows, similarities and correlations against plain loops."""

from __future__ import annotations

import statistics

import encoders
import numpy as np
import pytest
import sts_folders
from hypothesis import given
from hypothesis import strategies as st

from retriever.data.sts import StsSet, StsSubset, load_sts
from retriever.encoder import Encoder
from retriever.encoder.pairs import compare, encode_sets, flat, pearson, spearman


def test_rows_name_the_vectors_of_their_sentences(tmp_path):
    encoder, sets = encoders.static(), load_sts(sts_folders.write_seven(tmp_path))
    vectors, rows = encode_sets(encoder, sets)
    for one, of_set in zip(sets, rows, strict=True):
        for subset, pairs in zip(one.subsets, of_set, strict=True):
            np.testing.assert_allclose(vectors[pairs[:, 0]], encoder.encode(subset.first), atol=1e-6)
            np.testing.assert_allclose(vectors[pairs[:, 1]], encoder.encode(subset.second), atol=1e-6)


def test_texts_are_lower_cased_before_they_are_told_apart(monkeypatch):
    monkeypatch.setattr(Encoder, "encode", lambda self, texts, *_, **__: texts)
    subset = StsSubset("test", ["A DOG", "A dog"], ["a dog", "Straße Ü"], np.array([1.0, 2.0]))
    for lower, expected in ((True, ["a dog", "straße ü"]), (False, ["A DOG", "a dog", "A dog", "Straße Ü"])):
        texts, [[rows]] = encode_sets(encoders.static(), [StsSet("STSB", "test", (subset,))], lower=lower)
        assert sorted(texts) == sorted(expected)
        sides = [subset.first, subset.second]
        assert [[texts[row] for row in side] for side in rows.T] == (
            [[text.lower() for text in side] for side in sides] if lower else sides
        )


def test_similarities():
    x = np.array([[3, 4], [0, 0], [1, 0], [2, 0]], dtype=np.float32)
    y = np.array([[4, 3], [1, 1], [-1, 0], [0, 5]], dtype=np.float32)
    np.testing.assert_allclose(compare(x, y), [24 / 25, 0, -1, 0])
    np.testing.assert_allclose(compare(x, y, "dot"), [24, 0, -1, 0])
    np.testing.assert_allclose(compare(x, y, "euclidean"), [-(2**0.5), -(2**0.5), -2, -(29**0.5)])


def test_pairs_of_equal_sentences_tie_whatever_the_arithmetic():
    vectors = np.random.default_rng(0).normal(size=(50, 33)).astype(np.float32)
    noisy = vectors * np.float32(1 + 1e-7)
    assert set(compare(vectors, vectors)) == set(compare(vectors, noisy)) == {1.0}
    assert len(set(compare(vectors, vectors[::-1]))) > 20


def plain_ranks(values):
    """The mean of the places that equal values take."""
    return [sum(v < value for v in values) + (sum(v == value for v in values) + 1) / 2 for value in values]


def plain_spearman(x, y):
    """Pearson's correlation of plain ranks; NaN where one of them is constant."""
    if len(set(x)) < 2 or len(set(y)) < 2:
        return float("nan")
    return statistics.correlation(plain_ranks(x), plain_ranks(y))


cells = st.tuples(st.sampled_from([0.0, 1.0, 2.5]), st.sampled_from([-1.0, 0.5, 3.0, 4.0]))


@given(st.lists(cells, min_size=2, max_size=9))
def test_ties_share_their_mean_rank(pairs):
    x, y = map(list, zip(*pairs, strict=True))
    found = spearman(np.array(x), np.array(y))
    expected = plain_spearman(x, y)
    assert found is None if expected != expected else found == pytest.approx(expected, abs=1e-12)


def test_perfect_and_reversed_orders():
    x = np.array([0.1, 0.2, 0.5, 0.9])
    assert spearman(x, x**3) == pytest.approx(1)
    assert spearman(x, -x) == pytest.approx(-1)
    assert pearson(x, 3 * x + 1) == pytest.approx(1)
    assert pearson(x, x**3) == pytest.approx(np.corrcoef(x, x**3)[0, 1])


def test_flat_values_have_no_correlation():
    x = np.array([1.0, 2.0, 3.0])
    for constant in (np.ones(3), np.array([1, 1 + 1e-7, 1 - 2e-7]), np.zeros(3), 1e4 + np.array([0, 1e-3, 2e-3])):
        assert flat(constant)
        assert spearman(x, constant) is spearman(constant, x) is pearson(x, constant) is None
    assert not flat(np.array([1.0, 1.0, 1.0001]))
    assert spearman(x[:1], x[:1]) is None
