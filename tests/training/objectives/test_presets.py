"""Presets against cross entropy and plain loops."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever.training.objectives import all_pairs, in_batch


def vectors(rows, seed, dtype=torch.float64, width=6):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, width, generator=generator, dtype=torch.float64), dim=1).to(dtype)


def plain_loop(queries, documents, tau):
    """−log softmax of the own document, one dot product at a time."""
    losses = []
    for i, query in enumerate(queries.tolist()):
        z = [sum(a * b for a, b in zip(query, document, strict=True)) / tau for document in documents.tolist()]
        losses.append(math.log(sum(math.exp(s) for s in z)) - z[i])
    return torch.tensor(losses, dtype=torch.float64)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(0, 4), st.floats(0.02, 2), st.integers(0, 2**31))
def test_in_batch_is_the_plain_loop(batch, extra, tau, seed):
    queries, documents = vectors(batch, seed), vectors(batch + extra, seed + 1)
    torch.testing.assert_close(in_batch(queries, documents, tau), plain_loop(queries, documents, tau))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(0, 4), st.integers(0, 2**31))
def test_symmetric_is_the_mean_of_both_directions(batch, extra, seed):
    queries, documents = vectors(batch, seed), vectors(batch + extra, seed + 1)
    forward, back = plain_loop(queries, documents, 0.1), plain_loop(documents[:batch], queries, 0.1)
    torch.testing.assert_close(in_batch(queries, documents, 0.1, symmetric=True), (forward + back) / 2)


def test_in_batch_is_cross_entropy_with_its_gradient():
    queries, documents = vectors(8, 0, torch.float32), vectors(8, 1, torch.float32)
    leaves = [(queries.clone().requires_grad_(), documents.clone().requires_grad_()) for _ in range(2)]
    ours = in_batch(*leaves[0]).mean()
    theirs = F.cross_entropy(leaves[1][0] @ leaves[1][1].T / 0.05, torch.arange(8))
    torch.testing.assert_close(ours, theirs)
    for loss in (ours, theirs):
        loss.backward()
    for mine, reference in zip(*leaves, strict=True):
        torch.testing.assert_close(mine.grad, reference.grad)


@pytest.mark.parametrize("symmetric", [False, True])
def test_gradcheck(symmetric):
    leaves = (vectors(3, 0).requires_grad_(), vectors(5, 1).requires_grad_())
    assert torch.autograd.gradcheck(lambda q, d: in_batch(q, d, 0.3, symmetric), leaves)


def test_scores_are_fp32_under_autocast():
    queries, documents = vectors(16, 0, torch.float32, 64), vectors(16, 1, torch.float32, 64)
    expected = in_batch(queries, documents)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(in_batch(queries, documents), expected)
        assert in_batch(queries.bfloat16(), documents.bfloat16()).dtype == torch.float32


def test_one_pair_has_nothing_to_learn():
    assert in_batch(vectors(1, 0), vectors(1, 1)).item() == 0


def test_too_few_documents():
    with pytest.raises(ValueError, match="3 documents for 4 queries"):
        in_batch(vectors(4, 0), vectors(3, 1))


def test_temperature_must_be_positive():
    with pytest.raises(ValueError, match="temperature must be greater than 0"):
        in_batch(vectors(2, 0), vectors(2, 1), temperature=0)


def pairs_loop(views, tau, link, allowed=lambda i, j: True):
    """Each view of each text an anchor, each of its other views a positive, one at a time, (V · B,)."""
    losses = []
    for u, anchors in enumerate(views.tolist()):
        for i, anchor in enumerate(anchors):
            z = {
                (v, j): sum(a * b for a, b in zip(anchor, other, strict=True)) / tau
                for v, others in enumerate(views.tolist())
                for j, other in enumerate(others)
            }
            positives = [(v, i) for v in range(len(views)) if v != u]
            negatives = [(v, j) for v, j in z if j != i and allowed((u, i), (v, j))]
            terms = []
            for p in positives:
                rivals = [*negatives, *(positives if link == "all" else [p])]
                terms.append(math.log(sum(math.exp(z[r]) for r in rivals)) - z[p])
            losses.append(sum(terms) / len(terms))
    return torch.tensor(losses, dtype=torch.float64)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 4), st.integers(2, 5), st.sampled_from(["all", "self"]), st.integers(0, 2**31))
def test_all_pairs_is_the_plain_loop(views, batch, link, seed):
    x = torch.stack([vectors(batch, seed + view) for view in range(views)])
    torch.testing.assert_close(all_pairs(x, x, 0.3, link), pairs_loop(x, 0.3, link))


def test_all_pairs_of_two_views_are_both_directions_with_the_queries_as_further_negatives():
    one, two = vectors(5, 0), vectors(5, 1)
    x = torch.stack([one, two])
    logits = torch.cat([one @ two.T, (one @ one.T).fill_diagonal_(-math.inf)], 1) / 0.2
    there = F.cross_entropy(logits, torch.arange(5), reduction="none")
    torch.testing.assert_close(all_pairs(x, x, 0.2)[:5], there)
    torch.testing.assert_close(all_pairs(x, x, 0.2, "self"), all_pairs(x, x, 0.2, "all"))


def test_all_pairs_of_a_part_are_those_rows_of_the_whole_and_masks_leave_candidates_out():
    x = torch.stack([vectors(6, view) for view in range(3)])
    whole = all_pairs(x, x, 0.3).view(3, 6)
    torch.testing.assert_close(all_pairs(x[:, 2:4], x, 0.3, first=2), whole[:, 2:4].reshape(-1))
    live = torch.ones(18, 18, dtype=torch.bool)
    live[:, 4::6] = False  # every view of text 4
    expected = pairs_loop(x, 0.3, "all", lambda anchor, other: other[1] != 4)
    torch.testing.assert_close(all_pairs(x, x, 0.3, live=live), expected)


def test_all_pairs_need_two_views_and_have_the_numerical_gradient():
    with pytest.raises(ValueError, match="all_pairs needs at least two views of a text, not 1"):
        all_pairs(torch.ones(1, 3, 2), torch.ones(1, 3, 2))
    x = torch.stack([vectors(3, view) for view in range(3)]).requires_grad_()
    assert torch.autograd.gradcheck(lambda given: all_pairs(given, given, 0.5, "self"), (x,))
