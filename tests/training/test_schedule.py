"""The learning rate's end points and shape."""

from __future__ import annotations

import math

import pytest

from retriever.training.recipe import Schedule
from retriever.training.schedule import rate


def test_warm_up_rises_to_the_peak_and_decay_falls_to_zero():
    schedule = Schedule(steps=500_000, warmup=20_000, decay="linear")
    assert rate(schedule, 0) == 1 / 20_000
    assert rate(schedule, 19_999) == 1.0 and rate(schedule, 20_000) == 1.0
    assert rate(schedule, 260_000) == 0.5
    assert rate(schedule, 499_999) == pytest.approx(1 / 480_000)


@pytest.mark.parametrize(("decay", "middle"), [("linear", 0.5), ("cosine", 0.5), ("none", 1.0)])
def test_decays(decay, middle):
    schedule = Schedule(steps=100, decay=decay)
    assert rate(schedule, 0) == 1.0
    assert rate(schedule, 50) == pytest.approx(middle)
    assert rate(Schedule(steps=100, decay="cosine"), 25) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert all(rate(schedule, step) >= rate(schedule, step + 1) > 0 for step in range(99))
