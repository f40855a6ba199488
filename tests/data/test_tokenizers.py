"""Tokenizers: the word vocabulary against counting by hand, sub-words against the library they wrap."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_data import SHARED, needs_shared

from retriever.data import tokenizers
from retriever.data.corpus import open_corpus
from retriever.data.tokenizers import SubwordTokenizer, WordTokenizer, load_words, save_words
from retriever.data.words import WordAnalyzer, split_words
from retriever.errors import DataError

TEXTS = ["The cat sat.", "Cats sit on the mat", "A dog, a cat & a mat!", "dogs"]


def rows(ragged):
    return [ragged[i].tolist() for i in range(len(ragged))]


def test_the_vocabulary_is_the_stems_of_two_documents_by_frequency():
    tokenizer = WordTokenizer.train(TEXTS)
    assert tokenizer.stems == ["cat", "dog", "mat", "the"]  # cat in 3 documents, the others in 2, ties by name
    assert tokenizer.counts.tolist() == [0, 3, 2, 2, 2]
    assert (tokenizer.size, tokenizer.documents) == (5, 4)
    assert rows(tokenizer.encode([*TEXTS, "", "unseen catting"])) == [[4, 1], [1, 4, 3], [2, 1, 3], [2], [], [1]]


@settings(max_examples=60)
@given(st.lists(st.text("abcs ", max_size=12), min_size=1, max_size=8), st.integers(1, 3), st.text("abcs ", max_size=9))
def test_training_and_encoding_against_plain_loops(texts, least, unseen):
    analyzer = WordAnalyzer()
    counts = Counter(stem for text in texts for stem in set(analyzer(text)))
    least_used = 1 if len(texts) < 2 * least else least
    stems = sorted((s for s in counts if counts[s] >= least_used), key=lambda s: (-counts[s], s))
    if not stems:
        with pytest.raises(DataError, match="No words to train a tokenizer on"):
            WordTokenizer.train(texts, min_documents=least)
        return
    tokenizer = WordTokenizer.train(texts, min_documents=least)
    assert tokenizer.stems == stems
    assert tokenizer.counts.tolist() == [0, *(counts[s] for s in stems)]
    ids = {stem: i for i, stem in enumerate(stems, 1)}
    texts = [*texts, unseen]
    assert rows(tokenizer.encode(texts)) == [[ids[s] for s in analyzer(text) if s in ids] for text in texts]


def test_the_size_limit_keeps_the_most_frequent():
    tokenizer = WordTokenizer.train(TEXTS, max_size=3)
    assert tokenizer.stems == ["cat", "dog"]


def test_word_tokenizers_survive_a_file(tmp_path):
    tokenizer = WordTokenizer.train([*TEXTS, "größer Größe"], min_documents=1, stemmer="german")
    save_words(tokenizer, tmp_path / "words.json")
    loaded = load_words(tmp_path / "words.json")
    assert json.dumps(loaded.to_json()) == json.dumps(tokenizer.to_json())
    assert loaded.fingerprint == tokenizer.fingerprint
    assert rows(loaded.encode(["Die größten Katzen, cats"])) == rows(tokenizer.encode(["Die größten Katzen, cats"]))


def test_fingerprints_tell_vocabularies_and_stemmers_apart():
    one = WordTokenizer.train(TEXTS)
    assert one.fingerprint == WordTokenizer.train(TEXTS).fingerprint
    others = [WordTokenizer.train(TEXTS, max_size=3), WordTokenizer.train(TEXTS, stemmer="english")]
    assert len({tokenizer.fingerprint for tokenizer in [one, *others]}) == 3
    assert SubwordTokenizer.train(TEXTS).fingerprint == SubwordTokenizer.train(TEXTS).fingerprint
    assert SubwordTokenizer.train(TEXTS).fingerprint != SubwordTokenizer.train(TEXTS[:2]).fingerprint


def test_unseen_forms_do_not_fill_the_memory(monkeypatch):
    tokenizer = WordTokenizer.train(TEXTS)
    monkeypatch.setattr(tokenizers, "MEMO_LIMIT", 10)
    tokenizer.encode([" ".join(f"x{i}" for i in range(100))])
    assert len(tokenizer._rows) <= 10 + len(tokenizer.surfaces)
    assert rows(tokenizer.encode(["cats dogs"])) == [[1, 2]]


@given(st.lists(st.text("aAbBcC éÉßµ١２½_-.\u0301\u0915\u093f", max_size=12), min_size=1, max_size=5))
def test_the_exported_tokenizer_gives_the_same_rows_for_forms_of_the_corpus(texts):
    if not any(split_words(text) for text in texts):
        return
    tokenizer = WordTokenizer.train(texts, min_documents=1)
    exported, row_of = tokenizer.to_tokenizers()
    for text in texts:
        assert row_of[exported.encode(text).ids].tolist() == tokenizer.encode([text])[0].tolist()


def test_the_exported_tokenizer_splits_words_where_python_does():
    characters = [c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) not in ("Cn", "Cs")]
    exported, _ = WordTokenizer.train(["a"], min_documents=1).to_tokenizers()
    differ = [c for c in characters if bool(split_words(c)) != bool(exported.pre_tokenizer.pre_tokenize_str(c))]
    assert differ == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("東京都庁 ab1東京", ["東京", "都庁", "ab1", "東京"]),
        ("ที่นี่x東", ["ที", "่น", "ี่", "x", "東"]),
        ("東京都", ["東京", "[UNK]"]),
    ],
)
def test_the_exported_tokenizer_finds_every_second_pair_of_characters(text, found):
    exported, _ = WordTokenizer.train([text], min_documents=1).to_tokenizers()
    assert exported.encode(text).tokens == found


@needs_shared
def test_the_exported_tokenizer_gives_the_same_rows_on_a_real_corpus():
    texts = [document.content for document in open_corpus(SHARED / "beir" / "cranfield")]
    tokenizer = WordTokenizer.train(texts, min_documents=1)
    exported, row_of = tokenizer.to_tokenizers()
    ours = tokenizer.encode(texts)
    for row, encoding in enumerate(exported.encode_batch(texts)):
        np.testing.assert_array_equal(row_of[encoding.ids], ours[row])


def test_subwords_are_what_the_library_gives():
    tokenizer = SubwordTokenizer.train(TEXTS * 5, size=60)
    assert tokenizer.size == tokenizer.tokenizer.get_vocab_size() <= 60
    assert tokenizer.tokenizer.token_to_id("[PAD]") == 0
    expected = [tokenizer.tokenizer.encode(text, add_special_tokens=False).ids for text in [*TEXTS, ""]]
    assert rows(tokenizer.encode([*TEXTS, ""])) == expected
    assert tokenizer.tokenizer.decode(tokenizer.encode(["The cats"])[0]) == "the cats"


def test_ids_can_be_read():
    words = WordTokenizer.train(TEXTS, min_documents=1)
    assert words.decode(words.encode(["The cats, the CATS!"])[0]) == "the cat the cat"
    assert words.decode(words.encode([""])[0]) == ""
    subwords = SubwordTokenizer.train(TEXTS * 5, size=60)
    assert subwords.mask is not None
    assert subwords.decode(np.array([*subwords.encode(["The cats"])[0], subwords.mask], np.int32)) == "the cats [MASK]"


@pytest.mark.parametrize(("name", "mask"), [("[MASK]", 3), ("<mask>", 3), ("<|mask|>", 3), ("<pad>", None)])
def test_the_mask_token_is_found_whatever_its_name(name, mask):
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "mask": 1}, unk_token="a"))
    tokenizer.add_special_tokens(["<s>", name])
    assert SubwordTokenizer(tokenizer).mask == mask


def test_subwords_are_never_truncated_and_the_original_is_left_alone():
    original = SubwordTokenizer.train(TEXTS * 5, size=60).tokenizer
    original.enable_truncation(2)
    original.enable_padding(length=4)
    assert len(SubwordTokenizer(original).encode(["cat " * 100])[0]) == 100
    assert original.truncation["max_length"] == 2 and original.padding["length"] == 4


def test_lower_casing_is_done_first_if_asked():
    tokenizer = SubwordTokenizer.train(TEXTS * 5, size=60).tokenizer
    tokenizer.normalizer = tokenizers.normalizers.NFC()
    plain, lowered = SubwordTokenizer(tokenizer), SubwordTokenizer(tokenizer, lowercase=True)
    assert rows(lowered.encode(["CAT"])) == rows(plain.encode(["cat"])) != rows(plain.encode(["CAT"]))
    assert plain.fingerprint != lowered.fingerprint
