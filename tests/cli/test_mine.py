"""``retriever mine`` as a user meets it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from retriever.cli.app import app
from retriever.data.beir import write_beir
from retriever.data.document import Document
from retriever.data.labelled import open_labelled
from retriever.data.tokenizers import WordTokenizer
from retriever.encoder import Encoder

WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "islet", "jetty", "knoll", "larch"]


def call(*arguments, code=0):
    """Run a command in this process; returns (stdout, stderr)."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result.stdout, result.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, a BEIR folder, the same data as JSONL, and triples by id."""
    folder = tmp_path_factory.mktemp("mine")
    texts = [f"{one} {two} {one}" for one in WORDS for two in WORDS]
    documents = [Document(str(i), "", text) for i, text in enumerate(texts)] + [Document("copy", "", texts[0].upper())]
    queries = {f"q{i}": f"{texts[i]} {i}" for i in range(30)} | {"again": f"{texts[3]} 3", "lost": "nothing"}
    qrels = {f"q{i}": {str(i): 1} for i in range(30)} | {"again": {"3": 1}, "lost": {"5": 0}}
    write_beir(folder / "woods", documents, queries, qrels, "train")
    lines = [json.dumps({"query": queries[f"q{i}"], "pos": texts[i], "neg": texts[i + 1]}) for i in range(30)]
    (folder / "pairs.jsonl").write_text("\n".join(lines))
    (folder / "ids.tsv").write_text("".join(f"q{i}\t{i}\t{i + 1}\n" for i in range(30)))
    Encoder.static(WordTokenizer.train(texts), dimension=24).save(folder / "model")
    return folder


def test_the_table_says_what_was_mined_and_what_comes_next(folder, tmp_path):
    out, err = call("mine", folder / "model", folder / "woods", "-o", tmp_path / "hard.jsonl")
    for part in ("30, ", "likely false negatives", "145 documents, 1 of them copies", "median", "negative rank"):
        assert part in out
    joined = "woods: 30 queries (repeated, joined: 1; without a positive, left out: 1)."
    for part in (joined, "encode", "mine", f"retriever train finetune --data {tmp_path / 'hard.jsonl'}"):
        assert part in err
    assert len(open_labelled(tmp_path / "hard.jsonl")) == 30


def test_json_is_one_object_and_quiet_is_silent(folder, tmp_path):
    arguments = ["mine", folder / "model", folder / "woods", "-o", tmp_path / "hard.jsonl", "--ranks", "1:100"]
    out, err = call(*arguments, "--json", "--quiet", "--bm25", 0.4, "--negatives", 5)
    found = json.loads(out)
    assert err == "" and found["queries"] == 30 and found["sources"] == {"dense": 90, "bm25": 60}
    assert found["duplicates"] == 1 and found["negatives_per_query"] == 5
    assert set(found["spreads"]) == {"positive score", "negative score", "positive rank", "negative rank"}


@pytest.mark.parametrize(
    ("options", "ratio", "margin"),
    [
        ([], 0.95, None),
        (["--margin", "0.2"], None, 0.2),
        (["--margin", "0.2", "--max-ratio", "0.5"], 0.5, 0.2),
        (["--max-ratio", "0.7"], 0.7, None),
        (["--max-ratio", "inf"], None, None),
    ],
)
def test_the_bar_is_the_one_asked_for(folder, tmp_path, options, ratio, margin):
    path = tmp_path / "hard.jsonl"
    out, _ = call("mine", folder / "model", folder / "woods", "-o", path, "--ranks", "1:144", "--json", *options)
    left_out = 0
    for line in map(json.loads, path.read_text().splitlines()):
        lowest = min(entry["score"] for entry in line["positives"])
        for entry in line["negatives"]:
            assert ratio is None or entry["score"] <= ratio * lowest
            assert margin is None or entry["score"] <= lowest - margin
        left_out += line["false_negatives"]
    assert json.loads(out)["false_negatives"] == left_out
    assert (left_out > 0) == bool(ratio or margin)


def test_every_format_and_a_corpus_to_mine_from(folder, tmp_path):
    call("mine", folder / "model", folder / "ids.tsv", "--corpus", folder / "woods", "-o", tmp_path / "a.jsonl")
    call("mine", folder / "model", folder / "woods", "-o", tmp_path / "b.jsonl")
    call("mine", folder / "model", folder / "pairs.jsonl", "--corpus", folder / "woods", "-o", tmp_path / "c.jsonl")
    found = []
    for name in "abc":
        lines = map(json.loads, (tmp_path / f"{name}.jsonl").read_text().splitlines())
        found.append([[entry["_id"] for entry in line["negatives"]] for line in lines])
    assert found[0] == found[1] == found[2] and any(found[0])


