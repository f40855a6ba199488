"""Which parameter gets which optimizer, and the common gradient norm."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from retriever.data.tokenizers import WordTokenizer
from retriever.encoder import Encoder
from retriever.training.optimizers import build_optimizers, clip
from retriever.training.recipe import Optimizer

SETTINGS = Optimizer(lr=0.1, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.5)


def test_a_table_gets_sparse_adam_and_learned_weights_get_adamw():
    tokenizer = WordTokenizer.train(["a b c", "a b"], min_documents=1)
    fixed = Encoder.static(tokenizer, dimension=4)
    learned = Encoder.static(tokenizer, dimension=4, learn_weights=True)
    assert [type(o).__name__ for o in build_optimizers(fixed.stack, SETTINGS)] == ["SparseAdam"]
    sparse, dense = build_optimizers(learned.stack, SETTINGS)
    assert type(sparse).__name__ == "SparseAdam" and type(dense).__name__ == "AdamW"
    assert sparse.param_groups[0]["betas"] == (0.8, 0.9) and sparse.param_groups[0]["eps"] == 1e-6
    assert [p.shape for p in dense.param_groups[0]["params"]] == [(4,)]


def test_biases_and_norms_do_not_decay():
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    (optimizer,) = build_optimizers(model, SETTINGS)
    decayed, plain = optimizer.param_groups
    assert [p.ndim for p in decayed["params"]] == [2] and decayed["weight_decay"] == 0.5
    assert [p.ndim for p in plain["params"]] == [1, 1, 1] and plain["weight_decay"] == 0.0


def test_clipping_counts_sparse_and_dense_gradients_together():
    table = nn.Parameter(torch.zeros(5, 2))
    bias = nn.Parameter(torch.zeros(2))
    table.grad = torch.sparse_coo_tensor(
        [[1, 1, 3]], [[1.0, 0.0], [2.0, 0.0], [0.0, 4.0]], (5, 2), check_invariants=True
    )
    bias.grad = torch.tensor([0.0, 12.0])
    dense = torch.cat([table.grad.to_dense().flatten(), bias.grad])  # row 1 occurs twice: 3, so the norm is 13
    assert clip([table, bias], 1.0).item() == pytest.approx(13.0)
    clipped = torch.cat([table.grad.to_dense().flatten(), bias.grad])
    torch.testing.assert_close(clipped, dense / 13, atol=1e-6, rtol=1e-5)


def test_small_gradients_are_left_alone():
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([0.3, 0.4])
    assert clip([weight, nn.Parameter(torch.zeros(1))], 1.0).item() == pytest.approx(0.5)
    assert weight.grad.tolist() == pytest.approx([0.3, 0.4])
