"""Model folders: the card, one sentence for every damage, and saves that are whole or not at all."""

from __future__ import annotations

import gc
import json
import pickle
import shutil
import weakref

import numpy as np
import pytest
from encoders import MINILM, TEXTS, small, static, subwords

from retriever.data.document import Document
from retriever.data.tokenizers import WordTokenizer
from retriever.encoder import Encoder
from retriever.encoder import folder as model_folder
from retriever.errors import ModelError, OutputError, RetrieverError
from retriever.indexing.index import Index


@pytest.fixture
def saved(tmp_path):
    """A saved small transformer."""
    small().save(tmp_path / "small")
    return tmp_path / "small"


@pytest.fixture
def words(tmp_path):
    """A saved static encoder."""
    static().save(tmp_path / "words")
    return tmp_path / "words"


def sentence(call, error=ModelError):
    """The message of the error that ``call`` raises: one line, one sentence."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert isinstance(caught.value, RetrieverError)
    assert "\n" not in message
    assert message.endswith(".")
    assert ". " not in message
    return message


# --- reading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [Encoder.load, Encoder.pretrained])
@pytest.mark.parametrize("name", ["/no/such/model", "./nowhere", "~/nowhere-at-all", "a/b/c"])
def test_missing_folder(load, name):
    assert f"There is no model folder {name}" in sentence(lambda: load(name))


@pytest.mark.parametrize("load", [Encoder.load, Encoder.pretrained])
def test_a_file_is_no_folder(load, tmp_path):
    (tmp_path / "file").write_text("x")
    assert "There is no model folder" in sentence(lambda: load(tmp_path / "file"))


@pytest.mark.parametrize("load", [Encoder.load, Encoder.pretrained])
def test_folder_without_a_model(load, tmp_path):
    assert f"{tmp_path} holds no model: neither modules.json nor config.json" in sentence(lambda: load(tmp_path))


@pytest.mark.parametrize("load", [Encoder.load, Encoder.pretrained])
@pytest.mark.parametrize("name", ["no-such-model", "nobody/no-such-model"])
def test_hub_name_offline(load, name):
    message = sentence(lambda: load(name))
    assert f"There is no model folder {name}, and the hub has no such model or cannot be reached" in message


@pytest.mark.parametrize("content", [b"", b"not a tensor file", None])
@pytest.mark.parametrize("load", [Encoder.load, Encoder.pretrained])
def test_damaged_weights(load, content, saved):
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100] if content is None else content)
    assert f"The model in {saved} cannot be read" in sentence(lambda: load(saved))


@pytest.mark.parametrize("content", [b"", b"not a tensor file", None])
def test_damaged_static_weights(content, words):
    weights = words / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100] if content is None else content)
    assert f"The model in {words} cannot be read" in sentence(lambda: Encoder.load(words))


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
@pytest.mark.parametrize("name", ["config.json", "modules.json", "words.json", "config_sentence_transformers.json"])
def test_damaged_static_settings(name, content, words):
    (words / name).write_text(content)
    assert f"The model in {words} cannot be read" in sentence(lambda: Encoder.load(words))


@pytest.mark.parametrize("name", ["model.safetensors", "words.json", "config.json"])
def test_missing_static_files(name, words):
    (words / name).unlink()
    assert f"The model in {words} cannot be read" in sentence(lambda: Encoder.load(words))


def test_a_vocabulary_of_another_model(words, tmp_path):
    encoder = Encoder.static(WordTokenizer.train(["two words"], min_documents=1), dimension=24)
    encoder.save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "words.json", words / "words.json")
    assert "rows for a vocabulary of 3" in sentence(lambda: Encoder.load(words))


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_damaged_subword_vocabulary(content, tmp_path):
    Encoder.static(subwords(), dimension=8).save(tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_text(content)
    assert "cannot be read" in sentence(lambda: Encoder.load(tmp_path / "model"))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model_type": "nonesuch"}'])
def test_damaged_transformer_settings(content, saved):
    (saved / "config.json").write_text(content)
    assert f"The model in {saved} cannot be read" in sentence(lambda: Encoder.load(saved))


@pytest.mark.parametrize("load", [Encoder.load, Encoder.pretrained])
def test_missing_tokenizer(load, tmp_path):
    shutil.copytree(MINILM, tmp_path / "model")
    for name in ("tokenizer.json", "vocab.txt"):
        (tmp_path / "model" / name).unlink()
    assert "The model's tokenizer knows no words" in sentence(lambda: load(tmp_path / "model"))


def test_code_in_a_model_is_not_run(saved):
    (saved / "evil.py").write_text("raise SystemExit('evil code ran')")
    modules = [{"idx": 0, "name": "0", "path": "", "type": "evil.Module"}]
    (saved / "modules.json").write_text(json.dumps(modules))
    assert "evil.Module" in sentence(lambda: Encoder.load(saved))


def test_unsupported_first_module(saved):
    modules = json.loads((saved / "modules.json").read_text())[1:]
    (saved / "modules.json").write_text(json.dumps(modules))
    message = sentence(lambda: Encoder.load(saved))
    assert message.startswith("The model starts with a Pooling module; only Transformer, StaticEmbedding and")


def test_foreign_module_after_a_static_table(words):
    modules = json.loads((words / "modules.json").read_text())
    modules[1]["type"] = "sentence_transformers.models.Pooling"
    (words / "modules.json").write_text(json.dumps(modules))
    message = sentence(lambda: Encoder.load(words))
    assert "lists what cannot follow retriever.encoder.static.TermEmbedding: sentence_transformers.models." in message


def test_unsupported_similarity(saved):
    path = saved / "config_sentence_transformers.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "similarity_fn_name": "euclidean"}))
    encoder = Encoder.load(saved)
    assert "The model compares by euclidean" in sentence(lambda: encoder.similarity)


def test_a_home_folder_is_expanded(saved, monkeypatch):
    monkeypatch.setenv("HOME", str(saved.parent))
    assert Encoder.load("~/small").path == saved


def test_nothing_is_printed(saved, capfd):
    Encoder.load(saved)
    Encoder.pretrained(saved)
    assert capfd.readouterr() == ("", "")


# --- the card -----------------------------------------------------------------------------------------------------


def test_card_of_a_transformer(tmp_path):
    encoder = small()
    encoder.prompts = {"query": "find: "}
    encoder.save(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    for part in ("16 numbers", "cosine", "Transformer → Pooling → Normalize", "32 tokens", '{"query": "find: "}'):
        assert part in card
    assert "trust_remote_code" not in card
    assert len(card.splitlines()) < 35


def test_card_of_a_static_encoder(tmp_path):
    static(normalise=False).save(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    for part in ("24 numbers", "dot", "longest text: any", "prompts: none", "trust_remote_code=True"):
        assert part in card
    assert "sentence-transformers dense-retriever" in card


@pytest.mark.parametrize("build", [static, small])
def test_the_card_s_programs_run(build, tmp_path):
    build().save(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    blocks = [part for part in card.split("\n\n") if part.startswith("    ")]
    assert len(blocks) == 2
    results = []
    for block in blocks:
        scope = {}
        code = "\n".join(line[4:] for line in block.splitlines())
        exec(code.replace("path/to/this/folder", str(tmp_path / "model")), scope)
        results.append(scope["vectors"])
    np.testing.assert_allclose(*results, atol=5e-3)


# --- writing ------------------------------------------------------------------------------------------------------


def test_an_existing_folder_is_kept(words):
    before = {path.name: path.read_bytes() for path in words.iterdir() if path.is_file()}
    message = sentence(lambda: static(seed=1).save(words), OutputError)
    assert message == f"{words} exists already; choose another folder or pass --overwrite."
    assert {path.name: path.read_bytes() for path in words.iterdir() if path.is_file()} == before


def test_overwriting_replaces_every_file(words):
    (words / "leftover").write_text("x")
    encoder = small()
    encoder.save(words, overwrite=True)
    assert not (words / "leftover").exists()
    assert not (words / "words.json").exists()
    assert Encoder.load(words).fingerprint == encoder.fingerprint
    assert [path.name for path in words.parent.iterdir()] == ["words"]


def test_a_failed_save_leaves_the_old_model(words, monkeypatch):
    before = Encoder.load(words).fingerprint

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_folder, "model_card", full)
    message = sentence(lambda: small().save(words, overwrite=True), OutputError)
    assert "No space left on device" in message
    assert Encoder.load(words).fingerprint == before
    assert [path.name for path in words.parent.iterdir()] == ["words"]


def test_saving_makes_parent_folders_and_sets_the_path(tmp_path):
    encoder = static()
    assert encoder.path is None
    encoder.save(tmp_path / "a" / "b")
    assert encoder.path == tmp_path / "a" / "b"
    assert np.array_equal(Encoder.load(encoder.path).encode(TEXTS), encoder.encode(TEXTS))


def test_all_files_have_the_same_permissions(words):
    assert len({path.stat().st_mode for path in words.rglob("*") if path.is_file()}) == 1


@pytest.mark.parametrize("make", [static, small, lambda: Encoder.joined([static(), small()], [0.5, 0.5])])
def test_weights_go_with_the_last_reference(make, tmp_path):
    make().save(tmp_path / "model")
    gc.collect()
    gc.disable()
    try:
        for opened in (make, lambda: Encoder.load(tmp_path / "model")):
            encoder = opened()
            encoder.encode(["dog"])
            weights = [weakref.ref(weight) for weight in encoder.stack.parameters()]
            del encoder
            assert weights and not any(weight() is not None for weight in weights)
    finally:
        gc.enable()


def test_an_encoder_with_other_prompts_than_its_folder_is_not_saved(tmp_path):
    encoder = static()
    encoder.prompts = {"query": "find: "}
    encoder.save(tmp_path / "model")
    for prompts, path in (
        ({"query": "find: ", "document": ""}, tmp_path / "model"),
        ({"query": "other: "}, None),
        ({}, None),
        ({"query": "find: "}, tmp_path / "model"),
    ):
        encoder.prompts = prompts
        assert encoder.path == path
        assert (encoder.fingerprint == Encoder.load(tmp_path / "model").fingerprint) == (path is not None)
    encoder.prompts = {}
    encoder.save(tmp_path / "other")
    assert encoder.path == tmp_path / "other"


def test_a_prompt_is_changed_by_assigning_all_and_never_ignored():
    encoder = static()
    with pytest.raises(TypeError, match="does not support item assignment"):
        encoder.prompts["query"] = "find: "
    encoder.prompts = encoder.prompts | {"query": "find: "}
    assert encoder.prompts == {"query": "find: "}
    assert pickle.loads(pickle.dumps(encoder)).fingerprint == encoder.fingerprint


def test_an_encoder_that_is_changed_when_it_is_opened_is_not_saved(tmp_path):
    small(max_length=32).save(tmp_path / "model")
    saved = Encoder.load(tmp_path / "model")
    for options in ({}, {"max_length": 32}, {"max_length": 12}, {"normalise_text": True}):
        opened = Encoder.load(tmp_path / "model", **options)
        assert opened.path == (tmp_path / "model" if opened.fingerprint == saved.fingerprint else None)
        assert (opened.path is None) == (options not in ({}, {"max_length": 32}))


def test_a_length_that_numpy_has_found_can_be_saved(tmp_path):
    small(max_length=32).save(tmp_path / "model")
    Encoder.load(tmp_path / "model", max_length=np.int64(12)).save(tmp_path / "short")
    assert Encoder.load(tmp_path / "short").limit == Encoder.load(tmp_path / "model", max_length=12).limit


def test_an_index_of_a_changed_encoder_opens_by_its_own_record_once_that_is_saved(tmp_path):
    encoder = static()
    encoder.save(tmp_path / "model")
    encoder.prompts = {"query": "dog "}
    document = Document("fox", text="quick fox")
    with Index.build(encoder, [document], tmp_path / "unsaved") as index:
        assert index.model_path is None
    encoder.save(tmp_path / "prompted")
    Index.build(encoder, [document], tmp_path / "saved").close()
    with Index.open(tmp_path / "saved") as index:
        assert [hit.id for hit in index.search("fox", mode="dense")] == ["fox"]
