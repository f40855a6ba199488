"""Group whitening against plain loops, its limits, its gradients, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retriever.training.whitening import inverse_root, permutations, whiten

VIEWS, BATCH, WIDTH = 3, 20, 12


def vectors(seed=0, dtype=torch.float64):
    """Correlated channels of uneven variance, with a mean, (V, B, D)."""
    random = torch.Generator().manual_seed(seed)
    mixing = torch.randn(WIDTH, WIDTH, generator=random, dtype=dtype)
    return torch.randn(VIEWS, BATCH, WIDTH, generator=random, dtype=dtype) @ mixing + 3


def plain(x, groups, shuffle, shrinkage, solver="eigh"):
    """One view and one group at a time, with numpy's decompositions."""
    found = np.empty(x.shape)
    for view, rows in enumerate(x.numpy()):
        width = rows.shape[1] // groups
        order = np.arange(rows.shape[1]) if shuffle is None else shuffle[view].numpy()
        for group in range(groups):
            channels = order[group * width : (group + 1) * width]
            part = rows[:, channels] - rows[:, channels].mean(0)
            covariance = sum(np.outer(row, row) for row in part) / len(part)
            covariance += shrinkage * np.trace(covariance) / width * np.eye(width)
            values, basis = np.linalg.eigh(covariance)
            root = sum(np.outer(u, u) / value**0.5 for value, u in zip(values, basis.T, strict=True))
            if solver == "cholesky":
                root = np.linalg.inv(np.linalg.cholesky(covariance)).T
            found[view][:, channels] = part @ root
    return torch.from_numpy(found)


@pytest.mark.parametrize("groups", [1, 3, 4, 12])
@pytest.mark.parametrize("shuffled", [True, False])
@pytest.mark.parametrize("solver", ["eigh", "cholesky"])
def test_whitening_is_the_plain_loop(groups, shuffled, solver):
    x, shuffle = vectors(), permutations(VIEWS, WIDTH, 5) if shuffled else None
    found = whiten(x, groups, shuffle=shuffle, shrinkage=0.1, solver=solver)
    torch.testing.assert_close(found, plain(x, groups, shuffle, 0.1, solver))


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("solver", ["eigh", "cholesky"])
def test_every_group_has_mean_zero_and_covariance_one_and_channels_keep_their_places(groups, solver):
    x, shuffle = vectors(), permutations(VIEWS, WIDTH, 1)
    found = whiten(x, groups, shuffle=shuffle, shrinkage=0.0, solver=solver)
    for view in range(VIEWS):
        for channels in shuffle[view].view(groups, -1):
            part = found[view][:, channels]
            assert part.mean(0).abs().max() < 2e-6
            assert (part.T @ part / BATCH - torch.eye(len(channels))).abs().max() < 2e-6
    shrunk = whiten(vectors(dtype=torch.float32), groups, shuffle=shuffle)
    assert shrunk.dtype == torch.float32
    pairs = zip(x[0].T, found[0].T, strict=True)
    correlation = torch.stack([torch.corrcoef(torch.stack([a, b]))[0, 1] for a, b in pairs])
    assert groups == 1 or solver == "cholesky" or correlation.mean() > 0.5  # each channel is still most like itself


def test_one_group_and_single_channels_do_not_depend_on_the_shuffle_and_others_do():
    x, shuffle = vectors(), permutations(VIEWS, WIDTH, 2)
    for groups, independent in ((1, True), (WIDTH, True), (3, False)):
        same = torch.allclose(whiten(x, groups, shuffle=shuffle), whiten(x, groups))
        assert same is independent
    standardised = (x - x.mean(1, keepdim=True)) / x.std(1, correction=0, keepdim=True)
    torch.testing.assert_close(whiten(x, WIDTH, shrinkage=0.0), standardised)
    singular = whiten(x, 1, shrinkage=0.0)[0]
    u, _, v = torch.linalg.svd(x[0] - x[0].mean(0), full_matrices=False)
    torch.testing.assert_close(singular, u @ v * BATCH**0.5)  # ZCA is the nearest orthogonal matrix


