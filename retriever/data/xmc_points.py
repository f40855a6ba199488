"""What an extreme multi-label data set is: labels, points with their targets, and pairs that must not count.

1. A label is an id and a text. A point is an id and a text, with a row of a sparse matrix: the relevance, above 0, of
   the labels it has.
2. Where documents and labels are the same things (products that go with products), a filter pair (point, label) says
   that the label is the point itself or gives the answer away. Evaluation takes it out of the predictions.
3. Points are held out of the training part for validation, at random, but not the one of two near copies without the
   other: a score on texts that are half known says little of new ones. The test part selects nothing.
4. Labels with the same text can be made one. The merged label has the targets of all, each with its highest relevance;
   a filter pair on what has become a target is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from retriever.data.near_copies import by_first_member, groups_of_copies
from retriever.errors import DataError

Pairs = NDArray[np.int64]
"""Filter pairs (M, 2): the row of a point, the row of a label."""


@dataclass(frozen=True)
class XmcLabels:
    """L labels.

    Attributes:
        ids: Their ids.
        texts: Their texts; ``""`` where a label has none.
    """

    ids: list[str]
    texts: list[str]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def readable(self) -> NDArray[np.int64]:
        """Rows of the labels that have a text, rising: the others cannot be found."""
        return np.flatnonzero([bool(text.strip()) for text in self.texts]).astype(np.int64)


@dataclass(frozen=True)
class XmcPoints:
    """N points of one part of a data set.

    Attributes:
        ids: Their ids.
        texts: Their texts.
        targets: Relevance (N, L), float32, of the labels a point has; what is stored is above 0.
        filtered: Filter pairs (M, 2), each once, in rising order.
    """

    ids: list[str]
    texts: list[str]
    targets: csr_matrix
    filtered: Pairs

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def labels_per_point(self) -> NDArray[np.int64]:
        """How many labels each point has, (N,)."""
        counts: NDArray[np.int64] = np.diff(self.targets.indptr).astype(np.int64)
        return counts

    @property
    def forbidden(self) -> csr_matrix:
        """The filter pairs as a matrix (N, L): whatever is stored is not to be predicted."""
        return build_targets(self.filtered[:, 0], self.filtered[:, 1], np.ones(len(self.filtered)), self.targets.shape)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> XmcPoints:
        """Some of the points, in the order of ``rows``, each at most once."""
        rows = np.asarray(rows, np.int64)
        place = np.full(len(self), -1, np.int64)
        place[rows] = np.arange(len(rows))
        moved = np.column_stack([place[self.filtered[:, 0]], self.filtered[:, 1]])
        return XmcPoints(
            ids=[self.ids[row] for row in rows],
            texts=[self.texts[row] for row in rows],
            targets=self.targets[rows],
            filtered=np.unique(moved[moved[:, 0] >= 0], axis=0),
        )


@dataclass(frozen=True)
class XmcReport:
    """What a data set holds, and what is odd about it.

    Attributes:
        labels: Labels.
        labels_without_text: Of these, with an empty text: nothing that reads text can find them.
        labels_untrained: Of these, with no training point.
        labels_repeated: Of these, with the text of a label before them, white space aside.
        labels_merged: Labels that :func:`deduplicate_labels` made part of others.
        points: Part → number of points.
        pairs: Part → number of (point, label) pairs.
        points_without_labels: Part → points that have no label.
        filtered: Part → number of filter pairs.
    """

    labels: int
    labels_without_text: int
    labels_untrained: int
    labels_repeated: int
    labels_merged: int
    points: dict[str, int]
    pairs: dict[str, int]
    points_without_labels: dict[str, int]
    filtered: dict[str, int]


@dataclass(frozen=True)
class XmcDataset:
    """An extreme multi-label data set.

    Attributes:
        name: Its name; the constants of the propensity model go by it.
        labels: L labels.
        train: The points to train on.
        test: The points to evaluate on, if there are any.
        merged: Labels that :func:`deduplicate_labels` made part of others.
    """

    name: str
    labels: XmcLabels
    train: XmcPoints
    test: XmcPoints | None = None
    merged: int = 0

    @property
    def report(self) -> XmcReport:
        """The counts of the data set."""
        parts = {"train": self.train} | ({} if self.test is None else {"test": self.test})
        first = first_of_text(self.labels.texts)
        return XmcReport(
            labels=len(self.labels),
            labels_without_text=len(self.labels) - len(self.labels.readable),
            labels_untrained=int(np.count_nonzero(label_frequency(self.train) == 0)),
            labels_repeated=int(np.count_nonzero(first != np.arange(len(first)))),
            labels_merged=self.merged,
            points={name: len(points) for name, points in parts.items()},
            pairs={name: int(points.targets.nnz) for name, points in parts.items()},
            points_without_labels={
                name: int(np.count_nonzero(points.labels_per_point == 0)) for name, points in parts.items()
            },
            filtered={name: len(points.filtered) for name, points in parts.items()},
        )


def label_frequency(points: XmcPoints) -> NDArray[np.int64]:
    """How many points each label has, (L,)."""
    return np.bincount(points.targets.indices, minlength=points.targets.shape[1]).astype(np.int64)


def split_validation(points: XmcPoints, share: float = 0.1, seed: int = 0) -> tuple[XmcPoints, XmcPoints]:
    """Hold points out of a training part, so that nothing has to be selected on the test part.

    Args:
        points: The training points.
        share: Which share of the points to hold out, between 0 and 1; at least one point is. Groups of near copies
            (:mod:`retriever.data.near_copies`) are held out whole, unless they are more than a tenth of that.
        seed: Decides which.

    Returns:
        The points to train on and those held out, both in their old order.

    Raises:
        DataError: The share is out of range, or there are not two points.
    """
    held = max(1, round(share * len(points)))
    if not 0 < share < 1 or held >= len(points):
        raise DataError(
            f"A share of {share} of {len(points):,} training points cannot be held out: give a share between 0 and 1 "
            "that leaves points on both sides."
        )
    groups = _separable(groups_of_copies(points.texts), max(held // 10, 1))
    order = np.random.default_rng(seed).permutation(groups.max() + 1)
    sizes = np.bincount(groups)[order]
    chosen = np.zeros(len(sizes), bool)
    left = held
    for place, size in enumerate(sizes):
        if size <= left:
            chosen[order[place]], left = True, left - size
    return points.take(np.flatnonzero(~chosen[groups])), points.take(np.flatnonzero(chosen[groups]))


def deduplicate_labels(dataset: XmcDataset) -> XmcDataset:
    """Make labels with the same text, white space aside, one label: the first of them. Those without text stay apart.

    Returns:
        The data set over fewer labels; ``merged`` counts those that are gone.
    """
    first = first_of_text(dataset.labels.texts)
    kept, merged_to = np.unique(first, return_inverse=True)
    return replace(
        dataset,
        labels=XmcLabels([dataset.labels.ids[row] for row in kept], [dataset.labels.texts[row] for row in kept]),
        train=_merged(dataset.train, merged_to, len(kept)),
        test=None if dataset.test is None else _merged(dataset.test, merged_to, len(kept)),
        merged=dataset.merged + len(first) - len(kept),
    )


def first_of_text(texts: Sequence[str]) -> NDArray[np.int64]:
    """The first row with the text of each row, white space aside, (L,); an empty text equals no other."""
    seen: dict[str, int] = {}
    keys = (" ".join(text.split()) for text in texts)
    return np.array([seen.setdefault(key, row) if key else row for row, key in enumerate(keys)], np.int64)


def build_targets(
    rows: npt.ArrayLike, labels: npt.ArrayLike, relevance: npt.ArrayLike, shape: tuple[int, int]
) -> csr_matrix:
    """(point, label, relevance) triples → targets (N, L): repeated pairs keep the highest; 0 and less is left out."""
    points, columns = np.asarray(rows, np.int64), np.asarray(labels, np.int64)
    values = np.asarray(relevance, np.float32)
    relevant = values > 0
    points, columns, values = points[relevant], columns[relevant], values[relevant]
    order = np.lexsort((-values, columns, points))
    points, columns, values = points[order], columns[order], values[order]
    new = np.ones(len(points), bool)
    new[1:] = (np.diff(points) != 0) | (np.diff(columns) != 0)
    starts = np.concatenate([[0], np.cumsum(np.bincount(points[new], minlength=shape[0]))])
    return csr_matrix((values[new], columns[new], starts), shape=shape)


def holds(targets: csr_matrix, rows: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the targets (N, L) hold each pair of a row and a label, in their shape; label −1 is never held."""
    width = targets.shape[1]
    points = np.repeat(np.arange(targets.shape[0], dtype=np.int64), np.diff(targets.indptr))
    held: NDArray[np.bool_] = np.isin(rows * width + labels, points * width + targets.indices) & (labels >= 0)
    return held


def _separable(groups: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """The groups (N,) again, but the members of those of more than ``limit`` each alone; numbered by first members."""
    alone = np.bincount(groups)[groups] > limit
    return by_first_member(np.where(alone, len(groups) + np.arange(len(groups)), groups))


def _merged(points: XmcPoints, merged_to: NDArray[np.int64], labels: int) -> XmcPoints:
    """The points with label ``l`` renamed to ``merged_to[l]``."""
    entries = points.targets.tocoo()
    targets = build_targets(entries.row, merged_to[entries.col], entries.data, (len(points), labels))
    filtered = np.unique(np.column_stack([points.filtered[:, 0], merged_to[points.filtered[:, 1]]]), axis=0)
    return replace(points, targets=targets, filtered=filtered[~holds(targets, filtered[:, 0], filtered[:, 1])])
