"""Words: the one analysis shared by BM25, tf-idf and the static encoder's tokenizer.

A text is lower-cased and split into runs of letters and digits, so that ``snake_case`` is two words; each word is
reduced to its stem. Stems are memorised by surface form, so that a word costs one dictionary look-up after it has been
seen once.
"""

from __future__ import annotations

import re

import Stemmer

WORD = re.compile(r"[^\W_]+")
MEMO_LIMIT = 1 << 20  # surface forms; hostile input must not grow the memo without end


class _Stems(dict[str, str]):
    """Surface form → stem, filled on demand."""

    def __init__(self, language: str) -> None:
        super().__init__()
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
    """

    def __init__(self, stemmer: str = "porter") -> None:
        self.stemmer = stemmer
        self._stems = None if stemmer == "none" else _Stems(stemmer)

    def words(self, text: str) -> list[str]:
        """The lower-cased surface words of a text, in order."""
        return WORD.findall(text.lower())

    def stem(self, word: str) -> str:
        """The stem of one lower-cased word."""
        return word if self._stems is None else self._stems[word]

    def __call__(self, text: str) -> list[str]:
        """The stems of a text, in order."""
        words = self.words(text)
        return words if self._stems is None else list(map(self._stems.__getitem__, words))

    def __reduce__(self) -> tuple[type[WordAnalyzer], tuple[str]]:
        return WordAnalyzer, (self.stemmer,)
