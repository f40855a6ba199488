"""Crops, windows and deletions: contiguous, in order, of the promised lengths and frequencies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever.data.ragged import Ragged
from retriever.data.tokens import TokenStore
from retriever.training.view_settings import Crop, Views
from retriever.training.views import LEAD, crop, delete, pairs, prepend, window


def rows_of(lengths):
    """Rows whose tokens are 1000 · row + position, so that every token tells where it came from."""
    return Ragged.from_rows([np.arange(n, dtype=np.int32) + 1000 * row for row, n in enumerate(lengths)])


def store_of(lengths):
    ragged = rows_of(lengths)
    count = np.arange(len(ragged) + 1)
    return TokenStore(ragged.ids, ragged.offsets, count, ragged.offsets, np.zeros(len(ragged), np.uint8), "test")


def is_piece(piece, row, length):
    positions = piece - 1000 * row
    return len(piece) >= 1 and positions[0] >= 0 and positions[-1] < length and (np.diff(positions) == 1).all()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=20), st.integers(0, 99), st.booleans())
def test_a_crop_is_a_contiguous_piece_of_its_own_row(lengths, seed, by_ratio):
    spec = Crop(ratio=(0.05, 0.5)) if by_ratio else Crop(tokens=(4, 16))
    pieces = crop(rows_of(lengths), spec, np.random.default_rng(seed))
    assert len(pieces) == len(lengths)
    for row, length in enumerate(lengths):
        assert is_piece(pieces[row], row, length)
        high = 16 if not by_ratio else max(1, length // 2)
        assert len(pieces[row]) <= min(high, length)
        if not by_ratio:
            assert len(pieces[row]) >= min(4, length)


def test_paper_crops_have_the_papers_length_and_overlap():
    random = np.random.default_rng(0)
    texts = Ragged.from_rows([np.arange(256, dtype=np.int32)] * 20_000)
    first, second = (crop(texts, Crop(ratio=(0.05, 0.5)), random) for _ in range(2))
    assert first.lengths.min() >= 12 and first.lengths.max() <= 127
    assert first.lengths.mean() == pytest.approx(69.9, abs=0.5)
    starts = [side.ids[side.offsets[:-1]] for side in (first, second)]
    ends = [start + side.lengths for start, side in zip(starts, (first, second), strict=True)]
    overlap = np.minimum(*ends) - np.maximum(*starts)
    assert (overlap > 0).mean() == pytest.approx(0.592, abs=0.01)
    assert np.corrcoef(first.lengths, second.lengths)[0, 1] == pytest.approx(0, abs=0.03)


def test_a_share_of_the_crops_comes_from_the_beginning():
    texts = Ragged.from_rows([np.arange(1000, dtype=np.int32)] * 4000)
    pieces = crop(texts, Crop(tokens=(4, 16), lead=0.5), np.random.default_rng(0))
    ends = pieces.ids[pieces.offsets[1:] - 1]
    assert (ends < LEAD).mean() == pytest.approx(0.5 + 0.5 * 0.04, abs=0.03)
    all_lead = crop(texts, Crop(ratio=(0.5, 0.5), lead=1.0), np.random.default_rng(0))
    assert set(all_lead.lengths.tolist()) == {LEAD // 2} and all_lead.ids.max() < LEAD


def test_starts_reach_both_ends():
    pieces = crop(Ragged.from_rows([np.arange(6, dtype=np.int32)] * 500), Crop(tokens=(4, 4)), np.random.default_rng(1))
    assert set(pieces.ids[pieces.offsets[:-1]].tolist()) == {0, 1, 2}


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(2, 40), st.integers(0, 99))
def test_a_window_never_leaves_its_document(lengths, width, seed):
    rows = np.arange(len(lengths))[::-1].copy()
    windows = window(store_of(lengths), rows, width, np.random.default_rng(seed))
    for place, row in enumerate(rows):
        assert is_piece(windows[place], row, lengths[row])
        assert len(windows[place]) == min(width, lengths[row])


def test_without_a_width_the_window_is_the_document():
    windows = window(store_of([3, 5]), np.array([1, 0]), None, np.random.default_rng(0))
    assert windows[0].tolist() == [1000, 1001, 1002, 1003, 1004] and windows[1].tolist() == [0, 1, 2]


def test_window_starts_cover_the_document():
    windows = window(store_of([300]), np.zeros(4000, np.int64), 256, np.random.default_rng(0))
    assert set(windows.ids[windows.offsets[:-1]].tolist()) == set(range(45))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=10), st.floats(0, 0.99), st.integers(0, 99))
def test_deletion_keeps_order_and_never_empties_a_row(lengths, share, seed):
    texts = rows_of(lengths)
    kept = delete(texts, share, np.random.default_rng(seed))
    for row in range(len(lengths)):
        assert len(kept[row]) >= 1
        assert (np.diff(kept[row]) > 0).all() and np.isin(kept[row], texts[row]).all()


def test_deletion_drops_its_share_and_none_at_zero():
    texts = rows_of([500] * 100)
    assert delete(texts, 0.0, np.random.default_rng(0)) is texts
    assert len(delete(texts, 0.1, np.random.default_rng(0)).ids) / 50_000 == pytest.approx(0.9, abs=0.01)


def test_a_prompt_stands_before_every_row():
    texts = prepend(np.array([7, 8], np.int32), rows_of([2, 1]))
    assert [texts[row].tolist() for row in range(2)] == [[7, 8, 0, 1], [7, 8, 1000]]
    assert prepend(np.empty(0, np.int32), texts) is texts


def test_pairs_depend_on_the_generator_alone_and_differ_from_each_other():
    store, rows = store_of([50] * 64), np.arange(64)
    views = Views(query=Crop(tokens=(4, 16)), document=Crop(ratio=(0.05, 0.5)), window=32, delete=0.1)
    one, two = (pairs(store, rows, views, np.random.default_rng(5)) for _ in range(2))
    for first, second in zip(one, two, strict=True):
        assert (first.ids == second.ids).all() and (first.offsets == second.offsets).all()
    assert any(one[0][row].tolist() != one[1][row].tolist() for row in range(64))
