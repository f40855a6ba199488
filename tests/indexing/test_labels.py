"""Labels for texts: exact search over labels that have a text."""

from __future__ import annotations

import encoders
import numpy as np
import pytest
import torch

from retriever.data.tokenizers import WordTokenizer
from retriever.data.xmc_points import XmcLabels
from retriever.encoder import Encoder
from retriever.encoder.own_tokens import OwnTokens, add_tokens
from retriever.errors import DataError
from retriever.indexing import labels as module
from retriever.indexing.labels import LabelIndex

TEXTS = ["lazy dog", "", "similar vectors", "  ", "quick fox", "documents and vectors", "lazy dog"]
LABELS = XmcLabels([f"l{row}" for row in range(len(TEXTS))], TEXTS)
QUERIES = ["a quick brown fox", "vectors of documents", "the dog is lazy", "zzz"]


def plain_ranking(encoder, query):
    """Labels with text by falling cosine, ties by rising row."""
    with_text = [row for row, text in enumerate(TEXTS) if text.strip()]
    vector = encoder.encode([query], "query")[0]
    scores = [(float(vector @ encoder.encode([TEXTS[row]], "document")[0]), row) for row in with_text]
    return sorted(((score, row) for score, row in scores), key=lambda pair: (-round(pair[0], 5), pair[1]))


@pytest.mark.parametrize("make", [encoders.static, encoders.small])
def test_labels_stand_by_their_similarity(make, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 2)
    encoder = make()
    queries = QUERIES[:3]
    index = LabelIndex.build(encoder, LABELS)
    found = index.predict(queries, k=10)
    for query, tags in zip(queries, found, strict=True):
        expected = plain_ranking(encoder, query)
        assert [tag.label for tag in tags] == [f"l{row}" for _, row in expected]
        assert [tag.text for tag in tags] == [TEXTS[row] for _, row in expected]
        assert [tag.score for tag in tags] == pytest.approx([score for score, _ in expected], abs=1e-5)
    assert [[tag.label for tag in tags] for tags in index.predict(queries, k=2)] == [
        [tag.label for tag in tags[:2]] for tags in found
    ]


def test_rows_are_those_of_all_labels_and_a_text_without_a_known_word_has_none():
    encoder = encoders.static()
    ranking = LabelIndex.build(encoder, LABELS).search(encoder.encode(QUERIES, "query"), 5)
    assert ranking.rows.shape == (4, 5)
    assert set(ranking.rows[:3].ravel().tolist()) == {0, 2, 4, 5, 6}
    assert (ranking.rows[3] == -1).all() and np.isneginf(ranking.scores[3]).all()
    assert LabelIndex.build(encoder, LABELS).predict(["zzz"]) == [[]]
    assert LabelIndex.build(encoder, LABELS).predict([]) == []


def test_another_similarity_orders_otherwise():
    encoder = encoders.static(normalise=False)
    vectors = encoder.encode(TEXTS, "document")
    query = encoder.encode(["quick vectors"], "query")
    with_text = [0, 2, 4, 5, 6]
    for similarity in ("dot", "cosine"):
        scores = vectors[with_text] @ query[0]
        if similarity == "cosine":
            scores = scores / np.linalg.norm(vectors[with_text], axis=1)
        expected = [with_text[place] for place in np.argsort(-scores.round(4), kind="stable")]
        assert LabelIndex.build(encoder, LABELS, similarity=similarity).search(query, 5).rows.tolist() == [expected]


def test_progress_counts_the_labels_that_are_encoded():
    seen = []
    LabelIndex.build(encoders.static(), LABELS, progress=seen.append)
    assert sum(seen) == 5


def test_mistakes_are_sentences():
    with pytest.raises(DataError, match="None of the 2 labels has a text"):
        LabelIndex.build(encoders.static(), XmcLabels(["a", "b"], ["", " "]))
    with pytest.raises(DataError, match="k is 0"):
        LabelIndex.build(encoders.static(), LABELS).predict(["dog"], k=0)


def test_labels_are_found_by_the_tokens_they_have():
    encoder = Encoder.static(WordTokenizer.train(["red wine", "green tea"], min_documents=1), dimension=8)
    labels = XmcLabels(["a", "b", "c", "d"], ["red wine", "green tea", "", ""])
    first = add_tokens(encoder, 1)
    query = encoder.encode(["green tea"], "query")
    with torch.no_grad():
        encoder.stack[0].table[first] = torch.from_numpy(3 * query[0])
    encoder.own_tokens = OwnTokens.of(["a", "c"], ["red wine", ""], np.array([first, first]))
    index = LabelIndex.build(encoder, labels)
    assert index.search(query, 4).rows[0].tolist() == [1, 2, 0]  # c by its token alone, a by text and token, d never
    assert [tag.label for tag in index.predict(["green tea"], 2)[0]] == ["b", "c"]
