"""Losses over the whole label space against the dense B × L loss, and what they promise."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from retriever.training.objectives import (
    Pairs,
    contrast,
    label_space_loss,
    label_terms,
    sample_positives,
    soft_top_k_loss,
)
from retriever.training.objectives.label_space import TERMS, chunk_size

MIXTURE = {"decoupled": 1.0, "soft_top_k": 0.5}
EVERYTHING = {"soft_top_k": 0.3, "bce": 20.0, "softmax": 0.7, "decoupled": 1.5}
LOSSES = [*TERMS, MIXTURE, EVERYTHING]
CHUNK = 8


def case(dtype=torch.float64, rows=6, labels=37, width=5, seed=0):
    """Vectors, positives and exclusions: a row with none, one excluded, the last label of every chunk a positive."""
    generator = torch.Generator().manual_seed(seed)
    queries = F.normalize(torch.randn(rows, width, generator=generator, dtype=dtype), dim=1)
    vectors = F.normalize(torch.randn(labels, width, generator=generator, dtype=dtype), dim=1)
    last = torch.tensor([*range(CHUNK - 1, labels, CHUNK), labels - 1])
    positive = torch.rand(rows, labels, generator=generator) < 0.06
    positive[torch.arange(len(last)) % (rows - 1), last] = True
    positive[rows - 1] = False
    excluded = (torch.rand(rows, labels, generator=generator) < 0.1) & ~positive
    excluded[0, positive[0].nonzero()[0]] = True
    weights = torch.where(positive, 0.2 + 0.8 * torch.rand(rows, labels, generator=generator), 0.0).to(dtype)
    return queries, vectors, weights, excluded


def sparse(weights):
    rows, labels = weights.nonzero().T
    return Pairs.of(rows, labels, weights[rows, labels])


def dense(queries, vectors, weights, excluded, terms, temperature=0.3, k=5, alpha=2.0):
    """The same losses from the whole B × L matrix."""
    terms = {terms: 1.0} if isinstance(terms, str) else terms
    scores, live = queries @ vectors.T, ~excluded
    weights = weights * live
    counted = weights.sum(1) > 0
    loss = torch.zeros(len(queries), dtype=scores.dtype)
    for term, factor in terms.items():
        if term in ("decoupled", "softmax"):
            link = "self" if term == "decoupled" else "all"
            part = contrast(scores, weights, live.to(scores.dtype), temperature, link)
        elif term == "bce":
            cells = F.binary_cross_entropy_with_logits(scores / temperature, weights, reduction="none")
            part = (cells * live).mean(1)
        else:
            part = soft_top_k_loss(scores / temperature, weights, k, alpha, live)
        loss = loss + factor * part
    return loss[counted].mean()


def gradients(loss, *leaves):
    return (loss.detach(), *torch.autograd.grad(loss, leaves))


def both(terms, dtype=torch.float64, chunk=CHUNK, temperature=0.3, **settings):
    queries, vectors, weights, excluded = case(dtype)
    tau = torch.tensor(temperature, dtype=dtype, requires_grad=True)
    leaves = (queries.requires_grad_(), vectors.requires_grad_(), tau)
    ours = label_space_loss(
        queries, vectors, sparse(weights), terms, excluded=sparse(excluded), temperature=tau, chunk=chunk, **settings
    )
    theirs = dense(queries, vectors, weights, excluded, terms, tau, **settings)
    return gradients(ours, *leaves), gradients(theirs, *leaves)


@pytest.mark.parametrize("terms", LOSSES, ids=str)
@pytest.mark.parametrize("chunk", [1, CHUNK, 36, 37, 1000, None])
def test_equals_the_dense_loss_and_its_gradients(terms, chunk):
    for mine, expected in zip(*both(terms, chunk=chunk), strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-10, rtol=0)
        assert expected.abs().max() > 1e-3


@pytest.mark.parametrize("terms", LOSSES, ids=str)
def test_equals_the_dense_loss_in_fp32_at_a_low_temperature(terms):
    ours, theirs = both(terms, torch.float32, temperature=0.05)
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-5 * max(1.0, float(expected.abs().max())), rtol=0)


@pytest.mark.parametrize("terms", LOSSES, ids=str)
def test_the_gradient_is_that_of_finite_differences(terms):
    queries, vectors, weights, excluded = case(rows=4, labels=13, width=3)
    tau = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)

    def loss(queries, vectors, tau):
        excluded_pairs = sparse(excluded)
        return label_space_loss(
            queries, vectors, sparse(weights), terms, excluded=excluded_pairs, temperature=tau, k=3, chunk=CHUNK
        )

    assert torch.autograd.gradcheck(loss, (queries.requires_grad_(), vectors.requires_grad_(), tau))


@pytest.mark.parametrize("k", [2.5, torch.tensor([1.0, 2.0, 3.5, 20.0, 7.0, 0.0])])
@pytest.mark.parametrize("alpha", [0.5, 10.0])
def test_the_soft_top_k_may_differ_between_rows(k, alpha):
    """The last row has no positive, so its k of 0 matters to nobody."""
    live = torch.where(k > 0, k, 1.0) if isinstance(k, torch.Tensor) else k
    queries, vectors, weights, excluded = case()
    ours = label_space_loss(
        queries, vectors, sparse(weights), "soft_top_k", excluded=sparse(excluded), temperature=0.3, k=k, alpha=alpha
    )
    torch.testing.assert_close(
        ours, dense(queries, vectors, weights, excluded, "soft_top_k", k=live, alpha=alpha), atol=1e-10, rtol=0
    )


def test_many_labels_in_odd_chunks():
    """Blocks of labels share a maximum where the soft top k starts."""
    queries, vectors, weights, excluded = case(rows=4, labels=1400)
    for chunk in (70, 333):
        ours = label_space_loss(
            queries, vectors, sparse(weights), MIXTURE, excluded=sparse(excluded), temperature=0.3, chunk=chunk
        )
        torch.testing.assert_close(ours, dense(queries, vectors, weights, excluded, MIXTURE), atol=1e-10, rtol=0)


@pytest.mark.parametrize("terms", TERMS)
def test_excluded_pairs_take_no_part(terms):
    """However they score: the loss and all other gradients stay, and theirs are 0."""
    queries, vectors, weights, excluded = case()
    excluded[:, 20], weights[:, 20] = True, 0.0
    results = []
    for scale in (1.0, 1e3):
        moved = vectors.clone()
        moved[20] *= scale
        moved.requires_grad_()
        loss = label_space_loss(queries, moved, sparse(weights), terms, excluded=sparse(excluded), temperature=0.3)
        results.append(gradients(loss, moved))
        assert (results[-1][1][20] == 0).all()
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])


def test_an_excluded_positive_is_none():
    queries, vectors, weights, excluded = case()
    both_ways = sparse(weights).without(sparse(excluded))
    assert len(both_ways) < len(sparse(weights))
    one, two = (
        label_space_loss(queries, vectors, listed, excluded=sparse(excluded)) for listed in (sparse(weights), both_ways)
    )
    assert torch.equal(one, two)


def test_with_one_positive_a_row_decoupled_is_softmax():
    queries, vectors, weights, _ = case()
    one, _ = sample_positives(sparse(weights))
    losses = [label_space_loss(queries, vectors, one, terms) for terms in ("decoupled", "softmax")]
    torch.testing.assert_close(*losses)


def test_a_decoupled_positive_ignores_the_other_positives():
    """Rescoring one positive changes its own loss alone; with softmax it changes the other's too."""
    queries, vectors, weights, _ = case()
    weights.zero_()[0, [3, 10]] = 1.0
    other = vectors.clone()
    other[10] = queries[0]
    lone = Pairs.of(torch.tensor([0]), torch.tensor([3]))
    without = Pairs.of(torch.tensor([0]), torch.tensor([10]))
    alone = label_space_loss(queries, other, lone, excluded=without)  # a positive's loss with the other out of sight
    second = label_space_loss(queries, other, without, excluded=lone)
    torch.testing.assert_close(label_space_loss(queries, other, sparse(weights)), (alone + second) / 2)
    assert label_space_loss(queries, other, sparse(weights), "softmax") > (alone + second) / 2 + 0.1


