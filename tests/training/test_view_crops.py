"""Windows and crops: contiguous, in order, of the promised lengths and frequencies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores import is_piece, rows_of, store_of

from retriever.data.ragged import Ragged
from retriever.training.view_crops import LEAD, crop, crop_lengths, crop_places, stretch, window, without
from retriever.training.view_settings import Crop


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


def test_lengths_by_ratio_are_the_whole_part():
    lengths = crop_lengths(np.array([256, 10, 1]), Crop(ratio=(0.25, 0.25)), np.random.default_rng(0))
    assert lengths.tolist() == [64, 2, 1]


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


def test_places_are_those_of_the_crop():
    texts, spec = rows_of([50, 3, 20]), Crop(tokens=(4, 16))
    pieces = crop(texts, spec, np.random.default_rng(3))
    starts, lengths = crop_places(texts, spec, np.random.default_rng(3))
    assert lengths.tolist() == pieces.lengths.tolist()
    assert texts.ids[starts].tolist() == pieces.ids[pieces.offsets[:-1]].tolist()


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


def test_window_starts_cover_the_document_evenly():
    windows = window(store_of([300]), np.zeros(9000, np.int64), 256, np.random.default_rng(0))
    counts = np.bincount(windows.ids[windows.offsets[:-1]])
    assert len(counts) == 45 and counts.min() > 120 and counts.max() < 290


def test_a_stretch_stays_in_its_piece():
    ids = np.arange(100, dtype=np.int32)
    pieces = stretch(ids, np.array([10, 50]), np.array([20, 3]), 5, np.random.default_rng(0))
    assert pieces.lengths.tolist() == [5, 3] and pieces[1].tolist() == [50, 51, 52]
    assert pieces[0][0] >= 10 and pieces[0][-1] < 30


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 11), st.integers(0, 12)), min_size=1, max_size=8))
def test_cutting_out_a_stretch(cases):
    texts = rows_of([length for length, _, _ in cases])
    starts = np.array([min(start, length - 1) for length, start, _ in cases])
    lengths = np.array([lost for _, _, lost in cases])
    left = without(texts, texts.offsets[:-1] + starts, lengths)
    for row, (start, lost) in enumerate(zip(starts, lengths, strict=True)):
        expected = [token for at, token in enumerate(texts[row].tolist()) if not start <= at < start + lost]
        assert left[row].tolist() == expected
