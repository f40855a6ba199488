"""Labels found by text and by remembered points, against plain loops."""

from __future__ import annotations

import math

import encoders
import numpy as np
import pytest
import xmc_folders

from retriever.data.xmc_metrics import ndcg, precision
from retriever.data.xmc_points import holds, split_validation
from retriever.errors import DataError
from retriever.indexing import label_memory as module
from retriever.indexing.label_memory import GRID, LabelMemory, Mix
from retriever.indexing.labels import LabelIndex

DATA = xmc_folders.dataset()
QUERIES = ["a quick brown fox", "vectors of documents", "the dog is lazy"]


def softmax(scores, temperature, width):
    """Softmax over the best `width` of the scores, in deviations; the others keep the same denominator."""
    z = [score / np.std(scores) / temperature for score in scores]
    best = sorted(z, reverse=True)[:width]
    total = sum(math.exp(value - best[0]) for value in best)
    return [math.exp(value - best[0]) / total for value in z]


def plain(encoder, data, query, mix, points=50, labels=200):
    """p of every label, by loops over labels and points."""
    vector = encoder.encode([query], "query")[0].astype(float)
    rows = [row for row, text in enumerate(data.labels.texts) if text.strip()]
    p = np.zeros(len(data.labels))
    scores = [float(vector @ encoder.encode([data.labels.texts[row]], "document")[0]) for row in rows]
    for row, weight in zip(rows, softmax(scores, mix.temperature, labels), strict=True):
        p[row] += (1 - mix.share) * weight
    known = [row for row in range(len(data.train)) if data.train.labels_per_point[row]]
    scores = [float(vector @ encoder.encode([data.train.texts[row]], "query")[0]) for row in known]
    weights = softmax(scores, mix.temperature, points)
    for place in sorted(range(len(known)), key=lambda place: -scores[place])[:points]:
        for label in data.train.targets[known[place]].indices:
            p[label] += mix.share * weights[place]
    return p


@pytest.fixture(scope="module")
def encoder():
    return encoders.static()


@pytest.fixture(scope="module")
def index(encoder):
    return LabelIndex.build(encoder, DATA.labels)


@pytest.mark.parametrize("points", [50, 3])
@pytest.mark.parametrize("mix", [Mix(0.3, 1.0), Mix(0.8, 0.25), Mix(1.0, 2.0), Mix(0.0, 0.5)])
def test_labels_stand_by_the_mixture(encoder, index, mix, points, monkeypatch):
    monkeypatch.setattr(module, "POINTS", points)
    monkeypatch.setattr(module, "BLOCK", 2)
    memory = LabelMemory.remember(index, DATA.train, mix)
    ranking = memory.search(encoder.encode(QUERIES, "query"), 6)
    for query, text in enumerate(QUERIES):
        expected = plain(encoder, DATA, text, mix, points)
        rows, scores = ranking.hits(query)
        assert set(rows.tolist()) == set(np.flatnonzero(expected).tolist())
        assert scores == pytest.approx(expected[rows], abs=1e-5)
        assert (np.diff(scores) <= 0).all()


def test_a_share_of_nothing_is_the_dense_ranking(encoder, index):
    vectors = encoder.encode(QUERIES, "query")
    memory = LabelMemory.remember(index, DATA.train, Mix(0.0, 1.0))
    assert memory.search(vectors, 4).rows.tolist() == index.search(vectors, 4).rows.tolist()


def test_a_label_without_text_is_found_through_the_points(encoder):
    data = xmc_folders.dataset(labels=["quick fox", "", *xmc_folders.LABELS[2:]])
    index = LabelIndex.build(encoder, data.labels)
    memory = LabelMemory.remember(index, data.train, Mix(0.9, 0.5))
    assert "l1" not in [tag.label for tag in index.predict(["a lazy dog"], 6)[0]]
    assert memory.predict(["a lazy dog and another dog"], 2)[0][0].label in ("l1", "l5")
    assert "l1" in [tag.label for tag in memory.predict(["a lazy dog"], 6)[0]]


def test_a_text_without_a_known_word_has_no_label(index):
    memory = LabelMemory.remember(index, DATA.train, Mix(0.5, 1.0))
    assert memory.predict(["zzz"]) == [[]] and memory.predict([]) == []


def test_the_first_labels_do_not_depend_on_how_many_are_asked_for(encoder, index, monkeypatch):
    monkeypatch.setattr(module, "LABELS", 2)
    memory = LabelMemory.remember(index, DATA.train, Mix(0.3, 2.0))
    vectors = encoder.encode(QUERIES, "query")
    few, many = memory.search(vectors, 1), memory.search(vectors, 6)
    assert few.rows.tolist() == many.rows[:, :1].tolist()
    assert few.scores == pytest.approx(many.scores[:, :1])


def test_the_mixture_is_chosen_on_held_out_points(encoder):
    rng = np.random.default_rng(0)
    words = ["dog", "fox", "quick", "lazy", "vectors", "documents", "encoder", "brown"]
    train = [(" ".join(rng.choice(words, 3)), rng.choice(6, 2, replace=False).tolist()) for _ in range(60)]
    train[5] = ("dog", [])
    data = xmc_folders.dataset(train=train, filtered={"train": [(row, row % 6) for row in range(60)]})
    index = LabelIndex.build(encoder, data.labels)
    kept, held = split_validation(data.train)
    held = held.take(np.flatnonzero(held.labels_per_point))
    best, chosen = (-1.0, -1.0), None
    for mix in GRID:
        memory = LabelMemory.remember(index, kept, mix)
        rows = memory.search(encoder.encode(held.texts, "query"), 6).rows
        dropped = holds(held.forbidden, np.arange(len(held))[:, None], rows)
        left = [[row for row, gone in zip(*pair, strict=True) if not gone] for pair in zip(rows, dropped, strict=True)]
        padded = np.array([row + [-1] * (6 - len(row)) for row in left])
        found = precision(padded, held.targets, 1).mean(), ndcg(padded, held.targets, 5).mean()
        best, chosen = max((best, chosen), (found, mix), key=lambda pair: pair[0])
    assert LabelMemory.remember(index, data.train).mix == chosen


def test_progress_counts_the_points_that_are_encoded(index):
    seen = []
    LabelMemory.remember(index, DATA.train, Mix(0.5, 1.0), progress=seen.append)
    assert sum(seen) == len(DATA.train)


def test_mistakes_are_sentences(encoder, index):
    for share, temperature in ((-0.1, 1), (1.1, 1), (0.5, 0), (float("nan"), 1)):
        with pytest.raises(DataError, match="a share from 0 to 1 and a temperature above 0"):
            Mix(share, temperature)
    with pytest.raises(DataError, match="at least two points that have labels"):
        LabelMemory.remember(index, DATA.train.take([0, 4]))
    other = xmc_folders.dataset(["a dog", "a fox"], [("dog", [0])], None, {})
    with pytest.raises(DataError, match="The points are of 2 labels and the index of 6"):
        LabelMemory.remember(index, other.train)
    with pytest.raises(DataError, match="k is 0"):
        LabelMemory.remember(index, DATA.train, Mix(0.5, 1.0)).predict(["dog"], k=0)
