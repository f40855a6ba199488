"""``/predict``: the labels that ``retriever predict`` gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
from server_app import refusal, serving

from retriever.data.tokenizers import WordTokenizer
from retriever.encoder import Encoder
from retriever.indexing.label_memory import LabelMemory
from retriever.indexing.labels import LabelIndex


@pytest.fixture
def client(shared):
    return shared


def test_labels_are_those_of_the_library(client, service):
    texts = ["charge the battery", "reset by buttons"]
    answer = client.post("/predict", json={"inputs": texts, "k": 2}).json()
    expected = service.labels.predict(texts, 2)
    assert [one["text"] for one in answer["predictions"]] == texts and answer["took_ms"] > 0
    for one, tags in zip(answer["predictions"], expected, strict=True):
        assert [(tag["label"], tag["text"]) for tag in one["labels"]] == [(tag.label, tag.text) for tag in tags]
        assert [tag["score"] for tag in one["labels"]] == pytest.approx([tag.score for tag in tags])
    assert answer["predictions"][0]["labels"][0]["label"] == "power"
    (alone,) = client.post("/predict", json={"inputs": texts[0], "k": 1}).json()["predictions"]
    assert [tag["label"] for tag in alone["labels"]] == ["power"]


def test_a_text_without_known_words_has_no_label(client):
    assert client.post("/predict", json={"inputs": "qqqq"}).json()["predictions"][0]["labels"] == []


def test_labels_remember_points(service):
    data = tiny.points()
    encoder = Encoder.static(
        WordTokenizer.train([*data.train.texts, *data.labels.texts], min_documents=1), dimension=16
    )
    memory = LabelMemory.remember(LabelIndex.build(encoder, data.labels), data.train)
    with serving(replace(service, index=None, labels=memory)) as client:
        assert client.get("/info").json()["labels"] == {"labels": 20, "memory": True}
        answer = client.post("/predict", json={"inputs": data.train.texts[:5], "k": 3}).json()
        expected = memory.predict(data.train.texts[:5], 3)
        found = [[tag["label"] for tag in one["labels"]] for one in answer["predictions"]]
        assert found == [[tag.label for tag in tags] for tags in expected]


@pytest.mark.parametrize(
    "body", [{}, {"inputs": []}, {"inputs": " "}, {"inputs": "a", "k": 0}, {"inputs": ["a"] * 257}]
)
def test_a_wrong_body_is_refused(client, body):
    refusal(client.post("/predict", json=body), 422, "invalid")


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (["a", " "], "inputs.1 is wrong: it is blank: give at least one word."),
        (" ", "inputs is wrong: it is blank: give at least one word."),
        (["a", 3], "inputs.1 is wrong: input should be a valid string."),
        (3, "inputs is wrong: it is neither a text nor a list of texts."),
    ],
)
def test_what_is_wrong_with_inputs_is_told(client, bad, told):
    assert refusal(client.post("/predict", json={"inputs": bad}), 422, "invalid") == told


def test_without_labels_there_is_nothing_to_predict(service):
    with serving(replace(service, labels=None)) as client:
        refusal(client.post("/predict", json={"inputs": "a"}), 404, "not_served")
        assert client.get("/info").json()["labels"] is None
