"""Evaluation on STS sets: against scipy by hand, every aggregation, and published numbers of MiniLM."""

from __future__ import annotations

import json
import shutil

import encoders
import numpy as np
import pytest
import sts_folders
import torch
from scipy import stats
from shared_data import SHARED, needs_shared

from retriever.data.sts import SEVEN, StsSet, StsSubset, load_sts
from retriever.encoder import Encoder
from retriever.errors import DataError, ModelError
from retriever.eval.sts import evaluate_sts

STS = SHARED / "sts"


@pytest.fixture(scope="module")
def encoder():
    return encoders.static()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sts_folders.write_seven(tmp_path_factory.mktemp("sts"))


@pytest.fixture(scope="module")
def results(encoder, folder):
    return evaluate_sts(encoder, folder, resamples=50)


def cosines(encoder, first, second):
    """The cosine of each pair, in a loop."""
    found = []
    for one, other in zip(first, second, strict=True):
        x, y = (encoder.encode([text])[0].astype(float) for text in (one, other))
        lengths = np.sqrt((x @ x) * (y @ y))
        found.append(round(x @ y / lengths, 6) if lengths else 0.0)
    return np.array(found)


def test_scores_equal_those_by_hand(encoder, folder, results):
    for one in load_sts(folder):
        scores = cosines(encoder, one.first, one.second)
        assert results.metrics[one.name] == pytest.approx(stats.spearmanr(scores, one.gold).statistic, abs=1e-9)
        assert results.pearson[one.name] == pytest.approx(stats.pearsonr(scores, one.gold).statistic, abs=1e-6)
        assert results.pairs[one.name] == len(one)
        for subset in one.subsets if len(one.subsets) > 1 else ():
            by_hand = stats.spearmanr(cosines(encoder, subset.first, subset.second), subset.gold).statistic
            assert results.subsets[one.name][subset.name] == pytest.approx(by_hand, abs=1e-9)
    assert list(results.subsets) == list(SEVEN[:5])
    assert results.dropped == {name: 10 if name == "STS16" else 0 for name in SEVEN}


def test_the_average_is_that_of_rounded_percents(results):
    rounded = [round(100 * results.metrics[name], 2) for name in SEVEN]
    assert list(results.metrics) == [*SEVEN, "avg"]
    assert results.metrics["avg"] == pytest.approx(sum(rounded) / 700, abs=1e-15)
    assert results.metrics["avg"] != sum(results.metrics[name] for name in SEVEN) / 7
    assert results.missing == []


def test_there_is_no_average_over_six(encoder, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "six")
    shutil.rmtree(tmp_path / "six" / "STS13-en-test")
    found = evaluate_sts(encoder, tmp_path / "six", resamples=0)
    assert list(found.metrics) == [name for name in SEVEN if name != "STS13"]
    assert found.missing == ["STS13"] and found.intervals == {}


def test_mean_and_weighted_mean_over_subsets(encoder):
    rows = sts_folders.pairs(60)
    first, second, gold = (list(column) for column in zip(*rows, strict=True))
    gold = np.array(gold, dtype=float)
    cuts = (slice(0, 12), slice(12, 60))
    one = StsSet("STS12", "test", tuple(StsSubset(str(n), first[c], second[c], gold[c]) for n, c in enumerate(cuts)))
    by_hand = [stats.spearmanr(cosines(encoder, first[c], second[c]), gold[c]).statistic for c in cuts]
    linear = [stats.pearsonr(cosines(encoder, first[c], second[c]), gold[c]).statistic for c in cuts]
    found = {kind: evaluate_sts(encoder, [one], aggregate=kind, resamples=300) for kind in ("all", "mean", "wmean")}
    assert found["mean"].metrics["STS12"] == pytest.approx(sum(by_hand) / 2, abs=1e-9)
    assert found["wmean"].metrics["STS12"] == pytest.approx(0.2 * by_hand[0] + 0.8 * by_hand[1], abs=1e-9)
    assert found["wmean"].pearson["STS12"] == pytest.approx(0.2 * linear[0] + 0.8 * linear[1], abs=1e-6)
    whole = stats.spearmanr(cosines(encoder, first, second), gold).statistic
    assert found["all"].metrics["STS12"] == pytest.approx(whole, abs=1e-9)
    assert len({round(results.metrics["STS12"], 6) for results in found.values()}) == 3
    for results in found.values():
        low, high = results.intervals["STS12"]
        assert low < results.metrics["STS12"] < high
    widths = {kind: np.diff(results.intervals["STS12"])[0] for kind, results in found.items()}
    assert widths["all"] < widths["mean"]  # half of the mean rests on twelve pairs


