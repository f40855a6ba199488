"""``retriever eval beir``: several data sets, similarities, text normalisation."""

from __future__ import annotations

import json
import re

import encoders
import pytest
from typer.testing import CliRunner

from retriever.cli.app import app
from retriever.data.beir import write_beir
from retriever.data.document import Document

TEXTS = [
    "documents and vectors",
    "a quick fox",
    "the lazy dog",
    "similar vectors are close",
    "brown fox",
    "far dog dog",
]
QUERIES = {"q1": "quick dogs", "q2": "close documents"}


def call(*arguments, code=0):
    """Run a command in this process; returns (stdout, stderr)."""
    result = CliRunner().invoke(app, ["eval", "beir", *(str(argument) for argument in arguments)])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result.stdout, result.stderr


def make(folder, texts=TEXTS, queries=QUERIES):
    folder.parent.mkdir(parents=True, exist_ok=True)
    documents = [Document(f"d{number}", text=text) for number, text in enumerate(texts)]
    return write_beir(folder, documents, queries, {"q1": {"d2": 1, "d5": 2}, "q2": {"d0": 1, "d3": 1}})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eval")
    encoders.static().save(folder / "model")
    encoders.static(normalise=False).save(folder / "dot")
    make(folder / "zoo")
    make(folder / "langs" / "de", TEXTS[::-1])
    make(folder / "langs" / "en")
    return folder


def test_one_data_set_keeps_its_own_object(folder):
    found = json.loads(call(folder / "model", folder / "zoo", "--json")[0])
    assert list(found) == ["dataset", "split", "queries", "metrics", "intervals"]
    assert list(found["metrics"]["dense"]) == [
        *("ndcg@10", "recall@10", "recall@100", "mrr@10", "map"),
        *("mrr@100", "r_cap@100"),
    ]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{oops", "corpus.jsonl:7 is not valid JSON (.*): mend it."),
        ('{"_id": "d0", "text": "another"}', "ids must be unique; rename one, or choose another field for them."),
    ],
)
def test_what_mangled_data_says_names_no_option_that_there_is_not(folder, tmp_path, line, sentence):
    path = make(tmp_path / "zoo") / "corpus.jsonl"
    path.write_text(f"{path.read_text()}{line}\n")
    _, err = call(folder / "model", tmp_path / "zoo", code=2)
    assert re.search(rf"{sentence}\n$", err) and "--" not in err


def test_several_data_sets_have_a_mean_in_json_table_and_report(folder, tmp_path):
    arguments = [folder / "model", folder / "zoo", folder / "langs", "--run-files", tmp_path]
    found = json.loads(call(*arguments, "--json", "--report", tmp_path / "report.html")[0])
    names = ["zoo", "langs/de", "langs/en"]
    assert list(found) == ["results", "groups", "macro"]
    assert [results["dataset"] for results in found["results"]] == names
    by_name = {results["dataset"]: results["metrics"] for results in found["results"]}
    [group], macro = found["groups"], found["macro"]
    assert (group["label"], group["datasets"]) == ("langs, mean of 2 sets", ["langs/de", "langs/en"])
    assert (macro["label"], macro["datasets"]) == ("mean of 2 sets", ["zoo", "langs"])
    for mode in ("dense", "bm25", "hybrid"):
        for metric, value in macro["metrics"][mode].items():
            zoo, de, en = (by_name[name][mode][metric] for name in names)
            assert value == pytest.approx((zoo + (de + en) / 2) / 2)
            assert group["metrics"][mode][metric] == pytest.approx((de + en) / 2)
    assert (tmp_path / "langs" / "de.bm25.run").is_file() and (tmp_path / "zoo.hybrid.run").is_file()
    page = (tmp_path / "report.html").read_text()
    assert "Summary" in page and "langs, mean of 2 sets" in page and "r_cap@100" in page

    out, _ = call(*arguments)
    assert "3 data sets" in out and "mean of 2 sets" in out
    assert any(line.split()[:1] == ["langs/en"] and len(line.split()) == 7 for line in out.splitlines())


def test_a_group_alone_is_averaged_by_itself(folder):
    found = json.loads(call(folder / "model", folder / "langs", "--json")[0])
    assert list(found) == ["results", "macro"]
    assert found["macro"]["label"] == "langs, mean of 2 sets"


def test_one_data_set_has_no_summary(folder, tmp_path):
    out, _ = call(folder / "model", folder / "zoo", "--report", tmp_path / "report.html")
    assert "mean of" not in out and "Summary" not in (tmp_path / "report.html").read_text()


def test_the_similarity_can_be_chosen(folder, tmp_path):
    for model, similarity in (("dot", None), ("dot", "cosine"), ("dot", "dot"), ("model", None)):
        chosen = [] if similarity is None else ["--similarity", similarity]
        call(folder / model, folder / "zoo", *chosen, "--run-files", tmp_path / f"{model}-{similarity}")

    def scores(name):
        lines = (tmp_path / name / "zoo.dense.run").read_text().splitlines()
        return {tuple(line.split()[:3:2]): float(line.split()[4]) for line in lines}

    assert scores("dot-None") == scores("dot-dot") != scores("dot-cosine")
    assert scores("dot-cosine") == pytest.approx(scores("model-None"), abs=1e-5)
    _, err = call(folder / "model", folder / "zoo", "--similarity", "l2", code=2)
    assert "cosine" in err and "dot" in err


def test_texts_are_normalised_for_every_mode(folder, tmp_path):
    make(tmp_path / "messy", [text.replace("o", "o\xad") for text in TEXTS], {"q1": "qui\x01ck do\x02gs", **QUERIES})
    make(tmp_path / "clean" / "messy")
    modes = ("dense", "bm25", "hybrid")

    def metrics(*arguments):
        found = json.loads(call(folder / "model", *arguments, "--json")[0])
        return {mode: found["metrics"][mode] for mode in modes}

    clean = metrics(tmp_path / "clean" / "messy")
    assert metrics(tmp_path / "messy", "--normalise-text") == clean
    assert metrics(tmp_path / "messy")["bm25"] != clean["bm25"]


def test_equal_names_are_refused(folder, tmp_path):
    make(tmp_path / "zoo")
    _, err = call(folder / "model", folder / "zoo", tmp_path / "zoo", code=2)
    assert "Two data sets are called zoo" in err
