"""Tuning against plain loops: what is true, what is found, what is chosen, and what it says of itself."""

from __future__ import annotations

import json

import numpy as np
import pytest

from retriever.errors import DataError
from retriever.indexing import tuning
from retriever.indexing.dense import DenseIndex
from retriever.indexing.kinds import SearchSettings
from retriever.indexing.tuning import MISSING, K, Option, Questions, Tuning, tune, tune_to
from retriever.kernels import faiss

KINDS = ["IVF32,PQ16x4fs", "PQ16x4fs", "HNSW16", "HNSW16_SQ8", "RaBitQfs", "PCA16,IVF16,PQ8x4fs"]


def drawn(count, seed):
    """Vectors of dimension 32 that fill 12 dimensions, as those of texts fill few."""
    basis = np.random.default_rng(99).standard_normal((12, 32))
    vectors = np.random.default_rng(seed).standard_normal((count, 12)) @ basis
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


DOCUMENTS, QUERIES = drawn(3000, 0), drawn(200, 1)


@pytest.fixture(scope="module")
def built():
    return {factory: DenseIndex.build(DOCUMENTS, factory=factory) for factory in KINDS}


def recall_by_hand(index, settings, queries):
    """Mean recall@10, a query at a time."""
    shares = []
    for query in queries:
        nearest = set(sorted(range(len(DOCUMENTS)), key=lambda row: -float(query @ DOCUMENTS[row]))[:10])
        found = index.search(query[None], 10, parameters=settings).rows[0]
        shares.append(len(nearest & set(found.tolist())) / 10)
    return float(np.mean(shares))


@pytest.mark.parametrize("factory", KINDS)
def test_the_target_is_reached_on_queries_that_had_no_say(factory, built):
    found = tune(built[factory], 0.9, QUERIES)
    assert found.reached and found.chosen.recall >= 0.87
    assert (found.queries, found.own, found.target) == (100, True, 0.9)
    by_hand = recall_by_hand(built[factory], found.chosen.settings, QUERIES[1::2])
    assert found.chosen.recall == pytest.approx(by_hand, abs=0.005)  # documents in fp16 swap a few neighbours
    assert found.chosen.per_second > 0 and found.exact_per_second > 0


@pytest.mark.parametrize("factory", KINDS)
def test_the_table_rises_and_holds_the_choice(factory, built):
    found = tune(built[factory], 0.9, QUERIES)
    recalls = [row.recall for row in found.table]
    assert recalls == sorted(recalls) and found.chosen in found.table
    assert len({row.settings for row in found.table}) == len(found.table)
    assert all(0 <= row.error < 0.1 for row in found.table)
    if factory.startswith("HNSW16"):
        assert all(row.settings.ef and row.settings.nprobe is None for row in found.table)
    if "IVF" in factory:
        assert all(row.settings.nprobe and row.settings.ef is None for row in found.table)


def test_a_higher_target_spends_more(built):
    low, high = (tune(built["IVF32,PQ16x4fs"], target, QUERIES).chosen for target in (0.6, 0.98))
    assert low.recall < high.recall
    assert low.settings.nprobe < high.settings.nprobe or low.settings.rerank < high.settings.rerank


def test_documents_are_queries_that_do_not_find_themselves(built):
    index = built["IVF32,PQ16x4fs"]
    found = tune(index, 0.9)
    assert not found.own and found.queries == 500
    asked, _ = tuning.ask(index, None)
    rows = tuning._sample(index)
    assert asked.wanted == 11 and len(rows) == 1000
    for query, row in enumerate(rows[:40]):
        scores = DOCUMENTS @ DOCUMENTS[row]
        scores[row] = -np.inf
        truth = set(asked.truth[query].tolist()) - {MISSING}
        assert row not in truth and len(truth) == 10
        assert np.sort(scores[sorted(truth)]) == pytest.approx(np.sort(scores)[-10:], abs=1e-3)
    nothing_but_itself = np.where(np.arange(11) == 0, rows[:, None], -1)
    assert asked.recall(nothing_but_itself).max() == 0


