"""Changing an index from the command line."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from retriever.cli.app import app
from retriever.data.tokenizers import WordTokenizer
from retriever.encoder import Encoder

TEXTS = {"a": "amber heron", "b": "birch heron", "c": "cedar grove"}


def call(*arguments, code=0):
    """Run a command in this process; returns (stdout, stderr)."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result.stdout, result.stderr


def write(path, texts):
    path.write_text("".join(json.dumps({"_id": name, "text": text}) + "\n" for name, text in texts.items()))
    return path


@pytest.fixture
def folder(tmp_path):
    tokenizer = WordTokenizer.train([*TEXTS.values(), "delta ember fjord"])
    Encoder.static(tokenizer, dimension=16).save(tmp_path / "model")
    call("index", "build", tmp_path / "model", write(tmp_path / "notes.jsonl", TEXTS), "-o", tmp_path / "index", "-q")
    return tmp_path


def found(folder, query):
    out, _ = call("search", folder / "index", query, "--mode", "bm25", "--json")
    return [hit["id"] for hit in json.loads(out)["hits"]]


@pytest.mark.parametrize("command", ["add", "update"])
def test_documents_are_added_and_replaced(folder, command):
    more = write(folder / "more.jsonl", {"b": "delta", "d": "ember heron"})
    out, _ = call("index", command, folder / "index", more, "--json")
    assert json.loads(out) == {"added": 1, "replaced": 1, "documents": 4}
    assert found(folder, "heron") == ["a", "d"]
    assert found(folder, "delta") == ["b"]
    out, _ = call("index", command, folder / "index", more, "-q")
    assert out.split() == ["added", "0", "replaced", "2", "documents", "4"]


def test_documents_are_encoded_on_a_device_that_is_chosen(folder):
    more = write(folder / "more.jsonl", {"d": "ember heron"})
    call("index", "add", folder / "index", more, "--device", "cpu", "--model", folder / "model", "-q")
    assert found(folder, "heron") == ["a", "b", "d"]
    _, err = call("index", "add", folder / "index", more, "--device", "cuda:99", code=2)
    assert "cuda:99" in err


def test_an_addition_takes_documents_with_equal_texts(folder):
    """Otherwise a document that is changed into the text of another one would stay as it was."""
    more = write(folder / "more.jsonl", {"a": "delta grove", "b": "delta grove"})
    assert json.loads(call("index", "update", folder / "index", more, "--json")[0])["replaced"] == 2
    assert {"a", "b"} <= set(found(folder, "delta grove"))


def test_rows_of_a_source_without_ids_replace_no_others_unless_asked_to(folder, tmp_path):
    (tmp_path / "one.txt").write_text("amber stone\nquartz stone\n")
    (tmp_path / "two.txt").write_text("willow tree\nbirch tree\n")
    out, _ = call("index", "add", folder / "index", tmp_path / "one.txt", "--json")
    assert json.loads(out) == {"added": 2, "replaced": 0, "documents": 5}
    _, err = call("index", "add", folder / "index", tmp_path / "two.txt", code=2)
    assert "two.txt has no ids, and its row 0 would replace the document '0' of the index" in " ".join(err.split())
    assert found(folder, "stone") == ["0", "1"] and found(folder, "tree") == []
    out, _ = call("index", "update", folder / "index", tmp_path / "two.txt", "--json")
    assert json.loads(out) == {"added": 0, "replaced": 2, "documents": 5}
    assert found(folder, "stone") == [] and found(folder, "tree") == ["0", "1"]


def test_documents_are_deleted_and_the_missing_are_told(folder):
    out, _ = call("index", "delete", folder / "index", "a", "--json")
    assert json.loads(out) == {"deleted": 1, "missing": [], "documents": 2}
    out, err = call("index", "delete", folder / "index", "b", "x", "y", "b", code=2)
    assert out.split() == ["deleted", "1", "missing", "x,", "y", "documents", "1"]
    assert "holds no document 'x', 'y': check the id." in " ".join(err.split())
    assert found(folder, "heron grove") == ["c"]


def test_compacting_frees_the_space_of_the_deleted(folder):
    write(folder / "more.jsonl", {f"n{number}": f"amber {number}" for number in range(300)})
    call("index", "add", folder / "index", folder / "more.jsonl", "-q")
    call("index", "delete", folder / "index", *(f"n{number}" for number in range(299)))
    out, _ = call("index", "compact", folder / "index", "--json")
    facts = json.loads(out)
    assert facts["documents"] == 4 and facts["bytes"] < facts["bytes_before"] / 2
    info = json.loads(call("index", "info", folder / "index", "--json")[0])
    assert (info["segments"], info["documents"], info["bytes"]) == (1, 4, facts["bytes"])
    assert "is whole" in call("index", "verify", folder / "index")[0]


