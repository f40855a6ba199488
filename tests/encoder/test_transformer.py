"""Poolings and collation against raw transformers, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from encoders import MINILM, POOLINGS, TEXTS, small, static, subwords
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from retriever.data.ragged import Ragged
from retriever.encoder import Encoder
from retriever.errors import ModelError


@pytest.fixture(scope="module")
def bert():
    """MiniLM as transformers opens it."""
    return AutoTokenizer.from_pretrained(MINILM), AutoModel.from_pretrained(MINILM).eval()


def states(bert, text):
    """Hidden states of one text alone, [CLS] and [SEP] included: layers + 1 tensors (T, D)."""
    tokenizer, model = bert
    with torch.inference_mode():
        out = model(**tokenizer(text, return_tensors="pt", truncation=True, max_length=512), output_hidden_states=True)
    return [state[0] for state in out.hidden_states]


BY_HAND = {
    "mean": lambda layers: layers[-1].mean(0),
    "cls": lambda layers: layers[-1][0],
    "last-4-average": lambda layers: (layers[-1] + layers[-2] + layers[-3] + layers[-4]).mean(0) / 4,
    "first-last-average": lambda layers: (layers[0] + layers[-1]).mean(0) / 2,
}


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_by_hand(bert, pooling):
    encoder = Encoder.pretrained(MINILM, pooling=pooling)
    expected = np.stack([BY_HAND[pooling](states(bert, text)).numpy() for text in TEXTS])
    np.testing.assert_allclose(encoder.encode(TEXTS, dtype="float32"), expected, rtol=0, atol=1e-5)
    assert encoder.similarity == "dot"


def test_features_are_those_of_transformers(bert):
    tokenizer, _ = bert
    encoder = Encoder.pretrained(MINILM)
    theirs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    ours = encoder.features(encoder.text_tokenizer.encode(TEXTS))
    for name in ("input_ids", "attention_mask"):
        assert torch.equal(ours[name], theirs[name])


def test_long_texts_are_cut_as_transformers_cuts_them(bert):
    tokenizer, _ = bert
    encoder = Encoder.pretrained(MINILM, max_length=12)
    theirs = tokenizer(TEXTS, padding=True, truncation=True, max_length=12, return_tensors="pt")
    assert torch.equal(encoder.features(encoder.text_tokenizer.encode(TEXTS))["input_ids"], theirs["input_ids"])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(5, 90), max_size=12), min_size=1, max_size=6))
def test_collation_is_the_plain_loop(rows):
    features = COLLATED.collate(Ragged.from_rows(rows))
    width = max(map(len, rows)) + 2
    for i, row in enumerate(rows):
        framed = [2, *row, 3]
        assert features["input_ids"][i].tolist() == framed + [0] * (width - len(framed))
        assert features["attention_mask"][i].tolist() == [1] * len(framed) + [0] * (width - len(framed))


COLLATED = small(layers=1)


def test_special_tokens_frame_a_text():
    encoder = small(max_length=20)
    assert (encoder.frame, encoder.limit) == (2, 18)


def test_small_is_reproducible_and_leaves_the_random_state_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one, same, other = small(seed=1), small(seed=1), small(seed=2)
    assert torch.equal(torch.rand(1), expected)
    assert one.fingerprint == same.fingerprint != other.fingerprint


@pytest.mark.parametrize("pooling", ["last-4-average", "first-last-average"])
def test_layer_weights_are_not_trained(pooling):
    names = [name for name, p in small(pooling=pooling).stack.named_parameters() if p.requires_grad]
    assert not [name for name in names if "layer_weights" in name]


def test_last_4_average_of_a_model_with_fewer_layers():
    encoder = small(layers=2, pooling="last-4-average", normalise=False)
    encoder.stack[0].config.output_hidden_states = True
    with torch.inference_mode():
        layers = encoder.stack[0](encoder.features(encoder.text_tokenizer.encode(["dog"])))["all_layer_embeddings"]
    expected = torch.stack(list(layers)).mean(0)[0].mean(0)
    np.testing.assert_allclose(encoder.encode(["dog"], dtype="float32")[0], expected.numpy(), atol=1e-6)


def test_a_loaded_model_reads_no_more_than_asked_for(tmp_path):
    whole, short = Encoder.load(MINILM), Encoder.load(MINILM, max_length=12)
    start = short.text_tokenizer.encode([TEXTS[-1] * 9])[0][:10]
    assert np.allclose(short.encode([TEXTS[-1] * 9]), whole.embed(Ragged.from_rows([start.tolist()])), atol=1e-5)
    assert short.fingerprint != whole.fingerprint
    short.save(tmp_path / "model")
    again = Encoder.load(tmp_path / "model")
    assert (again.limit, again.fingerprint) == (10, short.fingerprint)
    theirs = SentenceTransformer(str(tmp_path / "model"), device="cpu").encode([TEXTS[-1] * 9])
    assert np.allclose(short.encode([TEXTS[-1] * 9], dtype="float32"), theirs, atol=1e-5)


def test_a_static_model_has_no_max_length(tmp_path):
    static().save(tmp_path / "model")
    with pytest.raises(ModelError, match="max_length is 12, but the model is no transformer; leave max_length out"):
        Encoder.load(tmp_path / "model", max_length=12)


def test_max_length_beyond_the_positions():
    with pytest.raises(ModelError, match="max_length is 600, but the model has only 512 positions; lower it"):
        Encoder.pretrained(MINILM, max_length=600)
    with pytest.raises(ModelError, match="max_length is 600"):
        Encoder.load(MINILM, max_length=600)


def test_max_length_without_room_for_a_text():
    for length in (-5, 2):
        with pytest.raises(ModelError, match=f"is to read {length} tokens, of which 2 are special ones; raise max_len"):
            Encoder.load(MINILM, max_length=length)
    assert Encoder.load(MINILM, max_length=3).limit == 1


def test_dropout_is_on_in_training_only():
    encoder = small(dropout=0.5)
    features = encoder.features(encoder.text_tokenizer.encode(["dog"]))
    assert torch.equal(encoder(features), encoder(features))
    encoder.stack.train()
    assert not torch.equal(encoder(features), encoder(features))


def test_the_tokenizer_given_is_left_alone():
    tokenizer = subwords()
    before = tokenizer.fingerprint
    Encoder.small(tokenizer, dimension=8, layers=1, heads=1, max_length=16)
    assert tokenizer.fingerprint == before
