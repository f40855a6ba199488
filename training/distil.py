"""A teacher better than its student: BM25 and the start's own scores together.

1. Score all documents of a pool for each pseudo-query, by the encoder as it was before training and by BM25. Its own
   document is left out.
2. Standardise the scores of the best documents of each (mean 0, standard deviation 1); worse documents get the lowest
   of these. The teacher's score is their weighted sum: the hybrid that beats both of its parts nearly everywhere.
3. The candidates are the teacher's best K documents. Its scores among them are given the mean and the spread of the
   start's: teacher and start then differ in the order alone, and where BM25 knows nothing the start teaches itself.
4. The student's softmax over the candidates is to match the teacher's (knowledge distillation; Hinton et al. 2015,
   arXiv 1503.02531; a lexical teacher as in LaPraDoR, Xu et al. 2022, arXiv 2203.06169). The temperature counts in
   standard deviations of the start's scores, so that it fits any encoder and both similarities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retriever.training.lexical import LexicalScores
from retriever.training.pseudo import Pseudo

BLOCK = 256  # queries scored at a time
DEPTH = 200  # best documents of each system that are standardised
TINY = 1e-6

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Lessons:
    """What the teacher says of Q pseudo-queries over N documents.

    Attributes:
        queries: Vectors of the start, (Q, D).
        documents: Vectors of the start, (N, D).
        candidates: Documents the teacher ranks best, (Q, K).
        targets: Their probabilities, (Q, K).
        scale: What scores are divided by before the softmax.
    """

    queries: Tensor
    documents: Tensor
    candidates: Tensor
    targets: Tensor
    scale: float

    def __len__(self) -> int:
        return len(self.queries)

    def loss(self, weight: Tensor, rows: Tensor, cosine: bool) -> Tensor:
        """Cross-entropy of the student's softmax to the teacher's, (B,).

        Args:
            weight: The student: vectors are multiplied by it, (D, D).
            rows: Pseudo-queries, (B,).
            cosine: Compare by cosine, not by dot product.
        """
        queries = mapped(self.queries[rows], weight, cosine)
        documents = mapped(self.documents[self.candidates[rows]], weight, cosine)  # (B, K, D)
        scores = torch.einsum("bd,bkd->bk", queries, documents) / self.scale
        return -(self.targets[rows] * torch.log_softmax(scores, 1)).sum(1)


def mapped(vectors: Tensor, weight: Tensor, cosine: bool) -> Tensor:
    """Vectors (…, D) times the transposed weight (D, D), at length 1 if compared by cosine."""
    vectors = torch.nn.functional.linear(vectors, weight)
    return torch.nn.functional.normalize(vectors, dim=-1) if cosine else vectors


def teach(
    pseudo: Pseudo, queries: Tensor, documents: Tensor, lexical: float, candidates: int, temperature: float
) -> Lessons:
    """Rank the pool for all pseudo-queries.

    Args:
        pseudo: The pool and the pseudo-queries.
        queries: Their vectors, (Q, D), of length 1 if compared by cosine.
        documents: Vectors of the pool, (N, D), likewise.
        lexical: Weight of BM25; the start has 1.
        candidates: K.
        temperature: In standard deviations of the start's scores among the candidates.

    Raises:
        DataError: The pool holds no words.
    """
    bm25 = LexicalScores(pseudo.documents)
    chosen, scores, spreads = [], [], []
    for first in range(0, len(queries), BLOCK):
        block = slice(first, first + BLOCK)
        own = (np.arange(len(queries[block])), pseudo.own[block])
        dense = (queries[block] @ documents.T).numpy()  # (B, N)
        hybrid = standardise(dense, own) + lexical * standardise(bm25(pseudo.queries[block]), own)
        hybrid[own] = -np.inf
        best = np.argsort(-hybrid, axis=1, kind="stable")[:, : min(candidates, len(documents) - 1)]  # (B, K)
        taken, start = (np.take_along_axis(values, best, 1) for values in (hybrid, dense))
        spread = start.std(1, keepdims=True)
        chosen.append(best)
        scores.append((taken - taken.mean(1, keepdims=True)) / (taken.std(1, keepdims=True) + TINY) * spread)
        spreads.append(spread)
    scale = temperature * float(np.concatenate(spreads).mean()) + TINY
    targets = torch.softmax(torch.from_numpy(np.concatenate(scores)) / scale, 1)
    found = torch.from_numpy(np.concatenate(chosen))
    return Lessons(queries, documents, found, targets, scale)


def standardise(scores: Floats, left_out: tuple[NDArray[np.int64], NDArray[np.int64]]) -> Floats:
    """Scores (B, N) with the best ``DEPTH`` of each row at mean 0 and standard deviation 1, the others at their lowest.

    The entries left out, given by their rows and columns, count as the lowest.
    """
    scores = scores.copy()
    scores[left_out] = scores.min(1)[left_out[0]]
    depth = min(DEPTH, scores.shape[1])
    best = -np.partition(-scores, depth - 1, axis=1)[:, :depth]
    mean, spread = best.mean(1, keepdims=True), best.std(1, keepdims=True)
    standard: Floats = (np.maximum(scores, best.min(1, keepdims=True)) - mean) / (spread + TINY)
    return standard
