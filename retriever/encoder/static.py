"""The static encoder's one module: a table of token vectors and a weight a token.

1. A text is a bag of token ids; each distinct token t occurs tf(t) times.
2. Its embedding is ``Σ_t f(tf(t)) · w_t · E_t`` with f(tf) = 1 + log tf (``log``) or f(tf) = tf (``count``).
3. A following L2 normalisation makes the scale irrelevant, so that ``count`` equals the plain token mean.

Training touches only the rows of the tokens in a batch: their gradient is sparse, (U, D) for U distinct tokens.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from sentence_transformers.base.modality_types import Modality
from sentence_transformers.base.modules.input_module import InputModule
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer
from torch import Tensor, nn

from retriever.data.ragged import Ragged, offsets_of
from retriever.data.tokenizers import SubwordTokenizer, WordTokenizer, load_words, save_words

Frequency = Literal["log", "count"]


class TermEmbedding(InputModule):
    """Token table (V, D) and token weights (V,), summed over the distinct tokens of a text.

    A sentence-transformers input module: it tokenises, looks up and sums. ``SentenceTransformer(folder,
    trust_remote_code=True)`` opens a folder that starts with one, as long as this package is installed.

    Args:
        tokenizer: Word or sub-word tokenizer of V ids.
        table: Token vectors, (V + extra, D).
        weights: Token weights, (V + extra,); all ones if omitted.
        frequency: ``log`` or ``count``, see the module's header.
        learn_weights: Train the token weights too.
        extra: Tokens at the end that no text has.

    Raises:
        ValueError: The table does not have V + extra rows.
    """

    def __init__(
        self,
        tokenizer: WordTokenizer | SubwordTokenizer,
        table: Tensor,
        weights: Tensor | None = None,
        frequency: Frequency = "log",
        learn_weights: bool = False,
        extra: int = 0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if len(table) != tokenizer.size + extra:
            raise ValueError(f"the token table has {len(table)} rows for a vocabulary of {tokenizer.size + extra}")
        self.text_tokenizer, self.extra = tokenizer, extra
        self.frequency = frequency
        self.table = nn.Parameter(table)  # (V, D)
        weights = torch.ones(len(table)) if weights is None else weights
        self.weights = nn.Parameter(weights, requires_grad=learn_weights)  # (V,)

    def collate(self, tokens: Ragged) -> dict[str, Tensor]:
        """Distinct tokens of each row and their frequency factors.

        Returns:
            ``input_ids`` (T,), ``frequencies`` (T,) and ``offsets`` (N + 1,), T counting distinct tokens per row.
        """
        size = len(self.table)
        rows = np.repeat(np.arange(len(tokens)), tokens.lengths)
        keys, counts = np.unique(rows * size + tokens.ids, return_counts=True)
        rows, ids = np.divmod(keys, size)
        lengths = np.bincount(rows, minlength=len(tokens))
        factors = 1 + np.log(counts) if self.frequency == "log" else counts
        return {
            "input_ids": torch.from_numpy(ids),
            "frequencies": torch.from_numpy(factors.astype(np.float32)),
            "offsets": torch.from_numpy(offsets_of(lengths)),
        }

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Texts → features, as sentence-transformers calls it."""
        texts = [prompt + text for text in inputs] if prompt else inputs
        features: dict[str, Any] = self.collate(self.text_tokenizer.encode(texts))
        return features

    def forward(self, features: dict[str, Tensor], **kwargs: Any) -> dict[str, Tensor]:
        """Add ``sentence_embedding`` (N, D) to the features."""
        places, vectors = features["input_ids"], self.table.data
        if torch.is_grad_enabled():  # the only gradient of the table is that of its U distinct rows
            tokens, places = torch.unique(places, return_inverse=True)
            vectors = F.embedding(tokens, self.table, sparse=True)  # (U, D)
        factors = features["frequencies"] * self.weights[features["input_ids"]]
        features["sentence_embedding"] = F.embedding_bag(
            places,
            vectors,
            features["offsets"],
            mode="sum",
            per_sample_weights=factors.to(vectors.dtype),
            include_last_offset=True,
        )
        return features

    def extend(self, count: int) -> int:
        """Add ``count`` tokens with vectors of zeros and the weight of the rarest; returns the first of them."""
        first, learned = len(self.table), self.weights.requires_grad
        table = torch.cat([self.table.detach(), self.table.new_zeros(count, self.table.shape[1])])
        weights = torch.cat([self.weights.detach(), self.weights.detach().max().expand(count)])
        self.table, self.weights = nn.Parameter(table), nn.Parameter(weights, requires_grad=learned)
        self.extra += count
        return first

    def plain(self) -> StaticEmbedding:
        """The table of a word tokenizer, weighted, as sentence-transformers' own module."""
        assert isinstance(self.text_tokenizer, WordTokenizer)
        tokenizer, rows = self.text_tokenizer.to_tokenizers()
        table = (self.table * self.weights[:, None]).detach().cpu()
        table[0] = 0  # unknown words add nothing
        return StaticEmbedding(tokenizer, embedding_weights=table[torch.from_numpy(rows)])

    def get_embedding_dimension(self) -> int:
        """D."""
        return self.table.shape[1]

    @property
    def modalities(self) -> list[Modality]:
        """Text only."""
        return ["text"]

    @property
    def max_seq_length(self) -> float:
        """A bag has no length limit."""
        return float("inf")

    def get_config_dict(self) -> dict[str, Any]:
        """The settings saved in ``config.json``."""
        extra = {"extra": self.extra} if self.extra else {}
        return {"frequency": self.frequency, "learn_weights": self.weights.requires_grad, **extra}

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write ``config.json``, ``model.safetensors`` and the vocabulary into a folder."""
        folder = Path(output_path)
        (folder / "config.json").write_text(json.dumps(self.get_config_dict(), indent=2) + "\n")
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, folder / "model.safetensors")
        if isinstance(self.text_tokenizer, WordTokenizer):
            save_words(self.text_tokenizer, folder / "words.json")
        else:
            self.text_tokenizer.tokenizer.save(str(folder / "tokenizer.json"))

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", *args: Any, **kwargs: Any) -> TermEmbedding:
        """Read what :meth:`save` wrote, from a local folder or the hub."""
        hub = {
            name: kwargs[name] for name in ("token", "cache_folder", "revision", "local_files_only") if name in kwargs
        }

        def find(*names: str) -> Path:
            for name in names:
                if path := cls.load_file_path(model_name_or_path, filename=name, subfolder=subfolder, **hub):
                    return Path(path)
            raise FileNotFoundError(f"{' or '.join(names)} is missing")

        config = cls.load_config(model_name_or_path, subfolder=subfolder, **hub)
        weights = load_file(find("model.safetensors"))
        vocabulary = find("words.json", "tokenizer.json")
        tokenizer: WordTokenizer | SubwordTokenizer
        if vocabulary.name == "words.json":
            tokenizer = load_words(vocabulary)
        else:
            tokenizer = SubwordTokenizer(Tokenizer.from_file(str(vocabulary)))
        settings = config["frequency"], config["learn_weights"], config.get("extra", 0)
        return cls(tokenizer, weights["table"], weights["weights"], *settings)


def idf(tokenizer: WordTokenizer, power: float) -> NDArray[np.float32]:
    """Token weights ``(log(N / n_t) + 1)^power`` from the tokenizer's own document counts, (V,)."""
    counts = np.maximum(tokenizer.counts, 1)
    return np.asarray((np.log(tokenizer.documents / counts) + 1) ** power, np.float32)


def collate_mean(tokens: Ragged) -> dict[str, Tensor]:
    """Features of sentence-transformers' ``StaticEmbedding``."""
    return {
        "input_ids": torch.from_numpy(tokens.ids.astype(np.int64)),
        "offsets": torch.from_numpy(tokens.offsets[:-1]),
    }
