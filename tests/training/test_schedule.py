"""The learning rate's end points and shape."""

from __future__ import annotations

import math

import pytest

from retriever.training.recipe import Schedule
from retriever.training.recipebook import load_recipe
from retriever.training.schedule import bounded, rate


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


def recipe(**settings):
    base = {"steps": 1_000, "warmup": 100, "every": 200, "batch.size": 64}
    return load_recipe("contriever-cpu", base | settings)


def test_a_small_corpus_is_read_so_often_and_no_more():
    short = bounded(recipe(epochs=10), examples=640, batch=64)
    assert (short.schedule.steps, short.schedule.warmup, short.selection.every) == (100, 10, 20)
    assert rate(short.schedule, 9) == 1.0 and rate(short.schedule, 99) == pytest.approx(1 / 90)


def test_a_large_corpus_takes_the_steps_of_the_recipe():
    asked = recipe(epochs=10)
    assert bounded(asked, examples=6_400, batch=64) is asked
    assert bounded(recipe(epochs=None), examples=64, batch=64).schedule.steps == 1_000


def test_batches_that_are_accumulated_are_read_too():
    assert bounded(recipe(epochs=10, accumulate=4), examples=640, batch=64).schedule.steps == 25


def test_at_least_one_step_is_taken():
    short = bounded(recipe(epochs=0.001), examples=64, batch=64)
    assert (short.schedule.steps, short.schedule.warmup, short.selection.every) == (1, 0, 1)