def test_an_interrupted_build_goes_on(folder, monkeypatch):
    build = [
        "index",
        "build",
        folder / "model",
        folder / "notes.jsonl",
        "-o",
        folder / "new",
        "--segment-size",
        1,
        "-q",
    ]
    encode, encoded = Encoder.encode, []

    def stop(self, texts, *arguments, **options):
        if len(encoded) == 2:
            raise KeyboardInterrupt
        encoded.extend(texts)
        return encode(self, texts, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "encode", stop)
        _, err = call(*build, code=130)
    assert "Stopped; 2 documents are done. Go on: retriever" in err
    assert "--resume" in err
    _, err = call(*build, code=2)
    assert "An unfinished build with 2 documents is in" in err
    call(*build, "--resume")
    info = json.loads(call("index", "info", folder / "new", "--json")[0])
    assert (info["documents"], info["segments"]) == (3, 3)
    assert found(folder, "heron") == ["a", "b"]


def test_an_index_of_format_1_is_migrated(folder):
    index = folder / "index"
    assert "has the present format" in call("index", "migrate", index)[0]
    manifest = json.loads((index / "manifest.json").read_text())
    files = {name: record for name, record in manifest["files"].items() if "postings" not in name}
    (index / "manifest.json").write_text(json.dumps(manifest | {"format": 1, "files": files}))
    assert f"run `retriever index migrate {index}`" in " ".join(call("index", "info", index, code=2)[1].split())
    assert "now has the present format" in call("index", "migrate", index)[0]
    assert found(folder, "heron") == ["a", "b"]


def test_damage_is_told_and_mended(folder):
    index, first = folder / "index", folder / "index" / "generation-000001"
    assert json.loads(call("index", "verify", index, "--sample", 3, "--json")[0]) == {
        "index": str(index),
        "whole": True,
    }
    (first / "vectors.faiss").unlink()
    (first / "postings" / "rows.npy").write_bytes(b"")
    _, err = call("index", "verify", index, code=2)
    told = " ".join(err.split())
    for part in ("vectors.faiss is missing", "rows.npy has 0 bytes instead of", "Mend it with `retriever index verify"):
        assert part in told
    assert call("index", "verify", index, "--repair")[0].endswith("index is whole.\n")
    assert json.loads(call("index", "verify", index, "--repair", "--json")[0]) == {"mended": [], "lost": []}
    assert found(folder, "heron") == ["a", "b"]
    (index / "generation-000002" / "documents.sqlite").unlink()
    _, err = call("index", "verify", index, "--repair", code=2)
    assert "has lost what nothing else tells: generation-000002/documents.sqlite is missing. Build it" in " ".join(
        err.split()
    )
    _, err = call("index", "verify", index, code=2)  # no repair is advised that mends nothing
    assert " ".join(err.split()).endswith("is damaged: generation-000002/documents.sqlite is missing. Build it again.")


@pytest.mark.parametrize("option", [[], ["--repair"]])
def test_a_damaged_name_in_the_manifest_is_told(folder, option):
    path = folder / "index" / "manifest.json"
    path.write_text(path.read_text().replace("generation-000001/vectors.faiss", "generation-00000d/vectors.faiss"))
    _, err = call("index", "verify", folder / "index", *option, code=2)
    told = " ".join(err.split())
    assert "is damaged (it does not tell of generation-000001/vectors.faiss): build the index again." in told


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["add", "{tmp}/nowhere", "{tmp}/notes.jsonl"], "holds no index"),
        (["add", "{tmp}/index", "{tmp}/nowhere.jsonl"], "nowhere.jsonl"),
        (["add", "{tmp}/index", "{tmp}/bad.jsonl"], "bad.jsonl"),
        (["add", "{tmp}/index", "{tmp}/notes.jsonl", "--model", "{tmp}/other"], "was built by another model"),
        (["delete", "{tmp}/model", "a"], "holds no index"),
        (["compact", "{tmp}/nowhere"], "holds no index"),
    ],
)
def test_mistakes_are_one_sentence_and_change_nothing(folder, arguments, sentence):
    (folder / "bad.jsonl").write_text('{"text": "amber"\n')
    tokenizer = Encoder.load(folder / "model").text_tokenizer
    Encoder.static(tokenizer, dimension=16, seed=1).save(folder / "other")
    before = (folder / "index" / "manifest.json").read_bytes()
    _, err = call("index", *(part.format(tmp=folder) for part in arguments), code=2)
    assert sentence in " ".join(err.split())
    assert (folder / "index" / "manifest.json").read_bytes() == before
