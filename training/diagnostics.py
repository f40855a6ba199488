"""What a batch tells about the health of training, beside its loss.

- accuracy: share of the queries whose own document scores highest;
- alignment: mean squared distance of a pair on the unit sphere (Wang & Isola 2020, arXiv 2005.10242), lower is closer;
- uniformity: log of the mean Gaussian potential over document pairs, lower is more spread out;
- std of queries and of documents: mean over the dimensions of the standard deviation in the batch, 0 in collapse;
- effective rank: exponential of the entropy of the covariance spectrum (Roy & Vetterli 2007), D at best, 1 in collapse.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

SAMPLE = 256  # vectors looked at for uniformity and effective rank


@torch.no_grad()
def diagnose(queries: Tensor, documents: Tensor) -> dict[str, float]:
    """The measures of B queries (B, D) and their documents (M, D), of which document i belongs to query i."""
    queries, documents = queries.detach().float(), documents.detach().float()
    best = (queries @ documents.T).argmax(1)  # (B,)
    q, d = F.normalize(queries), F.normalize(documents)
    distances = torch.pdist(d[:SAMPLE]).square()
    values = {
        "accuracy": (best == torch.arange(len(best), device=best.device)).float().mean(),
        "alignment": (q - d[: len(q)]).square().sum(1).mean(),
        "uniformity": distances.mul(-2).exp().mean().log(),
        "std_queries": queries.std(0).mean(),
        "std_documents": documents.std(0).mean(),
        "effective_rank": effective_rank(documents[:SAMPLE]),
    }
    return {name: float(value) for name, value in values.items()}


def effective_rank(vectors: Tensor) -> Tensor:
    """``exp(H(λ / Σ λ))`` over the eigenvalues λ of the covariance of N vectors, (N, D)."""
    centred = vectors - vectors.mean(0)
    spectrum = torch.linalg.svdvals(centred).square()
    shares = spectrum / spectrum.sum().clamp_min(1e-12)
    rank: Tensor = torch.special.entr(shares).sum().exp()
    return rank
