"""Text normalisation built into an encoder, so that whoever opens its folder normalises too.

The rules of :mod:`retriever.data.normalise` go before the normalizer of the Hugging Face tokenizer, and into its
``tokenizer.json``. transformers' tokenizer classes of single models (``BertTokenizer`` …) build their normalizer anew
when they are opened and would lose the rules; a transformer gets the general class instead, which keeps them.
"""

from __future__ import annotations

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules.transformer import Transformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from retriever.data.normalise import normaliser
from retriever.data.tokenizers import SubwordTokenizer
from retriever.encoder.joined import JoinedEmbedding
from retriever.encoder.static import TermEmbedding
from retriever.errors import ModelError


def normalise_input(stack: SentenceTransformer) -> None:
    """Put the rules into the tokenizers of a stack, in place; a second time changes no vector.

    Raises:
        ModelError: Words are split by this project's own rules, or the tokenizer has no Rust implementation.
    """
    first = stack[0]
    if isinstance(first, JoinedEmbedding):
        for part in first.stacks:
            normalise_input(part)
    elif isinstance(first, StaticEmbedding):
        _prepend(first.tokenizer)
    elif isinstance(first, TermEmbedding) and isinstance(first.text_tokenizer, SubwordTokenizer):
        _prepend(first.text_tokenizer.tokenizer)
    elif isinstance(first, Transformer) and isinstance(first.tokenizer, PreTrainedTokenizerFast):
        first.processor = _general(first.tokenizer)
    else:
        raise ModelError(
            "This model's tokenizer cannot take the rules of text normalisation; normalise the texts before encoding."
        )


def _prepend(tokenizer: Tokenizer) -> None:
    own = tokenizer.normalizer
    tokenizer.normalizer = normaliser([] if own is None else [own])


def _general(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The tokenizer with the rules, as the class that opens ``tokenizer.json`` as it is."""
    rust = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    _prepend(rust)
    settings = ("model_max_length", "model_input_names", "padding_side", "truncation_side")
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=rust,
        **tokenizer.special_tokens_map,
        **{name: getattr(tokenizer, name) for name in settings},
    )
