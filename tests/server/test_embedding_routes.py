"""``/v1/embeddings`` with the official client, ``/embed`` and ``/v1/models``."""

from __future__ import annotations

import base64

import encoders
import numpy as np
import openai
import pytest
from server_app import listening, refusal, serving

from retriever.data.xmc_points import XmcLabels
from retriever.encoder import Encoder
from retriever.indexing.labels import LabelIndex
from retriever.server.schemas import BRANCHES
from retriever.server.service import Service


def _of(encoder: Encoder) -> Service:
    """A service of labels, whose encoder embeds."""
    return Service(labels=LabelIndex.build(encoder, XmcLabels(["a"], ["quick fox"])), called="tiny")


@pytest.fixture
def client(shared):
    return shared


@pytest.fixture
def official(service):
    with listening(service) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_the_official_client_gets_the_encoders_vectors(official, encoder):
    texts = ["reset the device", "zebra", "Zebra zebra"]
    answer = official.embeddings.create(model="tiny", input=texts)  # as base64, its default
    np.testing.assert_array_equal(np.array([row.embedding for row in answer.data], np.float32), encoder.encode(texts))
    assert [row.index for row in answer.data] == [0, 1, 2] and answer.model == "tiny"
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 6
    floats = official.embeddings.create(model="tiny", input="zebra", encoding_format="float")
    np.testing.assert_allclose(floats.data[0].embedding, encoder.encode(["zebra"])[0], rtol=1e-6)
    assert [model.id for model in official.models.list()] == ["tiny"]


def test_the_official_client_understands_refusals(official):
    with pytest.raises(openai.NotFoundError) as error:
        official.embeddings.create(model="text-embedding-3-small", input="a")
    assert error.value.body == "There is no model of this name here: ask for tiny."
    with pytest.raises(openai.UnprocessableEntityError):
        official.embeddings.create(model="tiny", input=[])
    with pytest.raises(openai.UnprocessableEntityError):
        official.embeddings.create(model="tiny", input="")


def test_base64_is_little_endian_float32(client, encoder):
    body = {"model": "tiny", "input": ["zebra"], "encoding_format": "base64"}
    text = client.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(text), "<f4"), encoder.encode(["zebra"])[0])


def test_dimensions_keep_the_first_entries_at_length_one(client, encoder):
    whole = encoder.encode(["zebra heron"])[0]
    body = {"model": "tiny", "input": "zebra heron", "dimensions": 8}
    short = client.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]
    np.testing.assert_allclose(short, whole[:8] / np.linalg.norm(whole[:8]), rtol=1e-5)
    assert "have 32" in refusal(client.post("/v1/embeddings", json={**body, "dimensions": 33}), 422, "invalid")
    refusal(client.post("/v1/embeddings", json={**body, "dimensions": 0}), 422, "invalid")


def test_the_role_of_a_text_chooses_its_prompt():
    prompted = encoders.small()
    prompted.prompts = {"query": "dog: ", "document": ""}
    with serving(_of(prompted)) as client:

        def vector(**role):
            body = {"model": "tiny", "input": "quick fox", **role}
            return client.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]

        for role in ("query", "search_query"):
            np.testing.assert_allclose(vector(input_type=role), prompted.encode(["quick fox"], "query")[0], atol=1e-6)
        for role in ("document", "search_document"):
            np.testing.assert_allclose(vector(input_type=role), prompted.encode(["quick fox"])[0], atol=1e-6)
        assert vector() == vector(input_type="document") != vector(input_type="query")


def test_embed_answers_with_vectors_of_length_one():
    dot = encoders.small(normalise=False)
    with serving(_of(dot)) as client:
        raw = np.array(client.post("/embed", json={"inputs": ["dog", "quick fox"], "normalize": False}).json())
        np.testing.assert_allclose(raw, dot.encode(["dog", "quick fox"]), atol=1e-5)
        unit = np.array(client.post("/embed", json={"inputs": ["dog", "quick fox"]}).json())
        np.testing.assert_allclose(unit, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-6)
        assert len(client.post("/embed", json={"inputs": "dog"}).json()) == 1


def test_a_text_beyond_the_models_limit_is_cut_or_refused():
    with serving(_of(encoders.small())) as client:
        long = {"inputs": "dog " * 60}
        assert client.post("/embed", json=long).status_code == 200
        told = refusal(client.post("/embed", json={**long, "truncate": False}), 422, "too_long")
        assert "60 tokens" in told
        assert client.post("/embed", json={"inputs": "dog", "truncate": False}).status_code == 200


