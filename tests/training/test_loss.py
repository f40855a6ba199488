"""Who competes with whom: masks, queue, several positives, against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever.data.ragged import Ragged
from retriever.errors import RecipeError
from retriever.training.examples import Batch
from retriever.training.loss import admitted, batch_loss, gather_keys, relevance
from retriever.training.memory import Queue
from retriever.training.recipe import Negatives, Objective
from retriever.training.recipebook import load_recipe

TAU = 0.5


def vectors(count, seed, dimension=6):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, dimension, generator=generator, dtype=torch.float64), dim=1)


def batch(size=4, positives=1, explicit=0, ids=None, known=None):
    """A batch whose document v of query i has the ids (10 i + v, 1000 + 10 i + v), unless given."""
    views = positives + explicit
    own = np.array([[10 * i + v, 1_000 + 10 * i + v] for v in range(views) for i in range(size)])
    ids = own if ids is None else np.asarray(ids)
    known = own[: positives * size, 0].reshape(positives, size).T if known is None else np.asarray(known)
    blank = Ragged.from_rows([[]] * size)
    return Batch(blank, Ragged.from_rows([[]] * len(ids)), positives, known, ids)


def loss_of(queries, documents, given, memory=None, teacher=None, objective=None, **negatives):
    objective = Objective(temperature=TAU, **(objective or {}))
    keys = gather_keys(documents, given)
    return batch_loss(queries, documents, keys, given, memory, teacher, objective, Negatives(**negatives))


def plain(queries, documents, positives, allowed, shares=None):
    """Mean over queries of Σ_v share_v · (log Σ_{allowed or positive} e^z − z_v)."""
    total = 0.0
    for i, query in enumerate(queries):
        z = [float(query @ d) / TAU for d in documents]
        own = [v * len(queries) + i for v in range(positives)]
        everyone = sum(math.exp(z[j]) for j in range(len(z)) if j in own or allowed(i, j))
        weights = [1 / positives] * positives if shares is None else shares[i]
        total += sum(w * (math.log(everyone) - z[j]) for w, j in zip(weights, own, strict=True))
    return total / len(queries)


def test_other_documents_and_explicit_negatives_compete():
    queries, documents = vectors(4, 0), vectors(8, 1)
    found = loss_of(queries, documents, batch(explicit=1))
    assert float(found) == pytest.approx(plain(queries, documents, 1, lambda i, j: True))


def test_moco_is_the_cross_entropy_of_the_positive_before_the_queue():
    queries, documents, old = vectors(4, 0), vectors(4, 1), vectors(9, 2)
    queue = Queue(16, 6, torch.device("cpu"))
    queue.state["vectors"] = queue.state["vectors"].double()
    queue.push(old, torch.arange(18).view(9, 2) + 50_000)
    found = loss_of(queries, documents, batch(), queue, in_batch=False, queue=16)
    logits = torch.cat([(queries * documents).sum(1, keepdim=True), queries @ old.T], 1) / TAU
    assert float(found) == pytest.approx(float(F.cross_entropy(logits, torch.zeros(4, dtype=torch.long))))


def test_an_empty_queue_alone_gives_no_loss_and_a_finite_gradient():
    queries, documents = vectors(4, 0).requires_grad_(), vectors(4, 1)
    found = loss_of(queries, documents, batch(), Queue(8, 6, torch.device("cpu")), in_batch=False, queue=8)
    found.backward()
    assert found.item() == 0 and torch.equal(queries.grad, torch.zeros_like(queries))


def test_without_in_batch_negatives_a_query_keeps_its_own_explicit_ones():
    queries, documents = vectors(3, 0), vectors(9, 1)
    found = loss_of(queries, documents, batch(3, explicit=2), in_batch=False, queue=8)
    assert float(found) == pytest.approx(plain(queries, documents, 1, lambda i, j: j % 3 == i))


def test_the_same_document_and_the_same_text_are_no_negatives():
    queries, documents = vectors(3, 0), vectors(3, 1)
    ids = [[1, 100], [2, 200], [1, 100]]  # documents 0 and 2 are the same
    given = batch(3, ids=ids, known=[[1, 7], [2, 100], [1, 8]])  # query 1 reads like document 0
    found = loss_of(queries, documents, given)
    barred = {(0, 2), (2, 0), (1, 0), (1, 2)}
    assert float(found) == pytest.approx(plain(queries, documents, 1, lambda i, j: (i, j) not in barred))


def test_keys_of_the_queue_from_the_same_document_are_no_negatives():
    queries, documents, old = vectors(2, 0), vectors(2, 1), vectors(3, 2)
    queue = Queue(4, 6, torch.device("cpu"))
    queue.state["vectors"] = queue.state["vectors"].double()
    queue.push(old, torch.tensor([[0, 5], [77, 6], [10, 8]]))
    found = loss_of(queries, documents, batch(2), queue, queue=4)
    barred = {(0, 2), (1, 4)}
    everything = torch.cat([documents, old])
    assert float(found) == pytest.approx(plain(queries, everything, 1, lambda i, j: (i, j) not in barred))


def test_several_positives_are_weighted_by_the_teachers_softmax():
    queries, documents = vectors(3, 0), vectors(9, 1)
    teacher = vectors(3, 5), vectors(9, 6)
    found = loss_of(queries, documents, batch(3, positives=3), None, teacher, {"relevance": 0.2})
    scores = torch.stack([(teacher[0] * teacher[1][v * 3 : v * 3 + 3]).sum(1) for v in range(3)], 1)
    shares = torch.softmax(scores / 0.2, 1).tolist()
    assert float(found) == pytest.approx(plain(queries, documents, 3, lambda i, j: True, shares), rel=1e-5)


def test_weights_of_positives_carry_no_gradient_and_are_alike_without_a_temperature():
    queries, documents = vectors(2, 0).requires_grad_(), vectors(4, 1).requires_grad_()
    assert not relevance((queries, documents), 2, 0.1).requires_grad
    assert relevance((queries, documents), 2, None).tolist() == [[1, 1], [1, 1]]
    assert relevance((queries, documents), 1, 0.1) is None


def test_likely_false_negatives_are_left_out_by_their_margin():
    queries, documents = vectors(5, 0), vectors(5, 1)
    found = loss_of(queries, documents, batch(5), objective={"false_negatives": 0.1})
    scores = queries @ documents.T
    own = scores.diagonal()
    assert any(scores[i, j] > own[i] + 0.1 for i in range(5) for j in range(5))
    assert float(found) == pytest.approx(plain(queries, documents, 1, lambda i, j: bool(scores[i, j] <= own[i] + 0.1)))


def test_symmetric_averages_both_directions_and_masks_both():
    queries, documents = vectors(3, 0), vectors(3, 1)
    given = batch(3, ids=[[1, 100], [2, 200], [1, 300]], known=[[1, 7], [2, 8], [1, 9]])
    found = loss_of(queries, documents, given, objective={"symmetric": True})
    barred = {(0, 2), (2, 0)}
    there = plain(queries, documents, 1, lambda i, j: (i, j) not in barred)
    back = plain(documents, queries, 1, lambda i, j: (i, j) not in barred)
    assert float(found) == pytest.approx((there + back) / 2)


def test_a_document_does_not_meet_the_queries_that_know_it():
    queries, documents = vectors(3, 0), vectors(3, 1)
    given = batch(3, known=[[0, 10], [10, 10], [20, 20]])  # query 0 is answered by document 1, too
    found = loss_of(queries, documents, given, objective={"symmetric": True})
    there = plain(queries, documents, 1, lambda i, j: (i, j) != (0, 1))
    back = plain(documents, queries, 1, lambda j, i: (i, j) != (0, 1))
    assert float(found) == pytest.approx((there + back) / 2)


def test_the_margin_of_a_document_is_that_of_its_own_query():
    queries, documents = vectors(5, 0), vectors(5, 1)
    found = loss_of(queries, documents, batch(5), objective={"symmetric": True, "false_negatives": 0.1})
    scores = queries @ documents.T
    own = scores.diagonal()
    there = plain(queries, documents, 1, lambda i, j: bool(scores[i, j] <= own[i] + 0.1))
    back = plain(documents, queries, 1, lambda j, i: bool(scores[i, j] <= own[j] + 0.1))
    assert float(found) == pytest.approx((there + back) / 2)


def test_without_in_batch_negatives_there_is_no_opposite_direction():
    queries, documents = vectors(3, 0), vectors(9, 1)
    one, both = (
        loss_of(queries, documents, batch(3, explicit=2), objective={"symmetric": on}, in_batch=False, queue=8)
        for on in (False, True)
    )
    assert float(one) == float(both)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 12), st.integers(0, 10_000))
def test_admission_is_the_plain_loop(size, facts, keys, seed):
    random = np.random.default_rng(seed)
    known, ids = random.integers(0, 9, (size, facts)), random.integers(0, 9, (keys, 2))
    found = admitted(torch.from_numpy(known), torch.from_numpy(ids), size)
    expected = [[not set(known[i]) & set(ids[j]) for j in range(keys)] for i in range(size)]
    if found is None:
        assert sum(not x for row in expected for x in row) == size
    else:
        assert found.tolist() == expected


def test_nothing_is_masked_where_only_the_own_document_is_known():
    assert admitted(torch.tensor([[1], [2]]), torch.tensor([[1, 11], [2, 12], [3, 13]]), 2) is None


def test_two_views_of_a_text_give_the_cross_entropy_of_simcse_whatever_the_terms():
    queries, documents = vectors(5, 0), vectors(5, 1)
    expected = F.cross_entropy(queries @ documents.T / TAU, torch.arange(5))
    for terms in ("joint", "sum"):
        assert float(loss_of(queries, documents, batch(5), objective={"terms": terms})) == pytest.approx(
            float(expected)
        )


@pytest.mark.parametrize("views", [2, 3, 4])
def test_terms_are_summed_and_each_sees_the_negatives_of_its_own_view(views):
    queries, documents = vectors(5, 0), vectors(5 * views, 1)
    found = loss_of(queries, documents, batch(5, positives=views), objective={"terms": "sum"})
    logits = queries @ documents.T / TAU
    each = [F.cross_entropy(logits[:, 5 * view : 5 * view + 5], torch.arange(5)) for view in range(views)]
    assert float(found) == pytest.approx(float(sum(each)))


def test_terms_leave_out_the_same_text_and_share_explicit_negatives():
    queries, documents = vectors(3, 0), vectors(9, 1)
    given = batch(3, positives=2, explicit=1, known=[[0, 1], [0, 11], [20, 21]])
    given.ids[1] = given.ids[0]  # document 0 of query 1 is that of query 0
    found = loss_of(queries, documents, given, objective={"terms": "sum"})
    first = plain(queries, torch.cat([documents[:3], documents[6:]]), 1, lambda i, j: {i, j} != {0, 1})
    second = plain(queries, documents[3:], 1, lambda i, j: True)
    assert float(found) == pytest.approx(first + second)


def test_all_pairs_are_anchored_at_every_view_and_leave_out_the_same_text():
    queries, documents = vectors(3, 0), vectors(6, 1)
    given = batch(3, positives=2, known=[[0, 7, 0], [10, 8, 10], [0, 9, 0]])  # texts 0 and 2 are one document
    given.ids[:, 0] = [0, 10, 0, 0, 10, 0]
    found = loss_of(queries, documents, given, objective={"terms": "all_pairs", "link": "self"})
    everything, total = torch.cat([queries, documents]), 0.0
    for a in range(9):
        z = (everything @ everything[a] / TAU).tolist()
        negatives = sum(math.exp(z[j]) for j in range(9) if (j % 3 == 1) != (a % 3 == 1))
        positives = [j for j in range(9) if j != a and j % 3 == a % 3]
        total += sum(math.log(negatives + math.exp(z[p])) - z[p] for p in positives) / 2
    assert float(found) == pytest.approx(total / 9)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["queue=4096"], "objective.terms sum contrasts the views within a batch; set negatives.queue to 0"),
        (["negatives.in_batch=false", "queue=4096", "momentum=0.9"], "contrasts the views within a batch"),
        (["relevance=0.1"], "objective.relevance weighs positives of one term; leave it out, or sum for joint"),
        (["terms=all_pairs", "symmetric=true"], "all_pairs goes both ways already"),
        (["terms=all_pairs", "symmetric=false", "false_negatives=0.1"], "looks at no margin"),
    ],
)
def test_terms_that_cannot_be_are_refused(overrides, sentence):
    with pytest.raises(RecipeError, match=sentence):
        load_recipe("contriever-small", ["terms=sum", *overrides])
    with pytest.raises(RecipeError, match="contrasts views of a text; it needs the section views"):
        load_recipe("finetune", ["terms=sum"])
