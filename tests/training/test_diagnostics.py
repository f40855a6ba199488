"""Diagnostics against plain loops and their limits."""

from __future__ import annotations

import math
import statistics

import pytest
import torch

from retriever.training import diagnostics
from retriever.training.diagnostics import alignment, diagnose, effective_rank, singular_values, uniformity


@pytest.mark.parametrize("count", [12, 20])
def test_values_equal_plain_loops(count):
    generator = torch.Generator().manual_seed(0)
    q, d = torch.randn(12, 5, generator=generator), torch.randn(count, 5, generator=generator)
    values = diagnose(q, d)

    def unit(v):
        return [float(x) / math.sqrt(sum(float(y) ** 2 for y in v)) for x in v]

    def square_distance(a, b):
        return sum((x - y) ** 2 for x, y in zip(unit(a), unit(b), strict=True))

    hits = sum(max(range(count), key=lambda j: float(q[i] @ d[j])) == i for i in range(12))
    potentials = [math.exp(-2 * square_distance(d[i], d[j])) for i in range(count) for j in range(i)]
    assert values["accuracy"] == pytest.approx(hits / 12)
    assert values["alignment"] == pytest.approx(sum(square_distance(q[i], d[i]) for i in range(12)) / 12, rel=1e-5)
    spreads = [statistics.stdev(q[:, column].tolist()) for column in range(5)]
    assert values["std_queries"] == pytest.approx(sum(spreads) / 5, rel=1e-5)
    assert values["uniformity"] == pytest.approx(math.log(sum(potentials) / len(potentials)), rel=1e-4)


def test_effective_rank_is_one_in_collapse_and_the_dimension_when_even():
    line = torch.outer(torch.linspace(-1, 1, 50), torch.tensor([1.0, 2.0, 3.0]))
    assert float(effective_rank(singular_values(line))) == pytest.approx(1.0, abs=1e-3)
    even = torch.cat([torch.eye(6), -torch.eye(6)])
    assert float(effective_rank(singular_values(even))) == pytest.approx(6.0, abs=1e-3)


def test_perfect_pairs_are_aligned_and_accurate():
    vectors = torch.eye(8)
    values = diagnose(vectors, vectors * 3)
    assert values["accuracy"] == 1.0 and values["alignment"] == pytest.approx(0.0, abs=1e-6)


def test_identical_vectors_give_finite_values_and_no_spread():
    values = diagnose(torch.ones(4, 3), torch.ones(4, 3))
    assert all(math.isfinite(value) for value in values.values())
    assert values["std_queries"] == values["std_documents"] == 0


def test_uniformity_is_the_same_in_blocks(monkeypatch):
    units = torch.nn.functional.normalize(torch.randn(23, 4, generator=torch.Generator().manual_seed(1)))
    whole = float(uniformity(units))
    potentials = [math.exp(-2 * float((units[i] - units[j]).square().sum())) for i in range(23) for j in range(i)]
    assert whole == pytest.approx(math.log(sum(potentials) / len(potentials)), rel=1e-5)
    monkeypatch.setattr(diagnostics, "BLOCK", 5)
    assert float(uniformity(units)) == pytest.approx(whole, rel=1e-6)


def test_alignment_and_uniformity_at_their_limits():
    basis = torch.eye(6)
    assert float(uniformity(basis)) == pytest.approx(-4)  # every distance is √2
    assert float(uniformity(basis[:1].repeat(6, 1))) == 0
    assert float(alignment(basis, basis)) == 0 and float(alignment(basis, -basis)) == 4


def test_singular_values_are_those_of_centred_vectors_and_zero_where_only_noise_is():
    vectors = torch.randn(9, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 3
    values = singular_values(vectors)
    centred = vectors - vectors.mean(0)
    expected = torch.linalg.eigvalsh(centred.T @ centred).flip(0).sqrt()
    assert values.tolist() == pytest.approx(expected.tolist(), rel=1e-9)
    noisy = torch.ones(50, 8) + 1e-7 * torch.randn(50, 8, generator=torch.Generator().manual_seed(3))
    assert singular_values(noisy).tolist() == [0] * 8 and float(effective_rank(singular_values(noisy))) == 1
