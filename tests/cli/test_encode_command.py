"""Encoding a corpus in shards from the command line, and building an index of the vectors."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from retriever.cli.app import app
from retriever.data.tokenizers import WordTokenizer
from retriever.encoder import Encoder, shards
from retriever.indexing.index import Index

TEXTS = ["amber heron", "birch heron", "cedar grove", "delta ember", "ember fjord"]


def call(*arguments, code=0):
    """Run a command in this process; returns (stdout, stderr with single blanks)."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result.stdout, " ".join(result.stderr.split())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "CHUNK", 2)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    Encoder.static(WordTokenizer.train(TEXTS, min_documents=1), dimension=16).save(tmp_path / "model")
    lines = [json.dumps({"_id": f"n{number}", "text": text}) for number, text in enumerate(TEXTS)]
    (tmp_path / "notes.jsonl").write_text("\n".join(lines))
    return tmp_path


def encode(folder, output, *options, code=0):
    return call("encode", folder / "model", folder / "notes.jsonl", "-o", folder / output, *options, code=code)


def test_shards_by_hand_are_joined_by_the_last(folder):
    encode(folder, "whole")
    _, err = encode(folder, "shared", "--shard", "2/3")
    assert "Shard 2 of 3 is complete: 2 vectors. Missing: 1, 3." in err
    facts = json.loads(encode(folder, "shared", "--shard", "3/3", "--json")[0])
    assert (facts["documents"], facts["shard"], facts["missing"]) == (1, "3 of 3", [1])
    _, err = encode(folder, "shared", "--shard", "1/3")
    assert "holds 5 vectors of 16 dimensions" in err and "retriever index build" in err
    for name in ("vectors.npy", "ids.jsonl", "vectors.json"):
        assert (folder / "shared" / name).read_bytes() == (folder / "whole" / name).read_bytes()


def test_a_launcher_says_which_shard(folder, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert "Shard 2 of 2 is complete" in encode(folder, "v")[1]
    assert "2 vectors were there from an earlier run" in encode(folder, "v")[1]
    monkeypatch.setenv("RANK", "0")
    assert "holds 5 vectors" in encode(folder, "v")[1]


def test_each_process_of_a_machine_has_a_gpu_of_its_own(folder, monkeypatch):
    asked = []
    load = Encoder.load
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setattr(Encoder, "load", lambda path, device=None: asked.append(device) or load(path, "cpu"))
    encode(folder, "a")
    monkeypatch.setenv("LOCAL_RANK", "6")
    encode(folder, "b")
    encode(folder, "c", "--device", "cuda:1")
    assert asked == [None, "cuda:2", "cuda:1"]


def test_an_index_of_vectors_is_the_index_of_the_corpus(folder, monkeypatch):
    encode(folder, "v")
    build = ["index", "build", folder / "model", folder / "notes.jsonl", "-q", "-o"]
    call(*build, folder / "plain")
    monkeypatch.setattr(Encoder, "encode", lambda *_, **__: pytest.fail("encoded again"))
    loud = [part for part in build if part != "-q"]
    assert "index 5" in call(*loud, folder / "index", "--vectors", folder / "v")[1]
    monkeypatch.undo()
    with Index.open(folder / "index") as index, Index.open(folder / "plain") as plain:
        for mode in ("dense", "bm25", "hybrid"):
            assert index.search("heron ember", 5, mode) == plain.search("heron ember", 5, mode)
        assert len(index) == 5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--shard", "2"], "--shard is '2': write 2/3 for the second of three."),
        (["--shard", "0/3"], "There is no shard 0/3: write 2/3 for the second of three."),
        (["--shard", "1/2"], "was begun in 3 shards, not in 2: go on with 3, or start anew with --overwrite."),
        (["--shard", "1/3", "--kind", "query"], "of another --kind: encode them with the same"),
    ],
)
def test_mistakes_about_shards_are_one_sentence(folder, options, sentence):
    encode(folder, "v", "--shard", "2/3")
    assert sentence in encode(folder, "v", *options, code=2)[1]
    assert not (folder / "v").exists()


@pytest.mark.parametrize(("rank", "size"), [("0", None), (None, "2"), ("first", "2")])
def test_half_a_launcher_is_refused(folder, monkeypatch, rank, size):
    for name, value in (("RANK", rank), ("WORLD_SIZE", size)):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert "set both to numbers, such as 0 and 3, or neither" in encode(folder, "v", code=2)[1]


def test_vectors_of_another_corpus_or_model_build_no_index(folder):
    encode(folder, "v", "--shard", "2/3")
    build = ["index", "build", folder / "model", folder / "notes.jsonl", "-o", folder / "index", "--vectors"]
    assert "are not complete: encode what is missing, shards 1, 3 of 3." in call(*build, folder / "v", code=2)[1]
    assert "holds no vectors: make them with" in call(*build, folder / "nowhere", code=2)[1]
    encode(folder, "v", "--overwrite")
    (folder / "notes.jsonl").write_text(json.dumps({"text": "another"}))
    assert "are of another corpus" in call(*build, folder / "v", code=2)[1]
    assert not (folder / "index").exists()


def test_too_few_vectors_are_refused(folder):
    from retriever.data.corpus import open_corpus
    from retriever.errors import DataError

    encoder, corpus = Encoder.load(folder / "model"), open_corpus(folder / "notes.jsonl")
    with pytest.raises(DataError, match="There are 4 vectors for 5 documents"):
        Index.build(encoder, corpus, folder / "index", vectors=np.zeros((4, 16), np.float32))
    assert not (folder / "index").exists()
