"""BM25 over a changing collection: after any changes it is the index that is built anew, and that of bm25s."""

from __future__ import annotations

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever.data.words import WordAnalyzer
from retriever.errors import DataError
from retriever.indexing import bm25
from retriever.indexing.bm25 import Bm25Index
from retriever.indexing.postings import Postings

QUERIES = ["quill heron", "quill quill unheard of", "unheard", "?!", "", "birch cedar ember grove heron ridge"]
LETTERS = "abcdefgh"
texts_of_letters = st.lists(st.lists(st.sampled_from(LETTERS), max_size=8).map(" ".join), max_size=6)
ANALYZER = WordAnalyzer()


def live(groups, alive=None, k1=1.5, b=0.75):
    """An index of one postings for each group of texts."""
    parts = [Postings.build(map(ANALYZER, group)) for group in groups]
    alive = np.ones(sum(map(len, parts)), bool) if alive is None else np.array(alive, bool)
    return Bm25Index(parts, alive, ANALYZER, k1, b)


def background(ranking):
    return np.stack([ranking.background.mean, ranking.background.deviation, ranking.background.known])


@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.4), (0.0, 0.0), (1.2, 1.0)])
def test_scores_are_those_of_bm25s(texts, k1, b):
    peer = bm25s.BM25(k1=k1, b=b, method="lucene")
    peer.index(list(map(ANALYZER, texts)), show_progress=False)
    found = live([texts[:30], texts[30:]], k1=k1, b=b).search(QUERIES, len(texts))
    for query, text in enumerate(QUERIES):
        words = ANALYZER(text)
        expected = peer.get_scores(words) if words else np.zeros(len(texts))
        rows, scores = found.hits(query)
        assert sorted(rows) == np.flatnonzero(expected).tolist()
        np.testing.assert_allclose(scores, expected[rows], rtol=1e-5)


@given(
    groups=st.lists(texts_of_letters, max_size=4),
    queries=st.lists(st.lists(st.sampled_from(LETTERS + "z"), max_size=5).map(" ".join), min_size=1, max_size=3),
    k=st.integers(1, 12),
    share=st.sampled_from([0.3, 0.8, 1.0]),
    common=st.sampled_from([0, 2, 1_000]),
    random=st.randoms(use_true_random=False),
)
@settings(max_examples=300, deadline=None)
def test_after_any_change_it_is_the_index_built_anew_to_the_last_bit(groups, queries, k, share, common, random):
    everything = [text for group in groups for text in group]
    alive = np.array([random.random() < share for _ in everything], bool)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bm25, "COMMON", common)
        patch.setattr(bm25, "BACKGROUND", 5)
        changed = live(groups, alive).search(queries, k)
        fresh = live([[text for text, stays in zip(everything, alive, strict=True) if stays]]).search(queries, k)
    keys = np.append(np.flatnonzero(alive), -1)  # row of the fresh index → row of the changed one
    np.testing.assert_array_equal(changed.rows, keys[fresh.rows])
    np.testing.assert_array_equal(changed.scores, fresh.scores)
    np.testing.assert_array_equal(background(changed), background(fresh))


def test_the_deleted_are_neither_found_nor_counted():
    groups = [["red fish", "blue fish"], ["red bird", "green bird"]]
    index = live(groups, [True, False, True, True])
    assert len(index) == 3
    ranking = index.search(["blue fish", "red"], 10)
    assert ranking.rows.tolist() == [[0, -1, -1], [0, 2, -1]]
    assert ranking.background.known[0] < 0.5  # nobody holds "blue" any more


def test_equal_documents_stand_by_rising_row_across_postings():
    rows, _ = live([["same words"] * 3, ["other"], ["same words"] * 3]).search(["words"], 5).hits(0)
    assert rows.tolist() == [0, 1, 2, 4, 5]


def test_no_document_at_all():
    for index in (live([]), live([[]]), live([["word"]], [False])):
        assert len(index) == 0
        ranking = index.search(["word", ""], 3)
        assert ranking.rows.shape == (2, 0)
        assert background(ranking).tolist() == [[0, 0]] * 3


def test_texts_without_words_are_never_hits():
    assert (live([["", "..."], ["!"]]).search(["word", "?!"], 3).rows == -1).all()


def test_k_below_one_is_refused():
    with pytest.raises(DataError, match="k is 0"):
        live([["word"]]).search(["word"], 0)


def test_a_column_is_made_once_and_gives_the_same_scores(texts, monkeypatch):
    rare = live([texts])
    monkeypatch.setattr(bm25, "COMMON", 0)
    expected = rare.search(QUERIES, 50)
    monkeypatch.setattr(bm25, "COMMON", 1_000)
    common = live([texts[:40], texts[40:]])
    for _ in range(2):
        np.testing.assert_array_equal(common.search(QUERIES, 50).scores, expected.scores)
    assert common._column.cache_info().hits > 0
