"""What is opened to be served, from which folders."""

from __future__ import annotations

import json

import pytest

from retriever.errors import DataError, IndexFolderError, ServerError
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
    with pytest.raises(ServerError, match="A memory belongs to labels"):
        open_service(index.folder, memory=True)
