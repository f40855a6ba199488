"""The first sentence of a text, for titles and known-item queries.

A sentence ends at a blank line, or at ``.``, ``!`` or ``?`` (closing quotes and brackets included) before white space
and something other than a lower-case letter, unless an abbreviation or an initial stands before the dot. In a text
without capitals a lower-case letter may follow. The full stops of Chinese and Japanese need nothing after them.
"""

from __future__ import annotations

import re

END = re.compile(r"""(?P<blank>\n[ \t\r]*\n)|(?P<full>[。！？]["'”’」』)]*)|(?P<mark>[.!?]+["'”’)\]`*]*)(?=\s|$)""")
ABBREVIATIONS = {"al", "approx", "cf", "dr", "e.g", "eq", "etc", "fig", "i.e", "mr", "mrs", "ms", "prof", "resp", "vs"}
WORD_BEFORE_DOT = re.compile(r"[\w.]+$")
LONGEST_WORD = 40


def first_sentence(text: str) -> tuple[str, str]:
    """Split a text after its first sentence.

    Returns:
        The sentence on one line, and the rest with its lines kept; both stripped, the rest may be empty.
    """
    text = text.strip()
    no_capitals = text.islower()
    for match in END.finditer(text):
        if match["mark"] and not _ends(text, match, no_capitals):
            continue
        return " ".join(text[: match.end()].split()), text[match.end() :].strip()
    return " ".join(text.split()), ""


def _ends(text: str, match: re.Match[str], no_capitals: bool) -> bool:
    following = text[match.end() :].lstrip()[:1] if match.end() < len(text) else ""
    if following.islower() and not no_capitals:
        return False
    if match["mark"] != ".":
        return True
    word = WORD_BEFORE_DOT.search(text[max(0, match.start() - LONGEST_WORD) : match.start()])
    if word is None or not following:
        return True
    initial = len(word[0]) == 1 and word[0].isupper()
    return not initial and word[0].lower().lstrip(".") not in ABBREVIATIONS
