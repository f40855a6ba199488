"""Identities that tie the links and pools of the loss core to each other and to known losses."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_oracle import SYSTEMS, TAU, gradient, random_case

from retriever.training.objectives import contrast, masked_logsumexp


def one_positive(seed, anchors=5, candidates=8):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(anchors, candidates, generator=generator, dtype=torch.float64)
    labels = torch.randint(candidates, (anchors,), generator=generator)
    return scores, labels, F.one_hot(labels, candidates).double()


@pytest.mark.parametrize(("link", "pool"), [("all", "out"), ("self", "out"), ("all", "in")])
def test_one_positive_is_cross_entropy(link, pool):
    scores, labels, targets = one_positive(0)
    expected = F.cross_entropy(scores / TAU, labels, reduction="none")
    torch.testing.assert_close(contrast(scores, targets, None, TAU, link, pool), expected)


def test_the_weight_of_a_positive_is_read_by_all_only():
    scores, _, targets = one_positive(1)
    weights = 1 + targets
    for link, pool in SYSTEMS[1:4]:
        plain, weighted = (contrast(scores, targets, w, TAU, link, pool) for w in (None, weights))
        torch.testing.assert_close(plain, weighted)
    assert (contrast(scores, targets, weights, TAU) > contrast(scores, targets, None, TAU)).all()


def test_weight_zero_on_the_positive_turns_all_into_none():
    scores, _, targets = one_positive(2)
    torch.testing.assert_close(
        contrast(scores, targets, 1 - targets, TAU, "all"), contrast(scores, targets, None, TAU, "none")
    )


def test_infonce_is_softplus_of_dcl_and_couples_its_gradient():
    scores, labels, targets = one_positive(3)
    dcl, infonce = (contrast(scores, targets, None, TAU, link) for link in ("none", "all"))
    torch.testing.assert_close(F.softplus(dcl), infonce)
    rest = 1 - (scores / TAU).softmax(1).gather(1, labels[:, None])
    torch.testing.assert_close(gradient(scores, targets), rest * gradient(scores, targets, link="none"))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_none_is_below_self_is_below_all(seed):
    scores, targets, _ = random_case(seed)
    none, self_, all_ = (contrast(scores, targets, None, TAU, link) for link in ("none", "self", "all"))
    assert (none <= self_ + 1e-12).all()
    assert (self_ <= all_ + 1e-12).all()


def test_dense_targets_are_soft_cross_entropy():
    scores, _, _ = random_case(13)
    targets = torch.rand(scores.shape, dtype=torch.float64)
    share = targets / targets.sum(1, keepdim=True)
    z = scores / TAU
    torch.testing.assert_close(contrast(scores, targets, None, TAU), -(share * z.log_softmax(1)).sum(1))
    torch.testing.assert_close(gradient(scores, targets), z.softmax(1) - share)


def test_label_smoothing():
    scores, labels, targets = one_positive(4)
    smoothed = 0.9 * targets + 0.1 / scores.shape[1]
    expected = F.cross_entropy(scores / TAU, labels, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(contrast(scores, smoothed, None, TAU), expected)


def test_unnormalised_all_is_the_plain_multilabel_softmax():
    scores, targets, _ = random_case(14)
    total = contrast(scores, targets, None, TAU, normalise=False)
    torch.testing.assert_close(total, -(targets * (scores / TAU).log_softmax(1)).sum(1))
    torch.testing.assert_close(total, targets.sum(1) * contrast(scores, targets, None, TAU))


def test_in_compares_the_mean_positive_with_the_negatives():
    scores, targets, weights = random_case(15)
    e = (scores / TAU).exp()
    mean = (e * targets).sum(1) / targets.sum(1)
    negatives = (e * weights * (1 - targets)).sum(1)
    expected = -(mean / (mean + negatives)).log()
    torch.testing.assert_close(contrast(scores, targets, weights, TAU, pool="in"), expected)


def test_unnormalised_in_is_supcon_in_less_a_constant():
    scores, targets, _ = random_case(16)
    e = (scores / TAU).exp()
    supcon_in = -((e * targets).sum(1) / targets.sum(1) / e.sum(1)).log()
    found = contrast(scores, targets, None, TAU, pool="in", normalise=False)
    torch.testing.assert_close(found, supcon_in - targets.sum(1).log())


def test_weighted_in_is_collossl():
    scores, targets, weights = random_case(17)
    e = (scores / TAU).exp()
    share = targets * torch.rand(scores.shape, dtype=torch.float64)
    positives, negatives = (share * e).sum(1), (weights * e * (targets == 0)).sum(1)
    found = contrast(scores, share, weights, TAU, pool="in", normalise=False)
    torch.testing.assert_close(found, -(positives / (positives + negatives)).log())


def test_split_multiplies_out():
    scores, targets, _ = random_case(18)
    z = scores / TAU
    p, n = (targets * (-z).exp()).sum(1), ((1 - targets) * z.exp()).sum(1)
    torch.testing.assert_close(contrast(scores, targets, None, TAU, pool="split"), (1 + p + n + p * n).log())


def test_split_gradients_at_positives_do_not_see_negatives():
    scores, targets, _ = random_case(19)
    moved = scores + (1 - targets) * torch.randn(scores.shape, dtype=torch.float64)
    before, after = (gradient(s, targets, pool="split") * targets for s in (scores, moved))
    torch.testing.assert_close(before, after)


def test_split_of_one_positive_and_one_negative_is_binary_cross_entropy():
    scores = torch.randn(6, 2, dtype=torch.float64)
    targets = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(6, 2)
    expected = F.binary_cross_entropy_with_logits(scores / TAU, targets, reduction="none").sum(1)
    torch.testing.assert_close(contrast(scores, targets, None, TAU, pool="split"), expected)


def test_isogclr_objective():
    scores, _, targets = one_positive(5)
    tau, rho = 0.4, 1.3
    others = targets == 0
    inner = ((scores - (scores * targets).sum(1, keepdim=True)) / tau).exp()
    robust = tau * ((inner * others).sum(1) / others.sum(1)).log() + tau * rho
    found = contrast(scores, targets, None, tau, link="none")
    torch.testing.assert_close(tau * (found - others.sum(1).log() + rho), robust)


def test_scaling_every_weight_adds_its_log_to_none():
    scores, targets, weights = random_case(20)
    base = contrast(scores, targets, weights, TAU, link="none")
    torch.testing.assert_close(contrast(scores, targets, 5 * weights, TAU, link="none"), base + math.log(5))


def test_logsumexp_over_groups_of_candidates_is_the_whole():
    scores, _, weights = random_case(21)
    mask = weights > 0
    groups = torch.stack([masked_logsumexp(scores[:, part], mask[:, part]) for part in (slice(3), slice(3, None))], 1)
    torch.testing.assert_close(masked_logsumexp(groups, groups > -math.inf), masked_logsumexp(scores, mask))


def test_two_pass_embedding_cache_gives_the_full_gradient():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    layer = torch.nn.Linear(5, 4, dtype=torch.float64)
    contrast(layer(inputs) @ layer(inputs).T, torch.eye(6, dtype=torch.float64)).mean().backward()
    full, layer.weight.grad = layer.weight.grad, None
    cached = layer(inputs).detach().requires_grad_()
    contrast(cached @ cached.T, torch.eye(6, dtype=torch.float64)).mean().backward()
    for chunk, grad in zip(inputs.split(2), cached.grad.split(2), strict=True):
        layer(chunk).backward(grad)
    torch.testing.assert_close(layer.weight.grad, full)
