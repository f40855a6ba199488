"""One recipe with several seeds, and whether two recipes differ by more than their seeds do.

1. The runs of one output folder are its sub-folders ``seed-S``: the recipe with the seed S, and nothing else changed.
2. The score of a run is that of the step it kept; over the runs it has a mean and a standard deviation (n − 1).
3. Two recipes are compared on the seeds they share, in pairs: the mean difference, its 95 % interval, and Student's
   paired t-test (Dror et al. 2018, arXiv 1809.01448, on which test for what). Where the seeds all differ alike there is
   no spread to test by, and p is that of the sign test, 2 · 2⁻ˢ for S seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from retriever.errors import DataError, OutputError, RecipeError
from retriever.files import check_beginning
from retriever.reporting import Reporter
from retriever.training.api import Data, train
from retriever.training.outcome import Outcome, read_outcome
from retriever.training.recipe import Recipe
from retriever.training.recipebook import load_recipe
from retriever.training.run_folder import MARK, RECIPE
from retriever.training.trainer import LOG

CONFIDENCE = 0.95
ROUNDING = 1e-12  # of a score; differences that are equal but for it are alike

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class SeedRuns:
    """The runs of a recipe, by seed.

    Attributes:
        folder: Holds them.
        outcomes: Seed → what came of it, by ascending seed.
    """

    folder: Path
    outcomes: dict[int, Outcome]

    def scores(self, metric: str | None = None, seeds: Sequence[int] = ()) -> tuple[str, Scores]:
        """A metric and its scores (S,); the metric that chose the steps if omitted, and all seeds.

        Raises:
            DataError: A run has no such metric.
        """
        name = metric or next(iter(self.outcomes.values())).metric
        if name is None:
            raise DataError(f"The runs in {self.folder} have no score: set selection.sts or selection.queries.")
        chosen = [self.outcomes[seed] for seed in seeds or self.outcomes]
        if lacking := [outcome for outcome in chosen if name not in outcome.metrics]:
            there = ", ".join(lacking[0].metrics) or "none"
            raise DataError(f"The runs in {self.folder} have no metric {name!r}; choose from {there}.")
        return name, np.array([outcome.metrics[name] for outcome in chosen])


@dataclass(frozen=True)
class Comparison:
    """Two recipes on the same seeds.

    Attributes:
        metric: Of the scores.
        seeds: S of them.
        first: Scores of the one, (S,).
        second: Scores of the other, (S,).
    """

    metric: str
    seeds: list[int]
    first: Scores
    second: Scores

    @property
    def difference(self) -> float:
        """Mean of the second minus mean of the first."""
        return float((self.second - self.first).mean())

    @property
    def alike(self) -> bool:
        """Whether the seeds all differ by the same."""
        return float(np.ptp(self.second - self.first)) <= ROUNDING

    @property
    def test(self) -> str:
        """What the p-value is of."""
        return "sign test" if self.alike else "paired t-test"

    @property
    def p_value(self) -> float:
        """Of the test, two-sided."""
        if not self.alike:
            return float(stats.ttest_1samp(self.second - self.first, 0).pvalue)
        return 1.0 if abs(self.difference) <= ROUNDING else 2.0 ** (1 - len(self.seeds))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the difference."""
        gaps = self.second - self.first
        half = stats.t.ppf((1 + CONFIDENCE) / 2, len(gaps) - 1) * gaps.std(ddof=1) / len(gaps) ** 0.5
        return float(gaps.mean() - half), float(gaps.mean() + half)

    def to_json(self) -> dict[str, Any]:
        """The scores and what is concluded from them."""
        return {
            "metric": self.metric,
            "seeds": self.seeds,
            "first": self.first.tolist(),
            "second": self.second.tolist(),
            "mean": [float(self.first.mean()), float(self.second.mean())],
            "sd": [float(self.first.std(ddof=1)), float(self.second.std(ddof=1))],
            "difference": self.difference,
            "interval": list(self.interval),
            "p": self.p_value,
            "test": self.test,
        }


