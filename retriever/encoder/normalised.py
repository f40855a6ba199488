"""Text normalisation built into an encoder, so that whoever opens its folder normalises too.

The rules of :mod:`retriever.data.normalise` go before the normalizer of the Hugging Face tokenizer, and into its
``tokenizer.json``.
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
from retriever.encoder.transformer import general_tokenizer
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
        rust = Tokenizer.from_str(first.tokenizer.backend_tokenizer.to_str())
        _prepend(rust)
        first.processor = general_tokenizer(first.tokenizer, rust)
    else:
        raise ModelError(
            "This model's tokenizer cannot take the rules of text normalisation; normalise the texts before encoding."
        )


def _prepend(tokenizer: Tokenizer) -> None:
    own = tokenizer.normalizer
    tokenizer.normalizer = normaliser([] if own is None else [own])
