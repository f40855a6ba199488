"""BM25 against the formula in plain loops, its limits, and a published number."""

from __future__ import annotations

import math
import random
from collections import Counter

import numpy as np
import pytest

from retriever.data.words import WordAnalyzer
from retriever.errors import DataError
from retriever.indexing import bm25
from retriever.indexing.bm25 import SPARSE, Bm25Index, _reaching


def lucene_bm25(query, texts, k1, b):
    """Scores of all texts, by Lucene's formula (Kamphuis et al. 2020) in fp64."""
    analyze = WordAnalyzer("porter")
    documents = [analyze(text) for text in texts]
    mean_length = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        frequencies = Counter(document)
        score = 0.0
        for word in analyze(query):
            holding = sum(word in other for other in documents)
            if frequencies[word]:
                idf = math.log(1 + (len(documents) - holding + 0.5) / (holding + 0.5))
                norm = k1 * (1 - b + b * len(document) / mean_length)
                score += idf * frequencies[word] / (frequencies[word] + norm)
        scores.append(score)
    return scores


@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.4), (0.0, 0.0), (1.2, 1.0)])
def test_scores_equal_the_formula(texts, k1, b):
    index = Bm25Index.build(texts, k1=k1, b=b)
    for query in ["quill", "Birches and CEDARS, unheard-of", "ridge ridge heron", texts[7]]:
        expected = lucene_bm25(query, texts, k1, b)
        rows, scores = index.search([query], len(texts)).hits(0)
        assert sorted(rows.tolist()) == [row for row, score in enumerate(expected) if score > 0]
        np.testing.assert_allclose(scores, [expected[row] for row in rows], rtol=1e-5)


@pytest.mark.parametrize("best", [1_000, 20])
def test_the_background_is_of_the_best_documents_and_tells_how_much_of_the_query_is_known(texts, monkeypatch, best):
    monkeypatch.setattr(bm25, "BACKGROUND", best)
    queries = ["quill heron", "quill unheard of", "unheard", "?!"]
    background = Bm25Index.build(texts).search(queries, 5).background
    for query, text in enumerate(queries):
        scores = sorted(lucene_bm25(text, texts, 1.5, 0.75))[-best:]
        assert background.mean[query] == pytest.approx(np.mean(scores), rel=1e-5)
        assert background.deviation[query] == pytest.approx(np.std(scores) / math.sqrt(1.5), rel=1e-5)
    holding = sum("quill" in WordAnalyzer()(text) for text in texts)
    rare, unknown = (math.log(1 + (len(texts) - n + 0.5) / (n + 0.5)) for n in (holding, 0))
    assert background.known.tolist() == pytest.approx([1, rare / (rare + 2 * unknown), 0, 0])


def test_a_smaller_k_gives_the_head_of_the_same_ranking(texts):
    index = Bm25Index.build(texts)
    everything = index.search(["ember grove"], len(texts))
    for k in (1, 3, 50):
        np.testing.assert_array_equal(index.search(["ember grove"], k).rows, everything.rows[:, :k])


def test_equal_documents_stand_by_rising_row():
    rows, _ = Bm25Index.build(["other", *["same words"] * 9]).search(["words"], 4).hits(0)
    assert rows.tolist() == [1, 2, 3, 4]


def test_only_documents_that_share_a_word_are_hits():
    index = Bm25Index.build(["red fish", "", "blue fish", "   ", "!?"])
    ranking = index.search(["blue", "green", "", "?!", "fish"], 10)
    assert ranking.rows.shape == (5, 5)
    assert [ranking.hits(query)[0].tolist() for query in range(5)] == [[2], [], [], [], [0, 2]]
    assert (ranking.scores[1] == -np.inf).all()


def test_texts_without_any_word_are_an_index_without_hits():
    index = Bm25Index.build(["", "..."])
    assert len(index) == 2
    assert (index.search(["word"], 2).rows == -1).all()


def test_one_document_is_enough():
    assert Bm25Index.build(["lonely text"]).search(["text"], 5).rows.tolist() == [[0]]


def test_a_query_of_ten_thousand_words_counts_repeated_words(texts):
    rng = random.Random(1)
    query = rng.choices(["amber", "cedar", "ridge", "unknown"], k=10_000)
    rows, scores = Bm25Index.build(texts).search([" ".join(query)], len(texts)).hits(0)
    single = {word: lucene_bm25(word, texts, 1.5, 0.75) for word in set(query)}
    expected = [sum(count * single[word][row] for word, count in Counter(query).items()) for row in rows]
    np.testing.assert_allclose(scores, expected, rtol=1e-3)


def test_stemming_can_be_chosen(texts):
    assert Bm25Index.build(["walking"]).search(["walked"], 1).rows.tolist() == [[0]]
    assert Bm25Index.build(["walking"], stemmer="none").search(["walked"], 1).rows.tolist() == [[-1]]


@pytest.mark.parametrize("options", [{"k1": -0.1}, {"b": 1.1}, {"b": -0.1}, {"k1": math.nan}, {"k1": math.inf}])
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(DataError, match="BM25 needs k1 of at least 0 and b between 0 and 1"):
        Bm25Index.build(["text"], **options)


def test_no_texts_are_refused():
    with pytest.raises(DataError, match="no texts to index"):
        Bm25Index.build([])


def test_nothing_is_printed(texts, capfd):
    Bm25Index.build(texts).search(["ember"], 3)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("order", ["random", "rising", "ends", "equal"])
def test_the_best_scores_are_found_whatever_a_sample_of_them_says(order):
    drawn = np.random.default_rng(0).random(5000).astype(np.float32).round(2) + 1
    if order == "rising":
        drawn.sort()
    elif order == "ends":
        drawn[:: SPARSE // 2] += 1  # the sample is better than the rest, and fewer than are wanted
    elif order == "equal":
        drawn[:] = 1
    rows = np.arange(0, 10_000, 2)
    scores = np.zeros(10_000, np.float32)
    scores[rows] = drawn
    for count in (1, 16, 100, 1000, 4999, 5000):
        bar = sorted(drawn.tolist(), reverse=True)[count - 1]
        expected = [row for row in rows.tolist() if scores[row] >= bar]
        assert _reaching(scores, count).tolist() == expected
