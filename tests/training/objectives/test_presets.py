"""Presets against cross entropy and plain loops."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever.training.objectives import in_batch


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
