"""Tokenizers: texts in, ragged token ids out, without special tokens.

Two kinds share one small protocol. :class:`WordTokenizer` knows the stems of a corpus and looks words up by surface
form, stemming those it has not met; it is trained on the corpus and is what the static encoder uses by default.
:class:`SubwordTokenizer` wraps any fast Hugging Face tokenizer, or a WordPiece vocabulary trained on the corpus.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from retriever.data.ragged import Ragged, offsets_of
from retriever.data.wordpiece import train_wordpiece
from retriever.data.words import MEMO_LIMIT, UNSPACED, WordAnalyzer, split_words
from retriever.errors import DataError

UNKNOWN = 0  # row 0 of every word vocabulary: words outside it, dropped on encoding


class TextTokenizer(Protocol):
    """What the token store and the encoders need of a tokenizer."""

    @property
    def size(self) -> int:
        """Number of token ids."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever any text could be tokenised differently."""

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Token ids of each text, without special tokens."""


class _Rows(dict[str, int]):
    """Surface form → row, stemming unseen forms on demand."""

    def __init__(self, analyzer: WordAnalyzer, stems: Sequence[str], surfaces: dict[str, int]) -> None:
        super().__init__(surfaces)
        self._surfaces = surfaces
        self._analyzer = analyzer
        self._stem_rows = {stem: row for row, stem in enumerate(stems, start=UNKNOWN + 1)}

    def __missing__(self, word: str) -> int:
        if len(self) >= MEMO_LIMIT + len(self._surfaces):
            self.clear()
            self.update(self._surfaces)
        row = self[word] = self._stem_rows.get(self._analyzer.stem(word), UNKNOWN)
        return row


class WordTokenizer:
    """Stemmed words of a corpus; words outside the vocabulary are dropped.

    Args:
        stems: The vocabulary; stem i has id i + 1, id 0 stands for unknown words and never occurs in the output.
        surfaces: The surface forms met in the corpus and their ids.
        counts: Documents that hold each id, (V,); 0 for unknown words.
        documents: Documents in the corpus.
        stemmer: The Snowball algorithm, see :class:`retriever.data.words.WordAnalyzer`.
    """

    def __init__(
        self,
        stems: Sequence[str],
        surfaces: dict[str, int],
        counts: NDArray[np.int64],
        documents: int,
        stemmer: str = "porter",
    ) -> None:
        self.stems = list(stems)
        self.surfaces = surfaces
        self.counts = counts  # (V,)
        self.documents = documents
        self.analyzer = WordAnalyzer(stemmer)
        self._rows = _Rows(self.analyzer, self.stems, surfaces)

    @classmethod
    def train(
        cls, texts: Iterable[str], *, min_documents: int = 2, max_size: int = 500_000, stemmer: str = "porter"
    ) -> WordTokenizer:
        """Collect the stems that at least ``min_documents`` texts hold, the most frequent first.

        Raises:
            DataError: No stem is left.
        """
        analyzer = WordAnalyzer(stemmer)
        frequency: Counter[str] = Counter()
        seen: dict[str, None] = {}
        documents = 0
        for text in texts:
            words = dict.fromkeys(analyzer.words(text))
            seen.update(words)
            frequency.update({analyzer.stem(word) for word in words})
            documents += 1
        if documents < 2 * min_documents:  # a handful of documents repeats few words: keep them all
            min_documents = 1
        kept = sorted((stem for stem, n in frequency.items() if n >= min_documents), key=lambda s: (-frequency[s], s))
        kept = kept[: max_size - 1]
        if not kept:
            raise DataError("No words to train a tokenizer on: the corpus holds no text.")
        rows = {stem: row for row, stem in enumerate(kept, start=UNKNOWN + 1)}
        surfaces = {w: rows[s] for w in sorted(seen) if (s := analyzer.stem(w)) in rows}
        counts = np.array([0, *(frequency[stem] for stem in kept)], np.int64)
        return cls(kept, surfaces, counts, documents, stemmer)

    @property
    def size(self) -> int:
        """Number of ids: the stems and the unknown word."""
        return len(self.stems) + 1

    @property
    def fingerprint(self) -> str:
        """Hash of the stemmer and the vocabulary."""
        return hashlib.sha256("\n".join([self.analyzer.stemmer, *self.stems]).encode()).hexdigest()

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Ids of the known words of each text."""
        row_of = self._rows.__getitem__
        ids, ends = array("i"), [0]
        for text in texts:
            ids.extend(map(row_of, split_words(text)))
            ends.append(len(ids))
        ragged = Ragged(np.array(ids, np.int32), np.array(ends, np.int64))
        return ragged.keep(ragged.ids != UNKNOWN)

    def decode(self, ids: NDArray[np.int32]) -> str:
        """The stems of the ids, joined by blanks."""
        return " ".join(self.stems[i - 1] for i in ids)

    def to_json(self) -> dict[str, Any]:
        """Everything :meth:`from_json` needs, as plain JSON values."""
        return {
            "stemmer": self.analyzer.stemmer,
            "stems": self.stems,
            "surfaces": self.surfaces,
            "counts": self.counts.tolist(),
            "documents": self.documents,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> WordTokenizer:
        """The inverse of :meth:`to_json`."""
        counts = np.array(values["counts"], np.int64)
        return cls(values["stems"], values["surfaces"], counts, values["documents"], values["stemmer"])

    def to_tokenizers(self) -> tuple[Tokenizer, NDArray[np.int64]]:
        """The same vocabulary as a plain ``tokenizers`` object over surface forms.

        Pairs of characters cannot overlap there: of a run of characters in a script without blanks, every second pair
        is found.

        Returns:
            The tokenizer, and the row of this vocabulary that each of its ids stands for, (surfaces + 1,).
        """
        vocabulary = {"[UNK]": 0} | {word: i for i, word in enumerate(self.surfaces, start=1)}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.Lowercase()
        word = Regex(  # as split_words; this library's \w also means combining marks
            rf"[{UNSPACED}]{{1,2}}|[\p{{L}}\p{{N}}&&[^{UNSPACED}]]+"
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Split(word, "removed", invert=True)
        return tokenizer, np.array([UNKNOWN, *self.surfaces.values()], np.int64)


class SubwordTokenizer:
    """Any fast Hugging Face tokenizer behind :class:`TextTokenizer`.

    Args:
        tokenizer: The Rust tokenizer; its truncation and padding settings are left alone.
        lowercase: Lower-case the text first (old sentence-transformers models ask for it).
    """

    def __init__(self, tokenizer: Tokenizer, lowercase: bool = False) -> None:
        self.tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.lowercase = lowercase

    @classmethod
    def train(cls, texts: Iterable[str], *, size: int = 8_192) -> SubwordTokenizer:
        """A lower-cased WordPiece vocabulary with BERT's special tokens."""
        return cls(train_wordpiece(texts, size))

    @property
    def size(self) -> int:
        """Number of ids, special tokens included."""
        return int(self.tokenizer.get_vocab_size())

    @property
    def fingerprint(self) -> str:
        """Hash of the serialised tokenizer."""
        return hashlib.sha256(f"{self.lowercase}{self.tokenizer.to_str()}".encode()).hexdigest()

    @property
    def mask(self) -> int | None:
        """The id of the special token ``[MASK]``, ``<mask>`` or the like; None if there is none."""
        special = self.tokenizer.get_added_tokens_decoder().items()
        return next((i for i, token in special if token.content.strip("[]<>|").lower() == "mask"), None)

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Ids of each text, whole: nothing is truncated here."""
        batch = [text.lower() for text in texts] if self.lowercase else list(texts)
        encodings = self.tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        rows = [encoding.ids for encoding in encodings]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        flat = np.fromiter((i for row in rows for i in row), np.int32, int(lengths.sum()))
        return Ragged(flat, offsets_of(lengths))

    def decode(self, ids: NDArray[np.int32]) -> str:
        """The text that the ids stand for, as far as the tokenizer keeps it."""
        return str(self.tokenizer.decode(ids.tolist(), skip_special_tokens=False))


def save_words(tokenizer: WordTokenizer, path: Path) -> None:
    """Write a word tokenizer as one JSON file."""
    path.write_text(json.dumps(tokenizer.to_json(), ensure_ascii=False), encoding="utf-8")


def load_words(path: Path) -> WordTokenizer:
    """Read what :func:`save_words` wrote."""
    return WordTokenizer.from_json(json.loads(path.read_text(encoding="utf-8")))