def test_each_view_has_a_permutation_of_its_own():
    found = permutations(4, 50, 7)
    assert all(sorted(row.tolist()) == list(range(50)) for row in found)
    assert len({tuple(row.tolist()) for row in found}) == 4
    assert torch.equal(found, permutations(4, 50, 7)) and not torch.equal(found, permutations(4, 50, 8))


def test_equal_rows_are_told_apart_by_unequal_permutations_only():
    x = vectors()[:1].expand(2, -1, -1)
    shuffle = permutations(2, WIDTH, 3)
    first, second = whiten(x, 3, shuffle=shuffle)
    assert not torch.allclose(first, second)
    first, second = whiten(x, 3, shuffle=shuffle[:1].expand(2, -1))
    assert torch.equal(first, second)


def test_views_do_not_see_each_other():
    x = vectors()
    changed = x.clone()
    changed[1:] *= 7
    assert torch.equal(whiten(x, 3)[0], whiten(changed, 3)[0])


@pytest.mark.parametrize("groups", [1, 3, 12])
def test_the_sum_of_squares_moves_the_input_only_if_the_matrix_is_a_constant(groups):
    for through, moves in ((False, True), (True, False)):
        x = vectors().requires_grad_()
        whiten(x, groups, shrinkage=0.0, statistics_gradient=through).square().sum().backward()
        assert (x.grad.norm() > 1).item() is moves and (x.grad.norm() < 1e-9).item() is not moves


@pytest.mark.parametrize("solver", ["eigh", "cholesky"])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_the_gradient_through_the_statistics_is_the_numerical_one(groups, solver):
    x = torch.randn(2, 8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    shuffle = permutations(2, 6, 0)

    def whitened(given):
        return whiten(given, groups, shuffle=shuffle, shrinkage=0.01, statistics_gradient=True, solver=solver)

    assert torch.autograd.gradcheck(whitened, (x,))


def test_the_gradient_is_finite_where_eigenvalues_are_equal():
    matrix = (2 * torch.eye(4, dtype=torch.float64)).requires_grad_()
    wanted = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (inverse_root(matrix) * wanted).sum().backward()
    expected = -0.5 * 2**-1.5 * (wanted + wanted.T) / 2  # d S^-1/2 = -1/2 S^-3/2 dS where S commutes with everything
    torch.testing.assert_close(matrix.grad, expected)


@pytest.mark.parametrize("through", [True, False])
@pytest.mark.parametrize("groups", [1, 4])
def test_wide_groups_of_collapsed_vectors_have_finite_values_and_gradients(groups, through):
    for x in (torch.ones(1, 16, 12), torch.randn(1, 16, 1).expand(1, 16, 12)):
        x = x.clone().requires_grad_()
        found = whiten(x, groups, statistics_gradient=through)
        (found * torch.arange(12)).sum().backward()
        assert found.isfinite().all() and x.grad.isfinite().all()


def test_bfloat16_and_autocast_are_computed_in_float32():
    x = vectors(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = whiten(x, 3)
    torch.testing.assert_close(found, whiten(x, 3))
    assert whiten(x.bfloat16(), 3).dtype == torch.float32


@pytest.mark.parametrize(
    ("batch", "groups", "sentence"),
    [
        (20, 5, "12 dimensions cannot be cut into 5 groups; choose a divisor of 12"),
        (12, 1, "12 dimensions in 1 group are 12 a group, which must be less than the batch of 12"),
        (4, 3, "12 dimensions in 3 groups are 4 a group, which must be less than the batch of 4"),
    ],
)
def test_what_has_no_inverse_root_is_refused(batch, groups, sentence):
    with pytest.raises(ValueError, match=sentence):
        whiten(torch.randn(2, batch, 12), groups)
