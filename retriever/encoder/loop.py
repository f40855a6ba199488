"""The encode loop.

1. Texts are tokenised in chunks, so that token ids of the whole corpus never stand in memory at once.
2. Within a chunk they are sorted by length and packed into batches of a token budget: little is padded.
3. Each batch runs without gradients, in bfloat16 where asked for or where the hardware computes in it; vectors
   are returned in fp32, in the order of the texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel

from retriever.data.ragged import Ragged
from retriever.errors import DataError, ModelError, refuse_text

if TYPE_CHECKING:
    from retriever.encoder.encoder import Encoder, Kind

CHUNK = 8_192  # texts tokenised at a time
BATCH_TOKENS = 16_384  # of a batch of a static encoder
CPU_BATCH_TOKENS = 1_024  # padded, of a transformer on a CPU: what stays in its caches is 1.2 to 1.5 times as fast
GPU_BATCH_TOKENS = 65_536  # likewise elsewhere: what fills it
KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


@dataclass(frozen=True, slots=True)
class Report:
    """What an encode call met: texts, tokens of text kept, and texts that were cut to the model's limit."""

    texts: int
    tokens: int
    truncated: int


def check_input(texts: object, kind: str) -> None:
    """See that texts are several, and that their kind is known.

    Raises:
        DataError: They are one text, whose letters would be encoded.
        ModelError: The kind is unknown: no prompt would be put before them.
    """
    refuse_text("texts", texts)
    if kind not in ("query", "document"):
        raise ModelError(f"kind is {kind!r}; choose query or document.")


def encode(
    encoder: Encoder,
    texts: Sequence[str],
    kind: Kind,
    batch_tokens: int | None,
    dtype: str,
    progress: Callable[[int], None] | None,
) -> tuple[NDArray[np.float32], Report]:
    """See :meth:`Encoder.encode`; also returns the report."""
    vectors = np.empty((len(texts), encoder.dimension), np.float32)
    prompt = encoder.prompts.get(kind, "")
    kept = truncated = 0
    for start in range(0, len(texts), CHUNK):
        chunk = texts[start : start + CHUNK]
        try:
            tokens = encoder.text_tokenizer.encode([prompt + text for text in chunk] if prompt else chunk)
        except (TypeError, AttributeError):
            _refuse_mangled(chunk, start)
            raise
        if encoder.limit is not None:
            truncated += int((tokens.lengths > encoder.limit).sum())
            tokens = tokens.cut(encoder.limit)
        kept += int(tokens.offsets[-1])
        found = vectors[start : start + len(chunk)] = embed(encoder, tokens, kind, batch_tokens, dtype, progress)
        _check_finite(found, start)
    return vectors, Report(len(texts), kept, truncated)


def embed(
    encoder: Encoder,
    tokens: Ragged,
    kind: Kind,
    batch_tokens: int | None,
    dtype: str,
    progress: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Vectors (N, D) of N rows of token ids, which hold no special tokens; longer rows are cut."""
    budget, device = BATCH_TOKENS, encoder.device
    if encoder.limit is not None:
        tokens = tokens.cut(encoder.limit)
        budget = CPU_BATCH_TOKENS if device.type == "cpu" else GPU_BATCH_TOKENS
    vectors = np.empty((len(tokens), encoder.dimension), np.float32)
    was_training = encoder.stack.training
    if was_training:
        encoder.stack.eval()
    try:
        with torch.inference_mode(), arithmetic(device, dtype):
            for rows in packs(tokens.lengths + encoder.frame, batch_tokens or budget):
                out = encoder(encoder.features(tokens.take(rows), kind))
                vectors[rows] = out.float().cpu().numpy()
                if progress is not None:
                    progress(len(rows))
    finally:
        if was_training:
            encoder.stack.train()
    return vectors


def _check_finite(vectors: NDArray[np.float32], first: int) -> None:
    """See that vectors (N, D), of texts numbered from ``first`` on, are numbers.

    Raises:
        DataError: One of them is not.
    """
    with np.errstate(all="ignore"):
        if np.isfinite(vectors.sum()):  # quicker than to look at each number
            return
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        raise DataError(
            f"The vector of text {first + broken[0]}, counted from 0, holds NaN or infinity: the encoder is broken, "
            "train or load it again."
        )


def _refuse_mangled(texts: Sequence[object], first: int) -> None:
    """Name the first of the texts, numbered from ``first`` on, that is none; a tokenizer met one.

    Raises:
        DataError: There is one.
    """
    for number, text in enumerate(texts, first):
        if not isinstance(text, str):
            raise DataError(f"Text {number}, counted from 0, is no string but {type(text).__name__}: give strings.")
        if text.encode(errors="ignore") != text.encode(errors="surrogatepass"):
            raise DataError(f"Text {number}, counted from 0, has half a surrogate pair in it: mend it.")


def packs(lengths: NDArray[np.int64], budget: int) -> Iterator[NDArray[np.int64]]:
    """Rows sorted by falling length, cut into batches whose padded size stays within ``budget`` tokens."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        width = max(int(lengths[order[start]]), 1)
        stop = start + max(budget // width, 1)
        yield order[start:stop]
        start = stop


@contextmanager
def arithmetic(device: torch.device, dtype: str) -> Iterator[None]:
    """How a model computes: in the mixed precision of a ``--dtype`` value, and by which kernels of attention.

    On CUDA the kernels of cuDNN are left out: they make a plan for every new shape of a batch, which can take ten times
    as long as computing it.

    Raises:
        ModelError: Unknown value.
    """
    if dtype not in ("auto", "float32", "bfloat16"):
        raise ModelError(f"dtype is {dtype!r}; choose auto, float32 or bfloat16.")
    low = dtype == "bfloat16" or (dtype == "auto" and has_bfloat16(device))
    with ExitStack() as stack:
        stack.enter_context(torch.autocast(device.type, torch.bfloat16, enabled=low))
        if device.type == "cuda":
            stack.enter_context(sdpa_kernel(KERNELS))
        yield


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies matrices in bfloat16 (not merely emulates it)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # private: a torch without them counts as "no"
    return device.type == "cpu" and any(getattr(torch.cpu, probe, bool)() for probe in probes)
