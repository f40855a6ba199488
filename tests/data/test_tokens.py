"""The token store: what it holds is what the tokenizer gives, however it was made."""

from __future__ import annotations

import multiprocessing
import os
import time

import numpy as np
import pytest
from shared_data import SHARED, needs_shared

from retriever.data import tokens
from retriever.data.beir import load_beir
from retriever.data.cache import cache_dir
from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.data.parts import PartKind
from retriever.data.tokenizers import SubwordTokenizer, WordTokenizer
from retriever.data.tokens import TokenStore, tokenise
from retriever.errors import DataError, OutputError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RETRIEVER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def corpus():
    documents = [Document(f"{i}", f"title {i % 7}" * (i % 3 > 0), f"word{i % 5} " * (i % 4)) for i in range(50)]
    return Corpus.of(documents)


@pytest.fixture
def tokenizer(corpus):
    return WordTokenizer.train(document.content for document in corpus)


class Counting(Corpus):
    """Counts the passes over it."""

    passes = 0

    def __iter__(self):
        self.passes += 1
        return super().__iter__()


def check(store, corpus, tokenizer):
    documents = list(corpus)
    assert len(store) == len(documents)
    for row, document in enumerate(documents):
        expected = tokenizer.encode([document.content])[0]
        np.testing.assert_array_equal(store[row], expected)
        title = tokenizer.encode([document.title])[0]
        first = store.parts[row]
        if len(title):
            assert store.kinds[first] == PartKind.TITLE
            np.testing.assert_array_equal(store.ids[store.bounds[first] : store.bounds[first + 1]], title)
        else:
            assert PartKind.TITLE not in store.kinds[first : store.parts[row + 1]]
    np.testing.assert_array_equal(store.lengths, [len(store[row]) for row in range(len(store))])
    check_parts(store)


def check_parts(store):
    """Parts cover the documents without gaps, and each holds a token."""
    assert len(store.parts) == len(store) + 1 and len(store.bounds) == len(store.kinds) + 1
    np.testing.assert_array_equal(store.bounds[store.parts], store.offsets)
    assert (np.diff(store.bounds) > 0).all() and store.bounds[0] == 0


def part_texts(store, tokenizer, row):
    """Kind and tokens of each part of a document, readable."""
    span = range(store.parts[row], store.parts[row + 1])
    texts = (tokenizer.decode(store.ids[store.bounds[p] : store.bounds[p + 1]]) for p in span)
    return [(PartKind(store.kinds[p]).name, text) for p, text in zip(span, texts, strict=True)]


def test_every_document_keeps_its_boundaries(corpus, tokenizer):
    check(tokenise(corpus, tokenizer), corpus, tokenizer)


def test_arrays_are_mapped_and_typed(corpus, tokenizer):
    store = tokenise(corpus, tokenizer)
    arrays = {"ids": np.int32, "offsets": np.int64, "parts": np.int64, "bounds": np.int64, "kinds": np.uint8}
    for name, dtype in arrays.items():
        assert isinstance(getattr(store, name), np.memmap)
        assert getattr(store, name).dtype == dtype
        assert not getattr(store, name).flags.writeable


def test_chunks_do_not_show(corpus, tokenizer, monkeypatch):
    whole = tokenise(corpus, tokenizer)
    for chunk, processes in ((7, 1), (7, 2), (50, 2), (1, 2)):
        monkeypatch.setattr(tokens, "CHUNK", chunk)
        monkeypatch.setenv("RETRIEVER_CACHE", str(cache_dir() / "next"))
        finished = []
        store = tokenise(corpus, tokenizer, processes=processes, progress=finished.append)
        for name in ("ids", "offsets", "parts", "bounds", "kinds"):
            np.testing.assert_array_equal(getattr(store, name), getattr(whole, name))
        assert sum(finished) == 50 and max(finished) == chunk


def test_the_second_call_finds_the_cache_and_reads_nothing(tokenizer):
    corpus = Counting.of([Document("1", text="word1 word2")])
    first = tokenise(corpus, tokenizer)
    finished = []
    second = tokenise(corpus, tokenizer, progress=finished.append)
    assert corpus.passes == 1 and finished == [1]
    np.testing.assert_array_equal(first.ids, second.ids)
    assert first.fingerprint == second.fingerprint


def test_what_was_not_used_for_long_leaves_the_cache(corpus, tokenizer):
    used, unused, other = (Corpus.of([Document("1", text=f"word{number}")]) for number in (1, 2, 3))
    folders = [cache_dir() / "tokens" / tokenise(part, tokenizer).fingerprint for part in (used, unused)]
    killed = cache_dir() / "tokens" / ".some.tmp1"
    killed.mkdir()
    for folder in (*folders, killed):
        os.utime(folder, (0, time.time() - 100 * 86_400))
    tokenise(used, tokenizer)
    assert all(folder.exists() for folder in folders), "a store that is found drops nothing"
    tokenise(other, tokenizer)
    assert folders[0].exists() and not folders[1].exists() and not killed.exists()


def test_the_cache_tells_corpora_and_tokenizers_apart(corpus, tokenizer):
    other_corpus = Corpus.of(list(corpus)[:-1])
    other_tokenizer = WordTokenizer.train((document.content for document in corpus), max_size=5)
    stores = [tokenise(corpus, tokenizer), tokenise(other_corpus, tokenizer), tokenise(corpus, other_tokenizer)]
    assert len({store.fingerprint for store in stores}) == 3
    check(stores[1], other_corpus, tokenizer)
    check(stores[2], corpus, other_tokenizer)


