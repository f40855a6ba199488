"""A build in segments, interrupted anywhere, goes on and ends with the bytes of one that was never stopped."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from retriever.data.document import Document
from retriever.encoder import Encoder
from retriever.errors import BusyError, DataError, IndexFolderError, OutputError
from retriever.indexing.index import Index
from retriever.indexing.lock import locked
from retriever.indexing.manifest import UNFINISHED

MODES = ["hybrid", "dense", "bm25"]
KILLS = """
import json
import os
import signal
import sys
from pathlib import Path
from retriever.data.document import Document
from retriever.encoder import Encoder
from retriever.indexing.index import Index

encoder = Encoder.load(sys.argv[1])
documents = [Document(**json.loads(line)) for line in Path(sys.argv[2]).open()]
for line in sys.stdin:
    folder, last = line.split()
    child = os.fork()
    if not child:
        left = int(last)

        def die(count):
            global left
            left -= count
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

        Index.build(encoder, documents, folder, segment=50, resume=True, progress=die)
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.fixture(scope="module")
def whole(encoder, documents, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "index"
    Index.build(encoder, documents, path, segment=50).close()
    return path


def files(folder):
    return {name: record["sha256"] for name, record in read(folder)["files"].items()}


def read(folder):
    return json.loads((folder / "manifest.json").read_text())


class StoppedError(Exception):
    """What interrupts a build in these tests."""


def stopping(documents, after):
    yield from documents[:after]
    raise StoppedError


def interrupted(encoder, documents, folder, after=110, **options):
    """A build in segments of 50 that is interrupted after so many documents."""
    with pytest.raises(StoppedError):
        Index.build(encoder, stopping(documents, after), folder, segment=50, **options)
    return folder


def test_a_build_in_segments_answers_like_one_in_one_piece(encoder, documents, whole, tmp_path):
    copied = shutil.copytree(whole, tmp_path / "copied")
    with Index.build(encoder, documents, tmp_path / "index") as one, Index.open(copied, encoder) as index:
        assert [segment.documents for segment in index.manifest.segments] == [50, 50, 20]
        assert not (whole / UNFINISHED).exists()
        for mode in MODES:
            found, expected = ([hit.score for hit in each.search("heron", 20, mode)] for each in (index, one))
            np.testing.assert_allclose(found, expected, rtol=1e-4)
        index.compact()
        assert index.info()["segments"] == 1


def test_a_folder_with_an_unfinished_build_says_how_to_go_on(encoder, documents, tmp_path):
    folder = interrupted(encoder, documents, tmp_path / "index")
    with pytest.raises(IndexFolderError, match=r"holds an unfinished build and no index yet: go on with .* --resume"):
        Index.open(folder)


def test_a_build_killed_anywhere_goes_on_to_the_same_bytes(encoder, documents, whole, tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    fields = ("id", "title", "text", "metadata")
    corpus.write_text("".join(json.dumps({name: getattr(one, name) for name in fields}) + "\n" for one in documents))
    command = [sys.executable, "-c", KILLS, str(encoder.path), str(corpus)]
    places = {f"{kill}": tmp_path / f"index-{kill}" for kill in (1, 50, 51, 100, 119)}
    orders = [f"{folder} {kill}\n" for kill, folder in places.items()]
    orders += [f"{places['1']} 60\n", f"{places['1']} 30\n", f"{places['1']} 999\n"]  # killed again and again
    ended = subprocess.run(command, input="".join(orders), capture_output=True, text=True, check=True).stdout
    assert ended.split() == ["9"] * 7 + ["0"]
    for kill, folder in places.items():
        if kill != "1":
            assert not (folder / "manifest.json").exists()
            with pytest.raises(IndexFolderError, match=r"holds (an unfinished build and )?no index"):
                Index.open(folder)
            counts = []
            Index.build(encoder, documents, folder, segment=50, resume=True, progress=counts.append).close()
            assert sum(counts) == 120 - (int(kill) - 1) // 50 * 50  # nothing whole is encoded again
        assert files(folder) == files(whole)
        assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in whole.iterdir())


def test_vectors_that_are_given_must_be_the_same_again(encoder, documents, tmp_path):
    vectors = encoder.encode([document.content for document in documents])
    folder = interrupted(encoder, documents, tmp_path / "index", vectors=vectors[::-1])
    for others in (vectors, None):
        with pytest.raises(DataError, match=r"vectors are not those that the unfinished build in .* --overwrite"):
            Index.build(encoder, documents, folder, segment=50, vectors=others, resume=True)
    with Index.build(encoder, documents, folder, segment=50, vectors=vectors[::-1], resume=True) as index:
        assert len(index) == 120


def test_going_on_with_nothing_is_a_build(encoder, documents, whole, tmp_path):
    Index.build(encoder, documents, tmp_path / "index", segment=50, resume=True).close()
    assert files(tmp_path / "index") == files(whole)
    with pytest.raises(OutputError, match="exists already"):
        Index.build(encoder, documents, tmp_path / "index", segment=50, resume=True)


def test_a_build_is_resumed_or_replaced(encoder, documents, tmp_path):
    folder = interrupted(encoder, documents, tmp_path / "index")
    before = sorted(folder.rglob("*"))
    with pytest.raises(OutputError, match="--resume goes on with what is there and --overwrite replaces it: pass one"):
        Index.build(encoder, documents, folder, segment=50, resume=True, overwrite=True)
    assert sorted(folder.rglob("*")) == before


def test_an_unfinished_build_is_not_thrown_away_by_accident(encoder, documents, whole, tmp_path):
    folder = interrupted(encoder, documents, tmp_path / "index")
    with pytest.raises(
        OutputError, match=r"unfinished build with 100 documents is in .*: pass --resume .* or --overwrite"
    ):
        Index.build(encoder, documents, folder, segment=50)
    with Index.build(encoder, documents[:5], folder, overwrite=True) as index:
        assert len(index) == 5
        assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"resume": True, "k1": 1.2}, {"overwrite": True}])