def test_a_text_without_known_words_has_a_vector_of_zeros(client):
    assert client.post("/embed", json={"inputs": "qqqq"}).json() == [[0.0] * 32]


def test_many_texts_are_embedded_in_order(client, encoder):
    texts = [f"zebra {'heron ' * (number % 7)}" for number in range(300)]
    answer = client.post("/v1/embeddings", json={"model": "tiny", "input": texts}).json()
    np.testing.assert_allclose([row["embedding"] for row in answer["data"]], encoder.encode(texts), atol=1e-6)


@pytest.mark.parametrize("bad", [[1, 2, 3], [[1, 2]], "", [""], ["a"] * 2_049, None, {"a": 1}, "a" * 1_000_001])
def test_other_inputs_are_refused(client, bad):
    assert "input" in refusal(client.post("/v1/embeddings", json={"model": "tiny", "input": bad}), 422, "invalid")
    assert "inputs" in refusal(client.post("/embed", json={"inputs": bad}), 422, "invalid")


@pytest.mark.parametrize(
    ("bad", "place", "reason"),
    [
        (["flow", ""], ".1", "string should have at least 1 character"),
        (["flow", 3], ".1", "input should be a valid string"),
        ([], "", "list should have at least 1 item"),
        ("", "", "string should have at least 1 character"),
        ("a" * 1_000_001, "", "string should have at most 1000000 characters"),
        ({"a": 1}, "", "it is neither a text nor a list of texts"),
        (None, "", "it is neither a text nor a list of texts"),
    ],
)
def test_what_is_wrong_with_inputs_is_told_of_the_form_that_they_have(client, bad, place, reason):
    told = refusal(client.post("/v1/embeddings", json={"model": "tiny", "input": bad}), 422, "invalid")
    assert told.startswith(f"input{place} is wrong: {reason}")
    assert refusal(client.post("/embed", json={"inputs": bad}), 422, "invalid") == told.replace("input", "inputs", 1)


def test_the_description_says_that_inputs_are_a_text_or_texts(client):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for schema, name in (("EmbedRequest", "inputs"), ("EmbeddingsRequest", "input"), ("PredictRequest", "inputs")):
        assert [one["type"] for one in schemas[schema]["properties"][name]["oneOf"]] == ["string", "array"]


def test_a_field_of_the_name_of_a_form_is_still_told(client):
    for form in BRANCHES:
        assert form in refusal(client.post("/embed", json={"inputs": "a", form: 1}), 422, "invalid")


def test_tokens_of_joined_encoders_are_those_of_the_first():
    joined = Encoder.joined([encoders.static(), encoders.small()], [0.5, 0.5])
    with serving(_of(joined)) as client:
        answer = client.post("/v1/embeddings", json={"model": "tiny", "input": "quick fox"}).json()
        assert answer["usage"]["prompt_tokens"] == 2


def test_the_prompt_counts_as_part_of_the_text():
    prompted = encoders.small()  # reads 30 tokens
    prompted.prompts = {"query": "dog dog "}
    with serving(_of(prompted)) as client:
        for words, kind, status in (
            (28, "query", 200),
            (29, "query", 422),
            (29, "document", 200),
            (31, "document", 422),
        ):
            body = {"inputs": "dog " * words, "truncate": False, "prompt_name": kind}
            assert client.post("/embed", json=body).status_code == status
            prompted.encode([body["inputs"]], kind)
            assert (prompted.report.truncated > 0) == (status == 422)
        told = refusal(client.post("/embed", json={**body, "prompt_name": "query"}), 422, "too_long")
        assert "33 tokens" in told and "reads 30" in told


def test_a_text_has_to_fit_every_part_of_joined_encoders():
    short, long = encoders.small(max_length=12), encoders.small(max_length=32)  # read 10 and 30 tokens
    long.prompts = {"document": "dog " * 25}
    joined = Encoder.joined([encoders.static(), short, long], [0.4, 0.3, 0.3])
    with serving(_of(joined)) as client:
        for words, told in ((5, ""), (6, "31 tokens"), (11, "36 tokens"), (60, "85 tokens")):
            response = client.post("/embed", json={"inputs": "dog " * words, "truncate": False})
            assert told in refusal(response, 422, "too_long") if told else response.status_code == 200
        query = {"prompt_name": "query", "truncate": False}
        assert client.post("/embed", json={"inputs": "dog " * 10, **query}).status_code == 200
        told = refusal(client.post("/embed", json={"inputs": "dog " * 11, **query}), 422, "too_long")
        assert "11 tokens" in told and "reads 10" in told
