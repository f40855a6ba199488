"""The passage of a document that answers a query best, and the words in it that the query holds.

1. The words of the query are stemmed as the index's BM25 does; words without meaning of their own are left out, unless
   there are no others. Only the first ``STEMS`` different stems are looked for: a passage has no room for more, and the
   time that a query takes is bounded.
2. The words of the texts with such a stem are found where they stand, whatever their case, in all texts together.
3. The passage is a window over the text that holds as many different stems as possible, then as many words, and stands
   as early as possible. It is cut between words.
4. It is given as pieces of plain text, of which some match: nothing is marked up, so nothing has to be escaped.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TypedDict

from retriever.data.words import UNSPACED, WordAnalyzer

LENGTH = 320  # characters of a passage
STEMS = 64  # of a query that are looked for
SEEN, TOGETHER = 20_000, 4_000_000  # characters of a text, and of all texts, that are looked at
_FUNCTION_WORDS = """
a an and are as at be but by do does for from how i if in into is it my no not of on or such that the their then there
these they this to was what when where which who why will with you
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
_UNSPACED = re.compile(f"[{UNSPACED}]")


Span = tuple[int, int, str]
"""Start and stop of a word that matches, and its stem."""


class Piece(TypedDict):
    """A run of text that matches the query, or does not."""

    text: str
    match: bool


class Passages:
    """Passages for one query.

    Args:
        query: The query.
        analyzer: How words are stemmed.
    """

    def __init__(self, query: str, analyzer: WordAnalyzer) -> None:
        self._analyzer = analyzer
        words = dict.fromkeys(analyzer.words(query))
        telling = [word for word in words if word not in FUNCTION_WORDS] or words
        self._stems = frozenset(islice(dict.fromkeys(map(analyzer.stem, telling)), STEMS))

    def of(self, texts: Sequence[str], length: int = LENGTH) -> list[list[Piece]]:
        """The best passage of each text, of about ``length`` characters."""
        return [_passage(text, spans, length) for text, spans in zip(texts, self._spans(texts), strict=True)]

    def with_titles(self, texts: Sequence[str], titles: Sequence[str]) -> list[tuple[list[Piece], list[Piece]]]:
        """The best passage of each text, and its whole title."""
        found = self._spans([*texts, *titles])
        passages = [_passage(text, next(found), LENGTH) for text in texts]
        headings = [_pieces(title, 0, len(title), next(found)) for title in titles]
        return list(zip(passages, headings, strict=True))

    def _spans(self, texts: Sequence[str]) -> Iterator[list[Span]]:
        """Where words with a stem of the query stand in each text; those of scripts without blanks may overlap."""
        seen = min(SEEN, TOGETHER // max(1, len(texts)))
        lower = [_lower(text[:seen]) for text in texts]
        joined = "\n".join(["", *lower, ""])
        matching = self._analyzer.with_stems(set(self._analyzer.words(joined)), self._stems)
        found = sorted((at, at + len(word), key) for word, key in matching for at in _places(word, joined))
        start, place = 1, 0
        for text in lower:
            first, stop = place, start + len(text)
            while place < len(found) and found[place][0] < stop:
                place += 1
            yield [(at - start, end - start, key) for at, end, key in found[first:place]]
            start = stop + 1


def _passage(text: str, spans: Sequence[Span], length: int) -> list[Piece]:
    if len(text) <= length:
        return _pieces(text, 0, len(text), spans)
    start, stop = _window(spans, len(text), length)
    return _pieces(text, *_between_words(text, start, stop), spans)


def _lower(text: str) -> str:
    """A text in lower case, character by character, so that all stay where they are."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(small if len(small := character.lower()) == 1 else character for character in text)


def _places(word: str, text: str) -> list[int]:
    """Where a word begins inside a text, as a whole word unless it is of a script without blanks."""
    places: list[int] = []
    is_part = not word.isascii() and _UNSPACED.match(word) is not None
    at = text.find(word)
    while at >= 0:
        if is_part or not (text[at - 1].isalnum() or text[at + len(word)].isalnum()):
            places.append(at)
        at = text.find(word, at + 1)
    return places


def _window(spans: Sequence[Span], end: int, length: int) -> tuple[int, int]:
    """Start and end of the best window, with some text before its first word."""
    best, first, last = (0, 0), 0, 0
    held: dict[str, int] = defaultdict(int)  # stems of the spans that a window from here holds
    beyond = 0  # the first span after them
    for number, (start, _, stem) in enumerate(spans):
        while beyond < len(spans) and spans[beyond][1] <= start + length:
            held[spans[beyond][2]] += 1
            beyond += 1
        if beyond == number:  # a word longer than the window
            beyond += 1
            continue
        worth = len(held), beyond - number
        if worth > best:
            best, first, last = worth, start, spans[beyond - 1][1]
        held[stem] -= 1
        if not held[stem]:
            del held[stem]
    if last <= length:
        return 0, min(length, end)
    spare = max(0, length - (last - first))
    start = min(first - spare // 3, max(0, end - length))
    return max(0, start), min(end, max(start + length, last))


def _between_words(text: str, start: int, stop: int) -> tuple[int, int]:
    """The window without the halves of words at its borders, where there are blanks nearby."""
    if start and (blank := text.find(" ", start, start + 30)) >= 0:
        start = blank + 1
    if stop < len(text) and (blank := text.rfind(" ", max(start, stop - 30), stop)) > start:
        stop = blank
    return start, stop


def _pieces(text: str, start: int, stop: int, spans: Sequence[Span]) -> list[Piece]:
    pieces: list[Piece] = []
    at = start
    for first, last, _ in spans:
        begin, end = max(first, at), min(last, stop)
        if begin >= end:
            continue
        if begin > at:
            pieces.append({"text": text[at:begin], "match": False})
        elif pieces and pieces[-1]["match"]:  # the pairs of a script without blanks overlap or touch
            begin -= len(pieces.pop()["text"])
        pieces.append({"text": text[begin:end], "match": True})
        at = end
    if at < stop:
        pieces.append({"text": text[at:stop], "match": False})
    if pieces and start:
        pieces.insert(0, {"text": "… ", "match": False})
    if pieces and stop < len(text):
        pieces.append({"text": " …", "match": False})
    return pieces
