"""The training head: what it computes, that it trains, and that neither cache nor processes nor resuming change it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import tiny
import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file
from test_parallel import launch

from retriever.encoder import Encoder
from retriever.errors import RecipeError
from retriever.training import parallel
from retriever.training.projection import TrainingHead
from retriever.training.recipe import Head
from retriever.training.recipebook import load_recipe
from retriever.training.trainer import Trainer
from retriever.training.whitening import permutations, whiten

WIDTH, BATCH = 8, 12


def vectors(count, seed):
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def head(batch=BATCH, **settings):
    return TrainingHead(Head(**settings), WIDTH, batch, seed=3).double()


def test_a_projection_is_a_dense_layer_and_tanh_on_the_unit_sphere():
    found = head(projection="mlp")
    queries, documents = vectors(BATCH, 0), vectors(2 * BATCH, 1)
    weight, bias = found.linear.weight, found.linear.bias
    with torch.no_grad():
        bias += 0.3
    for given, got in zip((queries, documents), found(queries, documents, 0), strict=True):
        expected = torch.stack([torch.tanh(weight @ row + bias) for row in given])
        torch.testing.assert_close(got, expected / expected.norm(dim=1, keepdim=True))


def test_the_projection_starts_small_and_from_its_seed():
    one, two = (TrainingHead(Head(projection="mlp"), 200, 64, seed) for seed in (0, 0))
    other = TrainingHead(Head(projection="mlp"), 200, 64, 1)
    assert one.linear.bias.eq(0).all() and one.linear.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert one.linear.weight.equal(two.linear.weight) and not one.linear.weight.equal(other.linear.weight)


@pytest.mark.parametrize(
    ("whitening", "groups"),
    [({"whiten": "group", "groups": 2}, 2), ({"whiten": "zca"}, 1), ({"whiten": "standardise"}, 8)],
)
def test_each_view_is_whitened_by_itself_before_the_projection(whitening, groups):
    queries, documents = vectors(BATCH, 0), vectors(2 * BATCH, 1)
    found = head(projection="mlp", **whitening)
    got = torch.cat(found(queries, documents, 9))
    views = torch.stack([queries, documents[:BATCH], documents[BATCH:]])
    expected = torch.tanh(found.linear(whiten(views, groups, shuffle=permutations(3, WIDTH, 9))))
    torch.testing.assert_close(got, F.normalize(expected, dim=-1).flatten(0, 1))


def test_shuffles_come_from_the_seed_of_the_batch_and_can_be_off():
    queries, documents = vectors(BATCH, 0), vectors(BATCH, 0)
    same = head(whiten="group", groups=2, shuffle=False)(queries, documents, 1)
    assert torch.equal(*same)
    shuffled = head(whiten="group", groups=2)
    one, two = shuffled(queries, documents, 1), shuffled(queries, documents, 2)
    assert not torch.allclose(*one) and not torch.allclose(one[0], two[0])
    assert torch.equal(one[0], shuffled(queries, documents, 1)[0])


def test_without_anything_in_it_the_head_is_the_cosine():
    found, _ = head()(vectors(BATCH, 0), vectors(BATCH, 1), 0)
    torch.testing.assert_close(found, F.normalize(vectors(BATCH, 0)))
    assert not list(head(whiten="zca").parameters())


@pytest.mark.parametrize(
    ("settings", "batch", "sentence"),
    [
        ({"whiten": "group", "groups": 3}, 12, "head.whiten is group: 8 dimensions cannot be cut into 3 groups"),
        (
            {"whiten": "group", "groups": 2},
            4,
            "8 dimensions in 2 groups are 4 a group, which must be less than the batch of 4",
        ),
        ({"whiten": "zca"}, 8, "head.whiten is zca: 8 dimensions in 1 group are 8 a group"),
    ],
)
def test_groups_that_do_not_fit_are_refused(settings, batch, sentence):
    with pytest.raises(RecipeError, match=sentence):
        TrainingHead(Head(**settings), 8, batch, 0)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["negatives.queue=4096"], "head cannot follow a momentum encoder or fill a queue"),
        (["negatives.momentum=0.9"], "head cannot follow a momentum encoder"),
        (["head.whiten=pca"], r"head\.whiten: Input should be 'group', 'zca' or 'standardise'"),
        (["head.gruops=3"], r"no key head\.gruops \(did you mean head\.groups\?\)"),
        (["head.shrinkage=-1"], r"head\.shrinkage: .*greater than or equal to 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(overrides, sentence):
    with pytest.raises(RecipeError, match=sentence):
        load_recipe("contriever-small", ["head.projection=mlp", *overrides])


def test_a_run_with_groups_wider_than_its_batch_says_so_before_it_trains(tmp_path):
    with pytest.raises(RecipeError, match="16 dimensions in 1 group are 16 a group"):
        tiny.run("whitened", tmp_path / "run", overrides={"head.groups": 1})


def test_the_head_trains_with_the_encoder_and_is_no_part_of_the_model(tmp_path, monkeypatch):
    kept = []
    update = Trainer.update

    def watched(self, reporter):
        kept.append((self.work.head.linear.weight.detach().clone(), self))
        return update(self, reporter)

    monkeypatch.setattr(Trainer, "update", watched)
    tiny.run("whitened", tmp_path / "run")
    assert not torch.allclose(kept[0][0], kept[-1][0])
    names = [json.loads((tmp_path / "run" / "modules.json").read_text())[i]["type"].split(".")[-1] for i in range(3)]
    assert names == ["Transformer", "Pooling", "Normalize"]
    assert Encoder.load(tmp_path / "run").similarity == "cosine"


def test_the_head_sees_the_vectors_before_the_encoders_own_normalisation(tmp_path, monkeypatch):
    seen = []
    forward = TrainingHead.forward

    def watched(self, queries, documents, seed):
        seen.append(queries.detach())
        return forward(self, queries, documents, seed)

    monkeypatch.setattr(TrainingHead, "forward", watched)
    tiny.run("whitened", tmp_path / "run", overrides={"steps": 4})
    lengths = torch.cat(seen).norm(dim=1)
    assert (lengths - 1).abs().min() > 1e-3


def test_an_embedding_does_not_depend_on_the_batch(tmp_path):
    encoder = tiny.run("whitened", tmp_path / "run")
    texts = ["t1w2 t1w3", "t4w4 t5w5 t1w1", "t9w9"]
    together, alone = encoder.encode(texts), [encoder.encode([text])[0] for text in texts]
    assert max(abs(a - b).max() for a, b in zip(together, alone, strict=True)) < 1e-5
    again = Encoder.load(tmp_path / "run", device="cpu").encode(texts)
    assert (again == together).all()


def test_the_gradient_cache_changes_no_weight(tmp_path):
    changes = {"dtype": "float32", "pack_tokens": 100}
    tiny.run("whitened", tmp_path / "plain", overrides=changes)
    tiny.run("whitened", tmp_path / "cached", overrides={**changes, "gradient_cache": True})
    plain, cached = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "cached"))
    del plain["encoder.layer.1.output.LayerNorm.bias"]  # the same for all vectors, so whitening cancels it: no gradient
    for name, value in plain.items():
        torch.testing.assert_close(cached[name], value, atol=2e-4, rtol=1e-3)


def outcome():
    """Loss, and gradients of this process' vectors and of the weights summed over processes."""
    found, world, rank = head(projection="mlp", whiten="group", groups=2, statistics_gradient=True), parallel.world(), 0
    rank = parallel.rank()
    own = torch.arange(BATCH).view(world, -1)[rank]
    queries = vectors(BATCH, 0)[own].requires_grad_()
    documents = vectors(2 * BATCH, 1).view(2, BATCH, WIDTH)[:, own].reshape(-1, WIDTH).requires_grad_()
    first, others = found(queries, documents, 5)
    keys = parallel.gather(others)
    loss = (first @ keys.T).logsumexp(1).sum()
    loss.backward()
    parallel.sum_gradients(found.parameters())
    return {
        "loss": parallel.total(loss.item()),
        "queries": parallel.gather(queries.grad),
        "weight": found.linear.weight.grad,
    }


def test_two_processes_whiten_over_the_whole_batch_and_have_its_gradient(tmp_path):
    one = outcome()
    launch([__file__, str(tmp_path)], 2)
    for rank in range(2):
        two = torch.load(tmp_path / str(rank))
        assert two["loss"] == pytest.approx(one["loss"])
        torch.testing.assert_close(two["queries"], one["queries"])
        torch.testing.assert_close(two["weight"], one["weight"])


def test_two_processes_train_the_model_of_one(tmp_path):
    changes = {"queries": 0, "dtype": "float32", "dropout": 0.0, "lr": 0.001}
    tiny.run("whitened", tmp_path / "one", overrides=changes)
    launch(
        [tiny.__file__, "whitened", str(tmp_path / "two"), json.dumps({"overrides": changes})],
        2,
        ACCELERATE_USE_CPU="1",
    )
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=2e-3, rtol=1e-2)


if __name__ == "__main__":
    dist.init_process_group("gloo")
    torch.save(outcome(), Path(sys.argv[1]) / str(parallel.rank()))
    dist.destroy_process_group()
