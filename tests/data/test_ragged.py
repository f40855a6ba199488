"""Ragged rows against lists of lists."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from retriever.data.ragged import Ragged, concatenate, offsets_of, prepend, slices

rows_of_ids = st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=6)


def lists(ragged):
    assert ragged.ids.dtype == np.int32 and ragged.offsets.dtype == np.int64
    assert len(ragged.ids) == ragged.offsets[-1]
    return [ragged[row].tolist() for row in range(len(ragged))]


@given(rows_of_ids)
def test_rows_come_back(rows):
    ragged = Ragged.from_rows(rows)
    assert lists(ragged) == rows
    assert ragged.lengths.tolist() == [len(row) for row in rows]
    assert offsets_of(ragged.lengths).tolist() == ragged.offsets.tolist()


@given(rows_of_ids, st.lists(st.integers(0, 9), max_size=3))
def test_the_same_tokens_stand_before_every_row(rows, prefix):
    assert lists(prepend(np.array(prefix, np.int32), Ragged.from_rows(rows))) == [prefix + row for row in rows]


@given(rows_of_ids.filter(bool), st.data())
def test_take_repeats_and_reorders(rows, data):
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8))
    assert lists(Ragged.from_rows(rows).take(np.array(chosen, np.int64))) == [rows[i] for i in chosen]


@given(rows_of_ids)
def test_keep_drops_tokens_and_no_row(rows):
    ragged = Ragged.from_rows(rows)
    assert lists(ragged.keep(ragged.ids > 4)) == [[i for i in row if i > 4] for row in rows]


@given(rows_of_ids, st.integers(0, 6))
def test_cut_keeps_the_first_tokens(rows, limit):
    assert lists(Ragged.from_rows(rows).cut(limit)) == [row[:limit] for row in rows]


@given(st.lists(rows_of_ids, max_size=4))
def test_concatenate_stacks_rows(parts):
    assert lists(concatenate(map(Ragged.from_rows, parts))) == [row for part in parts for row in part]


@given(st.lists(st.integers(0, 9), max_size=20), st.data())
def test_slices_gather(ids, data):
    spans = data.draw(st.lists(st.tuples(st.integers(0, len(ids)), st.integers(0, 20)), max_size=5))
    spans = [(start, min(length, len(ids) - start)) for start, length in spans]
    starts, lengths = (np.array([span[i] for span in spans], np.int64) for i in (0, 1))
    found = lists(slices(np.array(ids, np.int32), starts, lengths))
    assert found == [ids[start : start + length] for start, length in spans]
