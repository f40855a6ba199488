"""Linear maps after an encoder: what they do to vectors, by plain loops, and that they are part of the saved model."""

from __future__ import annotations

import encoders
import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from retriever.data.tokenizers import WordTokenizer
from retriever.encoder import Encoder
from retriever.encoder.linear import linear_map, moments, weigh_words, whitening, with_linear, without_common
from retriever.encoder.own_tokens import OwnTokens, add_tokens, encode_labels
from retriever.errors import ModelError

RANDOM = np.random.default_rng(0)
WORDS = ["dog", "fox", "vectors", "documents", "quick", "lazy", "far"]
TEXTS = [" ".join(RANDOM.choice(WORDS, 5)) for _ in range(80)]


def vectors(count=500, width=6):
    """Correlated vectors with a mean."""
    mixed = RANDOM.standard_normal((count, width)) @ RANDOM.standard_normal((width, width))
    return (mixed + 3 * np.arange(width)).astype(np.float32)


def cosine(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_moments_are_those_of_all_chunks_together():
    x = vectors()
    found = moments([x[:7], x[7:400], x[400:]])
    assert found.count == 500
    np.testing.assert_allclose(found.mean, x.astype(float).mean(0))
    np.testing.assert_allclose(found.second, sum(np.outer(row, row) for row in x.astype(float)) / 500)


def test_whitened_vectors_have_mean_0_and_covariance_1():
    x = vectors()
    weight, bias = whitening(moments([x]))
    y = x @ weight.T + bias
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(y.T @ y / len(y), np.eye(6), atol=1e-5)


def test_the_dimensions_kept_are_those_of_most_variance():
    x = vectors()
    weight, bias = whitening(moments([x]), 2)
    centred = x - x.mean(0)
    _, singular, basis = np.linalg.svd(centred.astype(float), full_matrices=False)
    expected = centred @ basis[:2].T / (singular[:2] / 500**0.5)
    found = x @ weight.T + bias
    assert weight.shape == (2, 6)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-4)  # an axis may point either way


@pytest.mark.parametrize("components", [1, 3])
def test_what_is_removed_is_what_most_vectors_share(components):
    x = vectors().astype(float)
    weight, bias = without_common(moments([x]), components)
    _, _, basis = np.linalg.svd(x, full_matrices=False)
    expected = np.stack([row - sum((u @ row) * u for u in basis[:components]) for row in x])
    np.testing.assert_allclose(x @ weight.T + bias, expected, atol=1e-6)
    assert not bias.any()


@pytest.mark.parametrize("method", ["bert-whitening", "common-component"])
@pytest.mark.parametrize("family", ["small", "static", "plain"])
def test_the_model_is_the_encoder_and_the_map_wherever_it_is_opened(method, family, tmp_path):
    make = {"small": encoders.small, "static": encoders.static, "plain": lambda: encoders.static(dimension=8).plain()}
    width = {"small": 5, "static": 4, "plain": 5}[family] if method == "bert-whitening" else None
    before = make[family]().encode(TEXTS, dtype="float32").astype(float)
    changed = linear_map(make[family](), TEXTS, method, dimension=width)
    given = moments([before])
    weight, bias = whitening(given, width) if method == "bert-whitening" else without_common(given)
    expected = cosine(before @ weight.T + bias)
    found = changed.encode(TEXTS, dtype="float32")
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=2e-3)
    changed.save(tmp_path / "model")
    again = Encoder.load(tmp_path / "model", "cpu")
    np.testing.assert_allclose(again.encode(TEXTS, dtype="float32"), found, atol=1e-6)
    assert again.fingerprint == changed.fingerprint and again.similarity == "cosine"
    theirs = SentenceTransformer(str(tmp_path / "model"), device="cpu", trust_remote_code=True)
    np.testing.assert_allclose(theirs.encode(TEXTS), found, atol=1e-5)


def test_the_vector_of_a_text_does_not_depend_on_its_batch_mates():
    changed = linear_map(encoders.small(), TEXTS, dimension=6)
    together = changed.encode(TEXTS, dtype="float32")
    for row in (0, 7, 31):
        np.testing.assert_allclose(changed.encode([TEXTS[row]], dtype="float32")[0], together[row], atol=1e-5)
    some = changed.encode([TEXTS[3], "dog", TEXTS[9]], dtype="float32")
    np.testing.assert_allclose(some[[0, 2]], together[[3, 9]], atol=1e-5)


def test_a_model_that_compares_by_dot_product_is_compared_by_cosine_afterwards():
    changed = linear_map(encoders.small(normalise=False), TEXTS, dimension=3)
    assert changed.similarity == "cosine" and changed.dimension == 3
    lengths = np.linalg.norm(changed.encode(TEXTS, dtype="float32"), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)


