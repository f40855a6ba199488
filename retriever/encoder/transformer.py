"""The transformer family: a Hugging Face encoder, a pooling over its tokens, and the collation of ragged ids."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from safetensors.torch import save_model
from sentence_transformers.base.modules.transformer import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling, WeightedLayerPooling
from tokenizers import Tokenizer, processors
from torch import Tensor, nn
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
from transformers.utils import logging

from retriever.data.ragged import Ragged
from retriever.data.tokenizers import SubwordTokenizer
from retriever.errors import ModelError

PoolingName = Literal["mean", "cls", "last-4-average", "first-last-average"]


class TransformerCollator:
    """Ragged ids without special tokens → padded features with them.

    Args:
        transformer: The loaded sentence-transformers module.

    Raises:
        ModelError: The model's tokenizer has no fast implementation, or is missing; or no token of a text fits.
    """

    def __init__(self, transformer: Transformer) -> None:
        tokenizer = transformer.tokenizer
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise ModelError(
                f"The tokenizer {type(tokenizer).__name__} has no fast implementation; convert the model's tokenizer "
                "to tokenizer.json with a recent transformers release."
            )
        if tokenizer.vocab_size <= len(tokenizer.all_special_ids):
            raise ModelError("The model's tokenizer knows no words; put its tokenizer.json into the model's folder.")
        self.text_tokenizer = SubwordTokenizer(tokenizer.backend_tokenizer, bool(transformer.do_lower_case))
        self.pad = int(tokenizer.pad_token_id or 0)
        self.prefix, self.suffix = _frame(tokenizer, self.text_tokenizer)
        self.frame = len(self.prefix) + len(self.suffix)  # special tokens around a text
        limit = min(transformer.max_seq_length or tokenizer.model_max_length, tokenizer.model_max_length)
        self.limit = int(limit) - self.frame  # tokens of text that fit
        if self.limit < 1:
            raise ModelError(
                f"The model is to read {limit} tokens, of which {self.frame} are special ones; raise max_length."
            )

    def collate(self, tokens: Ragged) -> dict[str, Tensor]:
        """Frame with special tokens and pad to the longest row.

        Returns:
            ``input_ids`` and ``attention_mask``, (N, L) each.
        """
        start, end = len(self.prefix), len(self.prefix) + tokens.lengths  # (N,) where the suffix begins
        columns = np.arange(int(end.max(initial=0)) + len(self.suffix))
        mask = columns < end[:, None] + len(self.suffix)  # (N, L)
        ids = np.full(mask.shape, self.pad)
        ids[:, :start] = self.prefix
        ids[(columns >= start) & (columns < end[:, None])] = tokens.ids
        ids[mask & (columns >= end[:, None])] = np.tile(self.suffix, len(tokens))
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask.astype(np.int64))}


def pooling_modules(transformer: Transformer, pooling: PoolingName) -> list[nn.Module]:
    """The modules that turn token states into one vector.

    ``last-4-average`` and ``first-last-average`` average layer outputs before the mean over tokens; layer 0 is the
    embedding layer's output.
    """
    width = int(transformer.get_embedding_dimension())
    if pooling in ("mean", "cls"):
        return [Pooling(width, pooling)]
    layers = int(transformer.config.num_hidden_layers)
    start = max(layers - 3, 0) if pooling == "last-4-average" else 0
    weights = torch.ones(layers + 1 - start)
    if pooling == "first-last-average":
        weights[1:-1] = 0
    transformer.config.output_hidden_states = True
    average = WeightedLayerPooling(width, layers, start)
    average.layer_weights = nn.Parameter(weights, requires_grad=False)
    return [average, Pooling(width, "mean")]


def small_transformer(
    tokenizer: SubwordTokenizer, *, dimension: int, layers: int, heads: int, max_length: int, dropout: float, seed: int
) -> Transformer:
    """A randomly initialised BERT of the given size over a tokenizer with BERT's special tokens."""
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=_framed(tokenizer),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=max_length,
    )
    config = BertConfig(
        vocab_size=tokenizer.size,
        hidden_size=dimension,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * dimension,
        max_position_embeddings=max_length,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        pad_token_id=fast.pad_token_id,
    )
    with without_bars(), torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        config.save_pretrained(folder)  # the model's own save_pretrained writes in the first of several processes only
        save_model(BertModel(config), f"{folder}/model.safetensors", metadata={"format": "pt"})
        fast.save_pretrained(folder)
        transformer: Transformer = Transformer(folder, max_seq_length=max_length)
    return transformer


def general_tokenizer(tokenizer: PreTrainedTokenizerFast, rust: Tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer around a changed ``tokenizer.json``, as the class that opens it as it is.

    The classes of single models (``BertTokenizer`` …) build parts of it anew when they are opened.
    """
    settings = ("model_max_length", "model_input_names", "padding_side", "truncation_side")
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=rust,
        **tokenizer.special_tokens_map,
        **{name: getattr(tokenizer, name) for name in settings},
    )


@contextmanager
def without_bars() -> Iterator[None]:
    """No progress bars of transformers, which local files do not need."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _frame(tokenizer: PreTrainedTokenizerFast, text_tokenizer: SubwordTokenizer) -> tuple[list[int], list[int]]:
    """Ids before and after a text: those that frame an empty one, cut where two probes agree."""
    empty = tokenizer("")["input_ids"]
    probes = [(text_tokenizer.encode([text]).ids.tolist(), tokenizer(text)["input_ids"]) for text in ("a", "of it")]
    for at in range(len(empty) + 1):
        prefix, suffix = empty[:at], empty[at:]
        if all([*prefix, *bare, *suffix] == framed for bare, framed in probes):
            return prefix, suffix
    raise ModelError("The model's tokenizer changes a text that it puts special tokens around; use another one.")


def _framed(tokenizer: SubwordTokenizer) -> Tokenizer:
    """A copy that frames a text with ``[CLS]`` and ``[SEP]``."""
    copy = Tokenizer.from_str(tokenizer.tokenizer.to_str())
    special = [(name, copy.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    copy.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    return copy
