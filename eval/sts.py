"""Evaluation on semantic textual similarity: does the cosine of two sentences order pairs as people do?

1. Encode each distinct sentence once, over all sets together; the protocols of others encode it once for each pair.
2. The similarity of a pair is the cosine of its two vectors, rounded to six decimals: below stands float32's noise, and
   pairs that tie must not be told apart by it. A vector of zeros has cosine 0 with everything.
3. Score. ``all`` concatenates the subsets of a year and takes one Spearman correlation with average ranks, as SimCSE
   and its successors do. ``mean`` and ``wmean`` average the correlations of the subsets, plainly or weighted by pairs,
   as SentEval does. The three do not compare (BERT-flow on STS12: 58.40 by ``all``, 63.48 by ``wmean``).
4. The average over the seven sets is the mean of their scores in percent, each rounded to two decimals, as in papers.
5. Intervals are percentiles of bootstrap resamples of the pairs. For ``mean`` and ``wmean`` these are drawn within each
   subset, for the average over the seven within each set.

Nothing is cut to a length of training, and vectors are computed in float32 unless asked otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from retriever.data.sts import SEVEN, StsSet, load_sts
from retriever.encoder.encoder import Encoder, Kind
from retriever.encoder.pairs import Array, PairSimilarity, compare, encode_sets, flat, pearson, spearman
from retriever.errors import DataError, ModelError
from retriever.eval.sts_bootstrap import percentiles, resampled_spearman

Aggregate: TypeAlias = Literal["all", "mean", "wmean"]

RESAMPLES = 1_000


@dataclass(frozen=True)
class StsResults:
    """What an evaluation found; all correlations are fractions.

    Attributes:
        metrics: Set → Spearman correlation, and ``avg`` if all seven sets were evaluated.
        intervals: Set → low and high end of the 95 % bootstrap interval of its metric; empty without resamples.
        pearson: Set → Pearson correlation, aggregated alike.
        subsets: Set → subset → Spearman correlation, for sets of several; ``None`` where it is undefined.
        pairs: Set → number of scored pairs.
        dropped: Set → number of rows left out because they have no gold score.
        splits: Set → ``test``, ``dev``, ``train`` or ``all``.
        aggregate: How subsets were put together.
        similarity: How vectors were compared.
        lower: Whether texts were lower-cased first.
    """

    metrics: dict[str, float]
    intervals: dict[str, list[float]]
    pearson: dict[str, float]
    subsets: dict[str, dict[str, float | None]]
    pairs: dict[str, int]
    dropped: dict[str, int]
    splits: dict[str, str]
    aggregate: Aggregate
    similarity: PairSimilarity
    lower: bool

    @property
    def missing(self) -> list[str]:
        """Those of the papers' seven sets that were not evaluated."""
        return [name for name in SEVEN if name not in self.metrics]

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain types that `json.dumps` takes."""
        return asdict(self)


def evaluate_sts(
    encoder: Encoder,
    sets: str | Path | Sequence[StsSet],
    *,
    aggregate: Aggregate = "all",
    similarity: PairSimilarity = "cosine",
    lower: bool = False,
    kind: Kind = "document",
    resamples: int = RESAMPLES,
    seed: int = 0,
    dtype: str = "float32",
    progress: Callable[[int], None] | None = None,
) -> StsResults:
    """Evaluate an encoder on STS sets.

    During training, read the sets once and leave out the intervals::

        dev = load_sts("data/sts", split="dev", only=["STSB"])
        evaluate_sts(encoder, dev, resamples=0).metrics["STSB"]

    Args:
        encoder: The encoder.
        sets: What :func:`retriever.data.sts.load_sts` gave, or a folder of sets, whose test pairs are taken.
        aggregate: How the subsets of a set make one score.
        similarity: How vectors are compared; ``euclidean`` is the negative distance.
        lower: Lower-case texts first, as SentEval's download script does; matters to cased models.
        kind: Whose prompt is put before both sentences.
        resamples: Bootstrap resamples; 0 for no intervals.
        seed: Seed of the draws.
        dtype: Precision of encoding: ``float32``, ``bfloat16`` or ``auto``.
        progress: Called with the number of texts just encoded.

    Returns:
        Scores, intervals and counts of every set.

    Raises:
        DataError: There is no set, two have the same name, all gold scores of one are equal, or an argument is none of
            those it can be.
        ModelError: The model gives all pairs of a set the same similarity, so that they have no order.
    """
    for name, value, kinds in (("aggregate", aggregate, Aggregate), ("similarity", similarity, PairSimilarity)):
        if value not in get_args(kinds):
            raise DataError(f"There is no {name} {value!r}: choose from {', '.join(get_args(kinds))}.")
    sets = load_sts(sets) if isinstance(sets, (str, Path)) else list(sets)
    names = [one.name for one in sets]
    if not sets or len(set(names)) < len(names):
        raise DataError(f"The sets to evaluate are {', '.join(names) or 'none'}: give one or more, and each once.")
    vectors, rows = encode_sets(encoder, sets, lower=lower, kind=kind, dtype=dtype, progress=progress)
    metrics, pearsons, draws = {}, {}, {}
    subsets: dict[str, dict[str, float | None]] = {}
    for one, of_set in zip(sets, rows, strict=True):
        scores = [compare(vectors[pairs[:, 0]], vectors[pairs[:, 1]], similarity) for pairs in of_set]
        parts, weights = _parts(one, scores, aggregate)
        metrics[one.name] = float(weights @ [_defined(spearman, *part) for part in parts])
        pearsons[one.name] = float(weights @ [_defined(pearson, *part) for part in parts])
        rng = np.random.default_rng([seed, *one.name.encode()])  # a set has the same draws whatever stands beside it
        draws[one.name] = weights @ [resampled_spearman(x, y, resamples, rng) for _, x, y in parts]  # (R,)
        if len(scores) > 1:
            subsets[one.name] = {
                subset.name: spearman(score, subset.gold) for subset, score in zip(one.subsets, scores, strict=True)
            }
    if set(SEVEN) <= metrics.keys():
        metrics["avg"] = sum(round(100 * metrics[name], 2) for name in SEVEN) / len(SEVEN) / 100
        draws["avg"] = np.mean([draws[name] for name in SEVEN], axis=0)
    return StsResults(
        metrics=metrics,
        intervals={name: ends for name, drawn in draws.items() if (ends := percentiles(drawn)) is not None},
        pearson=pearsons,
        subsets=subsets,
        pairs={one.name: len(one) for one in sets},
        dropped={one.name: one.dropped for one in sets},
        splits={one.name: one.split for one in sets},
        aggregate=aggregate,
        similarity=similarity,
        lower=lower,
    )


def _parts(one: StsSet, scores: list[Array], aggregate: Aggregate) -> tuple[list[tuple[str, Array, Array]], Array]:
    """What is correlated, each with its name and gold scores, and the weight of each in the set's score."""
    if aggregate == "all" or len(scores) == 1:
        return [(one.name, np.concatenate(scores), one.gold)], np.ones(1)
    parts = [(f"{one.name}, {s.name}", score, s.gold) for s, score in zip(one.subsets, scores, strict=True)]
    sizes = np.array([len(s) if aggregate == "wmean" else 1 for s in one.subsets])
    return parts, sizes / sizes.sum()


def _defined(correlate: Callable[[Array, Array], float | None], name: str, scores: Array, gold: Array) -> float:
    """A correlation that exists, or a sentence."""
    found = correlate(scores, gold)
    if found is not None:
        return found
    if flat(gold):
        raise DataError(
            f"All pairs of {name} have the same gold score: a correlation needs several, so add such pairs."
        )
    raise ModelError(
        f"The model gives all pairs of {name} the same similarity, so they have no order: its vectors have collapsed; "
        "train it with a lower learning rate, or take an earlier checkpoint."
    )
