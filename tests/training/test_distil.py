"""The teacher: standard scores, its candidates and probabilities, and the student's loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retriever.training import distil
from retriever.training.distil import mapped, standardise, teach
from retriever.training.lexical import LexicalScores
from retriever.training.pseudo import Pseudo

NOWHERE = (np.empty(0, np.int64), np.empty(0, np.int64))


@pytest.fixture
def problem():
    """Forty documents over thirty words, twelve pseudo-queries, random unit vectors."""
    random = np.random.default_rng(0)
    words = [f"word{number}" for number in range(30)]
    documents = [" ".join(random.choice(words, 15)) for _ in range(40)]
    own = random.permutation(40)[:12]
    pseudo = Pseudo(documents, [" ".join(documents[row].split()[:4]) for row in own], own)
    generator = torch.Generator().manual_seed(0)
    queries, texts = (torch.nn.functional.normalize(torch.randn(n, 8, generator=generator)) for n in (12, 40))
    return pseudo, queries, texts


def test_the_best_are_standardised_and_the_others_are_lowest(monkeypatch):
    monkeypatch.setattr(distil, "DEPTH", 5)
    scores = np.random.default_rng(0).normal(size=(3, 20)).astype(np.float32)
    found = standardise(scores, NOWHERE)
    for row in range(3):
        best = np.argsort(-scores[row])[:5]
        assert found[row, best].mean() == pytest.approx(0, abs=1e-5)
        assert found[row, best].std() == pytest.approx(1, abs=1e-3)
        assert np.argsort(-found[row])[:4].tolist() == best[:4].tolist()
        others = np.setdiff1d(np.arange(20), best)
        assert np.allclose(found[row, others], found[row, best].min())


def test_what_is_left_out_counts_as_the_lowest_and_moves_nothing_else():
    scores = np.array([[9.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 9.0]], np.float32)
    found = standardise(scores, (np.arange(2), np.array([0, 3])))
    assert found[0, 0] == found[0].min() and found[1, 3] == found[1].min()
    assert scores[0, 0] == 9, "the scores given are left alone"
    other = standardise(np.array([[1.0, 1.0, 2.0, 3.0]], np.float32), NOWHERE)
    assert np.allclose(found[0], other[0], atol=1e-5)


def test_scores_without_a_difference_say_nothing():
    assert not standardise(np.zeros((2, 7), np.float32), NOWHERE).any()


def test_candidates_are_the_best_of_both_without_the_own_document(problem):
    pseudo, queries, documents = problem
    lessons = teach(pseudo, queries, documents, 0.5, 10, 1.0)
    assert lessons.candidates.shape == lessons.targets.shape == (12, 10)
    bm25 = LexicalScores(pseudo.documents)(pseudo.queries)
    for row, own in enumerate(pseudo.own):
        others = np.setdiff1d(np.arange(40), [own])
        dense = (documents @ queries[row]).numpy()[others]
        hybrid = (dense - dense.mean()) / dense.std()
        lexical = bm25[row, others]
        hybrid += 0.5 * (lexical - lexical.mean()) / lexical.std()
        # the own document counts as lowest among those standardised, which shifts the weights of the two a little
        expected = set(others[np.argsort(-hybrid)[:12]].tolist())
        assert set(lessons.candidates[row].tolist()) <= expected
        assert own not in lessons.candidates[row]


def test_without_bm25_the_start_is_its_own_teacher(problem):
    pseudo, queries, documents = problem
    lessons = teach(pseudo, queries, documents, 0.0, 10, 1.0)
    start = torch.einsum("bd,bkd->bk", queries, documents[lessons.candidates])
    assert torch.allclose(lessons.targets, torch.softmax(start / lessons.scale, 1), atol=1e-3)
    entropy = -(lessons.targets * lessons.targets.log()).sum(1)
    loss = lessons.loss(torch.eye(8), torch.arange(12), True)
    assert torch.allclose(loss, entropy, atol=1e-4), "the start cannot be improved"


def test_the_teacher_is_as_sure_as_the_start(problem):
    pseudo, queries, documents = problem
    lessons = teach(pseudo, queries, documents, 3.0, 10, 1.0)
    start = torch.einsum("bd,bkd->bk", queries, documents[lessons.candidates])
    logits = lessons.targets.log() * lessons.scale
    assert torch.allclose(logits.std(1), start.std(1), atol=1e-3)


@pytest.mark.parametrize("factor", [0.1, 7.0])
def test_the_scale_of_dot_products_does_not_matter(problem, factor):
    pseudo, queries, documents = problem
    one, other = (teach(pseudo, queries, f * documents, 0.5, 10, 1.0) for f in (1.0, factor))
    assert one.candidates.equal(other.candidates) and torch.allclose(one.targets, other.targets, atol=1e-3)
    losses = [lessons.loss(torch.eye(8), torch.arange(12), False) for lessons in (one, other)]
    assert torch.allclose(*losses, atol=1e-3)


def test_a_higher_temperature_is_less_sure(problem):
    pseudo, queries, documents = problem
    sharp, soft = (teach(pseudo, queries, documents, 0.5, 10, t).targets.max(1).values for t in (0.5, 2.0))
    assert (sharp > soft).all()


def test_blocks_do_not_show(problem, monkeypatch):
    pseudo, queries, documents = problem
    whole = teach(pseudo, queries, documents, 0.5, 10, 1.0)
    monkeypatch.setattr(distil, "BLOCK", 5)
    cut = teach(pseudo, queries, documents, 0.5, 10, 1.0)
    assert whole.candidates.equal(cut.candidates) and torch.allclose(whole.targets, cut.targets, atol=1e-5)


def test_a_small_pool_has_fewer_candidates(problem):
    pseudo, queries, documents = problem
    assert teach(pseudo, queries, documents, 0.5, 99, 1.0).candidates.shape == (12, 39)


def test_the_loss_has_the_gradient_of_its_formula(problem):
    lessons = teach(*problem, 0.5, 6, 1.0)
    double = distil.Lessons(
        *(t.double() if t.is_floating_point() else t for t in list(vars(lessons).values())[:4]), 0.3
    )
    weight = (torch.eye(8) + 0.1 * torch.randn(8, 8, generator=torch.Generator().manual_seed(1))).double()
    weight.requires_grad_()
    assert torch.autograd.gradcheck(lambda w: double.loss(w, torch.arange(4), True), weight)
    assert torch.autograd.gradcheck(lambda w: double.loss(w, torch.arange(4), False), weight)


def test_mapped_vectors_have_length_one_only_for_cosine():
    vectors, weight = torch.randn(5, 4), torch.randn(4, 4)
    assert torch.allclose(mapped(vectors, weight, False), vectors @ weight.T, atol=1e-6)
    assert torch.allclose(mapped(vectors, weight, True).norm(dim=1), torch.ones(5), atol=1e-6)
