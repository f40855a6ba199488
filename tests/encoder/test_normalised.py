"""Encoders that normalise their texts: same vectors as normalised texts, here, after saving, elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from encoders import MINILM, TEXTS, small, static, subwords
from sentence_transformers import SentenceTransformer
from transformers import BertTokenizer

from retriever.data.normalise import normalise
from retriever.encoder import Encoder
from retriever.errors import ModelError

MESSY = ["the “quick” fox – or\xadnot…", "docu\x01ments ‘and’ vec\xadtors", "5′ 7″ 1⁄2", *TEXTS]
FAMILIES = {
    "transformer": small,
    "static sub-words": lambda: Encoder.static(subwords(), dimension=16),
    "joined": lambda: Encoder.joined([small(), Encoder.static(subwords(), dimension=16)], [0.5, 0.5]),
}


def vectors(encoder, texts):
    return encoder.encode(texts, dtype="float32")


@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_are_those_of_normalised_texts(family, tmp_path):
    FAMILIES[family]().save(tmp_path / "model")
    plain = Encoder.load(tmp_path / "model")
    expected = vectors(plain, [normalise(text) for text in MESSY])
    assert np.abs(vectors(plain, MESSY) - expected).max() > 0.01

    encoder = Encoder.load(tmp_path / "model", normalise_text=True)
    assert encoder.fingerprint != plain.fingerprint
    np.testing.assert_allclose(vectors(encoder, MESSY), expected, atol=1e-5)
    encoder.save(tmp_path / "saved")
    for again in (Encoder.load(tmp_path / "saved"), Encoder.load(tmp_path / "saved", normalise_text=True)):
        np.testing.assert_allclose(vectors(again, MESSY), expected, atol=1e-5)
    assert Encoder.load(tmp_path / "saved").fingerprint == encoder.fingerprint
    if family == "transformer":
        elsewhere = SentenceTransformer(str(tmp_path / "saved"))
        np.testing.assert_allclose(elsewhere.encode(MESSY, batch_size=1), expected, atol=1e-5)


def test_a_tokenizer_class_that_builds_its_own_normalizer_keeps_the_rules(tmp_path):
    plain = Encoder.load(MINILM)
    assert isinstance(plain.stack[0].tokenizer, BertTokenizer)
    encoder = Encoder.load(MINILM, normalise_text=True)
    encoder.save(tmp_path / "saved")
    expected = vectors(plain, [normalise(text) for text in MESSY])
    elsewhere = SentenceTransformer(str(tmp_path / "saved"))
    assert elsewhere.max_seq_length == plain.stack.max_seq_length
    np.testing.assert_allclose(elsewhere.encode(MESSY), expected, atol=1e-5)
    np.testing.assert_allclose(vectors(Encoder.load(tmp_path / "saved"), MESSY), expected, atol=1e-5)


def test_encoders_over_words_refuse(tmp_path):
    static().save(tmp_path / "model")
    with pytest.raises(ModelError, match="cannot take the rules of text normalisation; normalise the texts"):
        Encoder.load(tmp_path / "model", normalise_text=True)
