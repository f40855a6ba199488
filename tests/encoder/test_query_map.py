"""A map of queries alone: what it changes, what it leaves, and that others read it."""

from __future__ import annotations

import encoders
import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Router

from retriever.encoder import Encoder
from retriever.encoder.linear import with_linear
from retriever.encoder.query_map import has_query_map
from retriever.errors import ModelError

TEXTS = ["the dog barks", "a cat", "", "dog and cat and dog"]


def matrix_of(encoder):
    router = next(module for module in encoder.stack if isinstance(module, Router))
    return router.sub_modules["query"][0].linear.weight


def turned(encoder, seed=0):
    """A random map in place of the identity."""
    sided = encoder.with_query_map()
    weight = matrix_of(sided)
    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)) / len(weight) ** 0.5)
    return sided


def vectors(encoder, kind):
    return encoder.encode(TEXTS, kind, dtype="float32")


@pytest.fixture(params=["static", "small", "dot"])
def encoder(request):
    if request.param == "dot":
        return encoders.static(normalise=False)
    return getattr(encoders, request.param)()


def test_it_begins_as_the_identity(encoder):
    before = vectors(encoder, "query")
    sided = encoder.with_query_map()
    assert sided.sided and not encoder.sided
    np.testing.assert_allclose(vectors(sided, "query"), before, atol=1e-6)
    assert sided.similarity == encoder.similarity and sided.dimension == encoder.dimension


def test_queries_are_multiplied_before_the_norm_and_documents_are_not(encoder):
    bare = vectors(encoder, "document")
    sided = turned(encoder)
    np.testing.assert_allclose(vectors(sided, "document"), bare, atol=1e-6)
    wanted = bare @ matrix_of(sided).detach().numpy().T
    if encoder.similarity == "cosine":
        wanted = wanted / np.maximum(np.linalg.norm(wanted, axis=1, keepdims=True), 1e-12)
    np.testing.assert_allclose(vectors(sided, "query"), wanted, atol=1e-5)
    assert np.abs(vectors(sided, "query") - bare).max() > 0.1


def test_token_ids_are_encoded_like_their_texts(encoder):
    sided = turned(encoder)
    tokens = sided.text_tokenizer.encode(TEXTS)
    for kind in ("query", "document"):
        np.testing.assert_allclose(sided.embed(tokens, kind, dtype="float32"), vectors(sided, kind), atol=1e-6)


def test_without_the_normalisation_the_map_still_applies():
    sided = turned(encoders.static())
    features = sided.features(sided.text_tokenizer.encode(TEXTS[:1]), "query")
    bare = sided(features, normalise=False).detach().numpy()
    assert abs(np.linalg.norm(bare) - 1) > 1e-3
    np.testing.assert_allclose(bare / np.linalg.norm(bare), vectors(sided, "query")[:1], atol=1e-6)


def test_a_saved_model_gives_the_same_vectors_here_and_in_sentence_transformers(encoder, tmp_path):
    sided = turned(encoder)
    sided.prompts = {"query": "dog "}
    sided.save(tmp_path / "m")
    again = Encoder.load(tmp_path / "m", "cpu")
    assert again.sided and again.fingerprint == sided.fingerprint
    theirs = SentenceTransformer(str(tmp_path / "m"), device="cpu", trust_remote_code=True)
    for kind, method in (("query", theirs.encode_query), ("document", theirs.encode_document)):
        np.testing.assert_array_equal(vectors(again, kind), vectors(sided, kind))
        np.testing.assert_allclose(method(TEXTS), vectors(sided, kind), atol=1e-5)


def test_the_fingerprint_depends_on_the_map():
    one, other = turned(encoders.static()), turned(encoders.static(), seed=1)
    assert len({one.fingerprint, other.fingerprint, encoders.static().fingerprint}) == 3


def test_joined_encoders_pass_the_kind_on(tmp_path):
    parts = [turned(encoders.static()), encoders.small()]
    joined = Encoder.joined(parts, [0.5, 0.5])
    joined.save(tmp_path / "joined")
    theirs = SentenceTransformer(str(tmp_path / "joined"), device="cpu", trust_remote_code=True)
    found = vectors(joined, "query")
    np.testing.assert_allclose(theirs.encode_query(TEXTS), found, atol=1e-5)
    np.testing.assert_allclose(theirs.encode_document(TEXTS), vectors(joined, "document"), atol=1e-5)
    assert np.abs(found - vectors(joined, "document")).max() > 0.1


def test_a_linear_layer_after_it_maps_both_sides():
    sided = turned(encoders.static())
    before = [vectors(sided, kind) for kind in ("query", "document")]
    flip = -torch.eye(sided.dimension)
    after = with_linear(sided, flip, cosine=True)
    for kind, wanted in zip(("query", "document"), before, strict=True):
        np.testing.assert_allclose(vectors(after, kind), -wanted, atol=1e-6)


def test_what_cannot_have_one_says_so():
    sided = encoders.static().with_query_map()
    with pytest.raises(ModelError, match=r"a map of queries already; leave encoder\.query_map out"):
        sided.with_query_map()
    with pytest.raises(ModelError, match="no plain variant"):
        sided.plain()
    joined = Encoder.joined([encoders.static(), encoders.static()], [0.5, 0.5])
    with pytest.raises(ModelError, match="give its parts such maps"):
        joined.with_query_map()
    assert has_query_map(sided.stack) and not has_query_map(joined.stack)


def test_it_is_not_in_the_folder_of_the_encoder_without_it(tmp_path):
    encoder = encoders.static()
    encoder.save(tmp_path / "without")
    sided = encoder.with_query_map()
    assert (encoder.path, sided.path) == (tmp_path / "without", None)
    sided.save(tmp_path / "with")
    assert sided.path == tmp_path / "with"
