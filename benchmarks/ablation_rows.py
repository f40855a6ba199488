"""The rows of the Contriever ablation: what each changes in the recipe.

All rows change the one reference, :data:`REFERENCE`, and see the same number of pairs. Rows of batch 256 so take the
same number of steps too; larger batches take fewer steps, as the same reading of the corpus in larger bites.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BATCH = 256  # pairs a step, unless a row says otherwise
STEPS = 512  # of the reference
MOMENTUM = 0.99  # of the rows that vary the queue's size
RECIPE = "contriever-cpu"
REFERENCE = "crop, 255 in-batch negatives"

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """A variant of the reference.

    Attributes:
        group: What is varied: ``views``, ``momentum``, ``negatives`` or ``crops``.
        name: As the table shows it.
        changes: Recipe keys and values.
        batch: Pairs a step.
        longer: How many times the pairs of the reference it sees.
    """

    group: str
    name: str
    changes: Settings = field(default_factory=dict)
    batch: int = BATCH
    longer: int = 1

    def settings(self, seed: int, steps: int) -> dict[str, Any]:
        """Everything that differs from the recipe, where the reference takes ``steps`` steps.

        No document is held out and the last step is kept, so no row is favoured by what it is selected on. The loss has
        one direction, as a queue has no opposite one.
        """
        return {
            "seed": seed,
            "batch.size": self.batch,
            "schedule.epochs": None,
            "schedule.steps": max(1, steps * self.longer * BATCH // self.batch),
            "selection.queries": 0,
            "selection.every": 100_000,
            "log_every": 100_000,
            "objective.symmetric": False,
            "views.mix": {"crop": 1.0},
            **self.changes,
        }


def _queue(size: int, momentum: float | None) -> Settings:
    return {"negatives.in_batch": False, "negatives.queue": size, "negatives.momentum": momentum}


def _documents(low: float, high: float) -> Settings:
    return {"views.document": {"ratio": [low, high]}}


def _both(low: float, high: float) -> Settings:
    return {"views.query": {"ratio": [low, high]}, **_documents(low, high)}


ROWS = [
    Row("", REFERENCE),
    Row("views", "inverse cloze", {"views.mix": {"cloze": 1.0}}),
    Row("views", "crop + 10 % deleted", {"views.delete": 0.1}),
    Row("views", "crop + 30 % deleted", {"views.delete": 0.3}),
    Row("views", "crop + 10 % replaced", {"views.replace": 0.1}),
    Row("momentum", "queue 256, same encoder", _queue(256, None)),
    Row("momentum", "queue 256, momentum 0.9", _queue(256, 0.9)),
    Row("momentum", "queue 256, momentum 0.99", _queue(256, 0.99)),
    Row("momentum", "queue 256, momentum 0.999", _queue(256, 0.999)),
    Row("negatives", "in-batch 63", batch=64),
    Row("negatives", "in-batch 1,023", batch=1_024),
    Row("negatives", "in-batch 4,095", batch=4_096),
    Row("negatives", "in-batch 1,023, equal steps", batch=1_024, longer=4),
    Row("negatives", "in-batch 255 + queue 4,096", {"negatives.queue": 4_096}),
    Row("negatives", "queue 1,024, momentum 0.99", _queue(1_024, MOMENTUM)),
    Row("negatives", "queue 4,096, momentum 0.99", _queue(4_096, MOMENTUM)),
    Row("negatives", "queue 16,384, momentum 0.99", _queue(16_384, MOMENTUM)),
    Row("crops", "document 5–25 %", _documents(0.05, 0.25)),
    Row("crops", "document 25–75 %", _documents(0.25, 0.75)),
    Row("crops", "document 50–100 %", _documents(0.5, 1.0)),
    Row("crops", "document whole", _documents(1.0, 1.0)),
    Row("crops", "both 5–50 %, as the paper", _both(0.05, 0.5)),
    Row("crops", "both 20–80 %", _both(0.2, 0.8)),
]
"""Group by group; the reference first."""

GROUPS = list(dict.fromkeys(row.group for row in ROWS if row.group))


@dataclass(frozen=True)
class Claim:
    """A finding of the paper: the row ``better`` beats the row ``worse``."""

    sentence: str
    better: str
    worse: str


CLAIMS = [
    Claim("Cropping beats the inverse cloze task (Table 7)", REFERENCE, "inverse cloze"),
    Claim("Deletion helps cropping (Table 7)", "crop + 10 % deleted", REFERENCE),
    Claim("More negatives help, in the queue (Figure 2)", "queue 16,384, momentum 0.99", "queue 256, momentum 0.99"),
    Claim("More negatives help, in the batch", "in-batch 1,023", REFERENCE),
    Claim("In-batch beats the queue at equal negatives (Table 6)", REFERENCE, "queue 256, momentum 0.999"),
]
"""Izacard et al. 2021 (arXiv 2112.09118), section 6."""
