"""Text normalisation: characters that look alike become one (as for mContriever, Izacard et al. 2021).

1. 21 control characters and soft hyphens go.
2. Vertical tab, form feed and the C1 line end become blanks; hyphens, dashes and minus signs ``-``; double quotes
   ``"``; single quotes, apostrophes and free-standing accents ``'``; primes one to four ``'``; ``…`` three dots;
   fraction and division slashes ``/``.
3. Everything else stays, tildes among it.

No replacement holds a character that is replaced, so that the rules can be applied in any order, all at once, and again
without effect. :func:`normaliser` gives the same rules to a Hugging Face tokenizer, which then saves them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tokenizers import Regex, normalizers

RULES = {
    "": "\x01-\x08\x0e\x0f\x11-\x1b\xad",
    " ": "\x0b\x0c\x85",
    "-": "\u2010-\u2015\u2043\u207b\u2212\uff0d",
    '"': "\u201c-\u201f",
    "'": "\u2018-\u201b`\xb4\u055a\ua78b\ua78c\uff07\u2032\u2035",
    "''": "\u2033\u2036",
    "'''": "\u2034\u2037",
    "''''": "\u2057",
    "...": "\u2026",
    "/": "\u2044\u2215",
}
"""Replacement → the characters it stands for, as the inside of a regular expression's brackets."""


def _table() -> dict[int, str]:
    """Code point → replacement."""
    table: dict[int, str] = {}
    for replacement, characters in RULES.items():
        for first, last in re.findall(r"(.)(?:-(.))?", characters, re.DOTALL):
            table |= dict.fromkeys(range(ord(first), ord(last or first) + 1), replacement)
    return table


TABLE = _table()


def normalise(text: str) -> str:
    """The text by the rules of the module's header."""
    return text.translate(TABLE)


def normaliser(following: Sequence[normalizers.Normalizer] = ()) -> normalizers.Normalizer:
    """The same rules for a Hugging Face tokenizer.

    Args:
        following: Normalizers to apply afterwards, such as the tokenizer's own.
    """
    rules = [normalizers.Replace(Regex(f"[{characters}]"), text) for text, characters in RULES.items()]
    return normalizers.Sequence([*rules, *following])
