"""Evaluation on extreme multi-label data: which labels does a text get, out of all?

1. Rank the labels for each point (:mod:`retriever.eval.xmc_ranking`): dense, by BM25, by both, or
   with the training points as a memory.
2. Points without labels are left out unless they are asked for, and then count as 0.
3. Score (:mod:`retriever.data.xmc_metrics`), with the label frequencies of the training points. Intervals resample the
   points and take the ratio of means anew; all rankings share the draws.
4. Groups of labels: each of head, torso and tail holds about a third of the training pairs, the most frequent labels
   in the head; labels without a training point are zero-shot. Scores of a group count its labels alone as the truth,
   over the points that have one of them; the ranking is still that of all labels. So P@k · points of the group /
   points is the group's part of P@k.

The split ``validation`` is what :func:`retriever.data.xmc_points.split_validation` holds out of the training points;
the frequencies are then those of the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from retriever.data.xmc import load_xmc
from retriever.data.xmc_metrics import (
    Array,
    Ratio,
    Rows,
    all_metrics,
    inverse_propensity,
    precision,
    propensity_constants,
    recall,
)
from retriever.data.xmc_points import XmcDataset, XmcPoints, build_targets, label_frequency, split_validation
from retriever.encoder.encoder import Encoder, Similarity
from retriever.errors import DataError
from retriever.eval.significance import bootstrap_intervals, paired_randomisation
from retriever.eval.xmc_ranking import Mode, rank_labels
from retriever.indexing.label_memory import LabelMemory
from retriever.indexing.labels import LabelIndex
from retriever.indexing.vectors import check_similarity

DEPTH = 100  # recall@100 looks this deep
RESAMPLES, FLIPS = 1_000, 10_000
THIRDS = ("head", "torso", "tail")


@dataclass(frozen=True)
class XmcResults:
    """What an evaluation found; all metrics are fractions.

    Attributes:
        dataset: Name of the data set.
        split: ``test`` or ``validation``.
        propensity: A and B of the propensity model.
        metrics: Mode → metric → value.
        intervals: Mode → metric → low and high end of the 95 % bootstrap interval; empty without resamples.
        groups: Group of labels → number of its labels, of points that have one, and mode → metric → value.
        tests: Mode beside dense search → difference of dense search to it at P@1, and p-value of a paired test.
        counts: What was evaluated, and what was left out.
        scores: Mode → metric → its values (Q,) point by point; their mean is the metric. For PSP and PSnDCG they are
            divided by the mean denominator, which is the same for all rankings of these points.
        mix: λ (``share``) and τ (``temperature``) of the memory, if there is one.
    """

    dataset: str
    split: str
    propensity: tuple[float, float]
    metrics: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, list[float]]]
    groups: dict[str, dict[str, Any]]
    tests: dict[str, dict[str, float]]
    counts: dict[str, int]
    scores: dict[str, dict[str, Array]] = field(repr=False)
    mix: dict[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """All but the scores of points; the metrics of the first mode are ``metrics``, others have the mode's name."""
        first, *others = self.metrics
        return {
            "dataset": self.dataset,
            "split": self.split,
            "propensity": dict(zip("ab", self.propensity, strict=True)),
            "counts": self.counts,
            "metrics": self.metrics[first],
            **{mode: self.metrics[mode] for mode in others},
            "intervals": self.intervals,
            "groups": self.groups,
            "tests": self.tests,
            **({} if self.mix is None else {"mix": self.mix}),
        }


