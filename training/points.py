"""Points and labels as tokens: what a step contrasts where texts have labels.

1. A batch has points, the labels it may be scored against (candidates), and two lots of pairs between them: positives,
   and excluded pairs, which take part in nothing.
2. Candidates are all labels, or the positives of the batch's points, or these and hard negatives drawn from shortlists.
3. A filter pair (the label is the point itself, or gives it away) is excluded. So is, where one positive of a point is
   drawn, every other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack
from torch import Tensor

from retriever.data.ragged import Ragged, concatenate, prepend
from retriever.data.xmc_points import XmcLabels, XmcPoints
from retriever.encoder import Encoder, Kind
from retriever.encoder.own_tokens import begin_with, findable
from retriever.training.label_settings import LabelSpace
from retriever.training.objectives.pairs import Pairs, sample_positives

Ids = NDArray[np.int64]
Random = np.random.Generator


@dataclass(frozen=True, slots=True)
class PointBatch:
    """B points and M candidate labels.

    Attributes:
        points: B rows of tokens.
        candidates: Numbers of the labels, rising, (M,).
        positives: Pairs of a point and a candidate.
        excluded: Pairs that take part in nothing.
    """

    points: Ragged
    candidates: Ids
    positives: Pairs
    excluded: Pairs


@dataclass(frozen=True)
class PointExamples:
    """N points and L labels.

    Attributes:
        points: Tokens of the points, prompts included.
        labels: Tokens of the labels, own ones and prompts included.
        targets: Relevance (N, L).
        filtered: Filter pairs (N, L): what is stored takes part in nothing.
        usable: Labels that have a text or a token of their own, rising.
        settings: Which labels a batch sees.
    """

    points: Ragged
    labels: Ragged
    targets: csr_matrix
    filtered: csr_matrix
    usable: Ids
    settings: LabelSpace

    @classmethod
    def of(cls, points: XmcPoints, labels: XmcLabels, encoder: Encoder, settings: LabelSpace) -> PointExamples:
        """Tokenise points and labels; with ``augment`` the labels' texts are points behind the others.

        The encoder's tokens for labels (:mod:`retriever.encoder.own_tokens`) come before those of their texts.
        """
        filtered, known = points.forbidden, labels.readable
        tokens, targets = tokens_of(points.texts, encoder, "query", settings.point_tokens), points.targets
        if settings.augment:
            own = tokens_of([labels.texts[row] for row in known], encoder, "query", settings.point_tokens)
            ones = np.ones(len(known), np.float32)
            more = csr_matrix((ones, (np.arange(len(known)), known)), (len(known), len(labels)))
            tokens, targets = concatenate([tokens, own]), vstack([targets, more], "csr")
            filtered = vstack([filtered, csr_matrix(more.shape, dtype=np.float32)], "csr")
        rows = tokens_of(labels.texts, encoder, "document", settings.label_tokens)
        if encoder.own_tokens is not None:
            rows = begin_with(encoder.own_tokens.find(labels.ids, labels.texts), rows)
        return cls(tokens, rows, targets, filtered, findable(encoder, labels), settings)

    @property
    def fingerprint(self) -> str:
        """Of tokens and targets."""
        digest = hashlib.sha256()
        for part in (self.points, self.labels):
            digest.update(part.ids.tobytes() + part.offsets.tobytes())
        for matrix in (self.targets, self.filtered):
            digest.update(matrix.indices.astype(np.int64).tobytes() + matrix.indptr.astype(np.int64).tobytes())
        return digest.hexdigest()

    @property
    def trainable(self) -> Ids:
        """Points with a usable label."""
        mask = np.zeros(self.targets.shape[1], np.float32)
        mask[self.usable] = 1
        found: Ids = np.flatnonzero(self.targets @ mask > 0).astype(np.int64)
        return found

    def draw(self, rows: Ids, random: Random, shortlist: NDArray[np.int32] | None = None) -> PointBatch:
        """The batch of these points.

        Args:
            rows: The points, (B,).
            random: Draws positives and negatives.
            shortlist: Wrong labels of each point, the best first, (N, K); −1 where there are no more.
        """
        targets, filtered = self.targets[rows], self.filtered[rows]
        if self.settings.candidates == "all":
            candidates = self.usable
        else:
            drawn = [targets.indices.astype(np.int64)]
            if shortlist is not None:
                places = random.integers(0, shortlist.shape[1], (len(rows), self.settings.negatives))
                drawn.append(np.take_along_axis(shortlist[rows], places, 1).ravel().astype(np.int64))
            candidates = np.intersect1d(np.concatenate(drawn), self.usable)
        positives, excluded = pairs(targets, candidates), pairs(filtered, candidates)
        if self.settings.positives == "one":
            generator = torch.Generator().manual_seed(int(random.integers(2**62)))
            positives, excluded = sample_positives(positives, excluded, generator=generator)
        return PointBatch(self.points.take(rows), candidates, positives, excluded)


def tokens_of(texts: Sequence[str], encoder: Encoder, kind: Kind, limit: int | None) -> Ragged:
    """Tokens of texts behind the prompt of their kind, cut to a limit or to what the encoder reads."""
    tokens = encoder.text_tokenizer.encode(texts)
    limit = encoder.limit if limit is None else limit
    return prepend(encoder.prompt_tokens(kind), tokens if limit is None else tokens.cut(limit))


def pairs(matrix: csr_matrix, candidates: Ids) -> Pairs:
    """The entries of a sparse matrix (B, L) in the columns of the candidates, which are numbered from 0 on."""
    entries = matrix.tocoo()
    places = np.searchsorted(candidates, entries.col)
    here = places < len(candidates)
    here[here] = candidates[places[here]] == entries.col[here]
    rows, columns = (torch.from_numpy(values[here].astype(np.int64)) for values in (entries.row, places))
    weights: Tensor = torch.from_numpy(entries.data[here].astype(np.float64))
    return Pairs.of(rows, columns, weights)
