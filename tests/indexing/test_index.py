"""The index folder: three ways to search it, what is refused, and who may open it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from rankings import ranked

from retriever.data.document import Document
from retriever.encoder import Encoder
from retriever.errors import DataError, IndexFolderError, OutputError
from retriever.indexing.bm25 import Bm25Index
from retriever.indexing.hybrid import fuse
from retriever.indexing.index import Hit, Index
from retriever.indexing.ranking import Background

QUERY = "heron and quill"
MODES = ["hybrid", "dense", "bm25"]


@pytest.fixture(scope="module")
def index(built):
    with Index.open(built) as index:
        yield index


@pytest.fixture(scope="module")
def exact(encoder, documents):
    """Rankings of QUERY, computed beside the index."""
    contents = [document.content for document in documents]
    vectors, query = encoder.encode(contents), encoder.encode([QUERY], "query")
    scores = query @ vectors.T  # the encoder ends with a normalisation
    background = Background(scores.mean(axis=1), scores.std(axis=1), np.ones(1))
    dense = replace(ranked(scores, 120), background=background)
    bm25 = Bm25Index.build(contents).search([QUERY], 120)
    return {"dense": dense, "bm25": bm25, "hybrid": fuse([dense, bm25], 120)}


@pytest.mark.parametrize("mode", MODES)
def test_hits_are_those_of_the_parts(index, exact, documents, mode):
    hits = index.search(QUERY, 10, mode)
    assert [hit.id for hit in hits] == [f"doc-{row}" for row in exact[mode].rows[0, :10]]
    np.testing.assert_allclose([hit.score for hit in hits], exact[mode].scores[0, :10], rtol=1e-4, atol=1e-5)
    for rank, hit in enumerate(hits, start=1):
        document = documents[int(hit.id.removeprefix("doc-"))]
        assert hit == Hit(rank, document.id, hit.score, document.title, document.text, document.metadata)
        assert (type(hit.score), type(hit.rank)) == (float, int)


def test_the_fusion_can_be_chosen(index, exact):
    expected = fuse([exact["dense"], exact["bm25"]], 10, method="rrf").rows[0]
    assert [hit.id for hit in index.search(QUERY, fusion="rrf")] == [f"doc-{row}" for row in expected]


@pytest.mark.parametrize("mode", MODES)
def test_many_queries_are_searched_like_one(index, texts, mode):
    queries = [QUERY, *texts[:20], "unheard-of"]
    many = index.search_batch(queries, 5, mode)
    for query, found in zip(queries, many, strict=True):
        alone = index.search(query, 5, mode)
        assert [hit.id for hit in found] == [hit.id for hit in alone]
        np.testing.assert_allclose([hit.score for hit in found], [hit.score for hit in alone], rtol=1e-4, atol=1e-5)
    assert many[-1] == []  # neither a vector nor a word
    assert index.search_batch([], 5, mode) == []


@pytest.mark.parametrize("mode", MODES)
def test_a_smaller_k_gives_the_head_of_the_same_hits(index, mode):
    assert index.search(QUERY, 3, mode) == index.search(QUERY, 60, mode)[:3]


@pytest.mark.parametrize("mode", ["hybrid", "dense"])
def test_k_beyond_the_corpus_gives_everything(index, mode):
    assert len(index.search(QUERY, 10_000, mode)) == len(index) == 120


def test_graphs_and_prompts_and_dot_products(encoder, documents, tmp_path):
    other = Encoder.static(encoder.text_tokenizer, dimension=16, normalise=False)
    other.prompts = {"query": "amber: "}
    with Index.build(other, documents, tmp_path / "index", factory="HNSW32") as index:
        vectors = other.encode([document.content for document in documents])
        rows = ranked(other.encode(["heron"], "query") @ vectors.T, 5).rows[0]
        assert [hit.id for hit in index.search("heron", 5, "dense")] == [f"doc-{row}" for row in rows]
        assert index.info()["similarity"] == "dot"
        assert index.info()["model"]["prompts"] == {"query": "amber: "}


def test_one_document_is_enough(encoder, tmp_path):
    with Index.build(encoder, [Document("only", text="amber heron")], tmp_path / "index") as index:
        for mode in MODES:
            assert [hit.id for hit in index.search("heron", 3, mode)] == ["only"]


def test_empty_documents_are_kept(encoder, tmp_path):
    with Index.build(encoder, [Document("a"), Document("b", text="heron")], tmp_path / "index") as index:
        assert len(index) == 2
        assert index.search("heron", 1)[0].id == "b"


@pytest.mark.parametrize("query", ["", "  \n"])
@pytest.mark.parametrize("mode", MODES)
def test_an_empty_query_is_refused(index, query, mode):
    with pytest.raises(DataError, match="The query is empty: give at least one word"):
        index.search(query, mode=mode)


def test_other_mistakes_of_a_search_are_refused(index):
    with pytest.raises(DataError, match="'sparse' is unknown: choose hybrid, dense or bm25"):
        index.search(QUERY, mode="sparse")
    with pytest.raises(DataError, match="'max' is unknown: choose fisher, zscore, minmax, tmm, product, rrf"):
        index.search(QUERY, fusion="max")
    for mode in MODES:
        with pytest.raises(DataError, match="k is 0"):
            index.search(QUERY, 0, mode)


def test_threads_share_an_index(index, texts):
    calls = [(text, mode) for text in texts[:40] for mode in MODES]
    expected = [index.search(text, 5, mode) for text, mode in calls]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda call: index.search(call[0], 5, call[1]), calls)) == expected


def test_progress_counts_every_document(encoder, documents, tmp_path):
    counts = []
    Index.build(encoder, documents, tmp_path / "index", progress=counts.append).close()
    assert sum(counts) == 120


def test_the_numbers_of_numpy_are_taken(encoder, documents, tmp_path):
    options = {"recall": 0.5, "memory": 10**9, "k1": 1.25, "b": 0.5, "segment": 100}
    wrapped = {name: np.array(value)[()] for name, value in options.items()}
    indexes = [
        Index.build(encoder, documents, tmp_path / "plain", **options),
        Index.build(encoder, documents, tmp_path / "numpy", **wrapped),
    ]
    plain, numpy = (index.search(QUERY, 10) for index in indexes)
    assert plain == numpy
    assert indexes[1].info()["bm25"] == {"k1": 1.25, "b": 0.5, "stemmer": "porter"}


def test_info_and_verify(index, encoder):
    info = json.loads(json.dumps(index.info()))
    assert info["documents"] == 120
    assert info["model"]["fingerprint"] == encoder.fingerprint
    assert info["bm25"] == {"k1": 1.5, "b": 0.75, "stemmer": "porter"}
    assert (info["dimension"], info["similarity"], info["factory"], info["generation"]) == (32, "cosine", "auto", 1)
    assert info["kinds"] == ["Flat"]
    assert info["bytes"] == sum(
        p.stat().st_size for p in index.folder.rglob("*") if p.name != "manifest.json" and p.is_file()
    )
    index.verify()


def test_the_same_corpus_gives_the_same_files(encoder, documents, tmp_path):
    hashes = []
    for name in ("a", "b"):
        with Index.build(encoder, documents, tmp_path / name) as index:
            hashes.append({name: record.sha256 for name, record in index.manifest.files.items()})
    assert hashes[0] == hashes[1]


# Refused corpora and places


def test_an_empty_corpus_leaves_nothing_behind(encoder, tmp_path):
    with pytest.raises(DataError, match="no document to index"):
        Index.build(encoder, [], tmp_path / "new" / "index")
    assert not (tmp_path / "new" / "index").exists()


def test_a_failed_build_leaves_the_old_index(folder, encoder, documents):
    before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    with pytest.raises(DataError, match="'doc-0' occurs twice"):
        Index.build(encoder, [*documents, documents[0]], folder, overwrite=True)

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Index.build(encoder, documents, folder, overwrite=True, progress=interrupt)
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == before
    with Index.open(folder) as index:
        index.verify()


def test_an_index_is_overwritten_only_on_demand(folder, encoder):
    new = [Document("new", text="amber heron")]
    with pytest.raises(OutputError, match="exists already: choose another folder or pass --overwrite"):
        Index.build(encoder, new, folder)
    old = Index.open(folder)
    with Index.build(encoder, new, folder, overwrite=True) as index:
        assert [hit.id for hit in index.search("heron")] == ["new"]
        assert index.info()["generation"] == 2
    assert sorted(path.name for path in folder.iterdir()) == ["generation-000002", "manifest.json"]
    assert [hit.id for hit in old.search("heron", 200, "dense")] == ["new"]  # who has it open sees it
    old.close()


def test_a_damaged_index_can_be_overwritten(folder, encoder, documents):
    (folder / "manifest.json").write_text("{")
    with Index.build(encoder, documents, folder, overwrite=True) as index:
        assert index.info()["generation"] == 2
    assert sorted(path.name for path in folder.iterdir()) == ["generation-000002", "manifest.json"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_folder_of_other_files_is_never_touched(tmp_path, encoder, documents, overwrite):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(OutputError, match=r"no index and holds other files \(thesis.tex\)"):
        Index.build(encoder, documents, tmp_path, overwrite=overwrite)
    with pytest.raises(OutputError, match="Cannot write the index"):
        Index.build(encoder, documents, tmp_path / "thesis.tex", overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_unknown_factory_leaves_nothing_behind(tmp_path, encoder, documents):
    with pytest.raises(IndexFolderError, match="choose Flat"):
        Index.build(encoder, documents, tmp_path / "index", factory="Sharp")
    assert not (tmp_path / "index").exists()


def test_a_second_writer_is_refused(tmp_path, encoder, documents):
    def second(_):
        with pytest.raises(OutputError, match="been writing the index"):
            Index.build(encoder, documents, tmp_path / "index", overwrite=True)

    with Index.build(encoder, documents, tmp_path / "index", progress=second) as index:
        index.verify()


def test_an_unknown_stemmer_is_refused_before_anything_is_written(encoder, documents, tmp_path):
    with pytest.raises(DataError, match=r"The stemmer 'klingon' is unknown: choose none, arabic, .*porter"):
        Index.build(encoder, documents, tmp_path / "index", stemmer="klingon")
    assert not (tmp_path / "index").exists()


def test_a_sample_below_none_is_refused(built):
    with Index.open(built) as index, pytest.raises(DataError, match="A sample of -1 documents is none: give 0 or more"):
        index.verify(-1)


@pytest.mark.parametrize("mode", MODES)
def test_a_closed_index_says_so(built, mode):
    index = Index.open(built)
    index.search(QUERY)
    index.close()
    with Index.open(built) as another:
        another.set_fusion("zscore", 0.5)
    for use in (lambda: index.search(QUERY, mode=mode), lambda: index.get("0"), lambda: len(index)):
        with pytest.raises(IndexFolderError, match=r"The index .* is closed: open it again\."):
            use()


def test_a_closed_index_is_not_changed(folder):
    index = Index.open(folder)
    index.close()
    before = (folder / "manifest.json").read_bytes()
    for change in (
        lambda: index.delete(["0"]),
        lambda: index.set_fusion("zscore", 0.5),
        lambda: index.tune(0.9),
        index.compact,
    ):
        with pytest.raises(IndexFolderError, match=r"The index .* is closed: open it again\."):
            change()
    assert (folder / "manifest.json").read_bytes() == before


def test_half_a_character_finds_nothing(folder):
    with Index.open(folder) as index:
        assert index.get("\ud800") is None
        assert index.delete(["\ud800"]) == ["\ud800"]
        with pytest.raises(DataError, match="The filter by 'number' holds half a character"):
            index.search(QUERY, filters=["number=\ud800"])


@pytest.mark.parametrize(
    ("corpus", "sentence"),
    [
        (["a text"], r"The corpus holds a str where a Document belongs: give documents, or open_corpus\(PATH\)"),
        ("notes.jsonl", "The corpus holds a str where a Document belongs"),
        ([{"id": "a", "text": "amber"}], "The corpus holds a dict where a Document belongs"),
        ([Document("a", text="amber", metadata=[1])], "The metadata of document 'a' are not JSON"),
        ([Document("a", text="amber", metadata={"n": 10**5000})], "The metadata of document 'a' are not JSON"),
    ],
)
def test_what_is_no_corpus_is_told(encoder, folder, tmp_path, corpus, sentence):
    with pytest.raises(DataError, match=sentence):
        Index.build(encoder, corpus, tmp_path / "new")
    with Index.open(folder, encoder) as index, pytest.raises(DataError, match=sentence):
        index.add(corpus)
