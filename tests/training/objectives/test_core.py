"""The loss core against plain loops, closed-form gradients, and the identities that tie its links together."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_oracle import LINKS, POOLS, SYSTEMS, TAU, gradient, log_of_sum, oracle, random_case

from retriever.training.objectives import contrast, masked_logsumexp, weighted_mean

# --- the oracle ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(("link", "pool"), list(itertools.product(LINKS, POOLS)))
def test_every_link_and_pool_is_the_plain_loop(link, pool, weighted, normalise):
    for seed in range(10):
        scores, targets, weights = random_case(seed)
        settings_ = (weights if weighted else None, TAU, link, pool, normalise)
        expected = oracle(scores, targets, *settings_)
        torch.testing.assert_close(contrast(scores, targets, *settings_), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("link", "pool"), [("all", "out"), ("all", "split")])
def test_soft_targets_are_the_plain_loop(link, pool):
    scores, _, weights = random_case(1)
    targets = torch.rand(scores.shape, dtype=torch.float64)
    expected = oracle(scores, targets, weights, TAU, link, pool)
    torch.testing.assert_close(contrast(scores, targets, weights, TAU, link, pool), expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(2, 9), st.floats(0.01, 10), st.sampled_from(SYSTEMS))
def test_any_size_and_temperature_is_the_plain_loop(seed, anchors, candidates, tau, system):
    scores, targets, weights = random_case(seed, anchors, candidates, candidates - 1)
    result = contrast(scores, targets, weights, tau, *system)
    torch.testing.assert_close(result, oracle(scores, targets, weights, tau, *system), rtol=1e-10, atol=1e-10)
    assert (result >= -1e-12).all() or system == ("none", "out") or (weights[targets > 0] < 1).any()


@pytest.mark.parametrize("shape", [(), (4, 1), (7,), (4, 7)])
def test_temperature_broadcasts(shape):
    scores, targets, weights = random_case(2)
    tau = torch.rand(shape, dtype=torch.float64) + 0.1
    expected = oracle(scores / tau, targets, weights, tau=1.0)
    torch.testing.assert_close(contrast(scores, targets, weights, tau), expected)


@pytest.mark.parametrize(("link", "pool"), SYSTEMS)
def test_extreme_logits_stay_finite(link, pool):
    scores, targets, weights = random_case(3)
    leaf = (scores * 1e4).float().requires_grad_()
    loss = contrast(leaf, targets.float(), weights.float(), 0.01, link, pool)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert leaf.grad.isfinite().all()


@pytest.mark.parametrize(("link", "pool"), SYSTEMS)
def test_nan_scores_are_not_hidden(link, pool):
    scores, targets, _ = random_case(4)
    scores[0] = math.nan
    loss = contrast(scores, targets, None, TAU, link, pool)
    assert loss[0].isnan()
    assert loss[1:].isfinite().all()


def test_the_dtype_of_the_scores_is_kept():
    scores, targets, weights = random_case(5)
    for link, pool in SYSTEMS:
        assert contrast(scores.float(), targets.float(), weights.float(), TAU, link, pool).dtype == torch.float32
        assert contrast(scores, targets, weights, TAU, link, pool).dtype == torch.float64


# --- gradients ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(("link", "pool"), SYSTEMS)
def test_gradcheck(link, pool, weighted):
    scores, targets, weights = random_case(6)
    tau = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    chosen = weights if weighted else None
    leaf = scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda s, t: contrast(s, targets, chosen, t, link, pool), (leaf, tau))


@pytest.mark.parametrize("link", LINKS)
def test_closed_form_gradients_of_pool_out(link):
    scores, targets, weights = random_case(7)
    weights = torch.where(targets > 0, 1.0, weights)
    found = gradient(scores, targets, weights, link=link)
    for i in range(len(scores)):
        z, w, t = (scores[i] / TAU).tolist(), weights[i].tolist(), (targets[i] / targets[i].sum()).tolist()
        negatives = sum(w[j] * math.exp(z[j]) for j in range(len(z)) if t[j] == 0)
        everyone = sum(w[j] * math.exp(z[j]) for j in range(len(z)))
        for j in range(len(z)):
            e = math.exp(z[j])
            if t[j] > 0:
                expected = {
                    "all": e / everyone - t[j],
                    "self": -t[j] * (1 - e / (e + negatives)),
                    "none": -t[j],
                }[link]
            else:
                rivals = sum(t[p] / (math.exp(z[p]) + negatives) for p in range(len(z)) if t[p] > 0)
                expected = {"all": w[j] * e / everyone, "self": w[j] * e * rivals, "none": w[j] * e / negatives}[link]
            assert found[i, j].item() == pytest.approx(expected, abs=1e-12)


def test_closed_form_gradient_of_pool_in():
    scores, targets, weights = random_case(8)
    found = gradient(scores, targets, weights, pool="in")
    for i in range(len(scores)):
        z, w, t = (scores[i] / TAU).tolist(), weights[i].tolist(), (targets[i] / targets[i].sum()).tolist()
        n = log_of_sum(z[j] + math.log(w[j]) for j in range(len(z)) if t[j] == 0 and w[j] > 0)
        pooled = log_of_sum(z[p] + math.log(t[p]) for p in range(len(z)) if t[p] > 0)
        pi = 1 / (1 + math.exp(n - pooled))
        for j in range(len(z)):
            rho = t[j] * math.exp(z[j] - pooled)
            expected = -(1 - pi) * rho if t[j] > 0 else (1 - pi) * w[j] * math.exp(z[j] - n)
            assert found[i, j].item() == pytest.approx(expected, abs=1e-12)


def test_closed_form_gradient_of_pool_split():
    scores, _, weights = random_case(9)
    targets = torch.rand(scores.shape, dtype=torch.float64)
    found = gradient(scores, targets, weights, pool="split")
    for i in range(len(scores)):
        z, w, t = (scores[i] / TAU).tolist(), weights[i].tolist(), targets[i].tolist()
        push = [w[j] * (1 - t[j]) * math.exp(z[j]) for j in range(len(z))]
        pull = [t[j] * math.exp(-z[j]) for j in range(len(z))]
        for j in range(len(z)):
            expected = push[j] / (1 + sum(push)) - pull[j] / (1 + sum(pull))
            assert found[i, j].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e30])
@pytest.mark.parametrize(("link", "pool"), SYSTEMS)
def test_masked_candidates_are_as_if_they_were_not_there(link, pool, value):
    scores, targets, weights = random_case(10)
    weights = torch.where(targets > 0, 1.0, weights)
    masked = weights == 0
    assert masked.any()
    leaf = scores.masked_fill(masked, value).requires_grad_()
    loss = contrast(leaf, targets, weights, TAU, link, pool)
    torch.testing.assert_close(loss, oracle(scores, targets, weights, TAU, link, pool))
    loss.sum().backward()
    assert leaf.grad.isfinite().all()
    assert (leaf.grad[masked] == 0).all()


# --- empty rows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(("link", "pool"), SYSTEMS)
def test_no_positive(link, pool, weighted):
    scores, targets, weights = random_case(11)
    targets[1] = 0
    chosen = weights if weighted else None
    loss = contrast(scores.requires_grad_(), targets, chosen, TAU, link, pool)
    loss.sum().backward()
    assert scores.grad.isfinite().all()
    if pool == "split":  # its negative half: log(1 + Σ W e^z)
        w = (weights if weighted else torch.ones_like(weights))[1]
        assert loss[1].item() == pytest.approx(math.log1p((w * (scores[1] / TAU).exp()).sum().item()))
    else:
        assert loss[1].item() == 0
        assert (scores.grad[1] == 0).all()


@pytest.mark.parametrize(("link", "pool"), SYSTEMS)
def test_no_negative(link, pool):
    scores, targets, weights = random_case(12)
    targets[2, :2] = 1
    weights[2] = targets[2]
    loss = contrast(scores.requires_grad_(), targets, weights, TAU, link, pool)
    loss.sum().backward()
    assert scores.grad.isfinite().all()
    if pool == "split" or (link == "all" and pool == "out"):
        assert loss[2].item() > 0
    else:
        assert loss[2].item() == 0
        assert (scores.grad[2] == 0).all()


@pytest.mark.parametrize("link", ["all", "none"])
def test_a_positive_outside_the_denominator_without_negatives_gives_zero(link):
    scores = torch.tensor([[3.0, 1.0]], requires_grad=True)
    targets, weights = torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2)
    loss = contrast(scores, targets, weights, link=link)
    loss.sum().backward()
    assert loss.item() == 0
    assert (scores.grad == 0).all()


def test_masked_logsumexp_of_an_empty_row_is_minus_infinity_without_gradient():
    z = torch.tensor([[1.0, math.inf], [2.0, 3.0]], requires_grad=True)
    out = masked_logsumexp(z, torch.tensor([[False, False], [True, True]]))
    assert out[0].item() == -math.inf
    assert out[1].item() == pytest.approx(math.log(math.exp(2) + math.exp(3)))
    out.sum().backward()
    assert (z.grad[0] == 0).all()
    assert z.grad[1].sum().item() == pytest.approx(1)


def test_masked_logsumexp_over_another_dimension():
    z, mask = torch.randn(3, 4, 2), torch.rand(3, 4, 2) < 0.7
    expected = torch.where(mask, z.exp(), 0.0).sum(2).log()
    torch.testing.assert_close(masked_logsumexp(z, mask, dim=2), expected)
    torch.testing.assert_close(masked_logsumexp(z, None, dim=2), z.logsumexp(2))


# --- settings that cannot train -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("link", "pool"), [("self", "out"), ("none", "out"), ("all", "in"), ("self", "in")])
def test_dense_targets_need_link_all(link, pool):
    with pytest.raises(ValueError, match="every candidate is a positive"):
        contrast(torch.zeros(2, 3), torch.full((2, 3), 0.5), None, TAU, link, pool)


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
@pytest.mark.parametrize("name", ["targets", "weights"])
@pytest.mark.parametrize(("link", "pool"), SYSTEMS)
def test_targets_and_weights_must_be_finite_and_not_negative(name, value, link, pool):
    scores, targets, weights = random_case(22)
    {"targets": targets, "weights": weights}[name][0, 0] = value
    with pytest.raises(ValueError, match=f"{name} must be finite and at least 0"):
        contrast(scores, targets, weights, TAU, link, pool)


def test_split_needs_targets_up_to_one():
    with pytest.raises(ValueError, match=r"targets in \[0, 1\]"):
        contrast(torch.zeros(1, 2), torch.tensor([[2.0, 0.0]]), pool="split")


@pytest.mark.parametrize("tau", [0.0, -1.0, math.nan, torch.tensor([[1.0], [0.0]]), torch.tensor(math.nan)])
def test_temperature_must_be_positive(tau):
    with pytest.raises(ValueError, match="temperature must be greater than 0"):
        contrast(torch.zeros(2, 2), torch.eye(2), None, tau)


def test_a_row_without_candidates():
    weights = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    with pytest.raises(ValueError, match="at least one candidate"):
        contrast(torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [0.0, 0.0]]), weights)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_nothing_to_contrast(shape):
    with pytest.raises(ValueError, match="there must be an anchor and a candidate"):
        contrast(torch.zeros(shape), torch.zeros(shape))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"targets has shape \(2, 3\), scores \(2, 2\)"):
        contrast(torch.zeros(2, 2), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"weights has shape \(2,\), scores \(2, 2\)"):
        contrast(torch.zeros(2, 2), torch.eye(2), torch.ones(2))


def test_unknown_link_and_pool():
    with pytest.raises(ValueError, match="link is 'most'; choose"):
        contrast(torch.zeros(2, 2), torch.eye(2), link="most")
    with pytest.raises(ValueError, match="pool is 'max'; choose"):
        contrast(torch.zeros(2, 2), torch.eye(2), pool="max")


# --- the mean -----------------------------------------------------------------------------------------------------


def test_weighted_mean():
    losses = torch.tensor([1.0, 2.0, 6.0])
    assert weighted_mean(losses).item() == 3
    assert weighted_mean(losses, torch.tensor([1.0, 1.0, 0.0])).item() == 1.5
    assert weighted_mean(losses, torch.full((3,), 0.2)).item() == pytest.approx(3)