def test_decoupled_gradients_never_push_a_positive_down_and_softmax_ones_do():
    queries = torch.eye(1, 4, dtype=torch.float64)
    vectors = torch.zeros(12, 4, dtype=torch.float64)
    vectors[:5, 0] = torch.tensor([2.0, 0.1, 0.1, 0.1, 0.1])  # one easy positive of five
    positives = Pairs.from_csr(torch.tensor([0, 5]), torch.arange(5))
    vectors.requires_grad_()
    grads = {}
    for terms in ("decoupled", "softmax", "soft_top_k"):
        loss = label_space_loss(queries, vectors, positives, terms, temperature=0.2)
        grads[terms] = torch.autograd.grad(loss, vectors)[0][:, 0]  # of the score, times τ
    assert (grads["decoupled"][:5] <= 0).all() and (grads["decoupled"][5:] >= 0).all()
    assert grads["softmax"][0] > 0


def test_an_easy_positive_of_five_stays_easy_with_decoupled_softmax_alone():
    """The toy problem: free scores of five positives and twenty negatives, of which one positive starts ahead."""
    positives = Pairs.from_csr(torch.tensor([0, 5]), torch.arange(5))
    shares = {}
    for terms in ("decoupled", "softmax"):
        scores = torch.zeros(25, 1, dtype=torch.float64)
        scores[0] = 3.0
        scores.requires_grad_()
        for _ in range(500):
            loss = label_space_loss(torch.ones(1, 1, dtype=torch.float64), scores, positives, terms, temperature=1.0)
            scores = (scores - 5.0 * torch.autograd.grad(loss, scores)[0]).detach().requires_grad_()
        flat = scores.detach().flatten()
        if terms == "softmax":
            shares[terms] = flat.softmax(0)[0]
        else:
            shares[terms] = torch.sigmoid(flat[0] - flat[5:].logsumexp(0))
            assert flat[0] > flat[1:5].max()
    assert shares["decoupled"] > 0.95 and shares["softmax"] == pytest.approx(0.2, abs=0.02)


