"""The static encoder's module: the formula, the sparse gradient, the token weights."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from encoders import TEXTS, damage, small, static, subwords
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever.data.ragged import Ragged
from retriever.data.tokenizers import WordTokenizer
from retriever.encoder import Encoder
from retriever.encoder.static import idf
from retriever.errors import ModelError


def by_hand(encoder, text):
    """Σ f(tf) · w · E over the distinct words of one text."""
    module = encoder.stack[0]
    ids = encoder.text_tokenizer.encode([text]).ids.tolist()
    total = torch.zeros(encoder.dimension)
    for token, count in sorted(Counter(ids).items()):
        factor = 1 + math.log(count) if module.frequency == "log" else count
        total += factor * module.weights[token] * module.table[token]
    return total.detach().numpy()


@pytest.mark.parametrize("frequency", ["log", "count"])
def test_the_formula(frequency):
    encoder = damage(static(frequency=frequency, normalise=False, learn_weights=True))
    expected = np.stack([by_hand(encoder, text) for text in TEXTS])
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(1, 20), max_size=15), max_size=6))
def test_collation_is_the_plain_loop(rows):
    features = LOG.stack[0].collate(Ragged.from_rows(rows))
    counted = [sorted(Counter(row).items()) for row in rows]
    assert features["input_ids"].tolist() == [token for row in counted for token, _ in row]
    expected = [1 + math.log(count) for row in counted for _, count in row]
    np.testing.assert_allclose(features["frequencies"].numpy(), np.array(expected, np.float32))
    assert features["offsets"].tolist() == np.cumsum([0, *map(len, counted)]).tolist()


LOG = static()


def test_vectors_are_the_same_with_and_without_a_gradient():
    encoder = static()
    features = encoder.features(encoder.text_tokenizer.encode(TEXTS))
    with torch.inference_mode():
        plain = encoder(features)
    assert torch.equal(encoder(features), plain)


def test_the_gradient_is_sparse_and_right():
    encoder = static(normalise=False, learn_weights=True)
    module = encoder.stack[0]
    texts = ["dog dog quick", "dog", ""]
    features = encoder.features(encoder.text_tokenizer.encode(texts))
    direction = torch.randn(3, encoder.dimension)
    (encoder(features) * direction).sum().backward()
    found = module.table.grad
    assert found.is_sparse
    dog, quick = (encoder.text_tokenizer.encode([word]).ids[0] for word in ("dog", "quick"))
    assert sorted(found.coalesce().indices()[0].tolist()) == sorted([dog, quick])
    log2 = 1 + math.log(2)
    expected = module.weights[dog] * (log2 * direction[0] + direction[1])
    torch.testing.assert_close(found.to_dense()[dog], expected)
    slope = (module.table[dog] * (log2 * direction[0] + direction[1])).sum()
    torch.testing.assert_close(module.weights.grad[dog], slope)


def test_frozen_token_weights_get_no_gradient():
    encoder = static()
    encoder(encoder.features(encoder.text_tokenizer.encode(["dog"]))).sum().backward()
    assert encoder.stack[0].weights.grad is None


def test_a_batch_of_empty_texts_trains_nothing():
    encoder = static()
    encoder(encoder.features(encoder.text_tokenizer.encode(["", "xyzzy"]))).sum().backward()
    assert not encoder.stack[0].table.grad.to_dense().any()


def test_idf_by_hand():
    tokenizer = WordTokenizer.train(["dog fox", "dog", "cat cat", "dog"], min_documents=1)
    expected = {"dog": 3, "fox": 1, "cat": 1}
    for power in (0.0, 0.5, 1.0):
        weights = idf(tokenizer, power)
        for word, documents in expected.items():
            row = tokenizer.encode([word]).ids[0]
            assert weights[row] == pytest.approx((math.log(4 / documents) + 1) ** power)


def test_subwords_start_with_equal_weights():
    encoder = Encoder.static(subwords(), dimension=8)
    assert (encoder.stack[0].weights == 1).all()


def test_seeds():
    assert static(seed=1).fingerprint == static(seed=1).fingerprint != static(seed=2).fingerprint


def test_word_frequency_does_not_change_the_direction_of_count():
    encoder = static(frequency="count")
    one, three = encoder.encode(["quick fox", "quick fox quick fox quick fox"])
    np.testing.assert_allclose(one, three, atol=1e-6)


def test_only_word_encoders_have_a_plain_variant():
    for encoder in (small(), Encoder.static(subwords(), dimension=8), static().plain()):
        with pytest.raises(ModelError, match="Only a static encoder over words has a plain variant"):
            encoder.plain()