def test_spans(corpus, tokenizer):
    store = tokenise(corpus, tokenizer)
    rows = np.flatnonzero(store.lengths >= 3)
    found = store.spans(rows, np.ones(len(rows), np.int64), np.full(len(rows), 2))
    for span, row in enumerate(rows):
        np.testing.assert_array_equal(found[span], store[row][1:3])


def test_a_failure_leaves_no_store(tokenizer):
    class Broken(Corpus):
        def __iter__(self):
            yield Document("1", text="word1")
            raise DataError("mangled")

    with pytest.raises(DataError, match="mangled"):
        tokenise(Broken.of([]), tokenizer)
    assert list((cache_dir() / "tokens").iterdir()) == []


def test_a_corpus_without_a_known_word_is_refused(tokenizer):
    corpus = Corpus.of([Document("1", text="unknown"), Document("2")], name="strange")
    for _ in range(2):
        with pytest.raises(DataError, match="The corpus strange holds no words the tokenizer knows"):
            tokenise(corpus, tokenizer)


def test_a_cache_that_cannot_be_written(corpus, tokenizer, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RETRIEVER_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="Cannot write"):
        tokenise(corpus, tokenizer)


def test_subwords_of_several_processes(corpus, monkeypatch):
    tokenizer = SubwordTokenizer.train([document.content for document in corpus], size=100)
    monkeypatch.setattr(tokens, "CHUNK", 7)
    check(tokenise(corpus, tokenizer, processes=2), corpus, tokenizer)


def read_once(documents):
    tokenizer = WordTokenizer.train(document.content for document in documents)
    return tokenise(Corpus.of(documents), tokenizer).ids.tolist()


def test_a_worker_of_somebody_s_pool_reads_alone(corpus, tokenizer, monkeypatch):
    monkeypatch.setattr(tokens, "CHUNK", 7)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(read_once, (list(corpus),)) == tokenise(corpus, tokenizer).ids.tolist()


def test_the_cache_folder(monkeypatch, tmp_path):
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("RETRIEVER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "retriever"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "retriever"


PAGE = "# Use it\n\nFirst this. Then that.\n\nSee also\n--------\nmore words here"


@pytest.mark.parametrize("processes", [1, 2])
def test_parts_of_documents(monkeypatch, processes):
    corpus = Corpus.of(
        [Document("1", "the tool", PAGE), Document("2"), Document("3", text="first this."), Document("4", "tool")]
    )
    tokenizer = WordTokenizer.train([document.content for document in corpus], min_documents=1, stemmer="none")
    monkeypatch.setattr(tokens, "CHUNK", 1)
    store = tokenise(corpus, tokenizer, processes=processes)
    assert part_texts(store, tokenizer, 0) == [
        ("TITLE", "the tool"),
        ("HEADING", "use it"),
        ("SENTENCE", "first this"),
        ("TEXT", "then that"),
        ("HEADING", "see also"),
        ("TEXT", "more words here"),
    ]
    assert [part_texts(store, tokenizer, row) for row in (1, 2, 3)] == [
        [],
        [("SENTENCE", "first this")],
        [("TITLE", "tool")],
    ]
    check_parts(store)


def test_marks_of_headings_are_parts_where_they_are_tokens():
    corpus = Corpus.of([Document("1", text=PAGE)])
    tokenizer = SubwordTokenizer.train([PAGE.replace("#", "# # #")], size=100)
    store = tokenise(corpus, tokenizer)
    assert part_texts(store, tokenizer, 0) == [
        ("MARKUP", "#"),
        ("HEADING", "use it"),
        ("SENTENCE", "first this."),
        ("TEXT", "then that."),
        ("HEADING", "see also"),
        ("MARKUP", "- - - - - - - -"),
        ("TEXT", "more words here"),
    ]
    np.testing.assert_array_equal(store[0], tokenizer.encode([PAGE])[0])


def test_headings_without_a_known_word_still_part_the_text():
    corpus = Corpus.of([Document("1", text="one two\n# unknown\nthree")])
    tokenizer = WordTokenizer.train(["one two three"], stemmer="none")
    assert part_texts(tokenise(corpus, tokenizer), tokenizer, 0) == [("SENTENCE", "one two"), ("TEXT", "three")]


def test_headings_that_stand_everywhere_are_labels():
    pages = [f"# Use\ntext {i}\n# Page {i // 3}\nmore\n# Twice {i // 2}\nlast" for i in range(2000)]
    corpus = Corpus.of([Document(str(i), text=page) for i, page in enumerate(pages)])
    tokenizer = WordTokenizer.train(pages, min_documents=1)
    store = tokenise(corpus, tokenizer, processes=1)
    assert [kind for kind, _ in part_texts(store, tokenizer, 0)] == [
        *("LABEL", "SENTENCE"),  # 2,000 times, and more often than once in a thousand documents
        *("LABEL", "TEXT"),  # 3 times
        *("HEADING", "TEXT"),  # 2 times
    ]
    small = tokenise(Corpus.of(list(corpus)[:3]), tokenizer, processes=1)
    assert [kind for kind, _ in part_texts(small, tokenizer, 2)][4] == "HEADING"  # once, as any corpus allows
    assert [kind for kind, _ in part_texts(small, tokenizer, 1)][4] == "LABEL"  # twice, in three documents


@needs_shared
def test_a_real_corpus_with_empty_documents():
    corpus = load_beir(SHARED / "beir" / "cranfield").corpus
    tokenizer = WordTokenizer.train(document.content for document in corpus)
    store = tokenise(corpus, tokenizer)
    check(store, corpus, tokenizer)
    empty = [document.id for row, document in enumerate(corpus) if store.lengths[row] == 0]
    assert empty == ["471", "995"]
    assert isinstance(store, TokenStore)
