"""A label space in the shards of two processes: the loss and the gradients of one process that has it whole."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812

from retriever.training import parallel
from retriever.training.objectives import Pairs, label_space_loss

LOSSES = [
    "decoupled",
    "softmax",
    "bce",
    "soft_top_k",
    {"decoupled": 1.0, "soft_top_k": 0.5},
]
SHARDS = (0, 8, 17)  # the second is larger


def case():
    """Queries, labels, positives and exclusions; the last label of every shard is a positive."""
    labels = torch.randn(SHARDS[-1], 6, generator=torch.Generator().manual_seed(0))
    queries, labels = torch.eye(4, 6).double(), F.normalize(labels.double(), dim=1)
    positives = Pairs.of(
        torch.tensor([0, 0, 1, 1, 2]), torch.tensor([7, 16, 2, 3, 16]), torch.tensor([0.5, 1, 1, 0.3, 1])
    )
    excluded = Pairs.of(torch.tensor([0, 2, 3, 0]), torch.tensor([1, 7, 9, 12]))
    return queries, labels, positives, excluded


def gradients(terms):
    """Loss, and gradients of the queries, of this process' labels and of the temperature."""
    rank, world = parallel.rank(), parallel.world()
    queries, labels, positives, excluded = case()
    if world > 1:
        first, count = SHARDS[rank], SHARDS[rank + 1] - SHARDS[rank]
        labels = labels[first : first + count]
        positives, excluded = positives.shard(first, count), excluded.shard(first, count)
    queries = queries.chunk(world)[rank].clone().requires_grad_()  # each process encodes its own
    labels, tau = labels.clone().requires_grad_(), torch.nn.Parameter(torch.tensor(0.3).double())
    loss = label_space_loss(
        parallel.gather(queries),
        labels,
        positives,
        terms,
        excluded=excluded,
        temperature=tau,
        k=torch.tensor([1.0, 2.0, 3.5, 1.0]),
        chunk=3,
        reduce=parallel.reduce,
    )
    loss.backward()
    parallel.sum_gradients([tau])
    return {"loss": loss.detach(), "queries": queries.grad, "labels": labels.grad, "tau": tau.grad}


def test_two_processes_have_the_loss_and_gradients_of_one(tmp_path):
    from test_parallel import launch  # the processes that this file becomes need not import it

    launch([__file__, str(tmp_path)], 2)
    parts = [torch.load(tmp_path / str(rank)) for rank in range(2)]
    for number, terms in enumerate(LOSSES):
        one, first, second = gradients(terms), parts[0][number], parts[1][number]
        for part in (first, second):
            torch.testing.assert_close(part["loss"], one["loss"], atol=1e-12, rtol=0)
            torch.testing.assert_close(part["tau"], one["tau"], atol=1e-10, rtol=0)
        for name in ("queries", "labels"):
            whole = torch.cat((first[name], second[name]))
            torch.testing.assert_close(whole, one[name], atol=1e-10, rtol=0)
            assert whole.abs().max() > 1e-3
        assert first["labels"][-1, 0] < 0, "the last label of the first shard is drawn to its query, a unit vector"
        assert (second["labels"][-1, [0, 2]] < 0).all(), "and that of the second to both of its"


def test_alone_a_reduction_changes_nothing():
    tensor = torch.ones(3)
    assert parallel.reduce(tensor, "sum") is tensor and parallel.reduce(tensor, "max") is tensor


if __name__ == "__main__":
    dist.init_process_group("gloo")
    torch.save([gradients(terms) for terms in LOSSES], Path(sys.argv[1]) / str(parallel.rank()))
    dist.destroy_process_group()
