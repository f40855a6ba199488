"""Batches: each example once an epoch, the same for the same seed and step, sources in their proportions."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever.errors import DataError
from retriever.training.sampler import MODEL, VIEWS, Sampler, generator

ROWS = np.arange(100, 200)


def epoch(sampler, number, batches):
    return np.concatenate([sampler(number * batches + step) for step in range(batches)])


def test_an_epoch_visits_each_document_at_most_once_and_leaves_out_the_incomplete_batch():
    seen = epoch(Sampler([ROWS], 30, seed=1), 0, 3)
    assert len(set(seen.tolist())) == 90 and np.isin(seen, ROWS).all()


def test_epochs_are_shuffled_anew_and_leave_out_others():
    first, second = (epoch(Sampler([ROWS], 30, seed=1), number, 3) for number in (0, 1))
    assert first.tolist() != second.tolist()
    assert set(first.tolist()) != set(second.tolist())


@pytest.mark.parametrize("single", [False, True])
def test_a_step_is_a_function_of_seed_and_step(single):
    def batch(seed):
        return Sampler([ROWS, ROWS + 100], 10, seed, [1, 2], single)(57).tolist()

    assert batch(3) == batch(3) != batch(4)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=5), st.integers(1, 300), st.integers(0, 5))
def test_sources_are_mixed_in_their_shares_and_read_without_replacement(shares, size, seed):
    sources = [np.arange(1_000 * s, 1_000 * s + 150 * (s + 1)) for s in range(len(shares))]
    sampler = Sampler(sources, size, seed, shares)
    batches = 70_000 // size
    seen = np.concatenate([sampler(step) for step in range(batches)])
    for number, (rows, share) in enumerate(zip(sources, shares, strict=True)):
        mine = seen[seen // 1_000 == number]
        assert len(mine) / len(seen) == pytest.approx(share / sum(shares), abs=0.02)
        for start in range(0, len(mine) - len(rows), len(rows)):
            assert np.array_equal(np.sort(mine[start : start + len(rows)]), rows)


def test_an_exponent_of_one_mixes_by_size():
    sampler = Sampler([np.arange(900), np.arange(1_000, 1_100)], 64, 0)
    seen = np.concatenate([sampler(step) for step in range(1_024)])
    assert (seen < 1_000).mean() == pytest.approx(0.9, abs=0.001)


def test_single_source_batches_come_from_one_source_each_and_in_proportion():
    sources = [np.arange(40), np.arange(100, 160)]
    sampler = Sampler(sources, 20, 0, [3, 1], single=True)
    batches = [sampler(step) for step in range(2_000)]
    owners = [set((batch // 100).tolist()) for batch in batches]
    assert all(len(owner) == 1 and len(set(batch.tolist())) == 20 for owner, batch in zip(owners, batches, strict=True))
    assert sum(owner == {0} for owner in owners) / 2_000 == pytest.approx(0.75, abs=0.03)
    ours = [batch for batch, owner in zip(batches, owners, strict=True) if owner == {0}]
    assert sorted(np.concatenate(ours[:2]).tolist()) == list(range(40))


@pytest.mark.parametrize(("sources", "single"), [([ROWS], False), ([np.arange(500), ROWS], True)])
def test_too_few_documents_are_refused(sources, single):
    with pytest.raises(DataError, match=r"A batch of 128 needs as many examples, but there are 100; lower batch\.size"):
        Sampler(sources, 128, 0, single=single)


def test_streams_of_randomness_are_apart():
    draws = {
        tuple(generator(stream, *keys).random(3)) for stream in (VIEWS, MODEL) for keys in ((0, 1), (1, 0), (0, 2))
    }
    assert len(draws) == 6


def test_a_long_run_holds_one_permutation_of_a_source():
    sampler = Sampler([np.arange(100_000), np.arange(50_000)], 10_000, 0)
    tracemalloc.start()
    for step in range(300):  # 20 epochs of each
        sampler(step)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 5 * 8 * 150_000
