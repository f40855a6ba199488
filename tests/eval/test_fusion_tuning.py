"""Tuning hybrid search: grids against plain loops, honest gains, and an index that remembers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from rankings import ranked

from retriever.data.document import Document
from retriever.data.tokenizers import WordTokenizer
from retriever.encoder import Encoder
from retriever.errors import DataError, IndexFolderError
from retriever.eval import fusion_tuning
from retriever.eval.fusion_tuning import (
    DEFAULT,
    SETTINGS,
    WEIGHTS,
    FusionTuning,
    cross_validate,
    tune_fusion,
    tune_index,
)
from retriever.indexing.hybrid import METHODS, fuse
from retriever.indexing.index import Index
from retriever.indexing.ranking import Background, Ranking

QUERIES = [f"q{number}" for number in range(30)]
DOCUMENTS = [f"d{row}" for row in range(50)]


def ranking(scores, least):
    """All documents, by their scores (Q, N)."""
    background = Background(scores.mean(axis=1), scores.std(axis=1), np.ones(len(scores)), least)
    found = ranked(scores.astype(np.float32), scores.shape[1])
    return Ranking(found.rows, found.scores, background)


@pytest.fixture(scope="module")
def judged():
    """Rankings of which the first knows the answers, one a query, and the second is noise."""
    rng = np.random.default_rng(0)
    answers = rng.integers(len(DOCUMENTS), size=len(QUERIES))
    good = rng.normal(size=(len(QUERIES), len(DOCUMENTS)))
    good[np.arange(len(QUERIES)), answers] += 2.5
    noise = 3 + rng.normal(size=good.shape)
    qrels = {query: {DOCUMENTS[row]: 1} for query, row in zip(QUERIES, answers, strict=True)}
    return ranking(good / 10, -1.0), ranking(noise.clip(0.1), 0.0), qrels


def ndcg(rows, answer):
    """Of one relevant document."""
    place = rows[:10].tolist().index(answer) if answer in rows[:10] else None
    return 0.0 if place is None else 1 / math.log2(place + 2)


def test_every_mean_of_the_grid_equals_plain_loops(judged):
    dense, bm25, qrels = judged
    found = tune_fusion(dense, bm25, QUERIES, DOCUMENTS, qrels)
    assert list(found.means) == list(METHODS)
    for method, means in found.means.items():
        for weight, mean in zip(WEIGHTS, means, strict=True):
            fused = fuse([dense, bm25], 10, method=method, weights=[weight, 1 - weight])
            expected = [
                ndcg(rows, DOCUMENTS.index(next(iter(qrels[query]))))
                for query, rows in zip(QUERIES, fused.rows, strict=True)
            ]
            assert mean == pytest.approx(sum(expected) / len(expected))
    method, weight = found.best
    assert found.means[method][WEIGHTS.index(weight)] == max(max(means) for means in found.means.values())
    assert (found.default, found.queries) == (pytest.approx(found.means["fisher"][5]), 30)


def test_vectors_that_know_all_get_the_weight(judged):
    dense, bm25, qrels = judged
    found = tune_fusion(dense, bm25, QUERIES, DOCUMENTS, qrels)
    assert found.best[1] >= 0.8 and found.chosen == found.best
    assert found.gain > 0.05 and found.p < 0.05 and found.interval[0] > 0
    other = tune_fusion(bm25, dense, QUERIES, DOCUMENTS, qrels)
    assert other.best[1] <= 0.2


def test_the_gain_is_that_on_other_queries():
    """Every setting is noise: the best of them looks better than it is."""
    gains, looks = [], []
    for seed in range(30):
        scores = np.random.default_rng(seed).random((len(SETTINGS), 40))
        gains.append(float((cross_validate(scores, seed) - scores[0]).mean()))
        looks.append(float(scores.mean(axis=1).max() - scores[0].mean()))
    assert abs(np.mean(gains)) < 0.03
    assert np.mean(looks) > 0.08


def test_cross_validation_equals_plain_loops(monkeypatch):
    monkeypatch.setattr(fusion_tuning, "REPEATS", 1)
    scores = np.random.default_rng(0).random((4, 13))
    order = np.random.default_rng(7).permutation(13)
    sizes, start = [3, 3, 3, 2, 2], 0
    expected = np.zeros(13)
    for size in sizes:
        fold = order[start : start + size]
        rest = [query for query in range(13) if query not in fold]
        best = max(range(4), key=lambda setting: scores[setting, rest].mean())
        expected[fold] = scores[best, fold]
        start += size
    np.testing.assert_allclose(cross_validate(scores, 7), expected)


def test_settings_that_are_all_alike_leave_the_default():
    scores = np.ones((len(SETTINGS), 20))
    np.testing.assert_allclose(cross_validate(scores), 1)
    same = ranking(np.random.default_rng(0).normal(size=(30, 50)), -math.inf)
    qrels = {query: {"d1": 1} for query in QUERIES}
    found = tune_fusion(same, same, QUERIES, DOCUMENTS, qrels)
    assert found.best == found.chosen == DEFAULT
    assert (found.gain, found.p) == (0, 1)


@pytest.mark.parametrize(
    ("held_out", "p", "is_taken"), [(0.5, 1, False), (0.6, 0.2, False), (0.4, 0.01, False), (0.6, 0.01, True)]
)
def test_a_best_setting_is_chosen_where_it_is_proven_to_gain_on_held_out_queries(held_out, p, is_taken):
    found = FusionTuning(9, ("rrf", 0.3), {}, 0.5, held_out, (-0.1, 0.1), p)
    assert found.chosen == (("rrf", 0.3) if is_taken else DEFAULT)


def test_few_queries_are_refused(judged):
    dense, bm25, qrels = judged
    few = {query: qrels[query] for query in QUERIES[:9]}
    with pytest.raises(DataError, match="at least 10 judged queries, not 9: judge more"):
        tune_fusion(dense, bm25, QUERIES[:9], DOCUMENTS, few)


# An index

WORDS = [f"w{number}" for number in range(40)]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Twelve documents of words of their own; the vectors are untrained."""
    rng = np.random.default_rng(0)
    documents = [Document(f"d{row}", text=" ".join(rng.permutation(WORDS)[:5])) for row in range(40)]
    tokenizer = WordTokenizer.train(document.text for document in documents)
    with Index.build(
        Encoder.static(tokenizer, dimension=16), documents, tmp_path_factory.mktemp("tuned") / "index"
    ) as index:
        index.delete(["d3"])
        yield index


