"""Indexes that choose their kind, are tuned when built, and tuned again."""

from __future__ import annotations

import numpy as np
import pytest

from retriever.data.document import Document
from retriever.errors import DataError, IndexFolderError
from retriever.indexing import build, changes, factory
from retriever.indexing.index import Index
from retriever.indexing.kinds import SearchSettings

CODES = "IVF8,PQ16x4fs"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Limits at which a hundred documents count as many."""
    monkeypatch.setattr(factory, "EXACT", 60 * 32)
    monkeypatch.setattr(build, "FEW", 50)


def test_a_small_corpus_stays_exact(encoder, documents, tmp_path):
    with Index.build(encoder, documents[:50], tmp_path / "index") as index:
        assert (index.manifest.factory, index.info()["kinds"], index.manifest.tuning) == ("auto", ["Flat"], None)


def test_a_large_corpus_gets_codes_and_is_tuned(encoder, documents, tmp_path):
    with Index.build(encoder, documents, tmp_path / "index", recall=0.9) as index:
        assert index.info()["kinds"] == ["PCAR16,IVF32,PQ8x4fs"]
        tuned = index.manifest.tuning
        assert tuned.target == index.manifest.recall == 0.9 and not tuned.own
        assert tuned.chosen.settings.nprobe
    with Index.build(encoder, documents, tmp_path / "small", memory=11 * 120) as index:
        assert index.info()["kinds"] == ["PCAR16,IVF32,PQ4x4fs"] and index.manifest.memory == 11 * 120
    with Index.build(encoder, documents, tmp_path / "as it is", factory=CODES, recall=None) as index:
        assert index.manifest.tuning is None and index.search("heron", mode="dense")


def test_searches_use_what_was_tuned_unless_told_otherwise(encoder, documents, texts, tmp_path):
    with Index.build(encoder, documents, tmp_path / "index", factory=CODES, recall=0.5) as index:
        record = index.manifest.segments[0]
        dense, chosen = index._view.segments[0].dense, record.tuning.chosen.settings
        queries = [text[:30] for text in texts[:30]]
        vectors = encoder.encode(queries, "query")
        everything = SearchSettings(nprobe=8, rerank=20)
        deeper = SearchSettings(rerank=20)  # among the lists that are visited anyway
        both = chosen.model_copy(update={"rerank": 20})
        for settings, spent in ((None, chosen), (SearchSettings(), chosen), (deeper, both), (everything, everything)):
            expected = dense.search(vectors, 10, parameters=spent).rows
            ids = [[f"doc-{row}" for row in rows] for rows in expected]
            found = index.search_batch(queries, 10, "dense", settings=settings)
            assert [[hit.id for hit in hits] for hits in found] == ids
        assert [hit.id for hit in index.search(queries[0], 10, "dense", settings=everything)] == ids[0]
        assert index.search(queries[0], settings=everything)  # hybrid


def test_a_setting_that_no_part_of_an_index_heeds_is_refused(encoder, documents, tmp_path):
    with Index.build(encoder, documents, tmp_path / "index", factory="Flat") as index:
        for setting, of in (("nprobe", "inverted lists"), ("ef", "graphs"), ("rerank", "codes")):
            for mode in ("dense", "hybrid"):
                with pytest.raises(DataError, match=f"has no {of}, which {setting} is for: leave it out"):
                    index.search("heron", mode=mode, settings=SearchSettings(**{setting: 3}))
        index.tune(0.9, factory=CODES)
        index.add([Document("new", text="heron")])  # a part without lists
        assert index.search("heron", settings=SearchSettings(nprobe=3, rerank=3))


def test_tuning_again_changes_settings_and_no_file(encoder, documents, texts, tmp_path):
    with Index.build(encoder, documents, tmp_path / "index", factory=CODES, recall=None) as index:
        files, before = index.manifest.files, index.manifest.generation
        tuned = index.tune(0.8, np.array(texts[:60]))  # an array of strings is a sequence of them, too
        assert tuned == index.manifest.tuning and tuned.own and tuned.queries == 30
        assert index.manifest.files == files and index.manifest.generation > before
        assert (index.manifest.recall, index.manifest.factory) == (0.8, CODES)
    with Index.open(tmp_path / "index") as index:
        assert index.manifest.tuning == tuned
        index.verify()


def test_another_kind_is_made_of_the_kept_vectors(encoder, documents, texts, tmp_path, monkeypatch):
    with Index.build(encoder, documents, tmp_path / "index", factory=CODES) as index:
        index.delete(["doc-3"])
        expected = index.search_batch(texts[:20], 5, "dense", settings=SearchSettings(nprobe=8, rerank=30))
        monkeypatch.setattr(type(encoder), "encode", None)  # nothing may be encoded
        for kind in ("HNSW16", "auto", "Flat", CODES):
            index.tune(0.9, factory=kind)
            kinds = {"auto": ["PCAR16,IVF32,PQ8x4fs"]}.get(kind, [kind])
            assert (index.manifest.factory, index.info()["kinds"], len(index)) == (kind, kinds, 119)
        index.verify()
        monkeypatch.undo()
        found = index.search_batch(texts[:20], 5, "dense", settings=SearchSettings(nprobe=8, rerank=30))
    assert [[hit.id for hit in hits] for hits in found] == [[hit.id for hit in hits] for hits in expected]


def test_another_kind_is_made_of_segments_that_are_exact_because_they_are_small(encoder, documents, tmp_path):
    with Index.build(encoder, documents, tmp_path / "index", segment=40) as index:
        assert index.info()["kinds"] == ["Flat"] and index.info()["segments"] == 3
        assert index.tune(0.9, factory=CODES) is not None
        assert index.info()["kinds"] == [CODES] and index.info()["segments"] == 1
        index.add([Document("new", text="heron")])
        index.tune(0.8, factory=CODES)
        assert index.info()["segments"] == 2  # of which the small one stays exact


def test_the_memory_is_for_the_kind_that_is_chosen(encoder, documents, tmp_path):
    with pytest.raises(DataError, match="The memory is what the factory auto chooses by, and has no effect on Flat"):
        Index.build(encoder, documents, tmp_path / "index", factory="Flat", memory=1000)
    with Index.build(encoder, documents, tmp_path / "index", factory=CODES) as index:
        with pytest.raises(
            DataError, match=f"The memory is what the factory auto chooses by, and the index is of {CODES}"
        ):
            index.tune(0.9, memory=100_000)
        assert index.tune(0.9, factory="auto", memory=11 * 120) is not None


def test_less_memory_makes_smaller_codes(encoder, documents, tmp_path):
    with Index.build(encoder, documents, tmp_path / "index") as index:
        index.tune(0.9, memory=11 * 120)
        assert (index.info()["kinds"], index.manifest.memory) == (["PCAR16,IVF32,PQ4x4fs"], 11 * 120)
        with pytest.raises(IndexFolderError, match="give it more memory"):
            index.tune(0.9, memory=100)
        assert index.info()["kinds"] == ["PCAR16,IVF32,PQ4x4fs"]
    with Index.build(encoder, documents, tmp_path / "segments", memory=14 * 60, segment=60) as index:
        index.tune(0.8)
        assert (index.manifest.recall, index.info()["segments"]) == (0.8, 2)
    with Index.build(encoder, documents[:40], tmp_path / "small") as index:
        with pytest.raises(IndexFolderError, match="give it more memory"):
            index.tune(0.9, memory=1)
        assert index.manifest.memory is None


def test_additions_and_compaction_choose_again_by_size(encoder, documents, tmp_path):
    more = [Document(f"more-{number}", text=f"amber heron {number % 7}") for number in range(70)]
    with Index.build(encoder, documents[:40], tmp_path / "index", recall=0.8) as index:
        assert index.info()["kinds"] == ["Flat"]
        index.add(more)
        index.compact()
        assert index.info()["kinds"] == ["PCAR16,IVF32,PQ8x4fs"]
        assert index.manifest.tuning.target == 0.8
        index.delete([document.id for document in more])
        index.compact()
        assert (index.info()["kinds"], index.manifest.tuning) == (["Flat"], None)


def test_an_addition_that_is_not_joined_gets_its_kind_at_once(encoder, documents, tmp_path, monkeypatch):
    monkeypatch.setattr(changes, "RATIO", 1)
    with Index.build(encoder, documents[:70], tmp_path / "index", factory=CODES, recall=0.8) as index:
        index.add(documents[70:120])
        assert [segment.factory for segment in index.manifest.segments] == [CODES, CODES]
        assert all(segment.tuning.target == 0.8 for segment in index.manifest.segments)


def test_an_exact_index_has_nothing_to_tune(encoder, documents, tmp_path):
    with Index.build(encoder, documents[:30], tmp_path / "index") as index:
        assert index.tune(0.9) is None
        assert index.manifest.recall == 0.9  # for the day it grows


def test_mistakes_leave_the_index_as_it_was(encoder, documents, tmp_path):
    with pytest.raises(DataError, match="A recall of 95 cannot be aimed at"):
        Index.build(encoder, documents, tmp_path / "index", recall=95)
    assert not (tmp_path / "index").exists()
    with Index.build(encoder, documents, tmp_path / "index") as index:
        before = index.manifest
        for error, sentence, options in [
            (DataError, "cannot be aimed at", {"recall": 0}),
            (DataError, "Tuning takes 20 or more queries .* not 2", {"recall": 0.9, "queries": ["heron", "amber"]}),
            (DataError, "not 0", {"recall": 0.9, "queries": ["unheard-of"] * 30, "factory": "Flat"}),
            (IndexFolderError, "choose Flat", {"recall": 0.9, "factory": "Sharp"}),
        ]:
            with pytest.raises(error, match=sentence):
                index.tune(**options)
        assert index.manifest == before
