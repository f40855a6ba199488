"""Rankings of labels: filters before the cut, BM25 without stop words, blocks of points."""

from __future__ import annotations

import encoders
import numpy as np
import pytest
import xmc_folders
from hypothesis import given
from hypothesis import strategies as st

from retriever.data.xmc_points import XmcLabels, build_targets
from retriever.errors import DataError
from retriever.eval import xmc_ranking
from retriever.eval.xmc_ranking import STOP_WORDS, drop_pairs, rank_labels
from retriever.indexing.ranking import Background, Ranking

NO_PAIRS = np.empty((0, 2), np.int64)
DATA = xmc_folders.dataset()
TEXTS = DATA.test.texts


@given(
    st.lists(st.permutations(range(6)), min_size=1, max_size=4),
    st.sets(st.tuples(st.integers(0, 3), st.integers(0, 5))),
    st.integers(1, 6),
    st.integers(0, 6),
)
def test_filtered_labels_leave_before_the_cut(orders, pairs, depth, hits):
    rows = np.array([[label if place < hits else -1 for place, label in enumerate(order)] for order in orders])
    scores = np.where(rows >= 0, -np.arange(6, dtype=np.float32), np.float32(-np.inf))
    pairs = [pair for pair in pairs if pair[0] < len(orders)]
    forbidden = build_targets([p for p, _ in pairs], [x for _, x in pairs], [1.0] * len(pairs), (len(orders), 6))
    background = Background(*np.ones((3, len(orders))))
    found = drop_pairs(Ranking(rows, scores, background), forbidden, depth)
    assert found.rows.shape == found.scores.shape == (len(orders), min(depth, 6)) and found.background is background
    for point, row in enumerate(rows.tolist()):
        kept = [(label, -float(place)) for place, label in enumerate(row) if label >= 0 and (point, label) not in pairs]
        real = found.rows[point] >= 0
        found_hits = list(zip(found.rows[point][real].tolist(), found.scores[point][real].tolist(), strict=True))
        assert found_hits == kept[:depth]
        assert np.isneginf(found.scores[point][~real]).all()


def test_no_filtered_label_is_missed_by_the_depth():
    encoder = encoders.static()
    full = rank_labels(encoder, DATA.labels, TEXTS, NO_PAIRS, modes=["dense", "bm25", "hybrid"])
    pairs = np.array([[0, full["dense"][0, 0]], [0, full["dense"][0, 2]], [3, full["dense"][3, 1]]])
    found = rank_labels(encoder, DATA.labels, TEXTS, pairs, modes=["dense", "bm25"], depth=2)
    for mode, rows in found.items():
        for point in range(len(TEXTS)):
            dropped = pairs[pairs[:, 0] == point, 1]
            expected = [label for label in full[mode][point].tolist() if label not in dropped][:2]
            assert rows[point].tolist() == expected + [-1] * (2 - len(expected))


def test_blocks_do_not_change_rankings(monkeypatch):
    encoder, modes = encoders.static(), ["dense", "bm25", "hybrid"]
    whole = rank_labels(encoder, DATA.labels, TEXTS, DATA.test.filtered, modes=modes)
    monkeypatch.setattr(xmc_ranking, "BLOCK", 1)
    pieces = rank_labels(encoder, DATA.labels, TEXTS, DATA.test.filtered, modes=modes)
    assert {mode: rows.tolist() for mode, rows in whole.items()} == {m: rows.tolist() for m, rows in pieces.items()}
    assert list(whole) == modes


def test_stop_words_find_no_label():
    assert len(STOP_WORDS) == 33
    labels = XmcLabels(["a", "b", "c"], ["works with the audio", "to be or not to be", "encoder"])
    texts = ["with the encoder", "Audio works", "to be, or not!"]
    rows = rank_labels(None, labels, texts, NO_PAIRS, modes=["bm25"])["bm25"]
    assert rows.tolist() == [[2, -1, -1], [0, -1, -1], [-1, -1, -1]]


def test_modes_need_what_they_need():
    with pytest.raises(
        DataError, match=r"The modes \['sparse'\] cannot be evaluated: choose from dense, memory, bm25, hybrid"
    ):
        rank_labels(None, DATA.labels, TEXTS, NO_PAIRS, modes=["sparse"])
    with pytest.raises(DataError, match="cannot be evaluated"):
        rank_labels(None, DATA.labels, TEXTS, NO_PAIRS, modes=[])
    for mode in ("dense", "hybrid"):
        with pytest.raises(DataError, match="need an encoder"):
            rank_labels(None, DATA.labels, TEXTS, NO_PAIRS, modes=[mode])