def train_seeds(
    recipe: Recipe,
    data: Data | Sequence[Data],
    output: str | Path,
    count: int,
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str | None = None,
    processes: int | None = None,
    reporter: Reporter | None = None,
) -> SeedRuns:
    """Train a recipe with several seeds, its own and those that follow.

    Args:
        recipe: All settings.
        data: As for :func:`retriever.training.api.train`.
        output: Gets a sub-folder ``seed-S`` for each run.
        count: How many seeds.
        resume: Skip the runs that are finished, go on with one that is not.
        overwrite: Replace runs that are there.
        device: Such as ``cpu`` or ``cuda:0``; the best there is, if omitted.
        processes: For tokenising; all cores if omitted.
        reporter: Hears of progress.

    Raises:
        OutputError: There is a model or a run already, or it is both to be resumed and to be replaced.
        RecipeError: The runs to go on with had another recipe.
        RetrieverError: As for a single run.
    """
    check_beginning(resume, overwrite)
    folder, reporter = Path(output).expanduser(), reporter or Reporter()
    runs = {recipe.seed + number: folder / f"seed-{recipe.seed + number}" for number in range(count)}
    _check(folder, list(runs.values()), resume or overwrite)
    outcomes = {}
    for seed, run in runs.items():
        settings = recipe.model_copy(update={"seed": seed})
        if not (resume and _is_finished(run, settings)):
            reporter.note(f"Seed {seed}:")
            going_on = resume and (run / RECIPE).exists()
            train(
                settings,
                data,
                run,
                resume=going_on,
                overwrite=overwrite,
                device=device,
                processes=processes,
                reporter=reporter,
            )
        outcomes[seed] = read_outcome(run / LOG)
    return SeedRuns(folder, outcomes)


def read_runs(folder: str | Path) -> SeedRuns:
    """The runs in a folder that :func:`train_seeds` wrote.

    Raises:
        DataError: There are none, or one of them is not finished.
    """
    folder = Path(folder).expanduser()
    found = {path.name.removeprefix("seed-"): path for path in folder.glob("seed-*")}
    runs = sorted((int(seed), path) for seed, path in found.items() if seed.isdecimal())
    if not runs:
        raise DataError(f"{folder} holds no runs seed-0, seed-1 …; train them with `retriever train … --seeds 5`.")
    return SeedRuns(folder, {seed: read_outcome(path / LOG) for seed, path in runs})


def compare_runs(first: SeedRuns, second: SeedRuns, metric: str | None = None) -> Comparison:
    """Compare two recipes on the seeds that both were trained with.

    Args:
        first: Runs of the one.
        second: Runs of the other.
        metric: One that both have; the metric that chose the steps if omitted.

    Raises:
        DataError: They share fewer than two seeds, or no metric.
    """
    seeds = sorted(first.outcomes.keys() & second.outcomes.keys())
    if len(seeds) < 2:
        raise DataError(
            f"{first.folder} and {second.folder} have {len(seeds)} seeds in common; train both with the same ones, "
            "such as --seeds 5."
        )
    name, ours = first.scores(metric, seeds)
    theirs = second.scores(metric, seeds)
    if theirs[0] != name:
        raise DataError(f"{first.folder} was chosen by {name} and {second.folder} by {theirs[0]}; name a --metric.")
    return Comparison(name, seeds, ours, theirs[1])


def _check(folder: Path, runs: Sequence[Path], allowed: bool) -> None:
    """Refuse a folder that holds a model, or runs that are not to be touched, before the first run begins."""
    if (folder / MARK).exists() or (folder / RECIPE).exists():
        raise OutputError(f"{folder} holds a single run; choose another folder for several.")
    if taken := [run.name for run in runs if (run / RECIPE).exists() and not allowed]:
        raise OutputError(f"{folder} already holds {taken[0]}; pass --resume to go on, choose another, or --overwrite.")


def _is_finished(run: Path, settings: Recipe) -> bool:
    if not (run / MARK).exists():
        return False
    if load_recipe(run / RECIPE) != settings:
        raise RecipeError(f"The run in {run} had another recipe; choose another folder, or start with --overwrite.")
    return True