def test_prompts_stay(tmp_path):
    encoder = encoders.small()
    encoder.prompts = {"document": "a text: "}
    assert linear_map(encoder, TEXTS, "common-component").prompts == {"document": "a text: "}


@pytest.mark.parametrize("plain", [False, True])
def test_sif_is_the_mean_of_word_vectors_weighed_by_rarity(plain):
    tokenizer = WordTokenizer.train(TEXTS, min_documents=1)
    encoder = Encoder.static(tokenizer, dimension=8, frequency="count", idf_power=0)
    table = {word: encoder.encode([word])[0].astype(float) for word in set(" ".join(TEXTS).split())}
    words = " ".join(TEXTS).split()
    raw = encoder.stack[0].table.detach().numpy()
    ids = {word: int(tokenizer.encode([word]).ids[0]) for word in table}
    expected = []
    for text in TEXTS:
        total = np.zeros(8)
        for word in text.split():
            p = words.count(word) / len(words)
            total += 1e-3 / (1e-3 + p) * raw[ids[word]]
        expected.append(total / np.linalg.norm(total))
    given = encoder.plain() if plain else encoder
    weigh_words(given, TEXTS)
    np.testing.assert_allclose(given.encode(TEXTS, dtype="float32"), np.stack(expected), atol=1e-4)


def test_sif_of_an_encoder_with_tokens_of_labels():
    encoder, extended = encoders.static(), encoders.static()
    first = add_tokens(extended, 2)
    with torch.no_grad():
        extended.stack[0].weights[first:] = 7
    for each in (encoder, extended):
        weigh_words(each, TEXTS)
    np.testing.assert_array_equal(extended.encode(TEXTS), encoder.encode(TEXTS))
    assert extended.stack[0].weights[first:].tolist() == [1.0, 1.0]


def test_sif_removes_the_common_component_too():
    weighed = encoders.static()
    weigh_words(weighed, TEXTS)
    expected = linear_map(weighed, TEXTS, "common-component").encode(TEXTS, dtype="float32")
    found = linear_map(encoders.static(), TEXTS, "sif").encode(TEXTS, dtype="float32")
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "method", "settings", "message"),
    [
        (encoders.small, "sif", {}, "SIF weighs words, and only a static encoder"),
        (encoders.small, "bert-whitening", {"dimension": 17}, "The vectors have 16 dimensions, of which 17 cannot"),
        (encoders.small, "common-component", {"components": 16}, "Of 16 dimensions 16 components cannot be removed"),
        (encoders.small, "common-component", {"dimension": 4}, "common-component keeps all dimensions; leave"),
        (
            lambda: Encoder.joined([encoders.static(), encoders.small()], [0.5, 0.5]),
            "common-component",
            {},
            "Nothing can follow a joined encoder",
        ),
    ],
)
def test_what_cannot_be_done_is_a_sentence(make, method, settings, message):
    with pytest.raises(ModelError, match=message):
        linear_map(make(), TEXTS, method, **settings)


def test_dimensions_that_do_not_vary_are_left_out_and_cannot_be_asked_for():
    encoder = encoders.damage(encoders.small())
    assert linear_map(encoder, TEXTS[:4]).dimension == 3
    with pytest.raises(ModelError, match=r"The vectors of 4 texts vary in 3 dimensions only; .*--dimension 3 at most"):
        linear_map(encoder, TEXTS[:4], dimension=4)
    with pytest.raises(ModelError, match=r"vary in 0 dimensions only; give more texts\.$"):
        linear_map(encoders.small(), ["dog"] * 3)
    with pytest.raises(ModelError, match="no texts"):
        linear_map(encoders.small(), [])


def test_labels_keep_their_own_tokens():
    encoder = encoders.static()
    encoder.own_tokens = OwnTokens.of(["label"], ["a dog"], np.array([add_tokens(encoder, 1)]))
    with torch.no_grad():
        encoder.stack[0].table[-1] = 1
    changed = with_linear(encoder, 2 * torch.eye(encoder.dimension), cosine=True)
    assert changed.own_tokens == encoder.own_tokens
    found, before = (encode_labels(one, ["label"], ["a dog"], dtype="float32") for one in (changed, encoder))
    np.testing.assert_allclose(found, before, atol=1e-6)
    assert np.abs(found - changed.encode(["a dog"], dtype="float32")).max() > 1e-3


@pytest.mark.parametrize("method", ["bert-whitening", "sif"])
def test_the_folder_of_the_unchanged_model_is_not_that_of_the_changed_one(method, tmp_path):
    encoder = encoders.static()
    encoder.save(tmp_path / "before")
    changed = linear_map(encoder, TEXTS, method)
    assert changed.path is None
    assert (encoder.path is None) == (encoder.fingerprint != Encoder.load(tmp_path / "before").fingerprint)
    changed.save(tmp_path / "after")
    assert changed.path == tmp_path / "after"
