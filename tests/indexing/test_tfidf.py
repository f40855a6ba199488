"""tf-idf against plain loops."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from retriever.data.words import WordAnalyzer
from retriever.errors import DataError
from retriever.indexing import tfidf
from retriever.indexing.tfidf import TfidfIndex


def tfidf_vectors(texts, corpus):
    """Word → weight of each text, of length 1, in fp64; words outside the corpus have no weight."""
    analyze = WordAnalyzer("porter")
    holding = Counter(word for text in corpus for word in set(analyze(text)))
    vectors = []
    for text in texts:
        vector = {
            word: (1 + math.log(tf)) * (1 + math.log((1 + len(corpus)) / (1 + holding[word])))
            for word, tf in Counter(analyze(text)).items()
            if holding[word]
        }
        length = math.sqrt(sum(weight**2 for weight in vector.values()))
        vectors.append({word: weight / length for word, weight in vector.items()})
    return vectors


def test_scores_equal_the_formula(texts, monkeypatch):
    monkeypatch.setattr(tfidf, "CHUNK", 2)  # three chunks
    queries = ["quill", "cedar Cedars unheard", "nothing known", texts[5], "heron ridge"]
    documents = tfidf_vectors(texts, texts)
    ranking = TfidfIndex.build(texts).search(queries, len(texts))
    for number, query in enumerate(tfidf_vectors(queries, texts)):
        expected = [sum(weight * vector.get(word, 0) for word, weight in query.items()) for vector in documents]
        rows, scores = ranking.hits(number)
        assert sorted(rows.tolist()) == [row for row, score in enumerate(expected) if score > 0]
        np.testing.assert_allclose(scores, [expected[row] for row in rows], rtol=1e-5)
    assert ranking.hits(3)[0][0] == 5
    assert ranking.hits(3)[1][0] == pytest.approx(1)


def test_a_query_without_known_words_has_no_hits():
    ranking = TfidfIndex.build(["red fish", "", "fish"]).search(["green", "", "fishes"], 10)
    assert ranking.rows.tolist() == [[-1, -1, -1], [-1, -1, -1], [2, 0, -1]]


def test_equal_documents_stand_by_rising_row():
    assert TfidfIndex.build(["x", *["same words"] * 9]).search(["words"], 4).rows.tolist() == [[1, 2, 3, 4]]


def test_texts_without_words_and_bad_k_are_refused(texts):
    with pytest.raises(DataError, match="no word in the texts"):
        TfidfIndex.build(["", "?"])
    with pytest.raises(DataError, match="k is 0"):
        TfidfIndex.build(texts).search(["ember"], 0)
