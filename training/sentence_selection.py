"""Which step was best, for sentences: Spearman's correlation on STS-B dev, or alignment and uniformity without labels.

STS-B dev. 1. Its 1,500 pairs are all that is read: no other split, and no other set. 2. Each distinct sentence is
encoded once. 3. The score is Spearman's correlation of the cosines with the gold scores, -1 where all are equal.

Alignment and uniformity (Wang & Isola 2020, arXiv 2005.10242). 1. Some texts are set aside; training never sees them.
2. Two views of each are drawn once, as in training, and encoded with dropout; the mean squared distance between them is
the alignment. 3. The texts themselves, encoded as in use, give the uniformity: the log of the mean of
exp(-2 ‖x − y‖²) over all pairs. 4. Both are the better the lower they are: the score is minus their sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from retriever.data.knownitem import LARGEST_PART
from retriever.data.ragged import Ragged, prepend
from retriever.data.sts import StsSet, load_sts
from retriever.data.tokens import TokenStore
from retriever.encoder import Encoder
from retriever.encoder.pairs import compare, encode_sets, flat, spearman
from retriever.errors import DataError, RecipeError
from retriever.training.diagnostics import alignment, uniformity
from retriever.training.forward import SIDE, Forward, default_budget
from retriever.training.recipe import Recipe
from retriever.training.sampler import HELD, generator
from retriever.training.selection import Ids, Metrics
from retriever.training.view_noise import mask_token
from retriever.training.views import pairs


@dataclass(frozen=True)
class StsDev:
    """Pairs of sentences with gold scores."""

    pairs: StsSet
    rows: Ids
    what: ClassVar[str] = "STS-B dev"

    def score(self, encoder: Encoder, dtype: str) -> Metrics:
        """Spearman's correlation of cosines and gold scores, with the encoder as it is now."""
        vectors, rows = encode_sets(encoder, [self.pairs], dtype=dtype)
        first, second = np.concatenate(rows[0]).T
        found = spearman(compare(vectors[first], vectors[second]), self.pairs.gold)
        return {"spearman": -1.0 if found is None else found}


@dataclass(frozen=True)
class HeldOutViews:
    """N texts that training never sees, and two views of each.

    Attributes:
        texts: Their tokens.
        views: The two views of each, N rows twice.
        rows: Documents of the corpus that training must not see.
        seed: Of the dropout.
    """

    texts: Ragged
    views: tuple[Ragged, Ragged]
    rows: Ids
    seed: int
    what: ClassVar[str] = "held-out texts"

    @torch.no_grad()
    def score(self, encoder: Encoder, dtype: str) -> Metrics:
        """Alignment, uniformity, and minus their sum, with the encoder as it is now."""
        forward = Forward(encoder, dtype, default_budget(encoder.device))
        was_training = encoder.stack.training
        encoder.stack.train()
        one = F.normalize(forward(self.views[0], self.seed, "query"))
        other = F.normalize(forward(self.views[1], self.seed + SIDE))
        encoder.stack.train(was_training)
        vectors = torch.from_numpy(encoder.embed(self.texts, dtype=dtype))
        near, even = float(alignment(one, other)), float(uniformity(F.normalize(vectors)))
        return {"align_uniform": -near - even, "alignment": near, "uniformity": even}


def load_dev(source: str) -> StsDev:
    """STS-B dev of a folder, or the dev file of another language.

    Raises:
        RecipeError: There is none, it is mangled, or all its gold scores are equal.
    """
    try:
        found = load_sts(source, split="dev", only=[] if Path(source).expanduser().is_file() else ["STSB"])
    except DataError as error:
        raise RecipeError(f"selection.sts: {error}") from error
    if found[0].split != "dev":
        raise RecipeError(
            f"selection.sts is {source}, the {found[0].split} split; steps are chosen by the dev split, so give that."
        )
    if flat(found[0].gold):
        raise RecipeError(
            f"selection.sts: all pairs of {source} have the same gold score, by which no step is best; give others."
        )
    return StsDev(found[0], np.empty(0, np.int64))


def hold_out_views(usable: Ids, store: TokenStore, encoder: Encoder, settings: Recipe) -> HeldOutViews | None:
    """Set some of the usable documents aside; None if the recipe wants none or there are hardly any.

    Args:
        usable: Documents long enough to be trained on, (N,).
        store: Token ids of the corpus.
        encoder: The tokenizer and the document's prompt.
        settings: Section ``selection`` says how many, section ``views`` how their views are drawn.
    """
    assert settings.views is not None
    count = min(settings.selection.queries, len(usable) // LARGEST_PART)
    if count < 2:
        return None
    random = generator(HELD, settings.seed)
    rows = np.sort(random.permutation(usable)[:count])
    texts = store.spans(rows, np.zeros(count, np.int64), store.lengths[rows])
    tokenizer = encoder.text_tokenizer
    query, document = encoder.prompt_tokens("query"), encoder.prompt_tokens("document")
    first, lots = pairs(store, rows, settings.views, random, mask_token(tokenizer, settings.views))
    views = prepend(query, first), prepend(document, lots.take(np.arange(count)))
    return HeldOutViews(prepend(document, texts), views, rows, int(random.integers(2**32)))
