"""Postings against counting in plain loops, joining against building anew, saving and damage."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever.errors import IndexFolderError
from retriever.indexing.arrays import read_array
from retriever.indexing.postings import FILES, Postings, word_hash

DOCUMENTS = [["red", "fish", "red"], [], ["blue", "fish"], ["red"], ["ß", "\ud800", "fish"]]
OPEN = Path("/proc/self/fd")
documents = st.lists(st.lists(st.sampled_from("abcdefg"), max_size=8), max_size=6)


def same(left, right):
    for field in fields(Postings):
        one, other = getattr(left, field.name), getattr(right, field.name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other, err_msg=field.name)


def all_alive(postings):
    return np.ones(len(postings), bool)


def test_a_word_has_its_documents_with_counts_by_rising_row():
    postings = Postings.build(DOCUMENTS)
    assert len(postings) == 5
    assert postings.lengths.tolist() == [3, 0, 2, 1, 3]
    assert (np.diff(postings.words.astype(object)) > 0).all()
    for word in ["red", "fish", "blue", "ß", "\ud800"]:
        place = postings.find(word_hash(word))
        found = list(zip(postings.rows[place].tolist(), postings.counts[place].tolist(), strict=True))
        assert found == [(row, Counter(text)[word]) for row, text in enumerate(DOCUMENTS) if word in text]


def test_a_word_that_nothing_holds_has_no_postings():
    postings = Postings.build(DOCUMENTS)
    for hashed in (word_hash("green"), 0, 2**64 - 1):
        assert postings.rows[postings.find(hashed)].tolist() == []


@pytest.mark.parametrize("texts", [[], [[]], [[], []]])
def test_documents_without_words_have_a_length_of_zero(texts):
    postings = Postings.build(texts)
    assert postings.lengths.tolist() == [0] * len(texts)
    assert (len(postings.words), postings.starts.tolist(), len(postings.rows)) == (0, [0], 0)
    same(Postings.merge([postings], [all_alive(postings)]), postings)


def test_a_hash_is_the_same_in_every_process():
    assert word_hash("fish") == 0x5E473BCD7A1B9C70


@given(st.lists(documents, max_size=4), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_joining_equals_building_of_what_remains(groups, random):
    parts = [Postings.build(group) for group in groups]
    alive = [np.array([random.random() < 0.6 for _ in group], bool) for group in groups]
    pairs = zip(chain(*groups), chain(*alive), strict=True)
    remaining = [text for text, stays in pairs if stays]
    same(Postings.merge(parts, alive), Postings.build(remaining))


def test_nothing_joined_is_nothing():
    same(Postings.merge([], []), Postings.build([]))


def test_saved_postings_open_again(tmp_path):
    for name, texts in (("some", DOCUMENTS), ("none", [])):
        postings = Postings.build(texts)
        postings.save(tmp_path / name)
        same(Postings.open(tmp_path / name), postings)


@pytest.mark.skipif(not OPEN.is_dir(), reason="the system does not tell which files are open")
def test_small_files_are_read_and_large_ones_mapped(tmp_path, monkeypatch):
    postings = Postings.build(DOCUMENTS)
    postings.save(tmp_path / "some")
    before = sum(1 for _ in OPEN.iterdir())
    opened = Postings.open(tmp_path / "some")
    assert sum(1 for _ in OPEN.iterdir()) == before
    same(opened, postings)
    monkeypatch.setattr("retriever.indexing.arrays.SMALL", 0)
    mapped = Postings.open(tmp_path / "some")
    assert sum(1 for _ in OPEN.iterdir()) == before + len(FILES)
    same(mapped, postings)


def test_the_same_documents_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        Postings.build(iter(DOCUMENTS)).save(tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@pytest.mark.parametrize("name", [field.name for field in fields(Postings)])
@pytest.mark.parametrize(
    "damage", [lambda data: None, lambda data: b"", lambda data: data[:-4], lambda data: b"x" * 99]
)
def test_damaged_files_are_named(tmp_path, name, damage):
    folder = tmp_path / "generation-000001" / "postings"
    Postings.build(DOCUMENTS).save(folder)
    path = folder / f"{name}.npy"
    data = damage(path.read_bytes())
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(IndexFolderError, match=f"mend the index with `retriever index verify {tmp_path} --repair`"):
        Postings.open(folder)


@pytest.mark.parametrize("name", ["words", "starts"])
def test_a_damaged_header_is_told(tmp_path, name):
    Postings.build(DOCUMENTS).save(tmp_path)
    path = tmp_path / f"{name}.npy"
    content = path.read_bytes()
    told = set()
    for place in range(128):
        for bit in range(8):
            path.write_bytes(content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :])
            try:
                Postings.open(tmp_path)
            except IndexFolderError as error:
                told.add(str(error))
    assert any("are missing or damaged (not a readable array): mend the index with" in sentence for sentence in told)
    assert not any("pickle" in sentence for sentence in told)


def test_an_archive_is_no_array(tmp_path):
    np.savez(tmp_path / "many.npz", np.arange(3))
    with pytest.raises(ValueError, match="not a readable array"):
        read_array(tmp_path / "many.npz")


@pytest.mark.parametrize("name", ["words", "starts", "rows", "counts"])
def test_files_of_another_size_are_refused(tmp_path, name):
    Postings.build(DOCUMENTS).save(tmp_path)
    path = tmp_path / f"{name}.npy"
    np.save(path, np.load(path)[:-1])
    with pytest.raises(IndexFolderError, match="do not fit together"):
        Postings.open(tmp_path)
