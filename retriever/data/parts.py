"""The parts of a document: title, headings, first sentence, text.

A document's content is cut into consecutive pieces, each of one kind; joined, they are the content again.

1. The title comes first, and once more where the text repeats it at its start, as a heading or not.
2. Headings are Markdown's ``# …`` lines outside code blocks, and single lines underlined with ``----`` or the like
   (Setext, reStructuredText), perhaps overlined too. The marks themselves, and blanks alone, are markup.
3. The first sentence is that of the first text which is neither title nor heading.
4. Everything else is text, one part between two headings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import IntEnum

from retriever.data.document import Document
from retriever.data.sentences import sentence_end
from retriever.data.words import WORD

LONGEST_HEADING = 200  # characters; a longer line is a paragraph

FENCE = r"(?P<fence>`{3,})"
HASHES = r"#{1,6}[ \t]+(?P<marked>\S[^\n]*)"
UNDERLINE = r"(?P<rule>([-=~^*+#])\4{2,})[ \t\r]*$"
MARKS = re.compile(rf"\n(?=[ `#=~^*+-]) {{0,3}}(?:{FENCE}|{HASHES}|{UNDERLINE})", re.MULTILINE)
RULE = re.compile(r"([-=~^*+#])\1{2,}")
CLOSING = re.compile(r"(?:[ \t]+#+)?[ \t\r]*\Z")
AFTER_TITLE = re.compile(r"[ \t.:;,!?–—-]*")


class PartKind(IntEnum):
    """What a part is to its document."""

    TEXT = 0
    TITLE = 1
    HEADING = 2
    SENTENCE = 3  # the first one
    MARKUP = 4  # of headings, and what stands between a title and its repetition
    LABEL = 5  # a heading that many documents share, such as "Parameters"; only a whole corpus tells


class Parts:
    """The parts of one or more documents, end to end.

    Attributes:
        kinds: The kind of each part.
        texts: Its text, never empty; those of a document, joined, are its content.
    """

    __slots__ = ("kinds", "texts")

    def __init__(self) -> None:
        self.kinds: list[PartKind] = []
        self.texts: list[str] = []

    def __len__(self) -> int:
        return len(self.kinds)

    def append(self, kind: PartKind, text: str) -> None:
        """Add a part, unless it is empty."""
        if text:
            self.kinds.append(kind)
            self.texts.append(text)

    def split(self, document: Document) -> None:
        """Add the parts of a document."""
        text = self._take_title(document.title, document.text)
        begun, done = False, 0
        for start, begin, end, stop in _headings(text):
            begun = self._take_text(text[done:start], begun)
            self.append(PartKind.MARKUP, text[start:begin])
            heading = text[begin:end]
            title = not begun and _plain(heading) == _plain(document.title)
            self.append(PartKind.TITLE if title else PartKind.HEADING, heading)
            self.append(PartKind.MARKUP, text[end:stop])
            done = stop
        self._take_text(text[done:], begun)

    def _take_title(self, title: str, text: str) -> str:
        """Add the title; returns what is left of the content."""
        if not title:
            return text
        self.append(PartKind.TITLE, title)
        if not text.startswith(title) or WORD.match(text, len(title)):
            return f" {text}"
        self.append(PartKind.MARKUP, " ")
        self.append(PartKind.TITLE, title)
        after = AFTER_TITLE.match(text, len(title))
        end = after.end() if after else len(title)
        self.append(PartKind.MARKUP, text[len(title) : end])
        return text[end:]

    def _take_text(self, text: str, begun: bool) -> bool:
        """Add what stands between two headings; returns whether the document's text has begun by now."""
        if not text or text.isspace():
            self.append(PartKind.MARKUP, text)
            return begun
        if not begun:
            end = sentence_end(text)
            self.append(PartKind.SENTENCE, text[:end])
            text = text[end:]
        self.append(PartKind.MARKUP if text.isspace() else PartKind.TEXT, text)
        return True


def _plain(line: str) -> str:
    return " ".join(line.split()).casefold()


def _headings(text: str) -> Iterator[tuple[int, int, int, int]]:
    """Where each heading's marks start, the heading begins and ends, and its marks stop."""
    fence, done = "", 0
    for match in MARKS.finditer(f"\n{text}"):  # a line feed is quicker to find than the start of a line
        if match["fence"]:
            if not fence:
                fence = match["fence"]
            elif match["fence"].startswith(fence):
                fence = ""
        elif not fence:
            found = _underlined(text, match, done) if match["rule"] else _marked(match)
            if found:
                yield found
                done = found[-1]


def _marked(match: re.Match[str]) -> tuple[int, int, int, int] | None:
    """The heading after ``#`` marks, without the closing ones."""
    line, begin = match["marked"], match.start("marked") - 1
    if len(line) > LONGEST_HEADING or not WORD.search(line):
        return None
    closing = CLOSING.search(line)
    return match.start(), begin, begin + (closing.start() if closing else len(line)), match.end() - 1


def _underlined(text: str, match: re.Match[str], done: int) -> tuple[int, int, int, int] | None:
    """The heading above a rule: a line of its own, not the last of a paragraph."""
    end, rule = match.start() - 1, match["rule"]
    start = text.rfind("\n", 0, max(end, 0)) + 1
    heading = text[start : max(end, 0)].strip()
    short = len(rule) < len(heading) and rule[0] not in "=-"  # Markdown lets these two be short
    if start < done or short or len(heading) > LONGEST_HEADING or not WORD.search(heading):
        return None
    begin = text.index(heading, start)
    if start > done + 1:
        before = text.rfind("\n", 0, start - 1) + 1
        above = text[before : start - 1].strip()
        if above and not (above[0] == rule[0] and RULE.fullmatch(above)):
            return None
        start = max(before, done) if above else start
    return start, begin, begin + len(heading), match.end() - 1
