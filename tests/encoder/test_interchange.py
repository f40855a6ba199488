"""What we save opens in sentence-transformers with the same vectors, and what it saves opens here."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from encoders import MINILM, POOLINGS, TEXTS, damage, small, static, subwords
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from transformers import BertModel

from retriever.encoder import Encoder, TermEmbedding
from retriever.errors import ModelError

FAMILIES = {
    "log tf": static,
    "count": lambda: static(frequency="count"),
    "trained weights": lambda: static(learn_weights=True),
    "dot product": lambda: static(normalise=False),
    "static sub-words": lambda: Encoder.static(subwords(), dimension=24),
    **{f"small {pooling}": lambda pooling=pooling: small(pooling=pooling) for pooling in POOLINGS},
    "small dot product": lambda: small(normalise=False),
    "plain": lambda: static().plain(),
}


def fp32(encoder, texts=TEXTS, kind="document"):
    return encoder.encode(texts, kind, dtype="float32")


def assert_same(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_ours_opens_in_sentence_transformers(family, tmp_path):
    encoder = damage(FAMILIES[family]())
    encoder.prompts = {"query": "find: ", "document": "text: "}
    encoder.save(tmp_path / "model")
    ours = isinstance(encoder.stack[0], TermEmbedding)
    stack = SentenceTransformer(str(tmp_path / "model"), trust_remote_code=ours, device="cpu")
    assert_same(fp32(encoder), stack.encode_document(TEXTS))
    assert_same(fp32(encoder, kind="query"), stack.encode_query(TEXTS))
    assert stack.similarity_fn_name == encoder.similarity
    assert stack.get_embedding_dimension() == encoder.dimension


@pytest.mark.parametrize("family", FAMILIES)
def test_ours_opens_here(family, tmp_path):
    encoder = damage(FAMILIES[family]())
    encoder.prompts = {"query": "find: "}
    encoder.save(tmp_path / "model")
    again = Encoder.load(tmp_path / "model")
    assert np.array_equal(fp32(encoder), fp32(again))
    assert again.prompts == {"query": "find: "}
    assert again.path == tmp_path / "model"
    trained, saved = (
        {name for name, p in e.stack.named_parameters() if p.requires_grad and "pooler" not in name}
        for e in (encoder, again)
    )
    assert trained == saved


@pytest.mark.parametrize("family", FAMILIES)
def test_theirs_opens_here(family, tmp_path):
    encoder = damage(FAMILIES[family]())
    encoder.save(tmp_path / "ours")
    ours = isinstance(encoder.stack[0], TermEmbedding)
    stack = SentenceTransformer(str(tmp_path / "ours"), trust_remote_code=ours, device="cpu")
    stack.prompts = {"query": "find: ", "document": ""}
    stack.save_pretrained(str(tmp_path / "theirs"), create_model_card=False)
    again = Encoder.load(tmp_path / "theirs")
    assert_same(fp32(again, kind="query"), stack.encode_query(TEXTS))
    assert again.prompts == {"query": "find: "}


def test_our_module_is_not_opened_without_trust(tmp_path):
    static().save(tmp_path / "model")
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        SentenceTransformer(str(tmp_path / "model"))


def test_minilm_has_the_vectors_of_sentence_transformers(tmp_path):
    encoder, stack = Encoder.load(MINILM), SentenceTransformer(str(MINILM), device="cpu")
    expected = stack.encode(TEXTS)
    assert_same(fp32(encoder), expected)
    encoder.save(tmp_path / "copy")
    assert_same(SentenceTransformer(str(tmp_path / "copy"), device="cpu").encode(TEXTS), expected)
    assert Encoder.load(tmp_path / "copy").fingerprint == encoder.fingerprint


def test_minilm_again_from_its_bare_transformer():
    encoder = Encoder.pretrained(MINILM, pooling="mean", normalise=True, max_length=256)
    assert_same(fp32(encoder), fp32(Encoder.load(MINILM)))


def test_a_bare_transformer_folder_gets_mean_pooling_and_dot_product(tmp_path):
    encoder = damage(small())
    encoder.stack[0].save(str(tmp_path))
    assert not (tmp_path / "modules.json").exists()
    again = Encoder.load(tmp_path)
    assert again.similarity == "dot"
    vectors = fp32(again)
    assert_same(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), fp32(encoder))


def test_a_folder_in_the_form_of_the_published_contriever(tmp_path):
    """A pickled BERT without pooler under an unknown class name, as facebook/contriever."""
    encoder = damage(small())
    encoder.stack[0].save(str(tmp_path / "st"))
    bert = BertModel.from_pretrained(tmp_path / "st", add_pooling_layer=False)
    bert.config.architectures = ["Contriever"]
    bert.config.save_pretrained(tmp_path / "bare")
    torch.save(bert.state_dict(), tmp_path / "bare" / "pytorch_model.bin")
    encoder.stack[0].tokenizer.save_pretrained(tmp_path / "bare")

    again = Encoder.load(tmp_path / "bare")
    with torch.no_grad():
        inputs = encoder.stack[0].tokenizer(TEXTS, padding=True, truncation=True, max_length=32, return_tensors="pt")
        states = bert.eval()(**{name: inputs[name] for name in ("input_ids", "attention_mask")}).last_hidden_state
        mask = inputs["attention_mask"][..., None]
        expected = (states * mask).sum(1) / mask.sum(1)
    assert_same(fp32(again), expected.numpy())
    assert again.similarity == "dot"
    assert again.fingerprint == Encoder.load(tmp_path / "bare").fingerprint  # the missing pooler is not drawn anew
    again.save(tmp_path / "saved")
    saved = Encoder.load(tmp_path / "saved")
    assert (saved.similarity, saved.fingerprint) == ("dot", again.fingerprint)


def test_loading_leaves_the_random_numbers_alone(tmp_path):
    small().stack[0].save(str(tmp_path))
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    Encoder.load(tmp_path)
    assert torch.rand(1) == expected


@pytest.mark.parametrize("build", [small, static])
def test_a_model_that_cuts_its_vectors_is_refused(build, tmp_path):
    build().save(tmp_path / "whole")
    cut = SentenceTransformer(str(tmp_path / "whole"), truncate_dim=8, trust_remote_code=True)
    cut.save(str(tmp_path / "cut"))
    for opened in (lambda: Encoder(cut), lambda: Encoder.load(tmp_path / "cut")):
        with pytest.raises(
            ModelError, match=r"The model is to cut its vectors to 8 numbers; open .* truncate_dim None"
        ):
            opened()
    cut.truncate_dim = None
    cut.save(str(tmp_path / "mended"))
    assert Encoder.load(tmp_path / "mended").fingerprint == Encoder.load(tmp_path / "whole").fingerprint


def test_half_precision_weights_are_held_and_saved_in_fp32(tmp_path):
    encoder = small()
    encoder.stack.half().save_pretrained(str(tmp_path / "half"), create_model_card=False)
    loaded = Encoder.load(tmp_path / "half")
    assert {str(p.dtype) for p in loaded.stack.parameters()} == {"torch.float32"}
    damage(loaded).save(tmp_path / "full")
    assert np.array_equal(fp32(loaded), fp32(Encoder.load(tmp_path / "full")))


# --- the plain variant --------------------------------------------------------------------------------------------


def test_plain_opens_where_this_package_is_not_installed(tmp_path):
    plain = static().plain()
    plain.prompts = {"query": "find: "}
    plain.save(tmp_path / "plain")
    np.save(tmp_path / "expected.npy", fp32(plain, kind="query"))
    script = f"""
