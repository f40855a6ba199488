"""What a batch tells about the health of training, beside its loss.

- accuracy: share of the queries whose own document scores highest;
- alignment: mean squared distance of a pair on the unit sphere (Wang & Isola 2020, arXiv 2005.10242), lower is closer;
- uniformity: log of the mean Gaussian potential over document pairs, lower is more spread out;
- std of queries and of documents: mean over the dimensions of the standard deviation in the batch, 0 in collapse;
- effective rank: exponential of the entropy of the covariance spectrum (Roy & Vetterli 2007), D at best, 1 in collapse.

Of a finished model, over whole sets of texts, :mod:`retriever.eval.analysis` takes the same measures.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

SAMPLE = 256  # vectors of a batch looked at for uniformity and effective rank
BLOCK = 1_024  # rows of the similarity matrix that uniformity holds at a time
NOISE = 1e-6  # relative; singular values below it are the arithmetic's


@torch.no_grad()
def diagnose(queries: Tensor, documents: Tensor) -> dict[str, float]:
    """The measures of B queries (B, D) and their documents (M, D), of which document i belongs to query i."""
    queries, documents = queries.detach().float(), documents.detach().float()
    best = (queries @ documents.T).argmax(1)  # (B,)
    q, d = F.normalize(queries), F.normalize(documents)
    values = {
        "accuracy": (best == torch.arange(len(best), device=best.device)).float().mean(),
        "alignment": alignment(q, d[: len(q)]),
        "uniformity": uniformity(d[:SAMPLE]),
        "std_queries": queries.std(0).mean(),
        "std_documents": documents.std(0).mean(),
        "effective_rank": effective_rank(singular_values(documents[:SAMPLE])),
    }
    return {name: float(value) for name, value in values.items()}


def alignment(first: Tensor, second: Tensor) -> Tensor:
    """``mean ‖x − y‖²`` over P unit vectors (P, D) and their partners (P, D)."""
    return (first - second).square().sum(1).mean()


def uniformity(units: Tensor) -> Tensor:
    """``log mean exp(−2 ‖x − y‖²)`` over all pairs of N ≥ 2 unit vectors (N, D)."""
    total = units.new_zeros(())
    for start in range(0, len(units), BLOCK):
        cosines = units[start : start + BLOCK] @ units[start:].T  # (B, N - start); on the sphere ‖x − y‖² = 2 − 2 cos
        total += (cosines - 1).clamp(max=0).mul(4).exp().triu(1).sum()
    return (total / (len(units) * (len(units) - 1) / 2)).log()


def singular_values(vectors: Tensor) -> Tensor:
    """Singular values of N centred vectors (N, D), the largest first; 0 below the noise of the arithmetic."""
    values: Tensor = torch.linalg.svdvals(vectors - vectors.mean(0))
    return values.where(values > NOISE * vectors.norm(), 0)


def effective_rank(values: Tensor) -> Tensor:
    """``exp(H(λ / Σ λ))`` over the eigenvalues λ of a covariance, given as the singular values of centred vectors."""
    spectrum = values.square()
    shares = spectrum / spectrum.sum().clamp_min(1e-12)
    rank: Tensor = torch.special.entr(shares).sum().exp()
    return rank
