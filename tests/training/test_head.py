"""The linear map: what it learns, that it starts as nothing, and how it becomes part of every family of encoders."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from encoders import TEXTS, damage, small, static
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize

from retriever.encoder import Encoder
from retriever.errors import RecipeError
from retriever.training.distil import Lessons
from retriever.training.head import train_map, with_map
from retriever.training.recipebook import load_recipe

WIDTH = 12


def lessons(queries=80, documents=50, candidates=9):
    """Random vectors, and the opinions of a teacher who sees them through another map."""
    generator = torch.Generator().manual_seed(0)
    q, d = (torch.nn.functional.normalize(torch.randn(n, WIDTH, generator=generator)) for n in (queries, documents))
    found = torch.stack([torch.randperm(documents, generator=generator)[:candidates] for _ in range(queries)])
    other = torch.eye(WIDTH) + 0.3 * torch.randn(WIDTH, WIDTH, generator=generator)
    targets = torch.softmax(torch.einsum("bd,bkd->bk", q @ other.T, d[found] @ other.T) / 0.2, 1)
    return Lessons(q, d, found, targets, 0.2)


def settings(**changes):
    return load_recipe("adapt", {"size": 16, "steps": 60, "lr": 0.01, "model": "any", **changes})


def train(given, count=60, log=lambda entry: None, **changes):
    return train_map(given, count, True, settings(**changes), log)


def test_it_comes_closer_to_the_teacher_on_queries_it_has_not_seen():
    given = lessons()
    weight, unseen = train(given, steps=200), torch.arange(60, 80)
    before, after = (given.loss(w, unseen, True).mean() for w in (torch.eye(WIDTH), weight))
    assert after < before - 0.05


def test_a_rate_of_nearly_nothing_leaves_the_identity():
    assert torch.allclose(train(lessons(), lr=1e-12), torch.eye(WIDTH), atol=1e-7)


def test_same_seed_same_map_and_another_seed_another():
    one, same, other = (train(lessons(), seed=seed) for seed in (0, 0, 1))
    assert one.equal(same) and not one.equal(other)


def test_only_the_first_queries_are_trained_on():
    given = lessons()
    changed = Lessons(given.queries.clone(), *list(vars(given).values())[1:])
    changed.queries[60:] = 7.0
    assert train(given).equal(train(changed))


def test_a_batch_is_at_most_what_there_is():
    assert train(lessons(), count=5, size=64).shape == (WIDTH, WIDTH)


def test_the_log_has_the_first_step_and_every_tenth():
    seen = []
    train(lessons(), log=seen.append, steps=25)
    assert [entry["step"] for entry in seen] == [1, 10, 20]
    assert all(np.isfinite(entry["loss"]) for entry in seen) and seen[0]["lr"] == pytest.approx(0.01, rel=0.1)


def test_clipping_bounds_the_step():
    free, bound = train(lessons(), steps=1), train(lessons(), steps=1, clip=1e-9)
    assert not free.equal(bound)


def test_a_loss_that_is_not_finite_is_a_sentence():
    with pytest.raises(RecipeError, match=r"The loss is nan at step \d+; lower optimizer\.lr"):
        train(Lessons(torch.full((80, WIDTH), torch.nan), *list(vars(lessons()).values())[1:]))


def random_map(width):
    return torch.eye(width) + 0.3 * torch.randn(width, width, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("build", [small, static])
@pytest.mark.parametrize("normalise", [True, False])
def test_the_encoder_maps_its_vectors(build, normalise, tmp_path):
    encoder = damage(build(normalise=normalise))
    encoder.prompts = {"query": "dog: "}
    weight = random_map(encoder.dimension)
    texts = [text for text in TEXTS if text]
    before = encoder.encode(texts, "query", dtype="float32")
    expected = before @ weight.numpy().T
    if normalise:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    adapted = with_map(encoder, weight)
    assert adapted.similarity == ("cosine" if normalise else "dot") and adapted.prompts == {"query": "dog: "}
    np.testing.assert_allclose(adapted.encode(texts, "query", dtype="float32"), expected, atol=1e-5)
    adapted.save(tmp_path / "m")
    again = Encoder.load(tmp_path / "m")
    np.testing.assert_allclose(again.encode(texts, "query", dtype="float32"), expected, atol=1e-5)
    assert again.fingerprint == adapted.fingerprint and again.similarity == adapted.similarity


def test_sentence_transformers_opens_it(tmp_path):
    adapted = with_map(damage(small()), random_map(16))
    adapted.save(tmp_path / "m")
    theirs = SentenceTransformer(str(tmp_path / "m"), device="cpu")
    texts = [text for text in TEXTS if text]
    np.testing.assert_allclose(theirs.encode(texts), adapted.encode(texts, dtype="float32"), atol=1e-4)
    assert isinstance(theirs[-1], Normalize)


def test_an_adapted_encoder_can_be_adapted_again():
    encoder, weight = damage(small()), random_map(16)
    before = encoder.encode(TEXTS[:3], dtype="float32")
    twice = with_map(with_map(encoder, weight), weight)
    expected = before @ (weight @ weight).numpy().T
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(twice.encode(TEXTS[:3], dtype="float32"), expected, atol=1e-5)
