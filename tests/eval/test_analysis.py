"""Analysis of vectors against plain loops, and at its limits."""

from __future__ import annotations

import itertools
import json
import math
import random

import encoders
import numpy as np
import pytest
from shared_data import SHARED, needs_shared

from retriever.data.sts import StsSet, StsSubset, load_sts
from retriever.encoder import Encoder
from retriever.errors import DataError, ModelError
from retriever.eval.analysis import EDGES, analyze_sts, analyze_texts, anisotropy, bucket_cosines, sample, unit


class Table:
    """An encoder that looks vectors up."""

    def __init__(self, vectors):
        self.vectors = {text: np.array(vector, dtype=np.float32) for text, vector in vectors.items()}

    def encode(self, texts, kind="document", **_):
        return np.stack([self.vectors[text] for text in texts])


def table(rows):
    """Texts t0, t1 … with these vectors."""
    return Table({f"t{number}": row for number, row in enumerate(rows)})


def pairs(*rows, name="STSB", split="dev"):
    """A set of pairs (first, second, gold)."""
    first, second, gold = (list(column) for column in zip(*rows, strict=True))
    return StsSet(name, split, (StsSubset(split, first, second, np.array(gold, dtype=float)),))


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(9, 4)) + 0.5


def test_measures_of_a_corpus_equal_plain_loops(rows):
    found = analyze_texts(table(rows), [f"t{number}" for number in range(9)])
    units = [row / math.sqrt(sum(value**2 for value in row)) for row in rows]
    potentials, cosines = [], []
    for i in range(9):
        for j in range(i):
            potentials.append(math.exp(-2 * sum((a - b) ** 2 for a, b in zip(units[i], units[j], strict=True))))
            cosines.append(sum(a * b for a, b in zip(units[i], units[j], strict=True)))
    assert found.uniformity == pytest.approx(math.log(sum(potentials) / 36), rel=1e-5)
    assert found.anisotropy == pytest.approx(sum(cosines) / 36, rel=1e-5)
    eigenvalues = np.linalg.eigvalsh(np.cov(rows.T, bias=True))[::-1]
    assert found.spectrum == pytest.approx(np.sqrt(eigenvalues), rel=1e-5)
    entropy = -sum(value / sum(eigenvalues) * math.log(value / sum(eigenvalues)) for value in eigenvalues)
    assert found.effective_rank == pytest.approx(math.exp(entropy), rel=1e-5)
    assert (found.texts, found.dimension, found.zeros) == (9, 4, 0)
    assert found.alignment is None and found.buckets == {} and found.sets == {} and found.pairs == 0


def test_measures_of_pairs_equal_plain_loops(rows):
    encoder = table(rows)
    golds = [0, 0.5, 1, 2.5, 3.999, 4, 4.2, 5]
    found = analyze_sts(encoder, [pairs(*((f"t{n}", f"t{n + 1}", gold) for n, gold in enumerate(golds)))])
    units = [row / np.sqrt((row**2).sum()) for row in rows]
    assert found.alignment == pytest.approx(
        (sum((units[6] - units[7]) ** 2) + sum((units[7] - units[8]) ** 2)) / 2, rel=1e-5
    )
    assert (found.pairs, found.positives, found.sets) == (8, 2, {"STSB": "dev"})
    cosines = [float(units[n] @ units[n + 1]) for n in range(8)]
    inside = {"0-1": [0, 1], "1-2": [2], "2-3": [3], "3-4": [4], "4-5": [5, 6, 7]}
    assert list(found.buckets) == list(inside)
    for name, members in inside.items():
        bucket = found.buckets[name]
        assert bucket.pairs == len(members) == sum(bucket.counts)
        mean = sum(cosines[n] for n in members) / len(members)
        assert bucket.mean == pytest.approx(mean, abs=1e-6)
        spread = sum((cosines[n] - mean) ** 2 for n in members) / len(members)
        assert bucket.sd == pytest.approx(math.sqrt(spread), abs=1e-6)
        for low, high, count in zip(EDGES, EDGES[1:], bucket.counts, strict=False):
            assert count == sum(low <= cosines[n] < high for n in members)
    corpus = analyze_texts(encoder, [f"t{number}" for number in range(9)])
    assert (found.uniformity, found.spectrum) == (corpus.uniformity, corpus.spectrum)


def test_a_sentence_counts_once_and_sets_are_pooled(rows):
    encoder = table(rows[:4])
    once = analyze_texts(encoder, ["t0", "t1", "t2", "t3"])
    assert analyze_texts(encoder, ["t0", "t1", "t0", "t2", "t3", "t3"]) == once
    sets = [pairs(("t0", "t1", 5), ("t0", "t1", 3)), pairs(("t2", "t0", 1), ("t3", "t3", 5), name="SICKR")]
    found = analyze_sts(encoder, sets)
    assert (found.texts, found.uniformity) == (4, once.uniformity)
    assert (found.pairs, found.positives, found.sets) == (4, 2, {"STSB": "dev", "SICKR": "dev"})


def test_constant_vectors_have_collapsed():
    noise = 1e-8 * np.random.default_rng(0).normal(size=(30, 8))
    texts = [f"t{number}" for number in range(30)]
    found = analyze_sts(table(1 + noise), [pairs(*((one, other, 4.5) for one, other in itertools.pairwise(texts)))])
    assert found.collapsed and found.effective_rank == 1 and found.spectrum == [0] * 8
    assert found.uniformity == pytest.approx(0, abs=1e-5) and found.uniformity <= 0
    assert found.anisotropy == pytest.approx(1, abs=1e-6) and found.alignment == pytest.approx(0, abs=1e-9)
    assert found.buckets["4-5"].counts[-1] == 29