def evaluate_xmc(
    encoder: Encoder | None,
    dataset: XmcDataset | str | Path,
    *,
    split: str = "test",
    modes: Sequence[Mode] = ("dense", "bm25"),
    a: float | None = None,
    b: float | None = None,
    depth: int = DEPTH,
    keep_unlabelled: bool = False,
    use_filter: bool = True,
    similarity: Similarity | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    dtype: str = "auto",
    progress: Callable[[int], None] | None = None,
) -> XmcResults:
    """Evaluate an encoder on an extreme multi-label data set, with BM25 on the texts of the labels beside it.

    Args:
        encoder: The encoder; its document prompt is put before labels, its query prompt before points. BM25 alone
            needs none.
        dataset: What :func:`retriever.data.xmc.load_xmc` read, or the folder that it reads.
        split: ``test``, or ``validation`` for points held out of the training part.
        modes: The rankings to evaluate: ``dense``, ``memory``, ``bm25``, ``hybrid``. The memory holds the training
            points, and is tuned on some of them.
        a: A of the propensity model; by the name of the data set if omitted.
        b: B of the propensity model; likewise.
        depth: Labels kept for each point, at least 100.
        keep_unlabelled: Let points without labels count, as 0.
        use_filter: Take filter pairs out of the rankings.
        similarity: Similarity of the vectors, instead of the encoder's own.
        resamples: Bootstrap resamples; 0 for no intervals.
        seed: Seed of the resamples and of the tests.
        dtype: Precision of encoding: ``float32``, ``bfloat16`` or ``auto``.
        progress: Called with the number of texts just encoded: the labels, then the points, then those
            of the memory.

    Returns:
        Metrics, intervals, groups and counts.

    Raises:
        DataError: The split is missing, none of its points has a label, no label has a text, or an argument is out of
            range.
    """
    if depth < DEPTH:
        raise DataError(f"A depth of {depth} is too low for recall@{DEPTH}: keep at least {DEPTH} labels a point.")
    if similarity is not None:
        check_similarity(similarity)
    if isinstance(dataset, (str, Path)):
        dataset = load_xmc(dataset)
    constants = _constants(dataset.name, a, b)
    train, points = _parts(dataset, split)
    unlabelled = int(np.count_nonzero(points.labels_per_point == 0))
    if unlabelled == len(points):
        raise DataError(f"No {split} point of {dataset.name} has a label: there is nothing to evaluate.")
    if unlabelled and not keep_unlabelled:
        points = points.take(np.flatnonzero(points.labels_per_point))
    pairs = points.filtered if use_filter else points.filtered[:0]
    mixes: list[dict[str, float]] = []

    def remember(index: LabelIndex) -> LabelMemory:
        memory = LabelMemory.remember(index, train, dtype=dtype, progress=progress)
        mixes.append(asdict(memory.mix))
        return memory

    rankings = rank_labels(
        encoder,
        dataset.labels,
        points.texts,
        pairs,
        modes=modes,
        remember=remember,
        depth=depth,
        similarity=similarity,
        dtype=dtype,
        progress=progress,
    )
    frequency = label_frequency(train)
    weights = inverse_propensity(frequency, len(train), *constants)
    ratios = {mode: all_metrics(rows, points.targets, weights) for mode, rows in rankings.items()}
    about = {
        "points_without_labels": unlabelled,
        "filtered_pairs": len(pairs),
        "training_points": len(train),
    }
    return XmcResults(
        dataset=dataset.name,
        split=split,
        propensity=constants,
        metrics={mode: {name: ratio.value for name, ratio in of_mode.items()} for mode, of_mode in ratios.items()},
        intervals=_intervals(ratios, resamples, seed),
        groups=_groups(rankings, points.targets, frequency),
        tests=_tests(ratios, seed),
        counts=_counts(dataset, points, frequency) | about,
        scores={mode: {name: _single(ratio) for name, ratio in of_mode.items()} for mode, of_mode in ratios.items()},
        mix=mixes[0] if mixes else None,
    )


