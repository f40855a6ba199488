"""Batches: each document once an epoch, the same for the same seed and step, disjoint between processes."""

from __future__ import annotations

import numpy as np
import pytest

from retriever.errors import DataError
from retriever.training.sampler import MODEL, VIEWS, batch_rows, generator

ROWS = np.arange(100, 200)


def test_an_epoch_visits_each_document_at_most_once_and_leaves_out_the_incomplete_batch():
    seen = np.concatenate([batch_rows(ROWS, 30, step, seed=1) for step in range(3)])
    assert len(set(seen.tolist())) == 90 and np.isin(seen, ROWS).all()


def test_epochs_are_shuffled_anew_and_leave_out_others():
    first, second = (np.concatenate([batch_rows(ROWS, 30, 3 * epoch + s, 1) for s in range(3)]) for epoch in (0, 1))
    assert first.tolist() != second.tolist()
    assert set(first.tolist()) != set(second.tolist())


def test_a_step_is_a_function_of_seed_and_step():
    assert batch_rows(ROWS, 10, 57, 3).tolist() == batch_rows(ROWS, 10, 57, 3).tolist()
    assert batch_rows(ROWS, 10, 57, 3).tolist() != batch_rows(ROWS, 10, 57, 4).tolist()


def test_processes_share_one_batch_without_overlap():
    parts = [batch_rows(ROWS, 10, 4, 0, rank, world=4) for rank in range(4)]
    whole = batch_rows(ROWS, 40, 4, 0)
    assert np.concatenate(parts).tolist() == whole.tolist()


def test_too_few_documents_are_refused():
    with pytest.raises(
        DataError, match=r"A batch of 128 needs as many documents, but there are 100; lower batch\.size"
    ):
        batch_rows(ROWS, 64, 0, 0, world=2)


def test_streams_of_randomness_are_apart():
    draws = {
        tuple(generator(stream, *keys).random(3)) for stream in (VIEWS, MODEL) for keys in ((0, 1), (1, 0), (0, 2))
    }
    assert len(draws) == 6