def test_sampling_one_positive_is_unbiased():
    """The mean over every positive a row may draw, with its probability, is the loss of all positives."""
    queries, vectors, weights, _ = case()
    leaf = vectors.requires_grad_()
    expected = torch.autograd.grad(label_space_loss(queries, leaf, sparse(weights), temperature=0.3), leaf)[0]
    rows = int((weights.sum(1) > 0).sum())
    found = torch.zeros_like(expected)
    for row, label in weights.nonzero().tolist():
        others = torch.zeros_like(weights)
        others[row] = weights[row]
        others[row, label] = 0
        drawn = Pairs.of(torch.tensor([row]), torch.tensor([label]))
        loss = label_space_loss(queries, leaf, drawn, excluded=sparse(others), temperature=0.3)
        found += weights[row, label] / weights[row].sum() * torch.autograd.grad(loss, leaf)[0] / rows
    torch.testing.assert_close(found, expected)


def test_rows_without_positives_cost_nothing_and_do_not_count():
    queries, vectors, weights, _ = case()
    for terms in TERMS:
        everyone = label_space_loss(queries, vectors, sparse(weights), terms)
        counted = label_space_loss(queries[:-1], vectors, sparse(weights[:-1]), terms)
        torch.testing.assert_close(everyone, counted)


@pytest.mark.parametrize("terms", LOSSES, ids=str)
def test_no_positives_at_all_is_a_loss_of_zero(terms):
    queries, vectors, weights, _ = case()
    leaves = (queries.requires_grad_(), vectors.requires_grad_())
    for result in gradients(label_space_loss(queries, vectors, sparse(weights * 0), terms), *leaves):
        assert (result == 0).all()


def test_a_positive_without_rivals_costs_nothing():
    vectors = torch.eye(3, dtype=torch.float64, requires_grad=True)
    positives = Pairs.from_csr(torch.tensor([0, 3]), torch.arange(3))
    loss, gradient = gradients(label_space_loss(torch.ones(1, 3, dtype=torch.float64), vectors, positives), vectors)
    assert loss == 0 and (gradient == 0).all()


def test_extreme_scores_are_finite():
    queries = torch.tensor([[1e3], [-1e3]])
    vectors = torch.linspace(-30, 30, 100)[:, None].requires_grad_()
    positives = Pairs.of(torch.tensor([0, 0, 1]), torch.tensor([0, 99, 50]))
    for terms in LOSSES:
        for result in gradients(label_space_loss(queries, vectors, positives, terms, chunk=9), vectors):
            assert result.isfinite().all()


