"""BM25 of a whole pool: the formula in plain loops, and its limits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from retriever.errors import DataError
from retriever.training.lexical import K1, B, LexicalScores


@pytest.fixture
def texts():
    random = np.random.default_rng(0)
    words = [f"word{number}" for number in range(30)]
    return [" ".join(random.choice(words, random.integers(1, 25))) for _ in range(40)] + ["", "alone in here"]


def by_loops(tokenizer, texts, query):
    documents = [tokenizer.encode([text]).ids.tolist() for text in texts]
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        score = 0.0
        for word in tokenizer.encode([query]).ids.tolist():
            holders = sum(word in other for other in documents)
            frequency = document.count(word)
            idf = math.log(1 + (len(documents) - holders + 0.5) / (holders + 0.5))
            score += idf * frequency / (frequency + K1 * (1 - B + B * len(document) / mean)) if frequency else 0.0
        scores.append(score)
    return scores


@pytest.mark.parametrize("query", ["word3", "word3 word7 word3", "Word5, unheard-of WORD9s", "unheard", ""])
def test_scores_are_those_of_the_formula(texts, query):
    bm25 = LexicalScores(texts)
    found = bm25([query])
    assert found.shape == (1, len(texts)) and found.dtype == np.float32
    np.testing.assert_allclose(found[0], by_loops(bm25.tokenizer, texts, query), rtol=1e-5, atol=1e-6)


def test_queries_do_not_depend_on_each_other(texts):
    bm25, queries = LexicalScores(texts), ["word1 word2", "", "word9"]
    together = bm25(queries)
    for row, query in enumerate(queries):
        assert np.array_equal(together[row], bm25([query])[0])


def test_only_documents_that_share_a_word_score(texts):
    found = LexicalScores(texts)(["word4"])[0]
    assert [bool(score) for score in found] == ["word4" in text.split() for text in texts]


def test_a_pool_without_words_is_refused():
    with pytest.raises(DataError, match="No words"):
        LexicalScores(["", "?!"])
