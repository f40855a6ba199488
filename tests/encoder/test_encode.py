"""The encode loop: order, padding, truncation, prompts, odd texts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from encoders import MINILM, POOLINGS, TEXTS, small, static
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever.data.ragged import Ragged
from retriever.encoder import Encoder
from retriever.encoder import loop as encode_loop
from retriever.encoder.loop import has_bfloat16, packs
from retriever.errors import DataError, ModelError

FAMILIES = {"static": static, "plain": lambda: static().plain(), **{p: lambda p=p: small(pooling=p) for p in POOLINGS}}
LONG = "retriever documents " * 5_000


@pytest.fixture(scope="module")
def minilm():
    return Encoder.load(MINILM)


def fp32(encoder, texts, **settings):
    return encoder.encode(texts, dtype="float32", **settings)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_vector_does_not_depend_on_its_batch_mates(family):
    encoder = FAMILIES[family]()
    alone = np.concatenate([fp32(encoder, [text]) for text in TEXTS])
    for order in (TEXTS, TEXTS[::-1]):
        together = dict(zip(order, fp32(encoder, order), strict=True))
        found = np.stack([together[text] for text in TEXTS])
        np.testing.assert_allclose(found, alone, rtol=0, atol=0 if family == "static" else 1e-5)


@pytest.mark.parametrize("batch_tokens", [1, 7, 64, 10_000])
@pytest.mark.parametrize("family", FAMILIES)
def test_batch_size_changes_nothing(family, batch_tokens):
    encoder = FAMILIES[family]()
    np.testing.assert_allclose(fp32(encoder, TEXTS, batch_tokens=batch_tokens), fp32(encoder, TEXTS), rtol=0, atol=1e-5)


def test_minilm_alone_and_among_others(minilm):
    alone = np.concatenate([fp32(minilm, [text]) for text in TEXTS])
    np.testing.assert_allclose(fp32(minilm, TEXTS), alone, rtol=0, atol=1e-5)


def test_bfloat16_keeps_the_documented_tolerance(minilm):
    exact = fp32(minilm, TEXTS)
    together = minilm.encode(TEXTS, dtype="bfloat16")
    alone = np.concatenate([minilm.encode([text], dtype="bfloat16") for text in TEXTS])
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, alone, rtol=0, atol=5e-3)
    assert ((together * exact).sum(1) > 0.999).all()
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-3)


def test_static_encoders_are_the_same_in_bfloat16():
    encoder = static()
    assert np.array_equal(encoder.encode(TEXTS, dtype="bfloat16"), fp32(encoder, TEXTS))


def test_chunks_of_texts_change_nothing(monkeypatch):
    encoder = small()
    expected, report = fp32(encoder, TEXTS), encoder.report
    monkeypatch.setattr(encode_loop, "CHUNK", 3)
    np.testing.assert_allclose(fp32(encoder, TEXTS), expected, rtol=0, atol=1e-5)
    assert encoder.report == report


@pytest.mark.parametrize("family", FAMILIES)
def test_embed_is_encode_after_the_tokenizer(family):
    encoder = FAMILIES[family]()
    tokens = encoder.text_tokenizer.encode(TEXTS)
    assert np.array_equal(encoder.embed(tokens, dtype="float32"), fp32(encoder, TEXTS))


# --- odd texts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_odd_texts(family):
    encoder = FAMILIES[family]()
    texts = ["", " \n\t", LONG, "🙂" * 50, "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "\x00\ufffe", "a" * 5_000]
    vectors = encoder.encode(texts)
    assert vectors.shape == (len(texts), encoder.dimension)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_texts(family):
    encoder = FAMILIES[family]()
    assert encoder.encode([]).shape == (0, encoder.dimension)
    assert encoder.embed(Ragged.from_rows([])).shape == (0, encoder.dimension)


@pytest.mark.parametrize("family", ["static", "plain"])
def test_unknown_words_give_the_zero_vector(family):
    encoder = FAMILIES[family]()
    vectors = encoder.encode(["xyzzy plugh", "dog", "xyzzy"])
    assert not vectors[[0, 2]].any()
    assert np.linalg.norm(vectors[1]) == pytest.approx(1, abs=1e-6)
    assert not encoder.encode(["xyzzy"]).any()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=8))
def test_any_texts(texts):
    for encoder in (ANY_STATIC, ANY_SMALL):
        vectors = encoder.encode(texts, dtype="float32")
        assert vectors.shape == (len(texts), encoder.dimension)
        assert np.isfinite(vectors).all()


ANY_STATIC, ANY_SMALL = static(), small(layers=1)


# --- truncation and prompts ---------------------------------------------------------------------------------------


def test_truncation_is_counted():
    encoder = small(max_length=12)
    assert encoder.limit == 10
    fits, over = "dog " * 10, "dog " * 11
    vectors = fp32(encoder, [fits, over, LONG, ""])
    assert (encoder.report.texts, encoder.report.truncated, encoder.report.tokens) == (4, 2, 30)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)


def test_a_bag_of_words_is_never_truncated():
    encoder = static()
    encoder.encode([LONG])
    assert encoder.report.truncated == 0
    assert encoder.report.tokens == 10_000


def test_a_prompt_counts_towards_the_limit():
    encoder = small(max_length=12)
    encoder.prompts = {"query": "dog "}
    encoder.encode(["dog " * 10], kind="query")
    assert encoder.report.truncated == 1
    encoder.encode(["dog " * 10], kind="document")
    assert encoder.report.truncated == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_each_kind_has_its_prompt(family):
    encoder = FAMILIES[family]()
    plain = fp32(encoder, ["dog"])
    encoder.prompts = {"query": "quick ", "document": "lazy "}
    for kind, text in (("query", "quick dog"), ("document", "lazy dog")):
        found = encoder.encode(["dog"], kind, dtype="float32")
        assert not np.allclose(found, plain)
        encoder.prompts, saved = {}, encoder.prompts
        np.testing.assert_allclose(found, fp32(encoder, [text]), atol=1e-6)
        encoder.prompts = saved


# --- the loop itself ----------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 120))
def test_packs_cover_every_row_once_within_the_budget(lengths, budget):
    lengths = np.array(lengths, np.int64)
    batches = list(packs(lengths, budget))
    assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
    for rows in batches:
        assert len(rows) == 1 or len(rows) * max(lengths[rows].max(), 1) <= budget
    longest = [lengths[rows].max() for rows in batches]
    assert longest == sorted(longest, reverse=True)


def test_special_tokens_count_as_padded_tokens():
    encoder = small()
    shapes = []
    encoder.stack[0].register_forward_pre_hook(lambda _, args: shapes.append(args[0]["input_ids"].shape))
    encoder.encode(["", "dog"] * 50, batch_tokens=30)
    assert all(rows * width <= 30 for rows, width in shapes)


def test_progress_adds_up():
    done = []
    small().encode(TEXTS, batch_tokens=40, progress=done.append)
    assert sum(done) == len(TEXTS)
    assert len(done) > 1


def test_batches_of_a_transformer_are_small_on_a_cpu():
    texts = ["dog"] * 2_000
    shapes = []
    encoder = small()
    encoder.stack[0].register_forward_pre_hook(lambda _, args: shapes.append(args[0]["input_ids"].numel()))
    encoder.encode(texts)
    tokens = sum(shapes)
    assert max(shapes) <= 1_024 and len(shapes) == -(-tokens // 1_024) > 1
    shapes.clear()
    encoder.encode(texts, batch_tokens=16_384)
    assert shapes == [tokens]
    done = []
    static().encode(texts, progress=done.append)
    assert done == [2_000]


@pytest.mark.parametrize("training", [True, False])
def test_the_training_mode_is_put_back(training):
    encoder = small(dropout=0.5)
    encoder.stack.train(training)
    assert np.array_equal(encoder.encode(["dog"]), encoder.encode(["dog"]))
    assert encoder.stack.training is training
    with pytest.raises(RuntimeError, match="stop"):
        encoder.encode(["dog"], progress=stop)
    assert encoder.stack.training is training


def stop(_):
    raise RuntimeError("stop")


def test_encode_leaves_no_gradient_and_call_does():
    for encoder in (static(), small()):
        features = encoder.features(encoder.text_tokenizer.encode(["dog"]))
        assert encoder(features).requires_grad
        assert "sentence_embedding" not in features
        encoder.encode(["dog"])
        assert all(p.grad is None for p in encoder.stack.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_one_text_is_not_taken_for_its_letters(family):
    with pytest.raises(DataError, match="The texts are the text 'hello': give a list of texts"):
        FAMILIES[family]().encode("hello")


@pytest.mark.parametrize("family", FAMILIES)
def test_an_unknown_kind_is_refused(family):
    with pytest.raises(ModelError, match="kind is 'passage'; choose query or document"):
        FAMILIES[family]().encode(["hello"], "passage")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("mangled", "what"), [(None, "NoneType"), (3, "int"), (b"a", "bytes")])
def test_what_is_no_text_is_named(family, mangled, what):
    with pytest.raises(DataError, match=f"Text 1, counted from 0, is no string but {what}: give strings"):
        FAMILIES[family]().encode(["hello", mangled])


def test_half_a_surrogate_pair_is_named_by_a_tokenizer_that_cannot_read_it():
    with pytest.raises(DataError, match="Text 1, counted from 0, has half a surrogate pair in it: mend it"):
        small().encode(["hello", "caf\udce9"])


@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_that_are_no_numbers_are_refused(family, monkeypatch):
    monkeypatch.setattr(encode_loop, "CHUNK", 2)
    encoder = FAMILIES[family]()
    plain = encoder.encode(["dog", "fox", "far"])

    def spoilt(*arguments):
        vectors = embed(*arguments)
        vectors[0, -1] = np.nan if len(vectors) == 1 else vectors[0, -1]
        return vectors

    embed = encode_loop.embed
    monkeypatch.setattr(encode_loop, "embed", spoilt)
    np.testing.assert_array_equal(encoder.encode(["dog", "fox"]), plain[:2])
    with pytest.raises(DataError, match="The vector of text 2, counted from 0, holds NaN or infinity: the encoder is"):
        encoder.encode(["dog", "fox", "far"])


def test_unknown_dtype():
    with pytest.raises(ModelError, match="dtype is 'int8'; choose auto, float32 or bfloat16"):
        static().encode(["dog"], dtype="int8")


def test_bfloat16_is_off_where_the_probe_is_missing(monkeypatch):
    cpu = torch.device("cpu")
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert not has_bfloat16(cpu)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert has_bfloat16(cpu)
    assert not has_bfloat16(torch.device("mps"))