def test_random_sampling_follows_the_seed(folder, tmp_path):
    arguments = ["mine", folder / "model", folder / "woods", "--ranks", "1:144", "--max-ratio", "inf", "-q"]
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        call(*arguments, "--sampling", "random", "--seed", seed, "-o", tmp_path / f"{name}.jsonl")
    a, b, c = ((tmp_path / f"{name}.jsonl").read_bytes() for name in "abc")
    assert a == b != c


def test_ctrl_c_prints_the_command_that_resumes(folder, tmp_path, monkeypatch):
    arguments = ["mine", folder / "model", folder / "woods", "-q"]
    call(*arguments, "-o", tmp_path / "whole.jsonl")
    encode = Encoder.encode

    def interrupted(self, texts, kind="document", **options):
        if kind == "query":
            raise KeyboardInterrupt
        return encode(self, texts, kind, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "encode", interrupted)
        patch.setattr("sys.argv", ["retriever", "mine", "model", "my data", "--overwrite", "-o", "hard.jsonl"])
        _, err = call(*arguments, "-o", tmp_path / "hard.jsonl", "--overwrite", code=130)
    assert "what is done is in" in err
    assert err.splitlines()[-1] == "  retriever mine model 'my data' -o hard.jsonl --resume"
    assert not (tmp_path / "hard.jsonl").exists()
    call(*arguments, "-o", tmp_path / "hard.jsonl", "--resume")
    assert (tmp_path / "hard.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_queries_without_negatives_are_counted(folder, tmp_path):
    _, err = call("mine", folder / "model", folder / "woods", "-o", tmp_path / "x.jsonl", "--margin", 3)
    assert "30 queries got no negative" in err
    assert open_labelled(tmp_path / "x.jsonl").negatives.lengths.sum() == 0


MISTAKES = [
    (["{folder}/woods", "--split", "test"], "choose one of train"),
    (["{folder}/woods", "--ranks", "10-100"], "--ranks is '10-100'"),
    (["{folder}/woods", "--ranks", "20:10"], "20:10 are no range"),
    (["{folder}/woods", "--bm25", "many"], "--bm25 is 'many'"),
    (["{folder}/woods", "--bm25", "1.5"], "--bm25 is '1.5'"),
    (["{folder}/woods", "--bm25", "nan"], "--bm25 is 'nan'"),
    (["{folder}/woods", "--bm25", "9"], "between 0 and the 7 negatives"),
    (["{folder}/woods", "--margin", "-1"], "--margin"),
    (["{folder}/woods", "--max-ratio", "0"], "--max-ratio"),
    (["{folder}/woods", "--corpus", "{folder}/woods"], "leave the other corpus out"),
    (["{folder}/woods", "--ranks", "145:200"], "a pool of 144 texts, too few"),
    (["{folder}/woods", "--dtype", "float16"], "choose auto, float32 or bfloat16"),
    (["{folder}/woods", "--resume"], "no unfinished run"),
    (["{folder}/woods", "--resume", "--overwrite"], "pass one of the two"),
    (["{folder}/ids.tsv"], "--corpus"),
    (["{tmp}/bad.jsonl"], "bad.jsonl:2 has a query without a positive document"),
    (["{tmp}/none.jsonl"], "There is no file or folder"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_is_one_sentence_and_leaves_nothing(folder, tmp_path, arguments, message):
    (tmp_path / "bad.jsonl").write_text('{"query": "fine", "positive": "p"}\n{"query": "q", "positive": []}\n')
    arguments = [argument.format(folder=folder, tmp=tmp_path) for argument in arguments]
    out, err = call("mine", folder / "model", *arguments, "-o", tmp_path / "hard.jsonl", code=2)
    last = err.strip().splitlines()[-1]
    assert out == "" and last.startswith("Error: ") and message in last
    assert [path.name for path in tmp_path.iterdir()] == ["bad.jsonl"]


def test_outputs_are_not_overwritten_unasked(folder, tmp_path):
    arguments = ["mine", folder / "model", folder / "woods", "-o", tmp_path / "hard.jsonl"]
    (tmp_path / "hard.jsonl").write_text("")
    assert "exists already" in call(*arguments, code=2)[1]
    call(*arguments, "--overwrite")
    assert "is complete" in call(*arguments, "--resume", code=2)[1]