def test_a_build_that_another_process_is_at_is_not_told_as_unfinished(encoder, documents, tmp_path, options):
    folder = interrupted(encoder, documents, tmp_path / "index")
    with locked(folder), pytest.raises(BusyError, match=r"^Process .* has been writing the index"):
        Index.build(encoder, documents, folder, segment=50, **options)


def test_an_old_index_answers_and_changes_meanwhile(encoder, documents, tmp_path):
    folder = tmp_path / "index"
    with Index.build(encoder, documents[:30], folder) as index:
        interrupted(encoder, documents, folder, overwrite=True)
        assert len(index) == 30
        index.add([Document("new", text="zeppelin")])
        assert [hit.id for hit in index.search("zeppelin", 1)] == ["new"]
        counts = []
        Index.build(encoder, documents, folder, segment=50, resume=True, progress=counts.append).close()
        assert (len(index), sum(counts)) == (120, 20)
        assert index.search("zeppelin", 1, "bm25") == []
        index.verify()
        assert not (folder / UNFINISHED).exists()


def test_the_generation_rises_also_where_an_old_index_changed_meanwhile(encoder, documents, tmp_path):
    folder = tmp_path / "index"
    with Index.build(encoder, documents[:30], folder) as index:
        interrupted(encoder, documents, folder, overwrite=True)
        for number in range(5):
            index.add([Document(f"new-{number}", text="zeppelin")])
        before = index.manifest.generation
        Index.build(encoder, documents, folder, segment=50, resume=True).close()
        assert index.manifest.generation > before


def test_another_model_other_options_and_another_corpus_are_refused(encoder, documents, tmp_path):
    folder = interrupted(encoder, documents, tmp_path / "index")
    other = Encoder.static(encoder.text_tokenizer, dimension=32, seed=1)
    for given, options in ((other, {"segment": 50}), (encoder, {"segment": 60}), (encoder, {"segment": 50, "k1": 1.0})):
        with pytest.raises(OutputError, match="has another model or other options: give the same ones, or pass"):
            Index.build(given, documents, folder, resume=True, **options)
    changed, last = ([*documents[:at], Document(f"doc-{at}", text="other"), *documents[at + 1 :]] for at in (70, 99))
    for corpus in (changed, last, documents[1:], documents[:80], documents[:40], []):
        with pytest.raises(DataError, match=r"corpus is not the one that the unfinished build .* or pass --overwrite"):
            Index.build(encoder, corpus, folder, segment=50, resume=True)
    with Index.build(encoder, documents, folder, segment=50, resume=True) as index:
        assert len(index) == 120


def test_an_id_that_occurs_in_two_segments_is_refused(encoder, documents, tmp_path):
    with pytest.raises(DataError, match="The id 'doc-7' occurs twice in the corpus"):
        Index.build(encoder, [*documents, documents[7]], tmp_path / "index", segment=50)


def test_a_segment_whose_files_are_gone_is_made_again(encoder, documents, whole, tmp_path):
    folder = interrupted(encoder, documents, tmp_path / "index")
    (folder / "generation-000002" / "vectors.faiss").write_bytes(b"")
    counts = []
    Index.build(encoder, documents, folder, segment=50, resume=True, progress=counts.append).close()
    assert sum(counts) == 70
    assert list(files(folder).values()) == list(files(whole).values())


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_damaged_note_is_started_anew(encoder, documents, whole, tmp_path, content):
    folder = interrupted(encoder, documents, tmp_path / "index")
    (folder / UNFINISHED).write_text(content)
    Index.build(encoder, documents, folder, segment=50, resume=True).close()
    assert list(files(folder).values()) == list(files(whole).values())


def test_vectors_that_are_given_are_cut_into_segments(encoder, documents, whole, tmp_path):
    vectors = encoder.encode([document.content for document in documents])
    with (
        Index.build(encoder, documents, tmp_path / "index", segment=50, vectors=vectors) as index,
        Index.open(whole, encoder) as expected,
    ):
        assert [hit.id for hit in index.search("heron")] == [hit.id for hit in expected.search("heron")]
    for count in (119, 90):
        with pytest.raises(DataError, match=f"There are {count} vectors for 1[02]0 documents: give those"):
            Index.build(encoder, documents, tmp_path / f"index-{count}", segment=50, vectors=vectors[:count])
    with pytest.raises(DataError, match="There are 120 vectors for 100 documents: give those"):
        Index.build(encoder, documents[:100], tmp_path / "more", segment=50, vectors=vectors)


def test_small_last_segments_need_not_fit_the_factory(encoder, documents, tmp_path):
    with Index.build(encoder, documents, tmp_path / "index", segment=110, factory="IVF4,SQ8") as index:
        assert [segment.factory for segment in index.manifest.segments] == ["IVF4,SQ8", "Flat"]
        assert len(index.search("heron", 120, "dense")) == 120


def test_a_segment_holds_a_document_at_least(encoder, documents, tmp_path):
    with pytest.raises(DataError, match="A segment of 0 documents holds none: give a size of at least 1"):
        Index.build(encoder, documents, tmp_path / "index", segment=0)
    with Index.build(encoder, documents[:3], tmp_path / "index", segment=1) as index:
        assert (len(index), index.info()["segments"]) == (3, 3)