import sys
sys.modules["retriever"] = None  # importing it fails from here on
import numpy
from sentence_transformers import SentenceTransformer
model = SentenceTransformer({str(tmp_path / "plain")!r}, device="cpu")
assert type(model[0]).__name__ == "StaticEmbedding"
found = model.encode_query({TEXTS!r})
assert abs(found - numpy.load({str(tmp_path / "expected.npy")!r})).max() <= 1e-5
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_plain_is_the_count_variant_for_words_of_the_corpus():
    encoder = damage(static(frequency="count", learn_weights=True))
    plain = encoder.plain()
    assert isinstance(plain.stack[0], StaticEmbedding)
    assert_same(fp32(plain), fp32(encoder))


def test_plain_keeps_the_prompts_and_the_similarity():
    encoder = static(normalise=False)
    encoder.prompts = {"query": "dog "}
    plain = encoder.plain()
    assert plain.prompts == {"query": "dog "}
    assert plain.similarity == "dot"


def test_model2vec_like_static_embedding_with_empty_rows():
    plain = static().plain()
    stack = plain.stack
    texts = ["", "dog", "", "", "quick fox", ""]
    assert_same(fp32(plain, texts), stack.encode(texts))
    assert not fp32(plain, ["", ""]).any()
    assert not fp32(plain, ["zzz", ""]).any()
