"""Ranking distillation against plain loops, in its limits, and its gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck

from retriever.training.objectives import consistency, listmle, listnet, others


def lists(rows=4, candidates=6, seed=0):
    """The student's and the teacher's scores."""
    random = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(rows, candidates, generator=random, dtype=torch.float64) for _ in range(2))


def softmax(row, temperature):
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def test_listnet_equals_plain_loops():
    scores, teacher = lists()
    expected = []
    for row, target in zip(scores.tolist(), teacher.tolist(), strict=True):
        p, q = softmax(target, 0.7), softmax(row, 0.3)
        expected.append(-sum(a * math.log(b) for a, b in zip(p, q, strict=True)))
    assert listnet(scores, teacher, 0.3, 0.7).tolist() == pytest.approx(expected)


def test_listmle_equals_plain_loops():
    scores, teacher = lists()
    expected = []
    for row, target in zip(scores.tolist(), teacher.tolist(), strict=True):
        order = sorted(range(6), key=lambda i: -target[i])
        total = 0.0
        for place, best in enumerate(order):
            left = sum(math.exp(row[i] / 0.3) for i in order[place:])
            total -= math.log(math.exp(row[best] / 0.3) / left)
        expected.append(total / 6)
    assert listmle(scores, teacher, 0.3).tolist() == pytest.approx(expected)


def test_consistency_equals_plain_loops():
    first, second = lists()
    expected = []
    for one, other in zip(first.tolist(), second.tolist(), strict=True):
        p, q = softmax(one, 0.5), softmax(other, 0.5)
        middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
        sides = [sum(a * math.log(a / m) for a, m in zip(side, middle, strict=True)) for side in (p, q)]
        expected.append(sum(sides) / 2)
    assert consistency(first, second, 0.5).tolist() == pytest.approx(expected)


def test_a_student_equal_to_its_teacher_has_the_least_listnet():
    scores, teacher = lists()
    least = torch.distributions.Categorical(logits=teacher / 0.2).entropy()
    torch.testing.assert_close(listnet(teacher, teacher, 0.2, 0.2), least)
    assert (listnet(scores, teacher, 0.2, 0.2) > least).all()


def test_listmle_looks_at_the_teachers_order_alone_and_falls_as_the_order_is_met():
    scores, teacher = lists()
    torch.testing.assert_close(listmle(scores, teacher), listmle(scores, teacher.exp() * 3))
    right, wrong = listmle(teacher * 10, teacher), listmle(-teacher * 10, teacher)
    assert (right < 0.1).all() and (wrong > 10).all()


def test_consistency_is_0_for_equal_views_symmetric_and_at_most_log_2():
    first, second = lists()
    torch.testing.assert_close(consistency(first, first), torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(consistency(first, second), consistency(second, first))
    apart = consistency(torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 9.0]]), 0.01)
    assert apart.item() == pytest.approx(math.log(2)) and (consistency(first, second) <= math.log(2)).all()


def test_a_score_far_away_neither_overflows_nor_loses_its_gradient():
    scores = torch.tensor([[50.0, -50.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[0.0, 1.0, 2.0]])
    total = listnet(scores, teacher) + listmle(scores, teacher) + consistency(scores, teacher)
    assert torch.isfinite(total).all()
    assert torch.isfinite(torch.autograd.grad(total.sum(), scores)[0]).all()


def test_gradients():
    scores, teacher = lists(3, 4)
    scores.requires_grad_()
    assert gradcheck(lambda x: listnet(x, teacher, 0.5), scores)
    assert gradcheck(lambda x: listmle(x, teacher, 0.5), scores)
    assert gradcheck(lambda x, y: consistency(x, y, 0.5), (scores, teacher.requires_grad_()))
    assert torch.autograd.grad(listnet(scores, teacher).sum(), teacher, allow_unused=True) == (None,)


def test_the_others_of_a_batch():
    assert others(torch.arange(9).view(3, 3)).tolist() == [[1, 2], [3, 5], [6, 7]]


@pytest.mark.parametrize("loss", [listnet, listmle, consistency])
def test_what_makes_no_sense_is_refused(loss):
    scores, teacher = lists()
    with pytest.raises(ValueError, match=r"scores are \(4, 6\) and the teacher's \(4, 5\)"):
        loss(scores, teacher[:, :5])
    with pytest.raises(ValueError, match="temperature must be positive, not 0"):
        loss(scores, teacher, 0)
