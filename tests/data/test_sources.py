"""What a path or a name opens."""

from __future__ import annotations

import os

import datasets
import pytest

from retriever.data import hub
from retriever.data.corpus import open_corpus
from retriever.data.document import Document
from retriever.errors import DataError

ROWS = {"_id": ["a", "b"], "text": ["one", "two"], "year": [1, 2]}


@pytest.fixture(autouse=True)
def no_progress_bars():
    datasets.disable_progress_bars()


@pytest.fixture
def docs_folder(tmp_path):
    files = {
        "b.md": "---\nx: y\n---\n```sh\n# a comment\n```\n\n## The title ##\n\nBody.\n",
        "a.txt": "# no heading\n",
        "sub/c.markdown": "No heading.\n",
        "sub/d.rst": "Restructured\n",
        ".git/e.md": "hidden",
        "sub/.f.md": "hidden",
        "g.py": "code",
    }
    for name, text in files.items():
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "docs"


def test_a_folder_of_files_is_a_document_a_file(docs_folder):
    corpus = open_corpus(docs_folder)
    assert corpus.name == "docs"
    assert list(corpus) == [
        Document("a.txt", "", "# no heading"),
        Document("b.md", "The title", "---\nx: y\n---\n```sh\n# a comment\n```\n\n\nBody."),
        Document("sub/c.markdown", "", "No heading."),
        Document("sub/d.rst", "", "Restructured"),
    ]


def test_the_fingerprint_of_a_folder_follows_names_and_contents(docs_folder):
    def fingerprint():
        return open_corpus(docs_folder).fingerprint()

    before = fingerprint()
    (docs_folder / "g.py").write_text("other code")
    assert fingerprint() == before
    (docs_folder / "a.txt").rename(docs_folder / "aa.txt")
    renamed = fingerprint()
    (docs_folder / "aa.txt").write_text("changed")
    assert len({before, renamed, fingerprint()}) == 3


def test_a_file_in_a_folder_that_is_not_utf8_is_named_with_its_line(docs_folder):
    (docs_folder / "sub" / "d.rst").write_bytes(b"one\ntwo\nthr\xe9e\n")
    with pytest.raises(DataError, match=rf"{docs_folder}/sub/d.rst:3 is not UTF-8 \(byte 0xe9\)"):
        list(open_corpus(docs_folder))
    corpus = open_corpus(docs_folder, skip_bad_lines=True)
    assert len(list(corpus)) == 3
    assert corpus.report.bad_lines == 1


def test_a_folder_without_text_is_refused(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"")
    with pytest.raises(DataError, match=rf"The folder {tmp_path} holds nothing to read: give one with .txt, .rst, .md"):
        open_corpus(tmp_path)


def test_a_beir_folder_is_read_from_its_corpus_file(tmp_path):
    (tmp_path / "corpus.jsonl").write_text('{"_id": "1", "title": "T", "text": "t"}\n')
    (tmp_path / "readme.md").write_text("not a document")
    corpus = open_corpus(str(tmp_path))
    assert corpus.name == tmp_path.name
    assert list(corpus) == [Document("1", "T", "t")]


@pytest.mark.parametrize("source", ["no/such/file", "./corpus", "corpus.jsonl", "data/x.csv", "/a/b", "~/nope.txt", ""])
def test_a_path_that_leads_nowhere_is_named(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if not source:
        with pytest.raises(DataError, match="holds nothing to read"):
            open_corpus(source)
        return
    with pytest.raises(DataError, match=rf"There is no file or folder {source}: check the path"):
        open_corpus(source)


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(DataError, match=r"pipe.jsonl is no regular file, and a corpus is read more than once"):
        open_corpus(tmp_path / "pipe.jsonl")


def test_an_unknown_ending_lists_the_known_ones(tmp_path):
    (tmp_path / "c.pdf").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"Cannot tell how to read .*c.pdf: .* ends in .txt, .txt.gz, .jsonl, .*.parquet"
    ):
        open_corpus(tmp_path / "c.pdf")


@pytest.mark.parametrize("name", ["no-such-data", "owner/no-such-data", "owner/no-such-data:config"])
def test_a_name_the_hub_cannot_deliver_is_said_to_be_neither(name):
    plain = name.split(":")[0]
    message = f"There is no file or folder {plain}, and it could not be loaded as a Hugging Face data set .*: check the"
    with pytest.raises(DataError, match=message):
        open_corpus(name)


def test_a_saved_dataset(tmp_path):
    datasets.Dataset.from_dict(ROWS).save_to_disk(tmp_path / "saved")
    corpus = open_corpus(tmp_path / "saved")
    expected = [Document("a", "", "one", {"year": 1}), Document("b", "", "two", {"year": 2})]
    assert list(corpus) == list(corpus) == expected
    assert corpus.fingerprint() == open_corpus(tmp_path / "saved", streaming=True).fingerprint()
    datasets.Dataset.from_dict({**ROWS, "text": ["one", "2"]}).save_to_disk(tmp_path / "other")
    assert corpus.fingerprint() != open_corpus(tmp_path / "other").fingerprint()


def test_a_saved_dataset_with_splits(tmp_path):
    one, two = (datasets.Dataset.from_dict({"text": [text]}) for text in ("one", "two"))
    datasets.DatasetDict({"train": one, "test": two}).save_to_disk(tmp_path / "saved")
    assert [d.text for d in open_corpus(tmp_path / "saved")] == ["one"]
    assert [d.text for d in open_corpus(tmp_path / "saved", split="test")] == ["two"]
    with pytest.raises(DataError, match=rf"{tmp_path}/saved has no split 'dev': choose one of test, train"):
        open_corpus(tmp_path / "saved", split="dev")


def test_a_damaged_saved_dataset(tmp_path):
    datasets.Dataset.from_dict(ROWS).save_to_disk(tmp_path / "saved")
    for path in (tmp_path / "saved").glob("*.arrow"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=rf"The data set in {tmp_path}/saved is damaged \(.*\): save it again"):
        open_corpus(tmp_path / "saved")


@pytest.mark.parametrize("streaming", [False, True])
def test_a_hub_dataset_by_name_and_configuration(streaming, monkeypatch):
    asked = []

    def load_dataset(name, config, *, split, streaming):
        asked.append((name, config, split, streaming))
        dataset = datasets.Dataset.from_dict(ROWS)
        return dataset.to_iterable_dataset() if streaming else dataset

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *_: type("Builder", (), {"hash": "h"}))
    corpus = open_corpus("owner/some-data:config", split="dev", streaming=streaming)
    assert asked == [("owner/some-data", "config", "dev", streaming)]
    assert [d.text for d in corpus] == [d.text for d in corpus] == ["one", "two"]
    assert corpus.fingerprint()
    assert corpus.name == "owner/some-data"


def test_a_stream_that_breaks_is_a_data_error():
    def rows():
        yield {"text": "one"}
        raise ConnectionError("gone\nmore")

    with pytest.raises(DataError, match=r"Reading owner/x failed after row 1 \(gone\): try again"):
        list(hub.Loaded("owner/x", rows(), "f").records(lambda _: None))