def frequency_groups(frequency: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """Group → which of the labels (L,) belong to it, for labels of these numbers of training points (L,).

    A label belongs to the third of the training pairs in which its first pair lies, labels standing by falling
    frequency; labels of equal frequency, by rising row.
    """
    order = np.argsort(-frequency, kind="stable")
    before = np.empty(len(frequency), np.int64)
    before[order] = np.cumsum(frequency[order]) - frequency[order]
    third = np.minimum(3 * before // max(1, int(frequency.sum())), 2)
    groups = {name: (third == number) & (frequency > 0) for number, name in enumerate(THIRDS)}
    return groups | {"zero-shot": frequency == 0}


def _counts(dataset: XmcDataset, points: XmcPoints, frequency: NDArray[np.int64]) -> dict[str, int]:
    """What is evaluated, and what is odd about the labels."""
    report = dataset.report
    return {
        "points": len(points),
        "pairs": int(points.targets.nnz),
        "labels": report.labels,
        "labels_without_text": report.labels_without_text,
        "labels_untrained": int(np.count_nonzero(frequency == 0)),
        "labels_repeated": report.labels_repeated,
        "labels_merged": report.labels_merged,
    }


def _constants(name: str, a: float | None, b: float | None) -> tuple[float, float]:
    usual = propensity_constants(name)
    found = usual[0] if a is None else a, usual[1] if b is None else b
    if not (0 <= found[0] < np.inf and 0 < found[1] < np.inf):
        raise DataError(f"The propensity model needs A of at least 0 and B above 0, not {found[0]} and {found[1]}.")
    return found


def _parts(dataset: XmcDataset, split: str) -> tuple[XmcPoints, XmcPoints]:
    """The training points and those to evaluate."""
    if split == "validation":
        return split_validation(dataset.train)
    if split != "test":
        raise DataError(f"There is no split {split!r}: choose test or validation.")
    if dataset.test is None:
        raise DataError(f"{dataset.name} has no test part: add one, or evaluate on the split validation.")
    return dataset.train, dataset.test


def _single(ratio: Ratio) -> Array:
    """Values (Q,) whose mean is the metric."""
    return ratio.numerators / (ratio.denominators.mean() or 1.0)


def _intervals(
    ratios: Mapping[str, Mapping[str, Ratio]], resamples: int, seed: int
) -> dict[str, dict[str, list[float]]]:
    """Percentiles of the ratios of means over points drawn with replacement."""
    if not resamples:
        return {}
    names = [(mode, metric) for mode, of_mode in ratios.items() for metric in of_mode]
    above, below = (
        np.column_stack([getattr(ratios[mode][metric], part) for mode, metric in names]) for part in Ratio._fields
    )  # (Q, M)
    ends = bootstrap_intervals(above, below, resamples=resamples, seed=seed).tolist()
    found: dict[str, dict[str, list[float]]] = {mode: {} for mode in ratios}
    for (mode, metric), interval in zip(names, ends, strict=True):
        found[mode][metric] = interval
    return found


def _tests(ratios: Mapping[str, Mapping[str, Ratio]], seed: int) -> dict[str, dict[str, float]]:
    """Dense search against each other mode, at P@1."""
    if "dense" not in ratios:
        return {}
    dense = ratios["dense"]["p@1"].numerators
    others = {mode: of_mode["p@1"].numerators for mode, of_mode in ratios.items() if mode != "dense"}
    return {
        mode: {
            "p@1": float((dense - other).mean()),
            "p": paired_randomisation(dense, other, resamples=FLIPS, seed=seed),
        }
        for mode, other in others.items()
    }


def _groups(rankings: Mapping[str, Rows], truth: csr_matrix, frequency: NDArray[np.int64]) -> dict[str, dict[str, Any]]:
    """The breakdown by label frequency; see the module's header."""
    groups: dict[str, dict[str, Any]] = {}
    entries = truth.tocoo()
    for name, members in frequency_groups(frequency).items():
        inside = members[entries.col]
        within = build_targets(entries.row[inside], entries.col[inside], entries.data[inside], truth.shape)
        having = np.flatnonzero(np.diff(within.indptr))
        groups[name] = {"labels": int(members.sum()), "points": len(having)}
        for mode, rows in rankings.items() if len(having) else ():
            found = rows[having], within[having]
            groups[name][mode] = {f"p@{k}": float(precision(*found, k).mean()) for k in (1, 3, 5)} | {
                f"recall@{k}": float(recall(*found, k).mean()) for k in (10, 100)
            }
    return groups
