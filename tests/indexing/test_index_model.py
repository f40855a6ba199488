"""The model of an index: who may open it, where it is found, and what happens when another one builds it anew."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from retriever.data.document import Document
from retriever.encoder import Encoder
from retriever.errors import IndexFolderError, ModelError, OtherModelError
from retriever.indexing.index import Index


def test_another_model_is_refused(built, encoder, tmp_path):
    other = Encoder.static(encoder.text_tokenizer, dimension=32, seed=1)
    with pytest.raises(IndexFolderError, match=r"was built by another model .* open it with that model, or build"):
        Index.open(built, other)
    other.save(tmp_path / "other")
    with pytest.raises(IndexFolderError, match=r"was built by another model \(.*static\) than .*other"):
        Index.open(built, tmp_path / "other")
    with pytest.raises(ModelError, match="There is no model folder"):
        Index.open(built, "./nowhere")
    Index.open(built, str(encoder.path)).close()


def test_an_index_built_anew_goes_on_with_its_new_model_unless_one_was_given(encoder, documents, tmp_path):
    other = Encoder.static(encoder.text_tokenizer, dimension=24, seed=1)
    other.save(tmp_path / "new")
    Index.build(encoder, documents, tmp_path / "index").close()
    with Index.open(tmp_path / "index") as opened, Index.open(tmp_path / "index", encoder) as given:
        assert len(opened.search("heron", 3, "dense")) == len(given.search("heron", 3, "dense")) == 3
        view, model = opened._state()  # what a search under way holds
        with Index.build(other, documents, tmp_path / "index", overwrite=True) as anew:
            assert opened.search("heron", 3, "dense") == anew.search("heron", 3, "dense")
        assert opened.encoder.fingerprint == other.fingerprint
        assert view.dense(model.encode(["heron"]), 3).rows.shape == (1, 3)
        for use in (lambda: given.search("heron", 3, "bm25"), lambda: given.add([Document("a", text="b")])):
            with pytest.raises(OtherModelError, match="was built by another model"):
                use()


def test_a_model_that_changed_in_place_is_refused_when_needed(encoder, documents, tmp_path):
    saved = Encoder.load(encoder.path)
    saved.save(tmp_path / "model")
    Index.build(saved, documents, tmp_path / "index").close()
    Encoder.static(encoder.text_tokenizer, dimension=32, seed=1).save(tmp_path / "model", overwrite=True)
    with Index.open(tmp_path / "index") as index:
        assert index.search("heron", 1, "bm25")
        for mode in ("dense", "hybrid"):
            with pytest.raises(
                IndexFolderError, match=r"The model .*model has changed since it built the index .*index:"
            ):
                index.search("heron", 1, mode)


def test_a_pair_that_moved_together_still_opens(encoder, documents, tmp_path):
    saved = Encoder.load(encoder.path)
    saved.save(tmp_path / "here" / "model")
    Index.build(saved, documents, tmp_path / "here" / "indexes" / "one").close()
    (tmp_path / "here").rename(tmp_path / "there")
    with Index.open(tmp_path / "there" / "indexes" / "one") as index:
        assert index.search("heron", 3, "dense")
        assert index.encoder.fingerprint == encoder.fingerprint


@pytest.mark.parametrize("other", ["another model", "no model"])
def test_another_folder_where_the_model_was_beside_the_index_does_not_hide_it(encoder, documents, tmp_path, other):
    saved = Encoder.load(encoder.path)
    saved.save(tmp_path / "here" / "model")
    Index.build(saved, documents, tmp_path / "here" / "index").close()
    shutil.copytree(tmp_path / "here" / "index", tmp_path / "there" / "index")
    if other == "no model":
        (tmp_path / "there" / "model").mkdir()
    else:
        Encoder.static(encoder.text_tokenizer, dimension=8).save(tmp_path / "there" / "model")
    with Index.open(tmp_path / "there" / "index") as index:
        assert index.search("heron", 3, "dense")
    assert Index.damage(tmp_path / "there" / "index", sample=5) == []


def test_a_model_saved_under_a_relative_path_is_found_from_another_working_folder(
    encoder, documents, tmp_path, monkeypatch
):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    Encoder.load(encoder.path).save("model")
    loaded = Encoder.load("model")
    monkeypatch.chdir("elsewhere")
    assert loaded.path == tmp_path / "model"
    Index.build(loaded, documents, "index").close()
    with Index.open("index") as index:
        assert index.search("heron", 1, "dense")


def test_an_index_that_moved_alone_still_finds_its_model(folder):
    with Index.open(folder) as index:
        assert index.search("heron", 3, "dense")


def test_a_model_that_is_gone_is_told_and_words_need_none(encoder, documents, tmp_path):
    saved = Encoder.load(encoder.path)
    saved.save(tmp_path / "model")
    Index.build(saved, documents, tmp_path / "index").close()
    shutil.rmtree(tmp_path / "model")
    with Index.open(tmp_path / "index") as index:
        assert index.search("heron", 3, "bm25")
        with pytest.raises(
            IndexFolderError, match=r"The model .*model of the index .* is not there: give its new place"
        ):
            index.search("heron", 3, "dense")


def test_a_model_that_was_never_saved_must_be_given(encoder, documents, tmp_path):
    unsaved = Encoder.static(encoder.text_tokenizer, dimension=8)
    Index.build(unsaved, documents, tmp_path / "index").close()
    with Index.open(tmp_path / "index") as index, pytest.raises(IndexFolderError, match="not saved: give the model"):
        index.search("heron")
    with Index.open(tmp_path / "index", unsaved) as index:
        assert index.search("heron", 1)


def test_the_name_of_a_hub_model_can_be_noted(encoder, documents, tmp_path):
    with Index.build(encoder, documents, tmp_path / "index", model="some/model") as index:
        assert index.manifest.model.path == "some/model"
        assert index.manifest.model.relative is None


def test_searching_words_does_not_import_torch(built):
    code = (
        "import sys; from retriever.indexing.index import Index\n"
        f"assert Index.open({str(built)!r}).search('heron', 1, 'bm25')\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
