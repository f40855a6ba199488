"""The soft top-k operator: its sum, its bracket, its gradient and its limits."""

from __future__ import annotations

import math

import pytest
import torch

from retriever.training.objectives import soft_top_k, soft_top_k_loss
from retriever.training.objectives.soft_top_k import block_maxima, block_size, bracket, solve, start


def scores(rows, n, seed=0, dtype=torch.float64, spread=3.0):
    return spread * torch.randn(rows, n, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def bisected(s, k, alpha, steps=32, mask=None):
    """p by plain bisection on a bracket that is wide enough for any row."""
    mask = torch.ones_like(s, dtype=torch.bool) if mask is None else mask
    k = torch.as_tensor(k, dtype=s.dtype).expand(len(s))
    low, high = -s.amax(1) - 100 / alpha, -s.amin(1) + 100 / alpha
    for _ in range(steps):
        t = (low + high) / 2
        total = torch.where(mask, torch.sigmoid(alpha * (s + t[:, None])), 0.0).sum(1)
        low, high = torch.where(total < k, t, low), torch.where(total < k, high, t)
    return torch.where(mask, torch.sigmoid(alpha * (s + ((low + high) / 2)[:, None])), 0.0)


def test_the_worked_example():
    logits = torch.tensor([[-4.5951, -2.1972, -3.1781, 0.0, -1.1527]], dtype=torch.float64)
    p = soft_top_k(logits, 3, alpha=1.0).exp()
    torch.testing.assert_close(
        p, torch.tensor([[0.1462, 0.6531, 0.4139, 0.9443, 0.8426]], dtype=torch.float64), atol=1e-4, rtol=0
    )
    t = torch.logit(p[0, 3]) - logits[0, 3]
    assert float(t) == pytest.approx(2.8301, abs=1e-4)


@pytest.mark.parametrize(("n", "k"), [(2, 1), (7, 0.5), (20, 19), (1000, 5), (5000, 20), (5000, 4990.5)])
@pytest.mark.parametrize("alpha", [0.5, 2.0, 20.0])
def test_equals_bisection(n, k, alpha):
    s = scores(4, n)
    p = soft_top_k(s, k, alpha).exp()
    torch.testing.assert_close(p, bisected(s, k, alpha, steps=64), atol=1e-9, rtol=0)
    torch.testing.assert_close(p.sum(1), torch.full((4,), float(k), dtype=torch.float64), rtol=1e-11, atol=0)


def test_k_may_differ_between_rows_and_the_mask_takes_no_budget():
    s, k = scores(3, 500), torch.tensor([1.0, 4.5, 30.0])
    mask = torch.rand(s.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    log_p = soft_top_k(s, k, 2.0, mask)
    torch.testing.assert_close(log_p.exp(), bisected(s, k, 2.0, 64, mask), atol=1e-11, rtol=0)
    assert (log_p[~mask] == -math.inf).all()
    for row in range(3):
        alone = soft_top_k(s[row, mask[row]][None], float(k[row]))
        torch.testing.assert_close(log_p[row, mask[row]], alone[0])


def test_shifting_the_scores_changes_nothing():
    s = scores(3, 50)
    torch.testing.assert_close(soft_top_k(s + 7.0, 5), soft_top_k(s, 5))


def test_the_gradient_is_that_of_finite_differences():
    s = scores(3, 9, spread=1.0).requires_grad_()
    mask = torch.ones(3, 9, dtype=torch.bool)
    mask[1, 4] = False
    keep = mask.double()
    assert torch.autograd.gradcheck(lambda s: soft_top_k(s, 3, 1.5), s)
    k = torch.tensor([1.0, 2.5, 8.0])
    assert torch.autograd.gradcheck(lambda s: torch.where(mask, soft_top_k(s, k, 0.7, mask), 0.0) * keep, s)


def test_gradient_rows_sum_to_zero_and_dead_scores_have_none():
    s = scores(4, 200).requires_grad_()
    mask = torch.arange(200) % 3 > 0
    targets = torch.zeros(4, 200, dtype=torch.float64)
    targets[:, [1, 7]] = 1
    soft_top_k_loss(s, targets, 5, 2.0, mask.expand(4, -1)).sum().backward()
    torch.testing.assert_close(s.grad.sum(1), torch.zeros(4, dtype=torch.float64), atol=1e-10, rtol=0)
    assert (s.grad[:, ~mask] == 0).all() and s.grad.abs().max() > 1e-3
    assert (s.grad[:, [1, 7]] <= 0).all()


def test_a_dead_score_poisons_nothing_even_if_its_gradient_is_asked_for():
    s = scores(1, 6).requires_grad_()
    mask = torch.tensor([[True, True, True, True, True, False]])
    soft_top_k(s, 2, 2.0, mask).sum().backward()
    assert s.grad.isfinite().all() and s.grad[0, 5] == 0


def test_a_steep_operator_is_the_hard_top_k():
    s = scores(5, 300)
    hard = torch.zeros_like(s).scatter_(1, s.topk(7).indices, 1.0)
    torch.testing.assert_close(soft_top_k(s, 7, alpha=1e5).exp(), hard, atol=1e-6, rtol=0)


@pytest.mark.parametrize("n", [131_073, 1_300_000])
def test_constant_scores_share_k_evenly(n):
    s = torch.full((1, n), 0.7, requires_grad=True)
    log_p = soft_top_k(s, 5)
    torch.testing.assert_close(log_p, torch.full((1, n), math.log(5 / n)), rtol=1e-6, atol=0)
    log_p[0, 0].backward()
    assert s.grad.isfinite().all() and s.grad[0, 0] > 1.9


def test_saturated_rows_give_no_nan():
    s = torch.full((3, 40), -1e4)
    s[:, :5] = 1e4
    s[1, 5] = 1e4  # six at the top, five to choose
    s[2] = 0.0
    s.requires_grad_()
    targets = torch.zeros(3, 40)
    targets[:, [0, 39]] = 1
    loss = soft_top_k_loss(s, targets, 5)
    loss.sum().backward()
    assert loss.isfinite().all() and s.grad.isfinite().all()
    p = soft_top_k(s, 5).exp()
    torch.testing.assert_close(p[1, :6], torch.full((6,), 5 / 6))
    torch.testing.assert_close(p[2], torch.full((40,), 5 / 40))


def test_fp32_sums_to_k_and_nan_stays_nan():
    s = scores(3, 30_000, dtype=torch.float32, spread=7.0)
    torch.testing.assert_close(soft_top_k(s, 5).exp().sum(1), torch.full((3,), 5.0), rtol=1e-5, atol=0)
    s[0, 3] = math.nan
    assert soft_top_k(s, 5)[0].isnan().all() and not soft_top_k(s, 5)[1:].isnan().any()


def test_fp32_is_as_good_far_from_zero():
    s = scores(4, 3000, dtype=torch.float32) + 4096  # whole multiples of 2^-11
    torch.testing.assert_close(soft_top_k(s, 5).exp(), bisected(s.double(), 5, 2.0, 64).float(), atol=1e-6, rtol=0)


def test_a_row_of_which_few_are_live_starts_inside_its_bracket():
    """Blocks without a live score have no maximum."""
    s, mask = scores(2, 5000), torch.zeros(2, 5000, dtype=torch.bool)
    mask[:, 100:110] = True
    torch.testing.assert_close(soft_top_k(s, 5, 2.0, mask).exp(), bisected(s, 5, 2.0, 64, mask), atol=1e-9, rtol=0)


def test_infinite_scores_end():
    s = scores(2, 30)
    s[0, 3] = math.inf
    assert not soft_top_k(s, 5)[1].isnan().any()


@pytest.mark.parametrize(("n", "spread"), [(4_000, 6.0), (131_072, 6.0), (131_072, 1.5)])
def test_a_few_passes_suffice(n, spread):
    """Random scores of a cosine at temperature 0.05, of which a few are far ahead."""
    s = scores(16, n, dtype=torch.float32, spread=spread)
    s[:8, :3] += 12.0
    z, k, live = 2 * s, torch.full((16,), 5.0, dtype=torch.float64), torch.full((16,), n)
    seen = []

    def sums(offset):
        p = torch.sigmoid(z + offset[:, None])
        seen.append(float((p.sum(1).double() / k).log().abs().max()))
        return p.sum(1).double(), (p - p * p).sum(1).double()

    solve(sums, k, *bracket(z.amin(1), z.amax(1), k, live), start(block_maxima(z, 5, block_size(n, 5)), k))
    steps = next(i for i, error in enumerate(seen) if error <= 1e-4)
    assert steps <= 4 and len(seen) <= 6 and seen[-1] <= 1e-5


def test_the_bracket_holds_the_root_and_its_ends_do_not_cross_it():
    s = scores(6, 50)
    k = torch.tensor([0.3, 1, 7, 25, 49, 49.9], dtype=torch.float64)
    low, high = bracket(s.amin(1), s.amax(1), k, torch.full((6,), 50))
    for t, sign in ((low, -1), (high, 1)):
        total = torch.sigmoid(s + t[:, None]).sum(1)
        assert (sign * (total - k) >= 0).all()


def test_block_maxima_stay_below_the_true_order():
    s = scores(3, 2000)
    exact, cheap = s.topk(5).values, block_maxima(s, 5, 10)
    assert cheap.shape == (3, 5) and (cheap <= exact).all() and torch.equal(cheap[:, 0], exact[:, 0])
    assert torch.equal(block_maxima(s, 5, 1), exact)
    assert block_maxima(s[:, :15], 5, 10).shape == (3, 1) and block_size(2000, 5) == 64 and block_size(1000, 5) == 1


def test_the_loss_of_a_row_is_the_mean_over_its_positives():
    s = scores(2, 8)
    targets = torch.zeros(2, 8, dtype=torch.float64)
    targets[0, 1], targets[0, 4] = 1.0, 3.0
    log_p = soft_top_k(s, 2)
    expected = -(0.25 * log_p[0, 1] + 0.75 * log_p[0, 4])
    torch.testing.assert_close(soft_top_k_loss(s, targets, 2), torch.stack([expected, torch.zeros_like(expected)]))


@pytest.mark.parametrize("k", [0, -1, 6, 7.5, math.nan, torch.tensor([1.0, 6.0])])
def test_k_must_leave_a_choice(k):
    with pytest.raises(ValueError, match="k must lie between 0 and the live scores"):
        soft_top_k(scores(2, 6), k)


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="mask has shape"):
        soft_top_k(scores(2, 6), 2, mask=torch.ones(6, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="one for each of 2 rows"):
        soft_top_k(scores(2, 6), torch.tensor([1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match="alpha is 0"):
        soft_top_k(scores(2, 6), 2, alpha=0)
