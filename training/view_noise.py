"""Noise on the tokens of views, in this order; a row never becomes empty.

1. Repeat: say some tokens twice (ESimCSE, Wu et al. 2022, arXiv 2109.04380, section 3.1). Their share is drawn for each
   row, or their number, so that the length of a text says nothing of its partner's.
2. Delete: drop each token with some probability, never the whole row.
3. Replace: put another token in the place of some. It is drawn from the batch's own tokens, so by its frequency in the
   corpus: uniform draws from the vocabulary are mostly tokens that no text holds.
4. Mask: put the tokenizer's mask token in the place of some.
"""

from __future__ import annotations

import numpy as np

from retriever.data.ragged import Ragged, offsets_of
from retriever.data.tokenizers import SubwordTokenizer, TextTokenizer
from retriever.errors import RecipeError
from retriever.training.view_settings import Views

Random = np.random.Generator


def disturb(texts: Ragged, views: Views, random: Random, mask: int | None) -> Ragged:
    """All the noise a recipe asks for.

    Args:
        texts: Rows of at least one token.
        views: The shares.
        random: Source of all draws.
        mask: The mask token's id, from :func:`mask_token`.

    Raises:
        ValueError: ``views.mask`` is not 0 and there is no mask token.
    """
    if views.repeat_limit is None:
        texts = repeat(texts, views.repeat, random)
    else:
        texts = repeat_few(texts, views.repeat, views.repeat_limit, random)
    texts = delete(texts, views.delete, random)
    texts = replace(texts, views.replace, random)
    if views.mask == 0:
        return texts
    if mask is None:
        raise ValueError("views.mask is not 0: pass the id that mask_token() gives.")
    return hide(texts, views.mask, random, mask)


def repeat(texts: Ragged, most: float, random: Random) -> Ragged:
    """Say tokens twice: each row with a probability of its own for all its tokens, uniform up to ``most``."""
    if most == 0:
        return texts
    shares = random.uniform(0, most, len(texts))  # (B,)
    times = 1 + (random.random(len(texts.ids)) < np.repeat(shares, texts.lengths))  # (T,)
    return Ragged(np.repeat(texts.ids, times), offsets_of(times)[texts.offsets])


def repeat_few(texts: Ragged, most: float, limit: int, random: Random) -> Ragged:
    """Say n tokens of a row of L twice, n drawn uniformly below ``min(limit, ⌊most · L⌋)``, the tokens without return.

    Special tokens are no part of a row. A row too short for the draw stays as it is.
    """
    bounds = np.minimum(limit, (most * texts.lengths).astype(np.int64))  # (B,)
    wanted = random.integers(0, np.maximum(bounds, 1))
    owner = np.repeat(np.arange(len(texts)), texts.lengths)  # (T,)
    order = np.lexsort((random.random(len(texts.ids)), owner))  # each row's tokens in random order
    times = np.ones(len(texts.ids), np.int64)
    times[order] += np.arange(len(order)) - texts.offsets[owner] < wanted[owner]
    return Ragged(np.repeat(texts.ids, times), offsets_of(times)[texts.offsets])


def delete(texts: Ragged, share: float, random: Random) -> Ragged:
    """Drop each token with probability ``share``; a row that would be empty keeps its first token."""
    if share == 0:
        return texts
    kept = random.random(len(texts.ids)) >= share  # (T,)
    left = np.add.reduceat(kept, texts.offsets[:-1])
    kept[texts.offsets[:-1][left == 0]] = True
    return texts.keep(kept)


def replace(texts: Ragged, share: float, random: Random) -> Ragged:
    """Put a token from anywhere in the batch in the place of each token with probability ``share``."""
    if share == 0:
        return texts
    chosen = random.random(len(texts.ids)) < share  # (T,)
    others = random.integers(0, len(texts.ids), int(chosen.sum()))
    ids = texts.ids.copy()
    ids[chosen] = texts.ids[others]
    return Ragged(ids, texts.offsets)


def hide(texts: Ragged, share: float, random: Random, mask: int) -> Ragged:
    """Put the mask token in the place of each token with probability ``share``."""
    ids = np.where(random.random(len(texts.ids)) < share, np.int32(mask), texts.ids)
    return Ragged(ids, texts.offsets)


def mask_token(tokenizer: TextTokenizer, views: Views) -> int | None:
    """The id of the mask token if a recipe needs it.

    Raises:
        RecipeError: It needs one and the tokenizer has none.
    """
    if views.mask == 0:
        return None
    mask = tokenizer.mask if isinstance(tokenizer, SubwordTokenizer) else None
    if mask is None:
        raise RecipeError(
            f"views.mask is {views.mask}, but the encoder's tokenizer has no mask token; use views.delete or "
            "views.replace, or an encoder with one, such as BERT."
        )
    return mask
