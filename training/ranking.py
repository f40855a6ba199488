"""Ranking distillation: the student orders the texts of a batch as frozen teachers do.

After RankCSE (Liu et al. 2023, arXiv 2305.16726):

1. Before training each teacher encodes, once, every text that a batch will hold.
2. In a batch the student's scores of text i are the cosines of its first view with the other texts' second views; the
   teachers' are the weighted mean of their cosines.
3. To the contrastive loss are added ListNet or ListMLE of the two, and the divergence of the student's scores from
   those with first and second view exchanged (:mod:`retriever.training.objectives.ranking`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retriever.data.corpus import Corpus
from retriever.encoder import Encoder
from retriever.reporting import Reporter
from retriever.training import parallel
from retriever.training.objectives.ranking import consistency, listmle, listnet, others
from retriever.training.recipe import Ranking, Recipe

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Teachers:
    """What the teachers think of T texts.

    Attributes:
        rows: Numbers of the texts in their corpus, rising, (T,).
        vectors: Of each teacher, of length 1 in half precision, (T, D_t).
        shares: Of each teacher in the mean of their cosines.
        settings: Losses, their weights and temperatures.
        temperature: τ of the divergence, that of the contrastive loss.
    """

    rows: Ids
    vectors: list[Tensor]
    shares: Sequence[float]
    settings: Ranking
    temperature: float

    def loss(self, queries: Tensor, documents: Tensor, rows: Ids) -> Tensor:
        """Mean over the texts of all processes, this process' part of it: the parts add up to the whole.

        Args:
            queries: First views of this process' texts, (B, D).
            documents: Their other views, views-major, (V · B, D); the first of them is compared.
            rows: Their numbers in the corpus, (B,).
        """
        size, settings = len(queries), self.settings
        first = parallel.rank() * size
        own = [torch.nn.functional.normalize(part, dim=-1) for part in (queries, documents[:size])]
        everybody = [parallel.gather(part) for part in own]  # (W · B, D)
        scores, back = (others(a @ b.T, first) for a, b in zip(own, everybody[::-1], strict=True))
        teacher = others(self.scores(rows).to(queries.device), first)
        if settings.loss == "listnet":
            ranked = listnet(scores, teacher, settings.student_temperature, settings.teacher_temperature)
        else:
            ranked = listmle(scores, teacher, settings.student_temperature)
        loss = settings.weight * ranked
        if settings.consistency:
            loss = loss + settings.consistency * consistency(scores, back, self.temperature)
        return loss.sum() / (size * parallel.world())

    def scores(self, rows: Ids) -> Tensor:
        """The teachers' cosines of this process' texts with those of all processes, (B, W · B)."""
        own = torch.from_numpy(np.searchsorted(self.rows, rows))
        everybody = parallel.gather(own)
        parts = [
            share * (vectors[own].float() @ vectors[everybody].float().T)
            for share, vectors in zip(self.shares, self.vectors, strict=True)
        ]
        return torch.stack(parts).sum(0)


def ask_teachers(corpus: Corpus, rows: Ids, recipe: Recipe, device: torch.device, reporter: Reporter) -> Teachers:
    """Let the teachers encode some texts.

    Args:
        corpus: All texts.
        rows: Numbers of those that training will meet, rising, (T,).
        recipe: With a section ``ranking``.
        device: Where the teachers run.
        reporter: Hears of progress.

    Raises:
        ModelError: A teacher cannot be opened.
    """
    settings = recipe.ranking
    assert settings is not None
    wanted = set(rows.tolist())
    texts = [document.content for row, document in enumerate(corpus) if row in wanted]
    vectors = []
    for name in settings.teachers:
        teacher = open_teacher(name, settings, device)
        with reporter.stage(f"encode {name}", len(texts)) as advance:
            found = torch.from_numpy(teacher.encode(texts, dtype=recipe.dtype, progress=advance))
        vectors.append(torch.nn.functional.normalize(found).half())
    weights = settings.weights or [1.0] * len(vectors)
    return Teachers(
        rows, vectors, [weight / sum(weights) for weight in weights], settings, recipe.objective.temperature
    )


def open_teacher(name: str, settings: Ranking, device: torch.device) -> Encoder:
    """A frozen encoder; with ``ranking.pooling`` that one instead of its own.

    Raises:
        ModelError: There is no such model.
    """
    if settings.pooling is None:
        return Encoder.load(name, str(device))
    teacher = Encoder.pretrained(name, pooling=settings.pooling)
    teacher.stack.to(device)
    return teacher
