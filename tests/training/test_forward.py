"""The forward pass in packs, and the gradient cache: the same vectors, the same gradient."""

from __future__ import annotations

import encoders
import pytest
import torch

from retriever.data.ragged import Ragged
from retriever.training.forward import Forward, default_budget
from retriever.training.objectives import Pairs, contrast, in_batch, label_space_loss, soft_top_k_loss

QUERIES = Ragged.from_rows([[5, 6], [7], [8, 9, 10, 11, 12], [13, 14, 15], [6] * 40, [9, 8]])
DOCUMENTS = Ragged.from_rows([[5, 6, 7, 8], [7, 9], [8] * 20, [13], [6, 5, 7], [11, 12]])


def gradients(encoder):
    grads = [p.grad for p in encoder.stack.parameters() if p.grad is not None]
    dense = [grad.to_dense() if grad.is_sparse else grad for grad in grads]
    return torch.cat([grad.flatten() for grad in dense])


def whole(forward):
    loss = in_batch(forward(QUERIES, 1), forward(DOCUMENTS, 2)).mean()
    loss.backward()
    return loss.detach()


def cached(forward):
    with torch.no_grad():
        queries, documents = forward(QUERIES, 1), forward(DOCUMENTS, 2)
    queries.requires_grad_()
    documents.requires_grad_()
    loss = in_batch(queries, documents).mean()
    loss.backward()
    forward.backward(QUERIES, 1, queries.grad)
    forward.backward(DOCUMENTS, 2, documents.grad)
    return loss.detach()


@pytest.mark.parametrize("family", [encoders.static, encoders.small])
@pytest.mark.parametrize("budget", [1, 40, 10_000])
def test_the_gradient_cache_gives_the_gradient_of_the_whole_batch_with_the_same_dropout(family, budget):
    settings = {"dropout": 0.3} if family is encoders.small else {}
    results = []
    for way in (whole, cached):
        encoder = family(**settings)
        encoder.stack.train()
        results.append((way(Forward(encoder, "float32", budget)), gradients(encoder)))
    (loss, gradient), (loss_cached, gradient_cached) = results
    assert torch.equal(loss, loss_cached)
    torch.testing.assert_close(gradient_cached, gradient, atol=2e-6, rtol=1e-4)
    assert gradient.abs().max() > 1e-3


@pytest.mark.parametrize("budget", [40, 10_000])
def test_labels_encoded_twice_have_the_gradient_of_the_whole_label_space_with_the_same_dropout(budget):
    """Forward without a gradient, the loss in chunks, Forward.backward; against plain autograd through B × L scores."""
    targets = torch.zeros(len(QUERIES), len(DOCUMENTS))
    targets[[0, 0, 1, 3, 4], [0, 5, 1, 2, 3]] = 1.0
    counted = targets.sum(1) > 0
    results = []
    for way in ("dense", "chunks"):
        encoder = encoders.small(dropout=0.3)
        encoder.stack.train()
        forward = Forward(encoder, "float32", budget)
        if way == "dense":
            scores = forward(QUERIES, 1) @ forward(DOCUMENTS, 2).T
            each = contrast(scores, targets, link="self") + soft_top_k_loss(scores / 0.05, targets, 2)
            loss = each[counted].mean()
            loss.backward()
        else:
            with torch.no_grad():
                queries, labels = forward(QUERIES, 1).requires_grad_(), forward(DOCUMENTS, 2).requires_grad_()
            mixture = {"decoupled": 1.0, "soft_top_k": 1.0}
            loss = label_space_loss(queries, labels, Pairs.of(*targets.nonzero().T), mixture, k=2, chunk=4)
            loss.backward()
            forward.backward(QUERIES, 1, queries.grad)
            forward.backward(DOCUMENTS, 2, labels.grad)
        results.append((loss.detach(), gradients(encoder)))
    (loss, gradient), (loss_chunks, gradient_chunks) = results
    torch.testing.assert_close(loss_chunks, loss, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradient_chunks, gradient, atol=1e-5 * float(gradient.abs().max()), rtol=0)
    assert gradient.abs().max() > 1e-3


def test_packs_change_nothing_but_the_padding():
    encoder = encoders.small(dropout=0.0)
    encoder.stack.train()
    one, many = (Forward(encoder, "float32", budget)(DOCUMENTS, 0) for budget in (10_000, 8))
    torch.testing.assert_close(one, many, atol=1e-5, rtol=0)


def test_no_pack_is_padded_beyond_its_budget(monkeypatch):
    encoder = encoders.small()
    sizes = []
    features = encoder.features

    def record(tokens, kind):
        made = features(tokens, kind)
        sizes.append(made["input_ids"].numel())
        return made

    monkeypatch.setattr(encoder, "features", record)
    Forward(encoder, "float32", 48)(QUERIES, 0)
    assert len(sizes) > 1 and max(sizes) <= 48


@pytest.mark.parametrize("budget", [40, 10_000])
def test_the_gradient_of_queries_reaches_their_map_and_that_of_documents_does_not(budget):
    encoder = encoders.small().with_query_map()
    forward = Forward(encoder, "float32", budget)
    weight = next(value for name, value in encoder.stack.named_parameters() if "sub_modules.query" in name)
    for kind, reached in (("document", False), ("query", True)):
        weight.grad = None
        forward(QUERIES, 1, kind).sum().backward()
        direct, weight.grad = weight.grad, None
        forward.backward(QUERIES, 1, torch.ones(len(QUERIES), encoder.dimension), kind)
        assert (weight.grad is not None) == (direct is not None) == reached
    torch.testing.assert_close(weight.grad, direct, atol=1e-6, rtol=1e-4)


def test_dropout_depends_on_the_seed_alone():
    encoder = encoders.small(dropout=0.5)
    encoder.stack.train()
    forward = Forward(encoder, "float32", 20)
    first = forward(QUERIES, 3)
    torch.rand(7)
    assert torch.equal(first, forward(QUERIES, 3))
    assert not torch.equal(first, forward(QUERIES, 4))


def test_budgets_follow_the_device():
    assert default_budget(torch.device("cpu")) < default_budget(torch.device("cuda"))
