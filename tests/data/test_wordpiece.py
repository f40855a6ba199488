"""A WordPiece vocabulary is the same every time and covers its corpus."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_data import SHARED, needs_shared

from retriever.data.corpus import open_corpus
from retriever.data.wordpiece import LONGEST_WORD, SPECIAL, train_wordpiece

TEXTS = ["Hugging the hug", "hugs & hugs", "a pug, 3 pugs", "Ünder the bun ▁"]


def test_pieces_come_in_the_order_special_characters_merges():
    tokenizer = train_wordpiece(["ab ab abc", "abc b"], 100)
    pieces = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    assert pieces == [*SPECIAL, "a", "b", "c", "##a", "##b", "##c", "##ab", "ab", "abc"]
    assert tokenizer.encode("abc bab ca").tokens == ["abc", "b", "##ab", "c", "##a"]


def test_frequent_words_become_one_piece_and_unseen_ones_fall_apart():
    tokenizer = train_wordpiece(TEXTS * 9, 200)
    assert tokenizer.encode("HUGS the Pug!").tokens == ["hugs", "the", "pug", "[UNK]"]
    assert tokenizer.encode("hugb").tokens == ["hug", "##b"]
    assert tokenizer.decode(tokenizer.encode("hugs the gnu").ids) == "hugs the gnu"
    assert tokenizer.encode("x" * (LONGEST_WORD + 1)).tokens == ["[UNK]"]
    assert tokenizer.encode("h" * (LONGEST_WORD + 1)).tokens == ["[UNK]"]


def test_special_tokens_are_whole_and_skipped_when_decoding():
    tokenizer = train_wordpiece(TEXTS, 200)
    assert [tokenizer.token_to_id(token) for token in SPECIAL] == [0, 1, 2, 3, 4]
    assert tokenizer.encode("[CLS] hug [SEP]").ids[0] == 2
    assert tokenizer.decode(tokenizer.encode("[CLS] hug [SEP]").ids) == "hug"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text("abcdé漢 .", max_size=20), max_size=6), st.integers(30, 60))
def test_every_character_of_the_corpus_is_covered(texts, size):
    tokenizer = train_wordpiece(texts, size)
    assert tokenizer.get_vocab_size() <= size
    for text in texts:
        encoding = tokenizer.encode(text)
        assert "[UNK]" not in encoding.tokens
        expected = "".join(text.split()).replace("é", "e")  # accents go, as in BERT's lower-cased models
        assert "".join(token.removeprefix("##") for token in encoding.tokens) == expected


@needs_shared
@pytest.mark.parametrize("size", [500, 4_000])
def test_two_runs_give_the_same_bytes(size):
    texts = [document.content for document in open_corpus(SHARED / "beir" / "cranfield")]
    one, other = (train_wordpiece(texts, size) for _ in range(2))
    assert one.to_str() == other.to_str()
    assert one.get_vocab_size() == size
    assert not any("[UNK]" in encoding.tokens for encoding in one.encode_batch(texts))
    lengths = [len(encoding.ids) for encoding in one.encode_batch(texts)]
    words = [len(text.split()) for text in texts]
    assert sum(lengths) < (2.3 if size == 500 else 1.3) * sum(words)