def test_a_saturated_row_divides_by_no_zero(monkeypatch):
    """Its V underflows."""
    monkeypatch.setattr(label_terms, "solve", lambda sums, k, low, high, offset: (high, torch.zeros_like(k)))
    vectors = torch.linspace(-300, 300, 40)[:, None].requires_grad_()
    positives = Pairs.of(torch.tensor([0]), torch.tensor([0]))
    loss, gradient = gradients(label_space_loss(torch.ones(1, 1), vectors, positives, "soft_top_k"), vectors)
    assert loss.isfinite() and gradient.isfinite().all()


def test_a_nan_is_not_hidden():
    queries, vectors, weights, _ = case()
    vectors[4, 0] = math.nan
    for terms in TERMS:
        assert label_space_loss(queries, vectors, sparse(weights), terms).isnan()


def test_half_precision_labels_and_autocast_are_computed_in_fp32():
    queries, vectors, weights, _ = case(torch.float32)
    half = vectors.bfloat16().requires_grad_()
    expected = dense(queries, half.detach().float(), weights, torch.zeros_like(weights, dtype=torch.bool), MIXTURE)
    with torch.autocast("cpu", torch.bfloat16):
        loss = label_space_loss(queries, half, sparse(weights), MIXTURE, temperature=0.3)
        loss.backward()
    torch.testing.assert_close(loss, expected)
    assert loss.dtype == torch.float32 and half.grad.dtype == torch.bfloat16 and half.grad.abs().sum() > 0


def test_frozen_labels_get_no_gradient_and_the_queries_the_same():
    queries, vectors, weights, _ = case()
    queries.requires_grad_()
    frozen = gradients(label_space_loss(queries, vectors, sparse(weights)), queries)
    free = gradients(label_space_loss(queries, vectors.clone().requires_grad_(), sparse(weights)), queries)
    assert torch.equal(frozen[1], free[1])


def test_the_upstream_gradient_scales_all():
    queries, vectors, weights, _ = case()
    tau = torch.tensor(0.3, requires_grad=True)
    leaves = (queries.requires_grad_(), vectors.requires_grad_(), tau)
    loss = label_space_loss(queries, vectors, sparse(weights), MIXTURE, temperature=tau)
    once, thrice = torch.autograd.grad(loss, leaves, retain_graph=True), torch.autograd.grad(3 * loss, leaves)
    for one, three in zip(once, thrice, strict=True):
        torch.testing.assert_close(three, 3 * one)


def test_no_chunk_is_larger_than_asked(monkeypatch):
    queries, vectors, weights, _ = case()
    sizes, multiply = [], torch.mm

    def record(left, right, out):
        sizes.append(out.numel())
        return multiply(left, right, out=out)

    monkeypatch.setattr(torch, "mm", record)
    label_space_loss(queries, vectors, sparse(weights), MIXTURE, chunk=CHUNK)
    assert max(sizes) == len(queries) * CHUNK and sum(sizes) % vectors.shape[0] == 0


def test_chunks_fit_the_cache():
    cpu = torch.device("cpu")
    assert chunk_size(256, cpu) == 512 and chunk_size(1, cpu) == 2**17 and chunk_size(10**9, cpu) == 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"terms": "supcon"}, "no loss over labels; choose among decoupled"),
        ({"terms": {}}, "at least one loss"),
        ({"terms": {"bce": -1.0}}, "factor greater than 0"),
        ({"temperature": 0.0}, "temperature, alpha and chunk"),
        ({"chunk": 0}, "temperature, alpha and chunk"),
        ({"terms": "soft_top_k", "k": 37}, "k must lie between 0 and the live scores"),
        ({"terms": "soft_top_k", "k": torch.ones(5)}, "one for each of 6 rows"),
        ({"labels": torch.ones(3, 4)}, "must be .B, D. and .L, D."),
        ({"labels": torch.ones(3, 5)}, "a positive pair has row . or label 36"),
        ({"excluded": Pairs.of(torch.tensor([6]), torch.tensor([0]))}, "an? excluded pair has row 6"),
        ({"queries": torch.ones(0, 5), "labels": torch.ones(0, 5)}, "a query and a label"),
        (
            {"terms": "bce", "positives": Pairs.of(torch.tensor([0]), torch.tensor([1]), torch.tensor([2.0]))},
            "at most 1",
        ),
    ],
)
def test_wrong_settings_are_named(changes, message):
    queries, vectors, weights, _ = case(torch.float32)
    settings = {"queries": queries, "labels": vectors, "positives": sparse(weights), **changes}
    with pytest.raises(ValueError, match=message):
        label_space_loss(**settings)
