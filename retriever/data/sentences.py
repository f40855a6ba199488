"""The first sentence of a text, for titles and known-item queries.

A sentence ends at a blank line, or at ``.``, ``!`` or ``?`` (closing quotes and brackets included) before white space
and something other than a lower-case letter, unless an abbreviation or an initial stands before the dot. In a text
without capitals a lower-case letter may follow. The full stops of Chinese and Japanese need nothing after them.
"""

from __future__ import annotations

import re

FULL_STOPS = "。！？"
BLANK_LINE = r"(?<=\n)[ \t\r]*\n"
WIDE = rf"""(?<=[{FULL_STOPS}])["'”’」』)]*"""
MARKS = r"""(?<=[.!?])[.!?]*["'”’)\]`*]*(?=\s|$)"""
END = re.compile(rf"[\n.!?{FULL_STOPS}](?:{BLANK_LINE}|{WIDE}|{MARKS})")  # one class in front is quick to look for
ABBREVIATIONS = {"al", "approx", "cf", "dr", "e.g", "eq", "etc", "fig", "i.e", "mr", "mrs", "ms", "prof", "resp", "vs"}
WORD_BEFORE_DOT = re.compile(r"[\w.]+$")
NOT_SPACE = re.compile(r"\S")
LONGEST_WORD = 8  # characters before a dot that can be an abbreviation, and one more


def first_sentence(text: str) -> tuple[str, str]:
    """Split a text after its first sentence.

    Returns:
        The sentence on one line, and the rest with its lines kept; both stripped, the rest may be empty.
    """
    end = sentence_end(text)
    return " ".join(text[:end].split()), text[end:].strip()


def sentence_end(text: str) -> int:
    """How many characters lead up to the end of the first sentence, white space before it included."""
    start = len(text) - len(text.lstrip())
    no_capitals = text.islower()
    for match in END.finditer(text, start):
        if match[0][0] == "\n":
            return match.start()
        if match[0][0] in FULL_STOPS or _ends(text, match, no_capitals):
            return match.end()
    return len(text)


def _ends(text: str, match: re.Match[str], no_capitals: bool) -> bool:
    place = NOT_SPACE.search(text, match.end())
    following = place[0] if place else ""
    if following.islower() and not no_capitals:
        return False
    if match[0] != ".":
        return True
    word = WORD_BEFORE_DOT.search(text[max(0, match.start() - LONGEST_WORD) : match.start()])
    if word is None or not following:
        return True
    initial = len(word[0]) == 1 and word[0].isupper()
    return not initial and word[0].lower().lstrip(".") not in ABBREVIATIONS
