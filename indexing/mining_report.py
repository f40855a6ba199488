"""What mining found: counts, and the spread of scores and ranks, read off the lines it wrote."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

NUMBERS = ("positive score", "negative score", "positive rank", "negative rank")


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and percentiles of some numbers; None where there are none, or where it lies among numbers left open."""

    mean: float | None
    p5: float | None
    p50: float | None
    p95: float | None

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Spread:
        """The spread of numbers, of which None is one beyond all others."""
        if not values:
            return cls(None, None, None, None)
        numbers = np.array([np.inf if value is None else value for value in values])
        found = [numbers.mean(), *np.percentile(numbers, [5, 50, 95], method="inverted_cdf")]
        return cls(*(float(value) if np.isfinite(value) else None for value in found))


@dataclass(frozen=True, slots=True)
class MiningReport:
    """Statistics of a mined file.

    Attributes:
        queries: Lines.
        with_negatives: Lines with at least one negative.
        negatives: Negatives of all lines.
        sources: Of these, how many each ranking gave.
        false_negatives: Candidates left out because they score too near the positive.
        documents: Documents of the pool.
        duplicates: Of these, how many repeat an earlier one's text, and were dropped.
        last: The worst rank asked for.
        found: Share of the positives that the model ranks within it.
        spreads: The spread of each of ``NUMBERS``.
    """

    queries: int
    with_negatives: int
    negatives: int
    sources: dict[str, int]
    false_negatives: int
    documents: int
    duplicates: int
    last: int
    found: float
    spreads: dict[str, Spread]

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain types that `json.dumps` takes."""
        return {**asdict(self), "negatives_per_query": self.negatives / self.queries}


def summarise(path: Path, *, documents: int, texts: int, last: int) -> MiningReport:
    """Read off what a mined file holds.

    Args:
        path: What :func:`retriever.indexing.mining.mine` wrote.
        documents: Documents of the pool.
        texts: Distinct texts of the pool.
        last: The worst rank asked for.
    """
    numbers: dict[str, list[float | None]] = {name: [] for name in NUMBERS}
    sources: Counter[str] = Counter()
    queries = with_negatives = false_negatives = 0
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            queries += 1
            with_negatives += bool(record["negatives"])
            false_negatives += record["false_negatives"]
            sources.update(negative["source"] for negative in record["negatives"])
            for name in NUMBERS:
                kind, value = name.split()
                numbers[name] += [entry[value] for entry in record[f"{kind}s"]]
    ranks = numbers["positive rank"]
    return MiningReport(
        queries=queries,
        with_negatives=with_negatives,
        negatives=sources.total(),
        sources=dict(sources),
        false_negatives=false_negatives,
        documents=documents,
        duplicates=documents - texts,
        last=last,
        found=sum(rank is not None for rank in ranks) / len(ranks),
        spreads={name: Spread.of(values) for name, values in numbers.items()},
    )