def test_intervals_hold_their_scores_and_depend_on_set_and_seed_only(encoder, folder, results):
    assert list(results.intervals) == [*SEVEN, "avg"]
    for name, (low, high) in results.intervals.items():
        assert -1 <= low < results.metrics[name] < high <= 1
    widths = {name: high - low for name, (low, high) in results.intervals.items()}
    assert widths["avg"] < min(widths[name] for name in SEVEN)  # seven independent sets
    alone = evaluate_sts(encoder, load_sts(folder, only=["STS15"]), resamples=50)
    assert alone.intervals["STS15"] == results.intervals["STS15"]
    other = evaluate_sts(encoder, load_sts(folder, only=["STS15"]), resamples=50, seed=1)
    assert other.intervals["STS15"] != results.intervals["STS15"]
    assert other.metrics == alone.metrics


def test_each_distinct_sentence_is_encoded_once_over_all_sets(encoder, folder, monkeypatch):
    calls = []
    encode = Encoder.encode
    monkeypatch.setattr(
        Encoder, "encode", lambda self, texts, *a, **k: calls.append(texts) or encode(self, texts, *a, **k)
    )
    sets, counts = load_sts(folder), []
    evaluate_sts(encoder, sets, resamples=0, progress=counts.append)
    [texts] = calls
    distinct = {text for one in sets for text in one.first + one.second}
    assert len(texts) == len(distinct) == sum(counts) and set(texts) == distinct
    assert len(distinct) < sum(2 * len(one) for one in sets) / 2


def test_the_similarity_changes_the_order(folder):
    encoder = encoders.static(normalise=False)
    found = {
        name: evaluate_sts(encoder, load_sts(folder, only=["STSB"]), similarity=name, resamples=0).metrics["STSB"]
        for name in ("cosine", "dot", "euclidean")
    }
    assert len({round(value, 6) for value in found.values()}) == 3
    unit = encoders.static()
    for name in ("cosine", "dot", "euclidean"):  # on the unit sphere the three orders are one
        of_unit = evaluate_sts(unit, load_sts(folder, only=["STSB"]), similarity=name, resamples=0).metrics["STSB"]
        assert of_unit == pytest.approx(found["cosine"], abs=1e-3)


def test_the_prompt_of_a_kind_is_put_before_both_sentences(folder):
    encoder = encoders.static()
    [one] = load_sts(folder, only=["STSB"])
    plain = evaluate_sts(encoder, [one], resamples=0).metrics
    encoder.prompts = {"query": "dog dog fox "}
    assert evaluate_sts(encoder, [one], resamples=0).metrics == plain
    prompted = [[f"dog dog fox {text}" for text in side] for side in (one.first, one.second)]
    by_hand = stats.spearmanr(cosines(encoder, *prompted), one.gold).statistic
    assert evaluate_sts(encoder, [one], kind="query", resamples=0).metrics["STSB"] == pytest.approx(by_hand, abs=1e-9)
    assert by_hand != pytest.approx(plain["STSB"], abs=1e-3)


def test_the_result_does_not_depend_on_the_mode_or_the_order_of_sets(folder):
    encoder = encoders.damage(encoders.small())
    sets = load_sts(folder, only=["STSB", "SICKR"])
    expected = evaluate_sts(encoder, sets, resamples=20)
    encoder.stack.train()
    reverse = evaluate_sts(encoder, sets[::-1], resamples=20)
    assert encoder.stack.training  # as it was
    assert reverse.metrics == pytest.approx(expected.metrics, abs=1e-6)


def test_the_json_has_the_promised_shape(results):
    values = json.loads(json.dumps(results.to_json()))
    assert list(values) == [
        *("metrics", "intervals", "pearson", "subsets", "pairs", "dropped"),
        *("splits", "aggregate", "similarity", "lower"),
    ]
    assert list(values["metrics"]) == list(values["intervals"]) == [*SEVEN, "avg"]
    assert list(values["pearson"]) == list(values["pairs"]) == list(values["dropped"]) == list(SEVEN)
    assert values["splits"] == dict.fromkeys(SEVEN, "test")
    assert list(values["subsets"]["STS13"]) == ["FNWN", "headlines", "OnWN"]


