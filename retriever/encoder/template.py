"""Prompt pooling: a sentence is put into a template, and the state of the template's mask token is its embedding.

After PromptBERT (Jiang et al. 2022, arXiv 2201.04337), without the subtraction of the template's own bias:

1. The template becomes part of the tokenizer: its tokens frame every text as the special tokens do, and are in
   ``tokenizer.json``. A long text is cut, the template never.
2. The states are weighed by token, the mask token by 1 and all others by 0, and averaged. Both steps are modules of
   sentence-transformers, which opens the folder with nothing of ours.
"""

from __future__ import annotations

from typing import cast

from sentence_transformers.base.modules.transformer import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling, WordWeights
from tokenizers import Tokenizer, processors
from torch import nn
from transformers import PreTrainedTokenizerFast

from retriever.encoder.transformer import TransformerCollator, general_tokenizer
from retriever.errors import ModelError

TEXT, MASK = "{}", "[MASK]"  # in a template


def check_template(template: str) -> None:
    """Refuse a template that does not hold the text and the mask once each.

    Raises:
        ValueError: It does not.
    """
    if template.count(TEXT) != 1 or template.count(MASK) != 1:
        raise ValueError(
            f"template {template!r} must hold {TEXT}, where the text goes, and {MASK}, whose state is the embedding, "
            'once each, such as: This sentence : "{}" means [MASK] .'
        )


def template_modules(transformer: Transformer, template: str) -> list[nn.Module]:
    """Put the template into a transformer's tokenizer, in place; returns the modules that pool at the mask.

    Args:
        transformer: A masked language model.
        template: Text with ``{}`` and ``[MASK]``, whatever the model's own mask token is called.

    Raises:
        ModelError: The model's tokenizer has no mask token or no fast implementation, or the template leaves no room.
        ValueError: The template lacks the text or the mask.
    """
    check_template(template)
    collator = TransformerCollator(transformer)
    tokenizer = cast("PreTrainedTokenizerFast", transformer.tokenizer)  # or the collator would have refused it
    if tokenizer.mask_token is None:
        raise ModelError("The model has no mask token, and no template can use it; choose a masked language model.")
    before, after = template.replace(MASK, tokenizer.mask_token).split(TEXT)
    start, end = (collator.text_tokenizer.encode([part]).ids.tolist() for part in (before, after))
    prefix, suffix = [*collator.prefix, *start], [*end, *collator.suffix]
    if collator.limit + collator.frame <= len(prefix) + len(suffix):
        raise ModelError(
            f"The template has {len(prefix) + len(suffix)} tokens, as many as the model reads; shorten it."
        )
    transformer.processor = _framing(tokenizer, prefix, suffix)
    vocabulary = tokenizer.get_vocab()
    names = [""] * (max(vocabulary.values()) + 1)
    for name, row in vocabulary.items():
        names[row] = name
    weights = WordWeights(names, {tokenizer.mask_token: 1.0}, unknown_word_weight=0.0)
    weights.requires_grad_(False)
    return [weights, Pooling(int(transformer.get_embedding_dimension()), "mean")]


def _framing(tokenizer: PreTrainedTokenizerFast, prefix: list[int], suffix: list[int]) -> PreTrainedTokenizerFast:
    """The tokenizer with other tokens around a text."""
    rust = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    used = sorted({*prefix, *suffix})
    names = {row: f"<{row}>" for row in used}  # a word may be special to the processor, but its name not hold a blank
    rust.post_processor = processors.TemplateProcessing(
        single=[*(names[row] for row in prefix), "$A", *(names[row] for row in suffix)],
        special_tokens=[{"id": names[row], "ids": [row], "tokens": [rust.id_to_token(row)]} for row in used],
    )
    return general_tokenizer(tokenizer, rust)
