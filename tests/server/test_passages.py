"""Passages: the right words match, the window is the best one, and nothing of the text is lost or added."""

from __future__ import annotations

import random
from itertools import product

import pytest

from retriever.data.words import WordAnalyzer
from retriever.server import passages
from retriever.server.passages import STEMS, Passages, _window

PORTER = WordAnalyzer("porter")


def of(query, text, length=320, analyzer=PORTER):
    (pieces,) = Passages(query, analyzer).of([text], length)
    return pieces


def matches(pieces):
    return [piece["text"] for piece in pieces if piece["match"]]


def joined(pieces):
    return "".join(piece["text"] for piece in pieces)


@pytest.mark.parametrize(
    ("query", "text", "expected"),
    [
        ("resetting devices", "Reset the DEVICE, then resets.", ["Reset", "DEVICE", "resets"]),
        ("the reset", "The reset of the thing", ["reset"]),
        ("the", "The reset of the thing", ["The", "the"]),
        ("cat", "concatenate cat_name scat", ["cat"]),
        ("c++ (a)", "In C++ (a) language", ["C"]),
        ("straße", "Die STRASSE und die Straße", ["Straße"]),
        ("東京都", "私は東京都に住む", ["東京都"]),
        ("nothing", "is here", []),
        ("", "is here", []),
        ("<b>", "a <b> c", ["b"]),
    ],
)
def test_words_with_a_stem_of_the_query_match(query, text, expected):
    pieces = of(query, text)
    assert matches(pieces) == expected
    assert joined(pieces) == text


def test_the_window_holds_as_many_different_words_as_possible():
    text = "heron " * 30 + "x " * 300 + "heron amber birch " + "y " * 300
    pieces = of("heron amber birch", text, 60)
    assert matches(pieces) == ["heron", "amber", "birch"]
    assert pieces[0]["text"].startswith("… ") and pieces[-1]["text"].endswith(" …")
    assert len(joined(pieces)) < 80


def test_equal_windows_stand_as_early_as_possible_and_the_start_is_preferred():
    text = "x " * 50 + "heron " + "y " * 500 + "heron"
    assert joined(of("heron", text, 120)).strip("… ") == text[:120].strip()
    assert joined(of("absent", text, 40)) == text[:39].rstrip() + " …"


def test_a_window_at_the_end_is_as_long_as_any_other():
    text = "word " * 200 + "heron"
    pieces = of("heron", text, 100)
    assert matches(pieces) == ["heron"] and 80 <= len(joined(pieces)) <= 110


def test_words_at_the_borders_are_whole():
    text = "abcdefghij " * 100
    for length in range(40, 60):
        words = joined(of("zebra", text, length)).replace("…", " ").split()
        assert set(words) == {"abcdefghij"}


def test_the_pieces_of_a_long_hostile_text_are_made_quickly_and_whole():
    text = "heron " * 200_000
    pieces = of("heron", text)
    assert len(joined(pieces)) < 400 and matches(pieces)[0] == "heron"


NAMES = ["".join(letters) for letters in product("bcdfg", "aou", "klmnp", "aou", "t")]  # each is its own stem


def test_only_the_first_words_of_a_long_query_are_looked_for():
    text = " ".join(reversed(NAMES))
    found = matches(of(" ".join(["the", NAMES[0], *NAMES]), text, len(text)))
    assert len(NAMES) > STEMS and found == NAMES[:STEMS][::-1]
    plural = " ".join(f"{name}s {name}" for name in NAMES)
    assert matches(of(plural, text, len(text))) == found


def test_a_query_of_any_length_scans_the_texts_a_bounded_number_of_times(monkeypatch):
    find, scanned = passages._places, []
    monkeypatch.setattr(passages, "_places", lambda word, text: scanned.append(word) or find(word, text))
    Passages(" ".join(NAMES), PORTER).of([" ".join(NAMES)] * 3)
    assert sorted(scanned) == sorted(NAMES[:STEMS])


def test_of_many_long_texts_only_the_beginnings_are_looked_at(monkeypatch):
    monkeypatch.setattr(passages, "TOGETHER", 4_000)
    text = "word " * 300 + "heron"
    assert matches(of("heron", text)) == ["heron"]
    assert [matches(pieces) for pieces in Passages("heron", PORTER).of([text] * 4)] == [[]] * 4


def test_a_title_is_given_whole():
    title = "How to <i>reset</i> it " * 30
    passages = Passages("reset", PORTER)
    ((passage, heading),) = passages.with_titles([title], [title])
    assert joined(heading) == title and matches(heading) == ["reset"] * 30
    assert passage == of("reset", title)
    assert passages.with_titles([""], [""]) == [([], [])] and passages.with_titles([], []) == []


def test_without_stems_words_match_as_they_are():
    assert matches(of("resets", "reset resets", analyzer=WordAnalyzer("none"))) == ["resets"]


@pytest.mark.parametrize("seed", range(20))
def test_no_window_holds_more_than_the_one_chosen(seed):
    rng = random.Random(seed)
    places = sorted(rng.sample(range(0, 600, 7), 25))
    spans = [(at, at + rng.randint(3, 6), rng.choice("abcd")) for at in places]
    length = rng.choice([4, 10, 40, 100, 300])

    def worth(start, stop):
        inside = [stem for first, last, stem in spans if start <= first and last <= stop]
        return len(set(inside)), len(inside)

    start, stop = _window(spans, 620, length)
    best = max(worth(at, at + length) for at in range(620))
    assert worth(start, stop) >= best


@pytest.mark.parametrize("seed", range(10))
def test_texts_together_have_the_passages_of_each_alone(seed):
    rng = random.Random(seed)
    words = ["reset", "Devices", "東京都", "straße", "STRASSE", "İstanbul", "x_reset", "\n", "...", "the", ""]
    texts = [" ".join(rng.choices(words, k=rng.randint(0, 90))) for _ in range(12)]
    query = "resetting a device 東京 strasse istanbul"
    together = Passages(query, PORTER).of(texts, 120)
    assert together == [of(query, text, 120) for text in texts]
    assert all(joined(pieces) == text for pieces, text in zip(together, texts, strict=True) if len(text) <= 120)
