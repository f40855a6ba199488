"""A small made-up corpus and an untrained static encoder over its words."""

from __future__ import annotations

import random
import shutil

import pytest

from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.data.tokenizers import WordTokenizer
from retriever.encoder import Encoder
from retriever.indexing.index import Index

WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "islet"]
WORDS += ["jetty", "knoll", "larch", "marsh", "north", "ocean", "piper", "quill", "ridge"]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """120 texts of 3 to 40 words; the first words of the list are frequent, the last ones rare."""
    rng = random.Random(0)
    weights = [1 / (rank + 1) for rank in range(len(WORDS))]
    return [" ".join(rng.choices(WORDS, weights, k=rng.randint(3, 40))) for _ in range(120)]


@pytest.fixture(scope="session")
def documents(texts) -> list[Document]:
    return [
        Document(f"doc-{number}", title=f"Text {number}" if number % 2 else "", text=text, metadata={"number": number})
        for number, text in enumerate(texts)
    ]


@pytest.fixture(scope="session")
def encoder(documents, tmp_path_factory) -> Encoder:
    tokenizer = WordTokenizer.train(document.content for document in documents)
    encoder = Encoder.static(tokenizer, dimension=32)
    encoder.save(tmp_path_factory.mktemp("models") / "static")
    return encoder


@pytest.fixture(scope="module")
def built(encoder, documents, tmp_path_factory):
    """An index of the corpus; to be left as it is."""
    path = tmp_path_factory.mktemp("built") / "index"
    Index.build(encoder, Corpus.of(documents), path).close()
    return path


@pytest.fixture
def folder(built, tmp_path):
    """A copy to damage; the relative path to the model leads nowhere from here."""
    return shutil.copytree(built, tmp_path / "index")
