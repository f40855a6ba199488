"""Evaluation on BEIR data sets: the parts put together by hand, self-hits, and published numbers on SciFact."""

from __future__ import annotations

import json
from dataclasses import replace

import encoders
import numpy as np
import pytest
from rankings import ranked
from shared_data import SHARED, needs_shared

from retriever.data.beir import BeirDataset, load_beir, write_beir
from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.encoder import Encoder
from retriever.errors import DataError
from retriever.eval.beir import evaluate_beir
from retriever.eval.metrics import METRICS, score_run
from retriever.eval.runs import read_run
from retriever.indexing.bm25 import Bm25Index
from retriever.indexing.hybrid import fuse
from retriever.indexing.ranking import Background

TEXTS = [
    "documents and vectors",
    "a quick fox",
    "the lazy dog and the quick dog",
    "similar vectors are close",
    "brown fox",
    "far documents",
    "the dog",
]


@pytest.fixture(scope="module")
def encoder():
    return encoders.static()


@pytest.fixture
def dataset():
    return BeirDataset(
        name="zoo",
        split="test",
        corpus=Corpus.of([Document(f"d{number}", text=text) for number, text in enumerate(TEXTS)]),
        queries={"q1": "quick dogs", "q2": "close documents", "q3": "unknowable", "q4": "not judged", "q5": "nor this"},
        qrels={"q2": {"d3": 2, "d0": 1}, "q1": {"d2": 1, "d6": 1}, "q3": {"d1": 1}, "q5": {}},
    )


def test_all_modes_equal_the_parts_put_together(encoder, dataset):
    results = evaluate_beir(encoder, dataset)
    questions = ["quick dogs", "close documents", "unknowable"]
    bm25 = Bm25Index.build(TEXTS).search(questions, 7)
    scores = encoder.encode(questions, "query") @ encoder.encode(TEXTS).T
    background = Background(scores.mean(axis=1), scores.std(axis=1), np.ones(3))
    scores[2] = -np.inf  # no known word, no vector, no hit
    dense = replace(ranked(scores, 7), background=background)
    expected = {"dense": dense, "bm25": bm25, "hybrid": fuse([dense, bm25], 7)}
    assert list(results.metrics) == list(results.runs) == ["dense", "bm25", "hybrid"]
    for mode, ranking in expected.items():
        for number, query in enumerate(["q1", "q2", "q3"]):
            rows, scores = ranking.hits(number)
            assert results.runs[mode][query] == pytest.approx(
                {f"d{row}": score for row, score in zip(rows, scores.tolist(), strict=True)}, abs=1e-5
            )
        assert results.metrics[mode] == score_run(results.runs[mode], dataset.qrels).means
    assert results.queries == 3
    assert results.metrics["bm25"]["recall@10"] == pytest.approx(2 / 3)  # nothing is found for q3


def test_the_json_has_exactly_the_promised_shape(encoder, dataset):
    values = json.loads(json.dumps(evaluate_beir(encoder, dataset, modes=("bm25", "dense")).to_json()))
    assert list(values) == ["dataset", "split", "queries", "metrics", "intervals"]
    assert (values["dataset"], values["split"], values["queries"]) == ("zoo", "test", 3)
    assert list(values["metrics"]) == list(values["intervals"]) == ["bm25", "dense"]
    for mode in ("bm25", "dense"):
        assert list(values["metrics"][mode]) == list(values["intervals"][mode]) == list(METRICS)
        for low, high in values["intervals"][mode].values():
            assert 0 <= low <= high <= 1


def test_runs_are_written_as_trec_files_that_score_alike(encoder, dataset, tmp_path):
    results = evaluate_beir(encoder, dataset)
    paths = results.write_runs(tmp_path)
    assert [path.name for path in paths] == ["zoo.dense.run", "zoo.bm25.run", "zoo.hybrid.run"]
    for path, mode in zip(paths, results.metrics, strict=True):
        assert score_run(read_run(path), dataset.qrels).means == results.metrics[mode]


