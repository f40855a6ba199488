"""MTEB's protocol: the adapter against a stand-in of mteb, and mteb itself where it is installed."""

from __future__ import annotations

import gzip
import json
import sys
from enum import Enum
from types import ModuleType, SimpleNamespace

import encoders
import numpy as np
import pytest
import sts_folders

from retriever.data.sts import load_sts
from retriever.errors import DataError, RetrieverError
from retriever.eval.mteb import MtebEncoder, evaluate_mteb
from retriever.eval.sts import evaluate_sts


class PromptType(Enum):
    query = "query"
    document = "document"


class Metadata(SimpleNamespace):
    def model_copy(self, update):
        return Metadata(**{**vars(self), **update})


class Task:
    """A task whose data are one file, and whose score is the mean similarity of its two texts."""

    def __init__(self, name):
        if name not in ("STS12", "SICK-R"):
            raise KeyError(f"{name} not found")
        self.metadata = Metadata(
            name=name, main_score="cosine_spearman", dataset={"path": f"mteb/{name}", "revision": "1"}
        )

    def load_data(self):
        if self.metadata.dataset["path"].startswith("mteb/"):
            raise ConnectionError("Couldn't reach it\non the hub")
        assert self.metadata.dataset["revision"] == "1"


def stand_in_evaluate(model, task, *, cache, co2_tracker, show_progress_bar):
    assert cache is None and co2_tracker is False and show_progress_bar is False
    first, second = (model.encode([{"text": [text]}], task_metadata=task.metadata) for text in ("dog", "fox"))
    score = float(model.similarity_pairwise(first, second)[0])
    scores = {"test": [{"hf_subset": "default", "languages": ["eng"], "main_score": score, "cosine_spearman": score}]}
    result = SimpleNamespace(task_name=task.metadata.name, scores=scores, get_score=lambda: score)
    return SimpleNamespace(task_results=[result])


@pytest.fixture
def mteb(monkeypatch):
    """The stand-in, importable as mteb."""
    for name in ("mteb", "mteb.models", "mteb.models.model_meta"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["mteb"].get_task = Task
    sys.modules["mteb"].evaluate = stand_in_evaluate
    meta = SimpleNamespace(create_empty=lambda overwrites: SimpleNamespace(**overwrites))
    sys.modules["mteb.models.model_meta"].ModelMeta = meta
    monkeypatch.setattr("retriever.eval.mteb.version", lambda name: f"{name} 2")


@pytest.fixture
def data(tmp_path):
    for name in ("STS12", "SICK-R"):
        (tmp_path / "mteb" / name).mkdir(parents=True)
    return tmp_path


def test_texts_of_all_batches_are_encoded_in_order_with_the_right_prompt(mteb):
    encoder = encoders.small()
    encoder.prompts = {"query": "dog ", "document": "fox "}
    done = []
    model = MtebEncoder(encoder, "some/folder", progress=done.append)
    batches = [{"text": ["dog", "lazy"], "id": ["1", "2"]}, {"text": ["far"], "id": ["3"]}]
    texts = ["dog", "lazy", "far"]
    for prompt_type, kind in ((None, "document"), (PromptType.document, "document"), (PromptType.query, "query")):
        found = model.encode(iter(batches), task_metadata=None, hf_split="test", prompt_type=prompt_type, batch_size=2)
        assert np.array_equal(found, encoder.encode(texts, kind, dtype="float32"))
    assert sum(done) == 9 and model.mteb_model_meta.name == "local/folder"


@pytest.mark.parametrize("normalise", [True, False])
def test_similarity_is_the_models_own(mteb, normalise):
    encoder = encoders.small(normalise=normalise)
    model = MtebEncoder(encoder, "model")
    x, y = encoder.encode(encoders.TEXTS[:3]), encoder.encode(encoders.TEXTS[3:6])
    expected = np.array([[float(a @ b) for b in y] for a in x])  # unit vectors, or compared by dot product
    assert model.similarity(x, y).numpy() == pytest.approx(expected, abs=1e-5)
    assert model.similarity_pairwise(x, y).numpy() == pytest.approx(expected.diagonal(), abs=1e-5)


def test_scores_of_tasks_and_their_mean(mteb, data):
    encoder = encoders.static()
    found = evaluate_mteb(encoder, ["STS12", "SICK-R", "STS12"], data=data)
    x, y = encoder.encode(["dog", "fox"])
    score = pytest.approx(float(x @ y), abs=1e-6)
    assert found.metrics == {"STS12": score, "SICK-R": score, "avg": score}
    assert found.measures == dict.fromkeys(("STS12", "SICK-R"), "cosine_spearman")
    assert found.scores["STS12"] == {"test": {"default": {"main_score": score, "cosine_spearman": score}}}
    assert found.version == "mteb 2"
    assert json.loads(json.dumps(found.to_json())) == found.to_json()
    assert list(evaluate_mteb(encoder, ["STS12"], data=data).metrics) == ["STS12"]


def test_mistakes_are_sentences(mteb, data, monkeypatch):
    encoder = encoders.static()
    with pytest.raises(DataError, match=r"mteb has no task 'STS99': python -m mteb available-tasks"):
        evaluate_mteb(encoder, ["STS99"], data=data)
    (data / "mteb" / "STS12").rmdir()
    for folder in (None, data):
        with pytest.raises(DataError, match=r"The data of STS12 cannot be loaded \(Couldn't reach it\): put a copy of"):
            evaluate_mteb(encoder, ["STS12"], data=folder)
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(RetrieverError, match=r"pip install 'dense-retriever\[mteb\]'"):
        evaluate_mteb(encoder, ["STS12"])


def test_mteb_itself_agrees_with_our_evaluation(tmp_path):
    pytest.importorskip("mteb", reason="mteb is not installed")
    sts_folders.write_benchmark(tmp_path, count=60)
    one = load_sts(tmp_path, only=["STSB"])[0]
    rows = zip(one.first, one.second, one.gold.tolist(), strict=True)
    (tmp_path / "mteb" / "stsbenchmark-sts").mkdir(parents=True)
    with gzip.open(tmp_path / "mteb" / "stsbenchmark-sts" / "test.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"sentence1": a, "sentence2": b, "score": score}) + "\n" for a, b, score in rows)
    encoder = encoders.static()
    with pytest.warns(UserWarning, match="superseded"):
        found = evaluate_mteb(encoder, ["STSBenchmark"], data=tmp_path)
    expected = evaluate_sts(encoder, [one], resamples=0)
    assert found.metrics["STSBenchmark"] == pytest.approx(expected.metrics["STSB"], abs=1e-4)
    assert found.scores["STSBenchmark"]["test"]["default"]["pearson"] == pytest.approx(
        expected.pearson["STSB"], abs=1e-4
    )
