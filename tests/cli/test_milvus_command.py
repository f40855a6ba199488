"""The commands of an index whose documents Milvus holds: the same, with one option more."""

from __future__ import annotations

import json
import socket

import pytest
from typer.testing import CliRunner

from retriever.cli.app import app
from retriever.data.tokenizers import WordTokenizer
from retriever.encoder import Encoder

pytest.importorskip("milvus_lite", reason="the extra dense-retriever[milvus] is not installed")

TEXTS = {"a": "amber heron", "b": "birch heron", "c": "cedar grove"}


def call(*arguments, code=0):
    """Run a command in this process; returns (stdout, stderr with single blanks)."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result.stdout, " ".join(result.stderr.split())


def write(path, texts):
    lines = [json.dumps({"_id": name, "text": text, "letters": len(text)}) for name, text in texts.items()]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("milvus")
    tokenizer = WordTokenizer.train([*TEXTS.values(), "delta ember fjord"], min_documents=1)
    Encoder.static(tokenizer, dimension=16).save(folder / "model")
    build = ["index", "build", folder / "model", write(folder / "notes.jsonl", TEXTS), "-q", "-o"]
    call(*build, folder / "local")
    call(*build, folder / "remote", "--backend", "milvus", "--uri", folder / "milvus.db")
    return folder


def found(index, query, *options):
    return json.loads(call("search", index, query, "--json", *options)[0])["hits"]


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
def test_search_is_the_same_command(folder, mode):
    for options in ((), ("--filter", "letters>10"), ("--filter", "letters=11", "-k", 1)):
        ours, theirs = (found(folder / name, "heron grove", "--mode", mode, *options) for name in ("local", "remote"))
        assert [hit.pop("score") for hit in ours] == pytest.approx([hit.pop("score") for hit in theirs], abs=1e-4)
        assert ours == theirs


def test_a_moved_index_is_changed_by_the_same_commands(folder):
    index = folder / "moved"
    out, _ = call("index", "move", folder / "local", "-o", index, "--uri", folder / "milvus.db", "--json")
    assert json.loads(out) == {"documents": 3, "index": str(index)}
    more = write(folder / "more.jsonl", {"b": "delta", "d": "ember heron"})
    assert json.loads(call("index", "add", index, more, "--json")[0]) == {"added": 1, "replaced": 1, "documents": 4}
    assert [hit["id"] for hit in found(index, "heron", "--mode", "bm25")] == ["a", "d"]
    _, err = call("index", "delete", index, "a", "x", code=2)
    assert "holds no document 'x': check the id." in err
    call("index", "compact", index)
    assert "is whole" in call("index", "verify", index)[0]
    assert json.loads(call("index", "info", index, "--json")[0])["milvus"]["fields"] == ["letters"]
    assert "milvus" in call("index", "info", index)[0]


def test_an_index_is_replaced_also_where_its_milvus_is_gone(folder, caplog):
    index, manifest = folder / "replaced", folder / "replaced" / "manifest.json"
    build = ["index", "build", folder / "model", folder / "notes.jsonl", "-q", "-o", index, "--overwrite"]
    remote = ["--backend", "milvus", "--uri", folder / "milvus.db"]
    for options in (remote, ()):
        call(*build, *remote)
        manifest.write_text(manifest.read_text().replace("milvus.db", "gone.db"))
        caplog.clear()
        call(*build, *options)
        assert "gone.db with Milvus' own tools" in caplog.text
        assert [hit["id"] for hit in found(index, "heron", "--mode", "bm25")] == ["a", "b"]
        assert "is whole" in call("index", "verify", index)[0]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--backend", "milvus"], "pass --backend milvus --uri ADDRESS."),
        (["--uri", "x.db"], "pass --backend milvus --uri ADDRESS."),
        (["--backend", "lucene", "--uri", "x.db"], "The backend 'lucene' is unknown: choose local or milvus."),
        (["--backend", "milvus", "--uri", "{tmp}/notes.txt"], "give a file that ends in .db, or http://host:19530"),
        (["--backend", "milvus", "--uri", "http://127.0.0.1:{port}"], "There is no Milvus at http://127.0.0.1:"),
        (["--backend", "milvus", "--uri", "{tmp}/milvus.db", "--resume"], "cannot be resumed"),
        (["--backend", "milvus", "--uri", "{tmp}/milvus.db", "--recall", "0.99"], "--recall is not for Milvus"),
        (
            ["--backend", "milvus", "--uri", "{tmp}/milvus.db", "--segment-size", "9"],
            "--segment-size is not for Milvus",
        ),
        (["--backend", "milvus", "--uri", "{tmp}/milvus.db", "--factory", "IVF9"], "choose Flat, auto or HNSW32"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(folder, options, sentence):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = [option.format(tmp=folder, port=port) for option in options]
    _, err = call("index", "build", folder / "model", folder / "notes.jsonl", "-o", folder / "new", *told, code=2)
    assert sentence in err and "Traceback" not in err
    assert not (folder / "new").exists()
