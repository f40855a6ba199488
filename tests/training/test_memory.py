"""Momentum and queue: what moves when, what is forgotten first, what is saved."""

from __future__ import annotations

import encoders
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever.training.memory import Momentum, Queue

FAMILIES = {"static": encoders.static, "small": encoders.small}


def weights(encoder):
    return torch.cat([p.detach().flatten() for p in encoder.stack.parameters()])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("m", [0.0, 0.3, 1.0])
def test_the_average_moves_by_its_share_and_takes_no_gradient(family, m):
    encoder = FAMILIES[family]()
    momentum = Momentum(encoder, m)
    before = weights(encoder)
    encoders.damage(encoder)
    momentum.update(encoder.stack)
    torch.testing.assert_close(weights(momentum.encoder), m * before + (1 - m) * weights(encoder))
    assert not any(p.requires_grad for p in momentum.encoder.stack.parameters())
    assert any(p.requires_grad for p in encoder.stack.parameters())


def test_the_average_is_of_its_own_and_never_drops_out():
    encoder = encoders.small(dropout=0.5)
    momentum = Momentum(encoder, 0.5)
    encoder.stack.train()
    assert not momentum.encoder.stack.training
    first, second = (momentum.encoder.encode(encoders.TEXTS, dtype="float32") for _ in range(2))
    assert np.array_equal(first, second)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 20), st.lists(st.integers(1, 20), max_size=12))
def test_the_queue_keeps_the_last_keys(size, pushes):
    queue, seen = Queue(size, 3, torch.device("cpu")), []
    for number in pushes:
        count = min(number, size)
        ids = torch.arange(len(seen), len(seen) + count)
        queue.push(ids[:, None].float().expand(-1, 3), torch.stack([ids, -ids], 1))
        seen += ids.tolist()
        kept = seen[-size:]
        assert len(queue) == len(kept)
        assert sorted(queue.ids[:, 0].tolist()) == kept
        assert torch.equal(queue.vectors[:, 2], queue.ids[:, 0].float())
        assert torch.equal(queue.ids[:, 1], -queue.ids[:, 0])


def test_a_loaded_queue_goes_on_where_it_was():
    one, other = (Queue(5, 2, torch.device("cpu")) for _ in range(2))
    for start in (0, 3):
        one.push(torch.arange(start, start + 3)[:, None].float().expand(-1, 2), torch.full((3, 2), start))
    other.load({name: value.clone() for name, value in one.state.items()})
    for queue in (one, other):
        queue.push(torch.full((2, 2), 9.0), torch.full((2, 2), 9))
    assert all(torch.equal(one.state[name], other.state[name]) for name in one.state)


def test_an_empty_queue_has_no_keys():
    queue = Queue(4, 2, torch.device("cpu"))
    assert queue.vectors.shape == (0, 2) and queue.ids.shape == (0, 2)
