"""The loss core as plain loops: what the tests of the objectives compare with."""

from __future__ import annotations

import math

import torch

from retriever.training.objectives import contrast

LINKS = ("all", "self", "none")
POOLS = ("out", "in", "split")
SYSTEMS = [("all", "out"), ("self", "out"), ("none", "out"), ("all", "in"), ("all", "split")]
TAU = 0.3


def log_of_sum(values):
    """Log of a sum of exponentials, in plain Python."""
    values = list(values)
    if not values:
        return -math.inf
    top = max(values)
    return top + math.log(sum(math.exp(v - top) for v in values))


def softplus(x):
    return math.log1p(math.exp(-abs(x))) + max(x, 0.0)


def oracle(scores, targets, weights=None, tau=TAU, link="all", pool="out", normalise=True):
    """The table of links and pools, one anchor and one candidate at a time."""
    losses = []
    for i, row in enumerate(scores.tolist()):
        size = len(row)
        z = [s / tau for s in row]
        t = targets[i].tolist()
        w = [1.0] * size if weights is None else weights[i].tolist()
        positives = [j for j in range(size) if t[j] > 0]
        negatives = [j for j in range(size) if t[j] == 0 and w[j] > 0]
        total = sum(t) if normalise and positives else 1.0
        n = log_of_sum(z[j] + math.log(w[j]) for j in negatives)
        everyone = log_of_sum(z[j] + math.log(w[j]) for j in range(size) if w[j] > 0)
        loss = 0.0
        if pool == "split":
            push = log_of_sum(z[j] + math.log(w[j] * (1 - t[j])) for j in range(size) if w[j] * (1 - t[j]) > 0)
            loss = softplus(push) + softplus(log_of_sum(math.log(t[j]) - z[j] for j in positives))
        elif pool == "in":
            if positives:
                loss = softplus(n - log_of_sum(z[p] + math.log(t[p] / total) for p in positives))
        else:
            for p in positives:
                if link == "all" and everyone > -math.inf:
                    loss += t[p] / total * (everyone - z[p])
                if link == "self":
                    loss += t[p] / total * softplus(n - z[p])
                if link == "none" and negatives:
                    loss += t[p] / total * (n - z[p])
        losses.append(loss)
    return torch.tensor(losses, dtype=torch.float64)


def random_case(seed, anchors=4, candidates=7, positives=3):
    """Scores, 0/1 targets with 1 to ``positives`` a row, and weights of which some are 0 on negatives."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(anchors, candidates, generator=generator, dtype=torch.float64)
    targets = torch.zeros_like(scores)
    for i in range(anchors):
        count = int(torch.randint(1, positives + 1, (1,), generator=generator))
        targets[i, torch.randperm(candidates, generator=generator)[:count]] = 1
    weights = torch.rand(scores.shape, generator=generator, dtype=torch.float64) * 2
    dropped = (torch.rand(scores.shape, generator=generator) < 0.3) & (targets == 0)
    return scores, targets, weights.masked_fill(dropped, 0)


def gradient(scores, *args, **kwargs):
    """Gradient with respect to the logits z = s / τ."""
    leaf = (scores / TAU).clone().requires_grad_()
    contrast(leaf, *args, temperature=1.0, **kwargs).sum().backward()
    return leaf.grad