def one_set(gold, first=("dog", "the fox", "vectors"), second=("dog", "dog", "fox")):
    return StsSet("STSB", "test", (StsSubset("test", list(first), list(second), np.array(gold, dtype=float)),))


def test_collapsed_vectors_have_no_score():
    for encoder in (encoders.static(), encoders.small()):
        with torch.no_grad():
            for name, parameter in encoder.stack.named_parameters():
                parameter.fill_(0.5 if "table" in name else 0.0)
        with pytest.raises(ModelError, match=r"gives all pairs of STSB the same similarity, .*vectors have collapsed"):
            evaluate_sts(encoder, [one_set([1, 2, 3])])


def test_gold_scores_without_an_order(encoder):
    with pytest.raises(DataError, match="All pairs of STSB have the same gold score: a correlation needs several"):
        evaluate_sts(encoder, [one_set([2, 2, 2])])
    with pytest.raises(DataError, match="All pairs of STSB have the same gold score"):
        evaluate_sts(encoder, [one_set([2], ["dog"], ["fox"])])


def test_an_undefined_subset_is_none_and_has_no_part_in_a_mean(encoder):
    fine = one_set([1, 4, 3]).subsets[0]
    one = StsSet("STS12", "test", (fine, StsSubset("flat", ["dog", "fox"], ["fox", "fox"], np.array([2.0, 2.0]))))
    found = evaluate_sts(encoder, [one], resamples=20)
    assert found.subsets["STS12"]["flat"] is None and found.subsets["STS12"]["test"] is not None
    assert "NaN" not in json.dumps(found.to_json())
    with pytest.raises(DataError, match="All pairs of STS12, flat have the same gold score"):
        evaluate_sts(encoder, [one], aggregate="mean")


def test_sets_are_given_once(encoder):
    with pytest.raises(DataError, match="The sets to evaluate are none: give one or more"):
        evaluate_sts(encoder, [])
    with pytest.raises(DataError, match="The sets to evaluate are STSB, STSB: give one or more, and each once"):
        evaluate_sts(encoder, [one_set([1, 2, 3])] * 2)


@pytest.fixture(scope="module")
def minilm():
    return Encoder.load(encoders.MINILM, "cpu")


@needs_shared
def test_minilm_on_a_slice_equals_sentence_transformers_and_scipy(minilm):
    [one] = load_sts(STS, only=["STSB"])
    first, second, gold = one.first[:300], one.second[:300], one.gold[:300]
    found = evaluate_sts(minilm, [StsSet("STSB", "test", (StsSubset("test", first, second, gold),))], resamples=100)
    x, y = (minilm.stack.encode(texts, normalize_embeddings=True) for texts in (first, second))
    scores = (x * y).sum(axis=1)
    assert found.metrics["STSB"] == pytest.approx(stats.spearmanr(scores, gold).statistic, abs=1e-4)
    assert found.pearson["STSB"] == pytest.approx(stats.pearsonr(scores, gold).statistic, abs=1e-5)
    assert found.metrics["STSB"] > 0.7 and found.pairs == {"STSB": 300}


@needs_shared
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_minilm_reproduces_the_published_scores(minilm):
    """MTEB: raw text, SICK-R over all 9,927 pairs."""
    published = [72.37, 80.60, 75.59, 85.39, 78.99, 82.03, 77.58]
    found = evaluate_sts(minilm, load_sts(STS, sick="all"))
    assert [100 * found.metrics[name] for name in SEVEN] == pytest.approx(published, abs=0.1)
    assert found.pairs["SICKR"] == 9_927
    for name, (low, high) in found.intervals.items():
        assert low < found.metrics[name] < high < low + 0.1


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"aggregate": "median"}, "There is no aggregate 'median': choose from all, mean, wmean"),
        ({"similarity": "manhattan"}, "There is no similarity 'manhattan': choose from cosine, dot, euclidean"),
    ],
)
def test_an_unknown_protocol_is_refused(encoder, folder, asked, message):
    with pytest.raises(DataError, match=message):
        evaluate_sts(encoder, folder, resamples=0, **asked)
