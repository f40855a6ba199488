"""``retriever boost`` as a user meets it, and what the other commands make of its model."""

from __future__ import annotations

import json
import re

import pytest
import tiny
from typer.testing import CliRunner

from retriever.cli.app import app
from retriever.data.beir import write_beir
from retriever.data.tokenizers import SubwordTokenizer
from retriever.encoder import Encoder

FAST = ["steps=6", "every=3", "size=16", "dimension=16", "queries=10", "pool=50"]


def call(*arguments, code=0):
    """Run a command in this process; returns (stdout, stderr)."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result.stdout, result.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A corpus file, a BEIR folder of the same documents, and a pretrained model."""
    folder = tmp_path_factory.mktemp("boost")
    documents = list(tiny.corpus())
    lines = [json.dumps({"_id": d.id, "title": f"the title {d.id}", "text": d.text}) for d in documents]
    (folder / "notes.jsonl").write_text("\n".join(lines))
    queries = {f"q{i}": documents[i].text.split(". ")[0] for i in range(20)}
    write_beir(folder / "tiny", documents, queries, {f"q{i}": {str(i): 1} for i in range(20)})
    tokenizer = SubwordTokenizer.train((d.content for d in documents), size=120)
    Encoder.small(tokenizer, dimension=16, layers=1, heads=2, max_length=32).save(folder / "pretrained")
    return folder


@pytest.fixture(scope="module")
def made(folder):
    """What the command printed, on stdout and on stderr."""
    data, output = folder / "notes.jsonl", folder / "boosted"
    return call("boost", folder / "pretrained", *FAST, "--seed", 1, "--data", data, "--output", output)


def test_it_prints_the_score_by_weight_and_what_comes_next(folder, made):
    out, err = made
    assert "Share of the pretrained model, on 10 held-out known items" in " ".join(out.split())
    rows = re.findall(r"^ *(\d\.\d)( ←)? +(\d\.\d+)", out, re.MULTILINE)
    assert [row[0] for row in rows] == [f"{step / 10:.1f}" for step in range(11)]
    best = max(float(row[2]) for row in rows)
    chosen = [(float(row[0]), float(row[2])) for row in rows if row[1]]
    assert len(chosen) == 1 and chosen[0][1] >= best - 10**0.5 / 10
    assert Encoder.load(folder / "boosted").stack[0].weights[0] == chosen[0][0]
    assert "← within one standard error of the best recall@10, and nearest to 0.5" in " ".join(out.split())
    for part in ("is kept: ", "notes: 150 documents", f"retriever index build {folder / 'boosted'}"):
        assert part in err


def test_the_seed_reaches_the_recipe(folder, made):
    assert "seed: 1\n" in (folder / "boosted" / "part_1" / "recipe.yaml").read_text()


def test_its_model_is_indexed_searched_and_evaluated_like_any_other(folder, made, tmp_path):
    model = folder / "boosted"
    call("index", "build", model, folder / "notes.jsonl", "--output", tmp_path / "index", "-q")
    out, _ = call("search", tmp_path / "index", "t3w5 t3w6", "--mode", "dense", "-k", 3, "--json")
    assert len(json.loads(out)["hits"]) == 3
    out, _ = call("eval", "beir", model, folder / "tiny", "--json", "-q")
    assert set(json.loads(out)["metrics"]) == {"dense", "bm25", "hybrid"}


def test_truncated_texts_are_counted(folder, made, tmp_path):
    _, err = call("index", "build", folder / "boosted", folder / "notes.jsonl", "--output", tmp_path / "index")
    assert re.search(r"Texts cut to the 30 tokens that the model reads: \d+", err)


def test_json_is_one_object(folder, made, tmp_path):
    arguments = ["--static", folder / "boosted" / "part_1", "--data", folder / "notes.jsonl", "-o", tmp_path / "b"]
    out, _ = call("boost", folder / "pretrained", *arguments, "--json")
    answer = json.loads(out)
    assert answer["output"] == str(tmp_path / "b") and answer["queries"] == 10
    assert set(answer["scores"]) == {str(step / 10) for step in range(11)}
    assert answer["weight"] == json.loads((folder / "boosted" / "boost.json").read_text())["weight"]


def test_a_given_weight_is_taken_in_silence(folder, made, tmp_path):
    arguments = ["--static", folder / "boosted" / "part_1", "--data", folder / "notes.jsonl", "-o", tmp_path / "b"]
    out, err = call("boost", folder / "pretrained", *arguments, "--weight", 0.3, "-q")
    assert (out, err) == ("", "")
    assert Encoder.load(tmp_path / "b").stack[0].weights == [0.3, 0.7]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["./nowhere"], "There is no model folder ./nowhere"),
        (["PRETRAINED", "--static", "./nowhere"], "There is no model folder ./nowhere"),
        (["PRETRAINED", "--recipe", "nonesuch"], "There is no recipe 'nonesuch'"),
        (["PRETRAINED", "stepz=3"], "There is no key stepz (did you mean"),
        (
            ["PRETRAINED", "--weight", "1.5"],
            "The weight is 1.5; give the pretrained encoder's share of the cosine",
        ),
        (["PRETRAINED", "--output", "MADE"], "exists already; choose another folder or pass --overwrite."),
        (["PRETRAINED", "--output", "NOTES", "--overwrite"], "holds something else than a model"),
        (["PRETRAINED", "--data", "./nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(arguments, sentence, folder, made, tmp_path):
    places = {"PRETRAINED": "pretrained", "MADE": "boosted", "NOTES": "notes.jsonl"}
    arguments = [str(folder / places[argument]) if argument in places else argument for argument in arguments]
    defaults = {"--data": folder / "notes.jsonl", "--output": tmp_path / "out"}
    options = [part for pair in defaults.items() if pair[0] not in arguments for part in pair]
    out, err = call("boost", *arguments, *options, code=2)
    last = err.strip().splitlines()[-1]
    assert out == "" and last.startswith("Error: ") and sentence in last
    assert not (tmp_path / "out").exists()