def test_an_orthogonal_basis_is_uniform():
    found = analyze_texts(table(np.eye(6)), [f"t{number}" for number in range(6)])
    assert found.uniformity == pytest.approx(-4) and found.anisotropy == pytest.approx(0, abs=1e-9)
    assert found.effective_rank == pytest.approx(5)  # six points span five dimensions around their mean
    assert not found.collapsed
    both = analyze_texts(table([*np.eye(6), *-np.eye(6)]), [f"t{number}" for number in range(12)])
    assert both.effective_rank == pytest.approx(6) and both.anisotropy == pytest.approx(-1 / 11)


def test_length_matters_to_the_spectrum_only(rows):
    texts = [f"t{number}" for number in range(9)]
    plain, scaled = (analyze_texts(table(values), texts) for values in (rows, rows * 7))
    assert scaled.uniformity == pytest.approx(plain.uniformity, rel=1e-5)
    assert scaled.effective_rank == pytest.approx(plain.effective_rank, rel=1e-5)
    assert scaled.spectrum == pytest.approx([7 * value for value in plain.spectrum], rel=1e-5)


def test_vectors_of_zeros_are_left_out_and_counted(rows):
    encoder = table([*rows[:4], np.zeros(4)])
    found = analyze_sts(encoder, [pairs(("t0", "t1", 5), ("t2", "t4", 5), ("t3", "t4", 0))])
    without = analyze_sts(encoder, [pairs(("t0", "t1", 5), ("t2", "t3", 1))])
    assert (found.texts, found.zeros, found.positives) == (4, 1, 1)
    assert (found.alignment, found.uniformity) == (without.alignment, without.uniformity)
    assert found.buckets["0-1"].mean == 0 and found.buckets["4-5"].pairs == 2


def test_there_is_no_alignment_without_positive_pairs(rows):
    found = analyze_sts(table(rows), [pairs(("t0", "t1", 4), ("t2", "t3", 1))])
    assert found.alignment is None and found.positives == 0
    empty = found.buckets["2-3"]
    assert (empty.pairs, empty.mean, empty.sd, sum(empty.counts)) == (0, None, None, 0)


def test_one_text_has_no_distribution(rows):
    for texts in (["t0"], ["t0", "t0"]):
        with pytest.raises(DataError, match=f"was given {len(set(texts))}: give two or more"):
            analyze_texts(table(rows), texts)
    with pytest.raises(DataError, match="compares distinct texts, and was given 1"):
        analyze_sts(table(rows), [pairs(("t0", "t0", 5))])
    with pytest.raises(ModelError, match="gives 2 of 3 texts a vector of zeros"):
        analyze_texts(table([[0, 0], [0, 0], [1, 0]]), ["t0", "t1", "t2"])


def test_one_text_is_not_taken_for_its_letters():
    with pytest.raises(DataError, match="The texts are the text 'hello world': give a list of texts"):
        analyze_texts(encoders.static(), "hello world")


def test_edges_are_in_the_first_and_last_bin():
    buckets = bucket_cosines(np.array([-1.000001, -1, 1, 1.000001]), np.array([0.0, 0, 0, 0]))
    assert buckets["0-1"].counts == [2, *[0] * 38, 2]


def test_anisotropy_is_the_mean_over_pairs_whatever_the_sign():
    units = unit(np.array([[2, 0], [0, 3], [-1, 0]], dtype=np.float32))
    assert units.tolist() == [[1, 0], [0, 1], [-1, 0]]
    assert anisotropy(units) == pytest.approx((0 - 1 + 0) / 3)


def test_a_sample_is_even_ordered_and_repeatable():
    texts = [str(number) for number in range(20)]
    assert sample(iter(texts), 30) == texts and sample([], 3) == []
    drawn = sample(iter(texts), 5, seed=1)
    assert drawn == sample(texts, 5, seed=1) != sample(texts, 5, seed=2)
    assert drawn == sorted(drawn, key=int) and len(set(drawn)) == 5
    counts = dict.fromkeys(texts, 0)
    for seed in range(2000):
        for text in sample(texts, 5, seed=seed):
            counts[text] += 1
    assert all(abs(count - 500) < 5 * math.sqrt(2000 * 0.25 * 0.75) for count in counts.values())


def test_a_real_encoder_gives_plain_json():
    encoder = encoders.static()
    found = analyze_texts(encoder, encoders.TEXTS)
    assert json.loads(json.dumps(found.to_json())) == found.to_json()
    assert found.zeros == 1 and found.dimension == 24  # the empty text
    texts = random.Random(0).sample(encoders.TEXTS, len(encoders.TEXTS))
    assert analyze_texts(encoder, texts).uniformity == pytest.approx(found.uniformity, rel=1e-6)


@needs_shared
@pytest.mark.slow
def test_minilm_on_stsb_test():
    found = analyze_sts(Encoder.load(encoders.MINILM), load_sts(SHARED / "sts", only=["STSB"]))
    assert (found.texts, found.pairs, found.positives) == (2552, 1379, 231)
    assert found.alignment == pytest.approx(0.2512, abs=1e-3)
    assert found.uniformity == pytest.approx(-3.8190, abs=1e-3)
    means = [bucket.mean for bucket in found.buckets.values()]
    assert means == sorted(means)