def test_a_query_never_finds_itself(encoder):
    documents = [Document("d1", text="the quick dog"), Document("d2", text="quick dog"), Document("d3", text="fox")]
    dataset = BeirDataset("self", "test", Corpus.of(documents), {"d1": "the quick dog"}, {"d1": {"d2": 1}})
    results = evaluate_beir(encoder, dataset, depth=1)
    for mode in ("dense", "bm25", "hybrid"):
        assert list(results.runs[mode]["d1"]) == ["d2"]
        assert results.metrics[mode]["mrr@10"] == 1
    kept = evaluate_beir(encoder, dataset, depth=1, ignore_identical_ids=False)
    assert list(kept.runs["dense"]["d1"]) == ["d1"]


def test_depth_bounds_every_run(encoder, dataset):
    for run in evaluate_beir(encoder, dataset, depth=2).runs.values():
        assert max(map(len, run.values())) <= 2


def test_prompts_and_the_similarity_count(dataset):
    encoder = encoders.static(normalise=False)
    cosine = evaluate_beir(encoder, dataset, modes=["dense"], similarity="cosine").runs["dense"]
    dot = evaluate_beir(encoder, dataset, modes=["dense"]).runs["dense"]
    encoder.prompts = {"query": "fox fox fox "}
    prompted = evaluate_beir(encoder, dataset, modes=["dense"]).runs["dense"]
    assert max(cosine["q1"].values()) <= 1 + 1e-6 < max(dot["q1"].values())
    assert prompted["q1"] != dot["q1"]


def test_words_alone_need_no_encoder(dataset):
    assert list(evaluate_beir(None, dataset, modes=["bm25"]).metrics) == ["bm25"]
    with pytest.raises(DataError, match="need an encoder: give a model, or evaluate bm25 alone"):
        evaluate_beir(None, dataset, modes=["hybrid"])


def test_progress_counts_documents_and_judged_queries(encoder, dataset):
    counts = []
    evaluate_beir(encoder, dataset, progress=counts.append)
    assert sum(counts) == len(TEXTS) + 3


def test_mistakes_are_refused(encoder, dataset):
    with pytest.raises(DataError, match="The similarity 'cos' is unknown: choose cosine or dot"):
        evaluate_beir(encoder, dataset, similarity="cos")
    with pytest.raises(DataError, match=r"modes \['sparse'\] cannot be evaluated: choose from dense, bm25, hybrid"):
        evaluate_beir(encoder, dataset, modes=["sparse"])
    with pytest.raises(DataError, match="cannot be evaluated"):
        evaluate_beir(encoder, dataset, modes=[])
    del dataset.queries["q2"]
    with pytest.raises(DataError, match="Query 'q2' of zoo's test judgments is missing from its queries"):
        evaluate_beir(encoder, dataset)


@needs_shared
def test_bm25_reproduces_the_published_scifact_numbers():
    """Anserini: nDCG@10 0.679, Recall@100 0.925; bm25s: nDCG@10 0.687."""
    results = evaluate_beir(None, load_beir(SHARED / "beir" / "scifact"), modes=["bm25"])
    assert results.queries == 300
    assert results.metrics["bm25"]["ndcg@10"] == pytest.approx(0.679, abs=0.012)
    assert results.metrics["bm25"]["recall@100"] == pytest.approx(0.925, abs=0.010)


@needs_shared
@pytest.mark.parametrize(("language", "published"), [("en", 0.965), ("de", 0.925), ("ar", 0.888), ("zh", 0.967)])
def test_bm25_finds_paragraphs_in_every_language(language, published):
    """bm25s on words for en, de and ar; pairs of characters for zh."""
    results = evaluate_beir(None, load_beir(SHARED / "beir" / f"xquad-{language}"), modes=["bm25"])
    assert results.metrics["bm25"]["ndcg@10"] == pytest.approx(published, abs=0.008)


@needs_shared
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_minilm_reproduces_the_published_scifact_number():
    """MTEB: nDCG@10 0.645."""
    results = evaluate_beir(Encoder.load(encoders.MINILM), load_beir(SHARED / "beir" / "scifact"))
    assert results.metrics["dense"]["ndcg@10"] == pytest.approx(0.645, abs=0.003)
    assert results.metrics["hybrid"]["ndcg@10"] > results.metrics["bm25"]["ndcg@10"]


def test_a_folder_is_read(encoder, dataset, tmp_path):
    write_beir(tmp_path / "zoo", dataset.corpus, dataset.queries, dataset.qrels)
    assert evaluate_beir(encoder, tmp_path / "zoo").to_json() == evaluate_beir(encoder, dataset).to_json()
