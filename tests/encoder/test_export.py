"""Vectors of a corpus on disk: the same as in memory, whole or not there, whatever the chunks."""

from __future__ import annotations

import json

import encoders
import numpy as np
import pytest

from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.encoder import export
from retriever.encoder.export import export_vectors
from retriever.errors import DataError, OutputError


def corpus(texts=encoders.TEXTS):
    return Corpus.of([Document(f"é\n{i}", f"title {i}", text) for i, text in enumerate(texts)], name="texts")


@pytest.mark.parametrize("chunk", [3, 8_192])
def test_rows_are_the_vectors_of_their_documents(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(export, "CHUNK", chunk)
    encoder, done = encoders.static(), []
    encoder.prompts = {"query": "dog "}
    for kind in ("document", "query"):
        assert export_vectors(encoder, corpus(), tmp_path / kind, kind=kind, progress=done.append) == 8
        vectors = np.load(tmp_path / kind / "vectors.npy", mmap_mode="r")
        assert vectors.dtype == np.float32
        np.testing.assert_array_equal(vectors, encoder.encode([d.content for d in corpus()], kind))
        lines = (tmp_path / kind / "ids.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line) for line in lines] == [d.id for d in corpus()]
    assert sum(done) == 16


def test_an_empty_corpus_and_a_failure_leave_nothing(tmp_path, monkeypatch):
    encoder = encoders.static()
    with pytest.raises(DataError, match="texts holds no document"):
        export_vectors(encoder, corpus([]), tmp_path / "v")
    monkeypatch.setattr(encoder, "encode", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OutputError, match="No space left"):
        export_vectors(encoder, corpus(), tmp_path / "v")
    assert list(tmp_path.iterdir()) == []


def test_vectors_are_replaced_only_on_demand(tmp_path):
    encoder = encoders.static()
    export_vectors(encoder, corpus(), tmp_path / "v")
    with pytest.raises(OutputError, match="already holds vectors; choose another folder, or pass --overwrite"):
        export_vectors(encoder, corpus(), tmp_path / "v")
    assert export_vectors(encoder, corpus(encoders.TEXTS[:2]), tmp_path / "v", overwrite=True) == 2
    assert np.load(tmp_path / "v" / "vectors.npy").shape == (2, 24)
    (tmp_path / "v" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds something else than vectors"):
        export_vectors(encoder, corpus(), tmp_path / "v", overwrite=True)
    with pytest.raises(OutputError, match="holds something else than vectors"):
        export_vectors(encoder, corpus(), tmp_path / "v" / "notes.txt")