def test_equal_documents_are_equally_true():
    documents = np.repeat(drawn(100, 3), 15, axis=0)  # every document fifteen times
    index = DenseIndex.build(documents, factory="HNSW16")
    asked, _ = tuning.ask(index, documents[:300:10])
    assert ((asked.truth != MISSING).sum(axis=1) == 15).all()
    last_ten = asked.truth[:, 5:15]
    np.testing.assert_array_equal(asked.recall(last_ten)[:, -1], 1)


def test_a_crowd_of_equal_documents_does_not_blur_what_is_found():
    """Of 40 that are equally near a search may find any ten, and the true hits that are known are 21 of them."""
    documents = np.concatenate([DOCUMENTS, np.repeat(drawn(15, 5), 40, axis=0)])
    index = DenseIndex.build(documents, factory="HNSW16_SQ8")
    asked, _ = tuning.ask(index, None)
    assert 700 < len(asked.vectors) < 834  # five of six documents are in no crowd, and most of them near to none
    assert ((asked.truth != MISSING).sum(axis=1) == 10).all()
    chosen = tuning._cheapest(list(tuning._options(index, asked, 0.9)), 0.9)
    assert tuning._measure(index, asked, chosen.settings).recall == pytest.approx(chosen.recall, abs=0.005)


def test_nothing_but_crowds_can_be_tuned_too():
    index = DenseIndex.build(np.repeat(drawn(20, 5), 40, axis=0), factory="IVF16,PQ16x4fs")
    assert tune(index, 0.9).queries == 400


def test_recall_at_every_depth_is_that_of_a_loop():
    rng = np.random.default_rng(4)
    rows = np.stack([rng.permutation(40)[:25] for _ in range(6)])
    truth = np.stack([rng.permutation(40)[:12] for _ in range(6)])
    found = Questions(np.empty((6, 1), np.float32), truth, K).recall(rows)
    for query in range(6):
        for depth in range(25):
            hits = len(set(rows[query, : depth + 1]) & set(truth[query]))
            assert found[query, depth] == min(hits, 10) / 10


@pytest.mark.parametrize("factory", ["IVF32,PQ16x4fs", "PQ16x4fs", "RaBitQfs"])
def test_one_deep_search_foretells_every_number_of_candidates(factory, built):
    index = built[factory]
    asked, _ = tuning.ask(index, QUERIES)
    breadth = 8 if "IVF" in factory else None
    found = asked.recall(index.candidates(QUERIES, 200, SearchSettings(nprobe=breadth)))
    for rerank in (1, 3, 7, 20):
        settings = SearchSettings(nprobe=breadth, rerank=rerank)
        searched = asked.recall(index.search(QUERIES, 10, parameters=settings).rows)[:, -1]
        assert found[:, rerank * 10 - 1].mean() == pytest.approx(searched.mean(), abs=0.005)


def test_the_cheapest_that_reaches_is_chosen():
    options = [
        Option(SearchSettings(nprobe=n), recall, cost)
        for n, recall, cost in [(1, 0.5, 1), (2, 0.9, 5), (3, 0.9, 4), (4, 0.99, 9)]
    ]
    chosen = [tuning._cheapest(options, goal) for goal in (0.4, 0.6, 0.95, 0.999)]
    assert [option and option.settings.nprobe for option in chosen] == [1, 3, 4, None]


def test_a_disturbed_clock_makes_no_narrow_search_dearer_than_a_wide_one():
    measured = [(1, 5, 9.0), (1, 6, 2.0), (2, 5, 3.0), (2, 6, 8.0), (4, 5, 4.0), (4, 6, 7.0)]
    options = [Option(SearchSettings(nprobe=n, rerank=rerank), 0.9, cost) for n, rerank, cost in measured]
    steadied = tuning._steadied(options)
    assert [option.settings for option in steadied] == [option.settings for option in options]
    assert [option.cost for option in steadied] == [3, 2, 3, 7, 4, 7]
    assert tuning._steadied([]) == []