def questions(index, count=20):
    names = [f"d{row}" for row in range(40) if row != 3][:count]
    queries = {f"q {name}": index.get(name).text for name in names}
    return queries, {query: {query.removeprefix("q "): 1} for query in queries}


def test_an_index_is_tuned_by_its_own_parts(index):
    queries, qrels = questions(index)
    found = tune_index(index, queries | {"unjudged": "w1"}, qrels | {"nothing": {}})
    assert found.queries == 20
    assert found.means["fisher"][0] == found.means["rrf"][0] == 1.0  # words alone find a text by itself
    dense = index.rank(list(queries.values()), 10, "dense")
    rows = index.rows([query.removeprefix("q ") for query in queries])
    expected = [ndcg(found, row) for found, row in zip(dense.rows, rows.tolist(), strict=True)]
    assert found.means["rrf"][-1] == pytest.approx(np.mean(expected))


def test_documents_that_are_not_there_count_against_every_setting(index):
    queries, qrels = questions(index)
    more = {query: {**grades, "d3": 1, "nowhere": 1} for query, grades in qrels.items()}
    alone = 1 / (1 + 1 / math.log2(3) + 1 / math.log2(4))
    assert tune_index(index, queries, more).means["rrf"][0] == pytest.approx(alone)


def test_a_document_with_the_id_of_the_query_is_left_out(index):
    names = [f"d{row}" for row in range(20, 40)]
    queries = {name: index.get(name).text for name in names}
    qrels = {name: {name: 1, "d1": 1} for name in names}
    assert max(tune_index(index, queries, qrels).means["rrf"]) < 0.7  # at most d1 of the two


def test_mistakes_are_refused(index, monkeypatch):
    queries, qrels = questions(index)
    with pytest.raises(DataError, match="Query 'q d0' is judged and not among the queries"):
        tune_index(index, {}, qrels)
    with pytest.raises(DataError, match="Query 'q d4' is judged and empty: complete it"):
        tune_index(index, queries | {"q d4": " "}, qrels)
    with pytest.raises(DataError, match=r"No document of the index .* is judged relevant"):
        tune_index(index, queries, {query: {"x": 1} for query in queries})
    with pytest.raises(DataError, match="with a grade above 0"):
        tune_index(index, queries, {query: dict.fromkeys(grades, 0) for query, grades in qrels.items()})
    with pytest.raises(DataError, match="at least 10 judged queries, not 0"):
        tune_index(index, queries, {})
    parts = index.parts

    def changing(*arguments):
        found = parts(*arguments)
        index.set_fusion("rrf", 0.5)
        return found

    monkeypatch.setattr(index, "parts", changing)
    with pytest.raises(IndexFolderError, match="was changed during tuning: tune it again"):
        tune_index(index, queries, qrels)
