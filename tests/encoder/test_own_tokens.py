"""Tokens of labels: what they add to a label's vector, and that nothing else gets them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from retriever.data.ragged import Ragged
from retriever.data.tokenizers import SubwordTokenizer, WordTokenizer
from retriever.encoder import Encoder
from retriever.encoder.own_tokens import FILE, NONE, OwnTokens, add_tokens, begin_with, encode_labels
from retriever.errors import ModelError

IDS, TEXTS = ["a", "b", "c"], ["green tea", "black coffee", ""]
CORPUS = ["green tea", "black coffee", "tea and coffee", "green and black"] * 3


def encoder_of(family):
    if family == "static":
        return Encoder.static(WordTokenizer.train(CORPUS, min_documents=1), dimension=8)
    if family == "subwords":
        return Encoder.static(SubwordTokenizer.train(CORPUS, size=60), dimension=8, learn_weights=True)
    return Encoder.small(SubwordTokenizer.train(CORPUS, size=60), dimension=8, layers=1, heads=2, max_length=12)


@pytest.fixture(params=["static", "subwords", "small"])
def encoder(request):
    return encoder_of(request.param)


def give(encoder, tokens=(0, 1, 2), value=0.5):
    """Tokens for the labels, with a vector each that is not zero."""
    first = add_tokens(encoder, max(tokens) + 1)
    for name, parameter in encoder.stack.named_parameters():
        if name.endswith(("table", "word_embeddings.weight")):
            parameter.data[first:] = value * torch.arange(1, 9).sqrt()
    encoder.own_tokens = OwnTokens.of(IDS, TEXTS, first + np.array(tokens))
    return first


def test_texts_have_the_vectors_they_had(encoder):
    before = encoder.encode(TEXTS[:2], dtype="float32")
    give(encoder)
    assert np.array_equal(encoder.encode(TEXTS[:2], dtype="float32"), before)


def test_a_token_of_zeros_adds_nothing_to_a_bag():
    encoder = encoder_of("static")
    before = encoder.encode(TEXTS, dtype="float32")
    give(encoder, value=0.0)
    assert np.allclose(encode_labels(encoder, IDS, TEXTS), before, atol=1e-7)


def test_a_bag_adds_the_vector_with_the_weight_of_the_rarest_token():
    encoder = encoder_of("static")
    first, module = give(encoder), encoder.stack[0]
    weights = module.weights.detach().numpy()
    assert (weights[first:] == weights[:first].max()).all()
    tokens = encoder.text_tokenizer.encode(["green tea"]).ids
    table = module.table.detach().numpy()
    vector = (weights[tokens, None] * table[tokens]).sum(0) + weights[first] * table[first]
    assert np.allclose(encode_labels(encoder, IDS, TEXTS)[0], vector / np.linalg.norm(vector), atol=1e-6)


def test_labels_have_their_own_tokens_and_others_do_not(encoder):
    give(encoder)
    plain = encoder.encode([*TEXTS, "green tea"], dtype="float32")
    found = encode_labels(encoder, [*IDS, "d"], [*TEXTS, "green tea"], dtype="float32")
    assert (np.abs(found[:3] - plain[:3]).max(axis=1) > 1e-3).all()
    assert np.allclose(found[3], plain[3], atol=1e-6)  # another label of the same text
    renamed = encode_labels(encoder, IDS[:1], ["green leaves"], dtype="float32")
    assert np.allclose(renamed, encoder.encode(["green leaves"], dtype="float32"), atol=1e-6)


def test_a_label_without_text_has_the_vector_of_its_token():
    encoder = encoder_of("static")
    give(encoder)
    row = np.sqrt(np.arange(1, 9, dtype=np.float32))
    assert np.allclose(encode_labels(encoder, IDS, TEXTS)[2], row / np.linalg.norm(row), atol=1e-6)
    assert not encoder.encode([""]).any()


def test_a_token_stays_when_the_text_is_cut():
    encoder = encoder_of("small")
    give(encoder)
    long = "green tea and black coffee " * 9
    encoder.own_tokens = OwnTokens.of(["long"], [long], np.array([encoder.text_tokenizer.size]))
    cut = encode_labels(encoder, ["long"], [long], dtype="float32")
    assert np.abs(cut - encoder.encode([long], dtype="float32")).max() > 1e-3


def test_prompts_come_behind_the_token(encoder):
    encoder.prompts = {"document": "black "}
    first = give(encoder)
    rows = begin_with(np.array([first]), encoder.text_tokenizer.encode(["black green tea"]))
    assert np.allclose(encode_labels(encoder, IDS, TEXTS)[:1], encoder.embed(rows), atol=1e-6)


def test_a_saved_model_has_them_again(encoder, tmp_path):
    give(encoder, tokens=(0, 1, 0))
    encoder.save(tmp_path / "model")
    again = Encoder.load(tmp_path / "model")
    assert again.own_tokens == encoder.own_tokens
    assert again.fingerprint == encoder.fingerprint
    vectors = encode_labels(encoder, IDS, TEXTS, dtype="float32")
    assert np.allclose(encode_labels(again, IDS, TEXTS, dtype="float32"), vectors, atol=1e-6)
    peer = SentenceTransformer(str(tmp_path / "model"), trust_remote_code=True)
    assert np.allclose(peer.encode(TEXTS[:2]), encoder.encode(TEXTS[:2], dtype="float32"), atol=1e-5)


def test_an_encoder_without_them_saves_no_list(encoder, tmp_path):
    encoder.save(tmp_path / "model")
    assert not (tmp_path / "model" / FILE).exists()
    assert Encoder.load(tmp_path / "model").own_tokens is None
    assert np.array_equal(encode_labels(encoder, IDS, TEXTS), encoder.encode(TEXTS))


@pytest.mark.parametrize("content", ["{", "[1]", '{"a": "b"}', '{"a": null}'])
def test_a_damaged_list_is_named(tmp_path, content):
    encoder_of("static").save(tmp_path / "model")
    (tmp_path / "model" / FILE).write_text(content)
    with pytest.raises(ModelError, match=f"{FILE} is damaged"):
        Encoder.load(tmp_path / "model")


def test_the_plain_variant_of_a_static_encoder_leaves_them_out():
    encoder = encoder_of("static")
    before = encoder.plain().encode(TEXTS[:2])
    give(encoder)
    assert np.allclose(encoder.plain().encode(TEXTS[:2]), before, atol=1e-6)


def test_joined_encoders_take_none():
    joined = Encoder.joined([encoder_of("static"), encoder_of("subwords")], [0.5, 0.5])
    with pytest.raises(ModelError, match="JoinedEmbedding"):
        add_tokens(joined, 3)


def test_rows_begin_with_the_tokens_of_those_that_have_one():
    rows = Ragged.from_rows([[1, 2], [], [3], []])
    found = begin_with(np.array([7, NONE, NONE, 8]), rows)
    assert [found[row].tolist() for row in range(4)] == [[7, 1, 2], [], [3], [8]]
    assert len(begin_with(np.empty(0, np.int64), Ragged.from_rows([]))) == 0
