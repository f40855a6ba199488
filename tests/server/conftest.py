"""A small index and labels, and the application over them."""

from __future__ import annotations

import pytest
from server_app import serving

from retriever.data.document import Document
from retriever.data.tokenizers import WordTokenizer
from retriever.data.xmc_points import XmcLabels
from retriever.encoder import Encoder
from retriever.indexing.index import Index
from retriever.indexing.labels import LabelIndex
from retriever.server.service import Service

TEXTS = {
    "reset": ("How to reset", "Hold both buttons of the device for ten seconds to reset it.", {"year": 2024}),
    "manual": ("", "The manual lies in the box under the device.", {"year": 2019, "lang": "en"}),
    "battery": ("Battery", "Charge the battery before the first use.", {"year": 2021, "lang": "de"}),
    "a/b c?": ("Odd name", "A document whose id holds a slash, a blank and a question mark.", {}),
    "script": ("<script>alert(1)</script>", "<img src=x onerror=alert(1)> is an image", {"note": "<b>"}),
}
DOCUMENTS = [Document(name, title, text, metadata) for name, (title, text, metadata) in TEXTS.items()]
WORDS = "zebra heron amber birch cedar delta ember fjord"


@pytest.fixture(scope="session")
def encoder(tmp_path_factory) -> Encoder:
    tokenizer = WordTokenizer.train([*(document.content for document in DOCUMENTS), WORDS], min_documents=1)
    encoder = Encoder.static(tokenizer, dimension=32)
    encoder.save(tmp_path_factory.mktemp("models") / "tiny")
    return encoder


def _service(encoder, folder) -> Service:
    labels = XmcLabels(["power", "help"], ["battery charge", "manual reset buttons"])
    index = Index.build(encoder, DOCUMENTS, folder)
    return Service(index, LabelIndex.build(encoder, labels), "tiny")


@pytest.fixture
def service(encoder, tmp_path) -> Service:
    """Served to one test, which may change it."""
    return _service(encoder, tmp_path / "index")


@pytest.fixture
def index(service) -> Index:
    return service.index


@pytest.fixture
def client(service):
    with serving(service) as client:
        yield client


@pytest.fixture(scope="session")
def shared_service(encoder, tmp_path_factory) -> Service:
    """Served to all tests that only ask."""
    return _service(encoder, tmp_path_factory.mktemp("shared") / "index")


@pytest.fixture(scope="session")
def shared(shared_service):
    with serving(shared_service) as client:
        yield client