def test_a_target_out_of_reach_gives_the_best_there_is(built, monkeypatch):
    monkeypatch.setattr(tuning, "DEEPEST", 1)
    found = tune(built["RaBitQfs"], 0.995, QUERIES)
    assert not found.reached
    assert found.chosen.settings.rerank == 1 and found.chosen.recall < 0.99


def test_breadths_double_in_eight_steps_and_end_with_everything(built):
    assert tuning._breadths(built["IVF32,PQ16x4fs"]) == [*range(1, 16), *range(16, 33, 2)]
    assert tuning._breadths(built["PQ16x4fs"]) == [None]
    walks = tuning._breadths(built["HNSW16"])
    assert walks[:7] == [11, 12, 13, 14, 15, 16, 18] and walks[-1] == tuning.WIDEST_WALK
    assert tuning._deepest(built["HNSW16"], 64, 10) == 1  # full vectors need no candidates
    assert tuning._deepest(built["HNSW16_SQ8"], 64, 10) == 6
    assert tuning._deepest(built["PQ16x4fs"], None, 100) == 30  # no more than there are


def test_what_is_found_is_plain_data(built):
    found = tune(built["PQ16x4fs"], 0.9, QUERIES)
    assert Tuning.model_validate(json.loads(found.model_dump_json())) == found


def test_tuning_leaves_index_and_threads_alone(built):
    index = built["IVF32,PQ16x4fs"]
    before = index.kind.nprobe, index.search(QUERIES, 10).rows.tolist()
    faiss.omp_set_num_threads(2)
    try:
        tune(index, 0.9, QUERIES)
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(1)
    assert (index.kind.nprobe, index.search(QUERIES, 10).rows.tolist()) == before


@pytest.mark.parametrize("target", [0, 1, -0.5, 95, float("nan")])
def test_a_target_that_is_no_share_is_refused(target, built):
    with pytest.raises(DataError, match="cannot be aimed at: give one above 0 and below 1"):
        tune(built["PQ16x4fs"], target, QUERIES)


def test_too_few_queries_or_documents_are_told(built):
    blank = np.concatenate([QUERIES[:19], np.zeros((30, 32), np.float32)])  # queries of unknown words
    with pytest.raises(DataError, match="takes 20 or more queries with words that the model knows, not 19"):
        tune(built["PQ16x4fs"], 0.9, blank)
    with pytest.raises(DataError, match="holds 20 vectors, too few to tune it"):
        tune(DenseIndex.build(DOCUMENTS[:20], factory="HNSW16"), 0.9)


def test_nothing_is_tuned_where_nothing_can_be(built):
    assert tune_to(DenseIndex.build(DOCUMENTS), 0.9) is None  # exact
    assert tune_to(built["PQ16x4fs"], None) is None
    assert tune_to(DenseIndex.build(DOCUMENTS[:20], factory="HNSW16"), 0.9) is None
    empty = np.zeros((100, 32), np.float32)
    assert tune_to(DenseIndex.build(empty, factory="HNSW16"), 0.9) is None
    assert tune_to(built["PQ16x4fs"], 0.9, QUERIES).own


@pytest.mark.parametrize("factory", ["Flat", *KINDS])
def test_exact_search_is_exact_whatever_the_kind(factory, built):
    index = built.get(factory) or DenseIndex.build(DOCUMENTS)
    found = index.exact(QUERIES[:5], 7)
    for query, scores in zip(QUERIES, found.scores, strict=False):
        np.testing.assert_allclose(scores, np.sort(DOCUMENTS @ query)[::-1][:7], atol=1e-3)
    assert index.exact(QUERIES[:2], 9999).rows.shape == (2, 3000)
