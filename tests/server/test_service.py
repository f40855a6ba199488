"""What is opened to be served, from which folders."""

from __future__ import annotations

import json

import pytest
from encoders import static

from retriever.data.document import Document
from retriever.encoder import Encoder
from retriever.errors import DataError, IndexFolderError, ModelError, OtherModelError, ServerError
from retriever.indexing.index import Index
from retriever.indexing.label_memory import LabelMemory
from retriever.server.service import open_service


@pytest.fixture
def labels(tmp_path):
    """A data set of texts with labels."""
    folder = tmp_path / "labels"
    folder.mkdir()
    rows = [{"text": f"zebra heron {n}", "labels": ["zebra"]} for n in range(8)]
    rows += [{"text": f"amber birch {n}", "labels": ["amber"]} for n in range(8)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_an_index_brings_its_model(index, encoder):
    service = open_service(index.folder)
    assert service.name == "tiny" and service.labels is None
    assert service.encoder.fingerprint == encoder.fingerprint
    assert service.info()["index"]["documents"] == 5
    service.close()


@pytest.mark.parametrize("has_model", [False, True])
def test_the_model_is_loaded_on_the_device_also_that_of_the_index(index, encoder, monkeypatch, has_model):
    asked, load = [], Encoder.load
    monkeypatch.setattr(Encoder, "load", lambda model, device=None: asked.append(device) or load(model, device))
    service = open_service(index.folder, model=encoder.path if has_model else None, device="cpu")
    assert asked == ["cpu"] and service.name == "tiny"
    assert service.encoder.fingerprint == encoder.fingerprint
    assert [hit.id for hit in service.index.search("battery", 1)] == ["battery"] and asked == ["cpu"]
    service.close()


def test_a_model_on_a_device_that_was_given_is_kept_though_another_builds_the_index_anew(index, tmp_path):
    service = open_service(index.folder, device="cpu")
    other = static()
    other.save(tmp_path / "other")
    Index.build(other, [Document("new", "", "zebra", {})], index.folder, overwrite=True)
    with pytest.raises(OtherModelError):
        service.index.search("zebra", 1)
    service.close()


def test_a_device_that_is_not_there_is_told(index):
    with pytest.raises(ModelError, match="toaster"):
        open_service(index.folder, device="toaster")


def test_an_unknown_precision_is_told_before_anything_is_loaded(index, monkeypatch):
    monkeypatch.setattr(Index, "open", None)
    with pytest.raises(ModelError, match="dtype is 'half'; choose auto, float32 or bfloat16"):
        open_service(index.folder, dtype="half")


def test_labels_need_a_model(labels, encoder):
    service = open_service(labels, model=encoder.path, name="mine")
    assert service.index is None and service.name == "mine"
    assert [tag.label for tag in service.labels.predict(["zebra"], 1)[0]] == ["zebra"]
    service.close()


def test_labels_may_remember_their_points(labels, encoder):
    service = open_service(labels, model=encoder.path, memory=True)
    assert isinstance(service.labels, LabelMemory)
    assert [tag.label for tag in service.labels.predict(["birch"], 1)[0]] == ["amber"]


def test_an_index_and_labels_share_the_model(index, labels):
    service = open_service(index.folder, labels=labels)
    assert service.labels.encoder is service.encoder is service.index.encoder
    assert service.info()["labels"] == {"labels": 2, "memory": False}
    service.close()


def test_a_file_of_labels_has_no_points_to_remember(tmp_path, encoder):
    path = tmp_path / "tags.txt"
    path.write_text("zebra\namber\n")
    assert len(open_service(path, model=encoder.path).labels.labels) == 2
    with pytest.raises(DataError, match="--memory takes training points"):
        open_service(path, model=encoder.path, memory=True)


def test_mistakes_are_told(tmp_path, index):
    with pytest.raises(ServerError, match="labels need a model"):
        open_service(tmp_path / "tags.txt")
    with pytest.raises(ServerError, match="holds no index, and labels need a model"):
        open_service(tmp_path)
    with pytest.raises(IndexFolderError, match="holds no index"):
        open_service(tmp_path, labels=tmp_path)
    with pytest.raises(ServerError, match="--memory says how to read labels"):
        open_service(index.folder, memory=True)
    with pytest.raises(IndexFolderError, match="holds no index"):
        open_service(tmp_path, labels=tmp_path, device="cpu")
