"""Joined encoders: the formula, the parts' own prompts and limits, saving, sentence-transformers, bad input."""

from __future__ import annotations

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from encoders import MINILM, TEXTS, damage, small, static, subwords
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer

from retriever.data.document import Document
from retriever.data.ragged import Ragged
from retriever.encoder import Encoder
from retriever.encoder.joined import JoinedEmbedding, join
from retriever.errors import ModelError, OutputError
from retriever.indexing.index import Index

KINDS = ("query", "document")


def fp32(encoder, texts=TEXTS, kind="document"):
    return encoder.encode(texts, kind, dtype="float32")


def unit(vectors):
    """Rows at length 1, zero rows left alone."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths == 0, 1, lengths)


def prompted(encoder, **prompts):
    encoder.prompts = prompts
    return encoder


def parts():
    """A transformer and a static encoder, each with prompts of its own."""
    transformer = prompted(damage(small(seed=3)), query="find the ", document="dog: ")
    return transformer, prompted(damage(static(seed=4)), query="quick ")


FAMILIES = {
    "transformer and static": lambda: Encoder.joined(parts(), [0.3, 0.7]),
    "two static": lambda: Encoder.joined([static(), static(seed=1, dimension=8)], [0.5, 0.5]),
    "dot product": lambda: Encoder.joined([small(normalise=False), static(normalise=False)], [0.6, 0.4]),
    "three": lambda: Encoder.joined([*parts(), Encoder.static(subwords(), dimension=12)], [0.2, 0.3, 0.5]),
    "nested": lambda: Encoder.joined([Encoder.joined(parts(), [0.9, 0.1]), static(seed=2)], [0.5, 0.5]),
    "plain": lambda: Encoder.joined([small(pooling="first-last-average"), static().plain()], [0.5, 0.5]),
    "own prompt": lambda: prompted(Encoder.joined(parts(), [0.3, 0.7]), query="lazy ", document="fox "),
}


# --- the formula --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_cosines_are_the_weighted_mean_of_the_parts_cosines(kind):
    transformer, table = parts()
    joined = Encoder.joined([transformer, table], [0.3, 0.7])
    texts = [text for text in TEXTS if table.encode([text], kind).any()]
    vectors = fp32(joined, texts, kind)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    a, b = fp32(transformer, texts, kind), fp32(table, texts, kind)
    np.testing.assert_allclose(vectors @ vectors.T, 0.3 * a @ a.T + 0.7 * b @ b.T, atol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_the_concatenation_by_hand(weight):
    transformer, table = parts()
    vectors = fp32(Encoder.joined([transformer, table], [weight, 1 - weight]))
    by_hand = np.hstack([np.sqrt(weight) * unit(fp32(transformer)), np.sqrt(1 - weight) * unit(fp32(table))])
    np.testing.assert_allclose(vectors, unit(by_hand), atol=1e-6)


def test_parts_that_do_not_normalise_are_normalised():
    loud, table = small(normalise=False), static(normalise=False)
    assert np.abs(np.linalg.norm(fp32(loud), axis=1) - 1).min() > 0.01
    joined = Encoder.joined([loud, table], [0.5, 0.5])
    same = Encoder.joined([small(), static()], [0.5, 0.5])
    assert joined.similarity == "cosine"
    np.testing.assert_allclose(fp32(joined), fp32(same), atol=1e-6)


def test_a_part_that_knows_nothing_of_a_text_is_left_out():
    transformer, table = small(), static()
    vectors = fp32(Encoder.joined([transformer, table], [0.3, 0.7]), ["", "xyzzy"])
    assert not vectors[:, transformer.dimension :].any()
    np.testing.assert_allclose(vectors[:, : transformer.dimension], fp32(transformer, ["", "xyzzy"]), atol=1e-6)


def test_a_text_that_no_part_knows_is_zero_and_not_nan():
    joined = Encoder.joined([static(), static(seed=1)], [0.5, 0.5])
    vectors = fp32(joined, ["", "dog"])
    assert not vectors[0].any()
    assert np.linalg.norm(vectors[1]) == pytest.approx(1)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.floats(-5, 5, width=32), min_size=4, max_size=4), min_size=1, max_size=4),
    st.floats(0, 1),
)
def test_join_gives_unit_or_zero_vectors(rows, weight):
    vectors = torch.tensor(rows)
    joined = join([vectors[:, :2], vectors[:, 2:]], [weight, 1 - weight])
    assert joined.isfinite().all()
    lengths = joined.norm(dim=1)
    assert (((lengths - 1).abs() < 1e-5) | (lengths < 1)).all()
    known = (vectors[:, :2].norm(dim=1) > 1e-3) & (vectors[:, 2:].norm(dim=1) > 1e-3)
    torch.testing.assert_close(lengths[known], torch.ones(int(known.sum())))


def test_the_gradient_reaches_every_part():
    joined = Encoder.joined([small(), static()], [0.5, 0.5])
    features = joined.stack.preprocess(["the quick fox", "dog"], task="document")
    joined(features)[:, [0, -1]].sum().backward()
    touched = {name.split(".")[2] for name, p in joined.stack.named_parameters() if p.grad is not None}
    assert touched == {"0", "1"}


# --- encoding -----------------------------------------------------------------------------------------------------


def test_it_is_an_encoder_like_any_other():
    joined = Encoder.joined(parts(), [0.3, 0.7])
    assert (joined.dimension, joined.similarity, joined.limit) == (16 + 24, "cosine", 30)
    assert joined.prompts == {}
    assert joined.device.type == "cpu"
    assert fp32(joined).dtype == np.float32
    assert joined.encode([]).shape == (0, 40)


def test_truncated_texts_are_counted_once():
    joined = Encoder.joined([small(max_length=12), small(max_length=24), static()], [0.2, 0.3, 0.5])
    joined.encode(["dog " * 9, "dog " * 15, "dog " * 60])
    assert joined.report.texts == 3
    assert joined.report.truncated == 2
    assert joined.report.tokens == (9 + 10 + 10) + (9 + 15 + 22) + (9 + 15 + 60)
    joined.encode(["dog " * 60])
    assert (joined.report.truncated, joined.truncated) == (1, 3)


def test_progress_tells_every_text_once_and_in_time():
    told = []
    joined = Encoder.joined([small(), static(), static(seed=1)], [0.2, 0.3, 0.5])
    joined.encode(TEXTS, batch_tokens=64, progress=told.append)
    assert sum(told) == len(TEXTS)
    assert min(told) > 0 and len(told) > 1


@pytest.mark.parametrize("family", FAMILIES)
def test_batch_mates_do_not_matter(family):
    joined = FAMILIES[family]()
    alone = np.concatenate([fp32(joined, [text]) for text in TEXTS])
    np.testing.assert_allclose(fp32(joined), alone, atol=1e-5)


def test_half_precision_is_close():
    joined = Encoder.joined(parts(), [0.5, 0.5])
    low = joined.encode(TEXTS, dtype="bfloat16")
    assert ((low * fp32(joined)).sum(1) > 0.999).all()


def test_it_takes_no_token_ids():
    joined = Encoder.joined(parts(), [0.5, 0.5])
    tokens = Ragged.from_rows([[1, 2]])
    tokenizer = joined.text_tokenizer
    for call in (
        lambda: joined.embed(tokens),
        lambda: joined.features(tokens),
        lambda: tokenizer.encode(["dog"]),
        lambda: tokenizer.size,
        lambda: tokenizer.fingerprint,
    ):
        with pytest.raises(ModelError, match="has a tokenizer for each of its parts, so it encodes texts but takes no"):
            call()
    with pytest.raises(ModelError, match="Only a static encoder over words has a plain variant"):
        joined.plain()
    assert np.array_equal(fp32(copy.deepcopy(joined)), fp32(joined))


def test_an_index_of_a_joined_encoder(tmp_path):
    joined = Encoder.joined(parts(), [0.3, 0.7])
    joined.save(tmp_path / "model")
    corpus = [Document(str(i), "", text) for i, text in enumerate(TEXTS) if text]
    Index.build(joined, corpus, tmp_path / "index").close()
    with Index.open(tmp_path / "index") as index:
        hits = index.search("a retriever finds documents", k=3, mode="dense")
        assert index.manifest.dimension == 40
    scores = fp32(joined, [d.text for d in corpus]) @ fp32(joined, ["a retriever finds documents"], "query")[0]
    assert [hit.id for hit in hits] == [corpus[row].id for row in np.argsort(-scores)[:3]]
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(scores)[::-1][:3], atol=5e-3)


# --- saving -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_it_survives_saving(family, tmp_path):
    joined = FAMILIES[family]()
    joined.save(tmp_path / "one")
    once = Encoder.load(tmp_path / "one")
    once.save(tmp_path / "two")
    again = Encoder.load(tmp_path / "two")
    assert joined.fingerprint == once.fingerprint == again.fingerprint
    assert again.path == tmp_path / "two"
    for kind in KINDS:
        assert np.array_equal(fp32(joined, kind=kind), fp32(again, kind=kind))


@pytest.mark.parametrize("family", FAMILIES)
def test_it_opens_in_sentence_transformers(family, tmp_path):
    joined = FAMILIES[family]()
    joined.save(tmp_path / "model")
    stack = SentenceTransformer(str(tmp_path / "model"), trust_remote_code=True, device="cpu")
    np.testing.assert_allclose(stack.encode_query(TEXTS), fp32(joined, kind="query"), atol=1e-5)
    np.testing.assert_allclose(stack.encode_document(TEXTS), fp32(joined), atol=1e-5)
    assert stack.similarity_fn_name == "cosine"
    assert stack.get_embedding_dimension() == joined.dimension
    assert stack.max_seq_length == (32 if any(part.limit for part in joined.parts) else float("inf"))


def test_what_sentence_transformers_saves_opens_here(tmp_path):
    joined = FAMILIES["own prompt"]()
    joined.save(tmp_path / "ours")
    stack = SentenceTransformer(str(tmp_path / "ours"), trust_remote_code=True, device="cpu")
    stack.save_pretrained(str(tmp_path / "theirs"), create_model_card=False)
    assert Encoder.load(tmp_path / "theirs").fingerprint == joined.fingerprint


def test_plain_encode_of_sentence_transformers_applies_no_prompt(tmp_path):
    transformer, table = parts()
    Encoder.joined([transformer, table], [0.5, 0.5]).save(tmp_path / "model")
    stack = SentenceTransformer(str(tmp_path / "model"), trust_remote_code=True, device="cpu")
    transformer.prompts = table.prompts = {}
    np.testing.assert_allclose(stack.encode(TEXTS), fp32(Encoder.joined([transformer, table], [0.5, 0.5])), atol=1e-5)


def test_minilm_joined(tmp_path):
    minilm = Encoder.load(MINILM)
    joined = Encoder.joined([minilm, static()], [0.6, 0.4])
    joined.save(tmp_path / "model")
    known = static().encode(TEXTS).any(1)
    again = fp32(Encoder.load(tmp_path / "model"))
    np.testing.assert_allclose(again[known, :384], np.sqrt(0.6) * fp32(minilm)[known], atol=1e-6)
    np.testing.assert_allclose(again[~known, :384], fp32(minilm)[~known], atol=1e-6)
    stack = SentenceTransformer(str(tmp_path / "model"), trust_remote_code=True, device="cpu")
    np.testing.assert_allclose(stack.encode_document(TEXTS), fp32(joined), atol=1e-5)


def test_each_part_opens_on_its_own(tmp_path):
    transformer, table = parts()
    Encoder.joined([transformer, table], [0.5, 0.5]).save(tmp_path / "model")
    assert Encoder.load(tmp_path / "model" / "part_0").fingerprint == transformer.fingerprint
    assert Encoder.load(tmp_path / "model" / "part_1").fingerprint == table.fingerprint


def test_the_fingerprint_tells_weights_parts_prompts_and_order_apart():
    transformer, table = parts()
    encoders = [
        Encoder.joined([transformer, table], [0.5, 0.5]),
        Encoder.joined([transformer, table], [0.4, 0.6]),
        Encoder.joined([table, transformer], [0.5, 0.5]),
        Encoder.joined([transformer, static()], [0.5, 0.5]),
        Encoder.joined([transformer, table, table], [0.5, 0.25, 0.25]),
        prompted(Encoder.joined([transformer, table], [0.5, 0.5]), query="find: "),
    ]
    assert len({encoder.fingerprint for encoder in encoders}) == len(encoders)
    before = encoders[0].fingerprint
    transformer.prompts = {"query": "another "}
    assert encoders[0].fingerprint != before


def test_the_card_names_the_parts_and_its_programs_run(tmp_path):
    Encoder.joined(parts(), [0.3, 0.7]).save(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    for line in (
        "- modules: JoinedEmbedding",
        '- part 0: weight 0.3, 16 numbers, Transformer → Pooling → Normalize, prompts: {"query": "find the ", '
        '"document": "dog: "}',
        '- part 1: weight 0.7, 24 numbers, TermEmbedding → Normalize, prompts: {"query": "quick "}',
        "- longest text: 32 tokens",
    ):
        assert line in card.splitlines()
    assert "trust_remote_code=True" in card and "own modules cannot put two" in card
    results = []
    for block in (part for part in card.split("\n\n") if part.startswith("    ")):
        scope = {}
        code = "\n".join(line[4:] for line in block.splitlines())
        exec(code.replace("path/to/this/folder", str(tmp_path / "model")), scope)
        results.append(scope["vectors"])
    np.testing.assert_allclose(*results, atol=5e-3)


# --- bad input ----------------------------------------------------------------------------------------------------


def sentence(call, error=ModelError):
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".") and ". " not in message
    return message


@pytest.mark.parametrize(
    "weights", [[1.5, -0.5], [0.5, 0.4], [0.0, 0.0], [float("nan"), 0.5], [float("inf"), 0.0], [1.0001, 0.0]]
)
def test_weights_that_are_no_shares(weights):
    message = sentence(lambda: Encoder.joined(parts(), weights))
    assert message.startswith("The weights of a joined encoder are ") and "from 0 to 1 with a sum of 1" in message


def test_a_wrong_number_of_weights_or_parts():
    message = sentence(lambda: Encoder.joined(parts(), [1.0]))
    assert message == "There are 1 weights for 2 encoders; give one weight for each."
    assert "at least two parts, not 1" in sentence(lambda: Encoder.joined([static()], [1.0]))
    assert "at least two parts, not 0" in sentence(lambda: Encoder.joined([], []))


@pytest.fixture
def saved(tmp_path):
    Encoder.joined(parts(), [0.3, 0.7]).save(tmp_path / "model")
    return tmp_path / "model"


def test_an_existing_folder_is_kept(saved):
    before = Encoder.load(saved).fingerprint
    message = sentence(lambda: Encoder.joined(parts(), [0.5, 0.5]).save(saved), OutputError)
    assert message == f"{saved} exists already; choose another folder or pass --overwrite."
    assert Encoder.load(saved).fingerprint == before


@pytest.mark.parametrize("part", ["part_0", "part_1"])
@pytest.mark.parametrize("name", ["model.safetensors", "modules.json", ""])
def test_missing_parts(saved, part, name):
    path = saved / part / name
    if name:
        path.unlink()
    else:
        shutil.rmtree(path)
    if (part, name) == ("part_0", "modules.json"):
        Encoder.load(saved)  # a bare transformer opens with mean pooling
    else:
        assert f"The model in {saved} cannot be read" in sentence(lambda: Encoder.load(saved))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"weights": 1}',
        '{"weights": [1.0]}',
        '{"weights": ["a", "b"]}',
        '{"weights": [0.9, 0.9]}',
        '{"weights": [0.2, 0.2, 0.6]}',
    ],
)
def test_damaged_settings(saved, content):
    (saved / "config.json").write_text(content)
    assert f"The model in {saved} cannot be read" in sentence(lambda: Encoder.load(saved))


def test_code_in_a_part_is_not_run(saved):
    (saved / "part_0" / "evil.py").write_text("raise SystemExit('evil code ran')")
    modules = [{"idx": 0, "name": "0", "path": "", "type": "evil.Module"}]
    (saved / "part_0" / "modules.json").write_text(json.dumps(modules))
    assert "evil.Module" in sentence(lambda: Encoder.load(saved))
    with pytest.raises(ModelError, match=r"evil\.Module"):
        SentenceTransformer(str(saved), trust_remote_code=True)


def test_nothing_but_dense_layers_and_normalisations_follow(saved):
    modules = json.loads((saved / "modules.json").read_text())
    modules.append({"idx": 1, "name": "1", "path": "1_Dropout", "type": "sentence_transformers.models.Dropout"})
    (saved / "modules.json").write_text(json.dumps(modules))
    message = sentence(lambda: Encoder.load(saved))
    assert "cannot follow retriever.encoder.joined.JoinedEmbedding: sentence_transformers.models.Dropout" in message


def test_our_module_is_not_opened_without_trust(saved):
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        SentenceTransformer(str(saved))


def test_a_missing_folder_is_named():
    with pytest.raises(FileNotFoundError, match="/no/such/folder is missing"):
        JoinedEmbedding.load("/no/such/folder")
