"""BM25 split between stored and asked weights: the sum of their products is the score of a local index."""

from __future__ import annotations

import numpy as np
import pytest

from retriever.data.words import WordAnalyzer
from retriever.errors import IndexFolderError
from retriever.indexing.bm25 import Bm25Index
from retriever.indexing.milvus_words import WordCounts

QUERIES = ["heron ember", "amber amber quill", "nothing", "ridge zzz"]


def counted(texts):
    counts = WordCounts(WordAnalyzer())
    return counts, counts.add(texts)


@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.4), (0.0, 0.0)])
def test_products_are_the_scores_of_bm25(texts, k1, b):
    counts, length = counted(texts)
    assert length == sum(len(text.split()) for text in texts)
    stored = [counts.of_document(text, k1, b, length / len(texts)) for text in texts]
    local = Bm25Index.build(texts, k1=k1, b=b).search(QUERIES, len(texts))
    for number, query in enumerate(QUERIES):
        weights, known = counts.of_query(query, len(texts))
        scores = [sum(weights.get(key, 0) * weight for key, weight in document.items()) for document in stored]
        rows, wanted = local.hits(number)
        np.testing.assert_allclose(np.array(scores)[rows], wanted, rtol=1e-5)
        assert sum(score > 0 for score in scores) == len(rows)
        assert known == pytest.approx(local.background.known[number])


def test_removing_what_was_added_counts_as_if_it_had_not_been(texts, tmp_path):
    counts, _ = counted(texts)
    counts.add(["zebra heron", "zebra"])
    assert counts.of_query("zebra", 122)[1] == 1
    counts.remove(["zebra heron", "zebra"])
    counts.save(tmp_path / "words.npy")
    counted(texts)[0].save(tmp_path / "wanted.npy")
    assert (tmp_path / "words.npy").read_bytes() == (tmp_path / "wanted.npy").read_bytes()
    again = WordCounts.open(tmp_path / "words.npy", WordAnalyzer())
    for query in (*QUERIES, "zebra"):
        assert again.of_query(query, 120) == counts.of_query(query, 120)
    assert again.of_query("zebra", 120) == ({}, 0.0)


def test_texts_and_queries_without_words():
    counts, length = counted(["", "…"])
    assert length == 0
    assert counts.of_document("", 1.5, 0.75, 1.0) == {0: 1.0}
    assert counts.of_query("…", 2) == ({}, 0.0)


def test_a_damaged_table_is_named(tmp_path):
    (tmp_path / "words.npy").write_bytes(b"words")
    with pytest.raises(IndexFolderError, match=r"words\.npy is damaged"):
        WordCounts.open(tmp_path / "words.npy", WordAnalyzer())
