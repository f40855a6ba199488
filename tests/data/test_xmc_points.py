"""Targets, held-out points and merged labels, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import xmc_folders
from hypothesis import given
from hypothesis import strategies as st

from retriever.data.xmc_points import (
    build_targets,
    deduplicate_labels,
    first_of_text,
    holds,
    label_frequency,
    split_validation,
)
from retriever.errors import DataError

triples = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5), st.sampled_from([-1.0, 0.0, 0.5, 1.0, 3.0])))


@given(triples)
def test_targets_keep_the_highest_relevance_above_zero(entries):
    expected = [
        [max([v for r, c, v in entries if (r, c) == (row, column)] + [0]) for column in range(6)] for row in range(5)
    ]
    targets = build_targets(*([entry[part] for entry in entries] for part in range(3)), (5, 6))
    assert targets.toarray().tolist() == expected
    assert (targets.data > 0).all() and targets.has_canonical_format


def test_labels_with_a_text_are_readable_and_filter_pairs_a_matrix():
    data = xmc_folders.dataset(labels=["quick fox", " ", "vectors", "", "café", "dogs"])
    assert data.labels.readable.tolist() == [0, 2, 4, 5] and data.report.labels_without_text == 2
    assert np.argwhere(data.train.forbidden.toarray()).tolist() == [list(pair) for pair in xmc_folders.FILTER["train"]]


@given(triples)
def test_pairs_are_held_where_the_matrix_has_them(entries):
    targets = build_targets(*([entry[part] for entry in entries] for part in range(3)), (5, 6))
    rows, labels = np.repeat(np.arange(5), 7).reshape(5, 7), np.tile(np.arange(-1, 6), (5, 1))
    full = np.column_stack([np.zeros(5), targets.toarray()])
    assert holds(targets, rows, labels).tolist() == (full > 0).tolist()


def test_frequency_counts_points_not_relevance():
    targets = build_targets([0, 1, 1], [2, 2, 0], [3.0, 5.0, 1.0], (3, 4))
    points = xmc_folders.dataset().train
    assert label_frequency(type(points)([""] * 3, [""] * 3, targets, points.filtered[:0])).tolist() == [1, 0, 2, 0]


def test_taken_points_keep_what_is_theirs():
    train = xmc_folders.dataset().train
    taken = train.take([3, 7, 0])
    assert taken.ids == ["trn3", "trn7", "trn0"] and taken.texts[1] == "fox and dog"
    assert taken.targets.toarray().tolist() == [train.targets.toarray()[row].tolist() for row in (3, 7, 0)]
    assert taken.filtered.tolist() == [[0, 2], [2, 1]]  # (3, 2) and (0, 1) of the training part
    assert train.take([1]).filtered.shape == (0, 2)


def test_points_are_held_out_once_and_the_same_each_time():
    train = xmc_folders.dataset().train
    kept, held = split_validation(train, 0.25, seed=3)
    assert len(held) == 2 and len(kept) == 6 and set(kept.ids) | set(held.ids) == set(train.ids)
    assert kept.ids == sorted(kept.ids) and held.ids == sorted(held.ids)
    again, other = (
        split_validation(train, 0.25, seed=3)[1],
        [split_validation(train, 0.25, seed)[1].ids for seed in range(9)],
    )
    assert again.ids == held.ids and len(set(map(tuple, other))) > 1
    assert len(split_validation(train, 0.01)[1]) == 1
    for share in (0, 1, -0.1, 0.99, 2):
        with pytest.raises(DataError, match=f"A share of {share} of 8 training points cannot be held out"):
            split_validation(train, share)


def test_the_first_of_a_text_ignores_white_space_and_empty_texts():
    assert first_of_text(["a b", "", " a  b\n", "A b", "", "a b"]).tolist() == [0, 1, 0, 3, 4, 0]


def test_labels_of_one_text_become_one():
    train = [("x", [0, 2]), ("y", [3]), ("z", [1, 4])]
    dataset = xmc_folders.dataset(
        ["a b", "c", "a  b", "", "c "], train, [("t", [2])], {"train": [(0, 4), (1, 2), (2, 0)], "test": [(0, 0)]}
    )
    merged = deduplicate_labels(dataset)
    assert merged.labels.ids == ["l0", "l1", "l3"] and merged.labels.texts == ["a b", "c", ""]
    assert merged.train.targets.toarray().tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert merged.train.filtered.tolist() == [[0, 1], [1, 0], [2, 0]]
    assert merged.test.targets.toarray().tolist() == [[1, 0, 0]]
    assert merged.test.filtered.tolist() == []  # the filtered label has become the target's
    assert merged.merged == merged.report.labels_merged == 2 and merged.report.labels_repeated == 0
    assert deduplicate_labels(merged) is not merged and deduplicate_labels(merged).merged == 2


def test_the_report_counts_what_is_odd():
    dataset = xmc_folders.dataset(
        ["a", " ", "a", "", "b"], [("x", [0]), ("y", []), ("z", [0, 4])], [("t", [])], {"test": [(0, 1)]}
    )
    report = dataset.report
    assert (report.labels, report.labels_without_text, report.labels_untrained, report.labels_repeated) == (5, 2, 3, 1)
    assert report.points == {"train": 3, "test": 1} and report.pairs == {"train": 3, "test": 0}
    assert report.points_without_labels == {"train": 1, "test": 1} and report.filtered == {"train": 0, "test": 1}
    assert xmc_folders.dataset(test=None).report.points == {"train": 8}
