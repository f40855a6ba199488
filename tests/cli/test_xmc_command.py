"""``retriever eval xmc`` and ``retriever predict``: objects, tables, notes, and mistakes as sentences."""

from __future__ import annotations

import json

import encoders
import pytest
import xmc_folders
from typer.testing import CliRunner

from retriever.cli.app import app
from retriever.data.xmc import load_labels, load_xmc
from retriever.eval.xmc import evaluate_xmc
from retriever.indexing.label_memory import LabelMemory
from retriever.indexing.labels import LabelIndex


def call(*arguments, code=0, stdin=None):
    """Run a command in this process; returns (stdout, stderr)."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result.stdout, result.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("xmc")
    encoders.static().save(folder / "model")
    xmc_folders.write_raw(folder / "zoo")
    xmc_folders.write_jsonl(folder / "named", labels="jsonl")
    return folder


def evaluated(folder, *arguments):
    out, _ = call("eval", "xmc", folder / "model", folder / "zoo", "--json", "-q", *arguments)
    return json.loads(out)


def test_the_json_is_that_of_the_library(folder):
    out, err = call("eval", "xmc", folder / "model", folder / "zoo", "--json")
    expected = evaluate_xmc(encoders.static(), load_xmc(folder / "zoo"))
    assert json.loads(out) == json.loads(json.dumps(expected.to_json()))
    assert {"p@1", "psp@1", "ndcg@5", "recall@100"} <= json.loads(out)["metrics"].keys()
    assert "zoo has points without labels: 1; filter pairs (not to be predicted): 3." in err
    assert "Dense search minus bm25 at P@1" in err


def test_options_reach_the_evaluation(folder):
    plain = evaluated(folder)
    assert evaluated(folder, "--no-bm25").keys() == plain.keys() - {"bm25"}
    assert "hybrid" in evaluated(folder, "--hybrid")
    assert evaluated(folder, "--split", "validation")["split"] == "validation"
    assert evaluated(folder, "--a", 0.6, "--b", 2.6)["propensity"] == {"a": 0.6, "b": 2.6}
    assert evaluated(folder, "--keep-unlabelled")["counts"]["points"] == plain["counts"]["points"] + 1
    assert (plain["counts"]["filtered_pairs"], evaluated(folder, "--no-filter")["counts"]["filtered_pairs"]) == (3, 0)
    assert evaluated(folder, "--resamples", 0)["intervals"] == {}
    assert evaluated(folder, "--depth", 200, "--similarity", "dot")["counts"] == plain["counts"]
    titles = evaluate_xmc(encoders.static(), load_xmc(folder / "zoo", titles_only=True))
    assert evaluated(folder, "--titles-only")["metrics"] == titles.metrics["dense"] != plain["metrics"]


def test_labels_of_one_text_are_merged_on_request(folder, tmp_path):
    xmc_folders.write_raw(tmp_path, labels=["lazy dog", *xmc_folders.LABELS[1:]])
    arguments = ["eval", "xmc", folder / "model", tmp_path, "--json"]
    assert "labels that repeat another's text: 1" in call(*arguments)[1]
    out, err = call(*arguments, "--deduplicate-labels")
    assert json.loads(out)["counts"]["labels"] == 5 and "labels merged into others of the same text: 1" in err


def test_tables_for_people(folder):
    out, _ = call("eval", "xmc", folder / "model", folder / "zoo")
    assert f"{folder / 'model'} on zoo, test: 3 points, 6 pairs, 6 labels" in out
    assert all(word in out for word in ("psndcg@5", "recall@100", "bm25", "head", "zero-shot"))


def test_texts_are_labelled(folder):
    texts = ["the lazy dog", "vectors of documents"]
    out, _ = call("predict", folder / "model", folder / "zoo", *texts, "-k", 2, "--json")
    found = json.loads(out)["predictions"]
    index = LabelIndex.build(encoders.static(), load_labels(folder / "zoo"))
    for text, tags, one in zip(texts, index.predict(texts, 2), found, strict=True):
        assert one["text"] == text and len(tags) == 2
        assert one["labels"] == [
            {"label": tag.label, "text": tag.text, "score": pytest.approx(tag.score)} for tag in tags
        ]
    assert found[0]["labels"][0]["text"] == "lazy dog"


def test_texts_come_from_standard_input(folder):
    model, labels = folder / "model", folder / "named" / "labels.jsonl"
    out, _ = call("predict", model, labels, "-", "-k", 1, stdin="lazy dog\n\n  \nzzz\nquick fox\n")
    lines = out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == ["lazy dog", "zzz", "quick fox"]
    assert lines[1].split()[1:] == ["lazy", "dog", "all", "about", "lazy", "dog"]
    assert lines[3].strip() == "no label"
    assert json.loads(call("predict", model, labels, "-", "--json", stdin="")[0]) == {"predictions": []}
    _, told = call("predict", model, labels, "-", stdin=b"lazy d\xf6g", code=2)
    assert "Standard input is no UTF-8: convert it" in told


def test_texts_and_labels_cannot_steer_the_terminal(folder, tmp_path):
    (tmp_path / "labels.jsonl").write_text(json.dumps({"id": "x\x1b[2J", "text": "lazy dog \x1b]0;owned\x07"}) + "\n")
    out, _ = call("predict", folder / "model", tmp_path / "labels.jsonl", "lazy dog\x1b[31m")
    assert "lazy dog" in out and "owned" in out and not set(out) & {"\x1b", "\x07"}


def test_a_text_ends_at_a_line_feed_only(folder):
    model, labels = folder / "model", folder / "named" / "labels.jsonl"
    out, _ = call("predict", model, labels, "-", "--json", stdin="lazy\u2028dog\x85\r\nfox")
    assert [entry["text"] for entry in json.loads(out)["predictions"]] == ["lazy\u2028dog\x85", "fox"]


def test_a_text_that_is_not_utf8_is_a_sentence(folder):
    _, err = call("predict", folder / "model", folder / "named" / "labels.jsonl", "fox", "caf\udce9", "-q", code=2)
    assert err == "Error: Text 2 is not UTF-8: convert it, for example with `iconv -t utf-8`.\n"


def test_mistakes_are_sentences(folder, tmp_path):
    xmc_folders.write_raw(tmp_path / "bad", end="")
    (tmp_path / "bad" / "tst.json").write_text('{"title": "x", "target_ind": [9]}')
    xmc_folders.write(tmp_path / "alone.jsonl", '{"text": "x", "labels": ["a"]}\n' * 3)
    for arguments, sentence in (
        (["eval", "xmc", folder / "model", tmp_path / "bad"], "tst.json:1 names label 9, but there are 6"),
        (["eval", "xmc", folder / "model", tmp_path / "none"], "There is no folder or file"),
        (["eval", "xmc", folder / "model", tmp_path / "alone.jsonl"], "alone has no test part"),
        (["eval", "xmc", folder / "model", folder / "zoo", "--depth", "10"], "A depth of 10 is too low"),
        (["eval", "xmc", folder / "model", folder / "zoo", "--b", "0"], "B above 0, not 0.55 and 0"),
        (["eval", "xmc", tmp_path, folder / "zoo"], str(tmp_path)),
        (["predict", folder / "model", tmp_path / "none", "x"], "There is no folder or file"),
    ):
        out, err = call(*arguments, code=2)
        assert sentence in err and err.startswith("Error: ") and err.count("\n") == 1 and out == ""


def test_the_training_points_are_a_memory_on_request(folder):
    out, err = call("eval", "xmc", folder / "model", folder / "zoo", "--memory", "--json")
    expected = evaluate_xmc(encoders.static(), load_xmc(folder / "zoo"), modes=["dense", "memory", "bm25"])
    assert json.loads(out) == json.loads(json.dumps(expected.to_json()))
    assert f"share {expected.mix['share']:g}, temperature {expected.mix['temperature']:g}." in err
    data = load_xmc(folder / "zoo")
    memory = LabelMemory.remember(LabelIndex.build(encoders.static(), data.labels), data.train)
    out, _ = call("predict", folder / "model", folder / "zoo", "the lazy dog", "--memory", "--json")
    expected = [tag.label for tag in memory.predict(["the lazy dog"])[0]]
    assert [tag["label"] for tag in json.loads(out)["predictions"][0]["labels"]] == expected


def test_a_list_of_labels_is_no_memory(folder, tmp_path):
    (tmp_path / "tags.txt").write_text("dogs\ncats\n")
    out, err = call("predict", folder / "model", tmp_path / "tags.txt", "the lazy dog", "--memory", code=2)
    assert out == ""
    assert "--memory takes training points from LABELS" in " ".join(err.split())
