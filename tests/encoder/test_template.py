"""Prompt pooling: the embedding is the state at the template's mask, here and in sentence-transformers."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from encoders import MINILM, small
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from retriever.encoder import Encoder
from retriever.errors import ModelError, RecipeError
from retriever.training.recipebook import load_recipe

TEMPLATE = 'This sentence : "{}" means [MASK] .'
TEXTS = ["a dog runs", "A retriever finds documents.", "", "a a a [SEP]"]


@pytest.fixture(scope="module")
def prompted():
    return Encoder.pretrained(MINILM, template=TEMPLATE)


def test_the_embedding_is_the_state_at_the_mask(prompted):
    tokenizer, model = AutoTokenizer.from_pretrained(MINILM), AutoModel.from_pretrained(MINILM).eval()
    for text, vector in zip(TEXTS[:3], prompted.encode(TEXTS[:3], dtype="float32"), strict=True):
        features = tokenizer(TEMPLATE.format(text), return_tensors="pt")
        with torch.no_grad():
            states = model(**features).last_hidden_state[0]
        wanted = states[(features["input_ids"][0] == tokenizer.mask_token_id).nonzero().item()]
        np.testing.assert_allclose(vector, wanted, atol=1e-5)


def test_it_opens_in_sentence_transformers_with_nothing_of_ours(prompted, tmp_path):
    prompted.save(tmp_path / "model")
    texts = [*TEXTS, "word " * 600]
    wanted = prompted.encode(texts, dtype="float32")
    theirs = SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(texts)
    np.testing.assert_allclose(theirs, wanted, atol=1e-5)
    again = Encoder.load(tmp_path / "model")
    assert again.fingerprint == prompted.fingerprint
    np.testing.assert_array_equal(again.encode(texts, dtype="float32"), wanted)
    assert not again.stack[1].emb_layer.weight.requires_grad


def test_a_long_text_is_cut_and_the_template_is_not(prompted):
    long, longer = prompted.encode(["word " * 502, "word " * 900], dtype="float32")
    np.testing.assert_array_equal(long, longer)
    assert prompted.limit + prompted.frame == 512 and prompted.frame == 10


def test_training_moves_the_model_and_not_the_weights_of_the_mask(tmp_path):
    small().save(tmp_path / "start")
    encoder = {"family": "pretrained", "model": str(tmp_path / "start"), "template": "it : {} [MASK]"}
    changes = {"encoder": encoder, "steps": 3, "every": 3, "queries": 0, "size": 12, "epochs": None, "warmup": 1}
    trained = tiny.train("simcse-cpu", tiny.corpus(), tmp_path / "model", device="cpu", processes=1, **changes)
    weights = trained.stack[1].emb_layer.weight
    assert weights.sum() == 1 and set(weights.flatten().tolist()) == {0.0, 1.0}
    start = Encoder.pretrained(tmp_path / "start", template="it : {} [MASK]")
    assert np.abs(trained.encode(TEXTS) - start.encode(TEXTS)).max() > 1e-4


@pytest.mark.parametrize("template", ["no mask {}", "no text [MASK]", "{} {} [MASK]", "[MASK] {} [MASK]"])
def test_a_template_without_text_or_mask_is_refused(template):
    with pytest.raises(RecipeError, match="once each"):
        load_recipe("simcse", {"encoder.pooling": None, "encoder.template": template})


def test_two_poolings_are_refused():
    with pytest.raises(RecipeError, match="set pooling to null"):
        load_recipe("simcse", {"encoder.template": TEMPLATE})


def test_a_template_that_leaves_no_room_is_refused(tmp_path):
    small(max_length=8).save(tmp_path / "model")
    with pytest.raises(ModelError, match="shorten it"):
        Encoder.pretrained(tmp_path / "model", template="retriever finds documents " * 4 + "{} [MASK]")
