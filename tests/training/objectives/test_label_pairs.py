"""Pairs of rows and labels, and drawing positives among them."""

from __future__ import annotations

import pytest
import torch

from retriever.training.objectives import Pairs, sample_positives


def pairs(*listed, weights=None):
    rows, labels = torch.tensor(listed).T if listed else (torch.zeros(0, dtype=torch.long),) * 2
    return Pairs.of(rows, labels, None if weights is None else torch.tensor(weights))


def listed(found):
    return list(zip(found.rows.tolist(), found.labels.tolist(), strict=True))


def test_pairs_come_in_the_order_of_their_labels_and_equal_ones_count_once():
    made = pairs((2, 5), (0, 5), (1, 0), (2, 5), (0, 9), weights=[1.0, 2.0, 3.0, 4.0, 5.0])
    assert listed(made) == [(1, 0), (0, 5), (2, 5), (0, 9)]
    assert made.weights.tolist() == [3.0, 2.0, 1.0, 5.0] and made.weights.dtype == torch.float64


def test_csr_rows_may_be_empty():
    made = Pairs.from_csr(torch.tensor([0, 2, 2, 3]), torch.tensor([7, 1, 1]), torch.tensor([0.5, 1.0, 2.0]))
    assert listed(made) == [(0, 1), (2, 1), (0, 7)] and made.weights.tolist() == [1.0, 2.0, 0.5]
    assert len(Pairs.from_csr(torch.zeros(4, dtype=torch.long), torch.zeros(0, dtype=torch.long))) == 0


def test_a_shard_numbers_its_labels_from_zero():
    made = pairs((0, 3), (1, 4), (2, 5), (0, 6))
    assert listed(made.shard(4, 2)) == [(1, 0), (2, 1)]
    assert listed(made.shard(0, 4)) + listed(made.shard(4, 3)) == [(0, 3), (1, 0), (2, 1), (0, 2)]


def test_without_and_union():
    made, others = pairs((0, 3), (1, 3), (0, 8)), pairs((1, 3), (4, 1))
    assert listed(made.without(others)) == [(0, 3), (0, 8)] and made.without(None) is made
    assert listed(made.union(others)) == [(4, 1), (0, 3), (1, 3), (0, 8)] and made.union(None) is made
    assert listed(made.without(pairs())) == listed(made) and listed(pairs().union(made)) == listed(made)


@pytest.mark.parametrize(
    ("rows", "labels", "weights", "message"),
    [
        ([0, 1], [2], None, "2 rows, 1 labels"),
        ([0, -1], [2, 3], None, "one is negative"),
        ([0], [2], [0.0], "greater than 0"),
        ([0], [2], [float("inf")], "finite"),
        ([0], [2], [float("nan")], "finite"),
    ],
)
def test_wrong_pairs_are_refused(rows, labels, weights, message):
    weights = None if weights is None else torch.tensor(weights)
    with pytest.raises(ValueError, match=message):
        Pairs.of(torch.tensor(rows), torch.tensor(labels), weights)


def test_one_positive_a_row_is_drawn_and_the_others_are_excluded():
    positives, excluded = pairs((0, 1), (0, 2), (0, 3), (1, 2), (3, 9)), pairs((0, 3), (2, 2))
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(40):
        drawn, out = sample_positives(positives, excluded, generator=generator)
        assert drawn.rows.sort().values.tolist() == [0, 1, 3] and drawn.weights.tolist() == [1.0] * 3
        other = next(label for row, label in listed(drawn) if row == 0)
        seen.add(other)
        assert sorted(listed(out)) == sorted([(0, 3), (2, 2), (0, 3 - other)])
        assert torch.equal(drawn.labels, drawn.labels.sort().values)
        assert torch.equal(out.labels, out.labels.sort().values)
    assert seen == {1, 2}


def test_a_positive_is_drawn_as_often_as_it_weighs():
    rows = 20_000
    offsets = torch.arange(rows + 1) * 3
    positives = Pairs.from_csr(offsets, torch.arange(3).repeat(rows), torch.tensor([1.0, 2.0, 7.0]).repeat(rows))
    drawn, _ = sample_positives(positives, generator=torch.Generator().manual_seed(0))
    shares = torch.bincount(drawn.labels, minlength=3) / rows
    torch.testing.assert_close(shares, torch.tensor([0.1, 0.2, 0.7]), atol=0.015, rtol=0)


def test_several_are_drawn_without_replacement():
    positives = pairs(*[(0, label) for label in range(5)], (1, 0))
    drawn, out = sample_positives(positives, count=3, generator=torch.Generator().manual_seed(1))
    assert len([row for row, _ in listed(drawn) if row == 0]) == 3 and len(set(listed(drawn))) == 4
    assert sorted(listed(drawn) + listed(out)) == sorted(listed(positives))
