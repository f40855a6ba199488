"""Words: the one analysis shared by BM25, tf-idf and the static encoder's tokenizer.

1. A text is lower-cased and split into runs of letters and digits, so that ``snake_case`` is two words.
2. Scripts that put no blanks between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) would make a whole clause one
   word. A run of their characters becomes its overlapping pairs instead, 東京都 → 東京 京都, and a lone character stays
   one: without a dictionary, pairs are what finds most (Nie et al. 2000).
3. Each word is reduced to its stem. Stems are memorised by surface form, so that a word costs one dictionary look-up
   after it has been seen once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Set

import Stemmer

from retriever.errors import DataError

WORD = re.compile(r"[^\W_]+")
UNSPACED = (
    "\u3005-\u3007\u3041-\u3096\u3099\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # Chinese characters
    "\u0e01-\u0e3a\u0e40-\u0e4e"  # Thai, its vowel and tone marks included, as in the following
    "\u0e81-\u0ebd\u0ec0-\u0ecd\u0edc-\u0edf"  # Lao
    "\u1780-\u17d3\u17d7\u17dc\u17dd"  # Khmer
    "\u1000-\u103f\u1050-\u108f\u109a-\u109d"  # Burmese
)
"""Characters of the scripts without blanks, as ranges for a regular expression's brackets."""

_UNSPACED = re.compile(f"[{UNSPACED}]")
_PIECE = re.compile(f"[{UNSPACED}]+|[^\\W_{UNSPACED}]+")
_ASCII = bytes(ord(char.lower()) if char.isascii() and char.isalnum() else ord(" ") for char in map(chr, range(256)))
"""ASCII letters in lower case, digits, and blanks for all else: splitting at blanks is faster than finding words."""
MEMO_LIMIT = 1 << 20  # surface forms; hostile input must not grow the memo without end


def split_words(text: str) -> list[str]:
    """The lower-cased surface words of a text, in order; see the module's header."""
    if text.isascii():
        return text.encode("ascii").translate(_ASCII).decode("ascii").split()
    text = text.lower()
    if not _UNSPACED.search(text):
        return WORD.findall(text)
    words: list[str] = []
    for piece in _PIECE.findall(text):
        if _UNSPACED.match(piece):
            words += [piece[start : start + 2] for start in range(max(1, len(piece) - 1))]
        else:
            words.append(piece)
    return words


class _Stems(dict[str, str]):
    """Surface form → stem, filled on demand."""

    def __init__(self, language: str) -> None:
        super().__init__()
        if language not in Stemmer.algorithms():
            raise DataError(f"The stemmer {language!r} is unknown: choose none, {', '.join(Stemmer.algorithms())}.")
        self._stem = Stemmer.Stemmer(language, 0).stemWord

    def __missing__(self, word: str) -> str:
        if len(self) >= MEMO_LIMIT:
            self.clear()
        stem = self[word] = str(self._stem(word))
        return stem


class WordAnalyzer:
    """Text → list of stems.

    Args:
        stemmer: A Snowball algorithm known to PyStemmer (``"porter"``, ``"english"``, ``"german"`` …), or
            ``"none"`` to keep words as they are.

    Raises:
        DataError: The stemmer is unknown.
    """

    def __init__(self, stemmer: str = "porter") -> None:
        self.stemmer = stemmer
        self._stems = None if stemmer == "none" else _Stems(stemmer)

    def words(self, text: str) -> list[str]:
        """The lower-cased surface words of a text, in order."""
        return split_words(text)

    def stem(self, word: str) -> str:
        """The stem of one lower-cased word."""
        return word if self._stems is None else self._stems[word]

    def with_stems(self, words: Iterable[str], stems: Set[str]) -> list[tuple[str, str]]:
        """The lower-cased words whose stem is among ``stems``, each with its stem."""
        if self._stems is None:
            return [(word, word) for word in words if word in stems]
        known = self._stems
        return [(word, stem) for word in words if (stem := known[word]) in stems]

    def __call__(self, text: str) -> list[str]:
        """The stems of a text, in order."""
        words = self.words(text)
        return words if self._stems is None else list(map(self._stems.__getitem__, words))

    def __reduce__(self) -> tuple[type[WordAnalyzer], tuple[str]]:
        return WordAnalyzer, (self.stemmer,)
