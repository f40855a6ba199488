"""Vectors as they are compared, and the scores that queries give a collection."""

from __future__ import annotations

import numpy as np
import pytest

from retriever.errors import DataError
from retriever.indexing.vectors import Spread, spectrum, unit


@pytest.fixture
def drawn():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(300, 16)) * np.linspace(3, 0.1, 16) + rng.normal(size=16)).astype(np.float32)


def test_cosine_vectors_have_length_one_and_keep_their_direction(drawn):
    scaled = unit(drawn, "cosine")
    np.testing.assert_allclose(np.linalg.norm(scaled, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(scaled * np.linalg.norm(drawn, axis=1, keepdims=True), drawn, rtol=1e-5, atol=1e-6)
    assert scaled.dtype == np.float32 and scaled.flags.c_contiguous


def test_vectors_for_dot_products_are_as_they_were(drawn):
    np.testing.assert_array_equal(unit(drawn.astype(np.float64), "dot"), drawn)


def test_a_vector_of_zeros_stays_one():
    np.testing.assert_array_equal(unit(np.zeros((2, 4), np.float32), "cosine"), np.zeros((2, 4)))


def test_lengths_neither_overflow_nor_vanish():
    for size in (1e30, 1e-30):
        np.testing.assert_allclose(unit(np.full((1, 4), size, np.float32), "cosine"), [[0.5] * 4], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_a_vector_that_is_not_finite_is_named(drawn, bad, similarity):
    drawn[17, 3] = bad
    with pytest.raises(DataError, match="Vector 17 holds NaN or infinity"):
        unit(drawn, similarity)


@pytest.mark.parametrize("documents", [300, 9, 1])
def test_the_background_is_that_of_all_scores(drawn, documents):
    queries, held = drawn[:5], drawn[-documents:]
    scores = queries @ held.T
    found = Spread.of(held).background(queries, "dot")
    np.testing.assert_allclose(found.mean, scores.mean(axis=1), rtol=1e-4)
    np.testing.assert_allclose(found.deviation, scores.std(axis=1), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found.known, 1)


def test_without_documents_all_scores_are_zero(drawn):
    found = Spread.of(drawn[:0]).background(drawn[:2], "cosine")
    assert found.mean.tolist() == found.deviation.tolist() == [0, 0]


def test_only_cosines_have_a_least(drawn):
    spread = Spread.of(drawn)
    assert spread.background(drawn[:1], "cosine").least == -1
    assert spread.background(drawn[:1], "dot").least == -np.inf


def test_the_spectrum_is_that_of_the_principal_components(drawn):
    found = spectrum(drawn)
    singular = np.linalg.svd(drawn.astype(np.float64) - drawn.mean(axis=0), compute_uv=False)
    np.testing.assert_allclose(found, singular**2 / len(drawn), rtol=1e-4)
    turned = drawn @ np.linalg.qr(np.random.default_rng(1).normal(size=(16, 16)))[0].astype(np.float32)
    np.testing.assert_allclose(spectrum(turned), found, rtol=1e-3)
