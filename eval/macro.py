"""Several data sets in one evaluation: languages, forums, a benchmark; and the mean over them.

1. A folder is a BEIR data set, or holds BEIR data sets: the languages of MIRACL or Mr. TyDi, the forums of CQADupStack.
   Such a folder is a group; its data sets are named GROUP/SET.
2. A macro mean is the plain mean of the data sets' means: each counts once, however many queries it has.
3. The mean of a group is one data set in the mean over everything, as BEIR counts the twelve forums of CQADupStack
   once. A group alone has only its own mean.
4. Every mean says how many data sets it averages: means over 13, 14 and 15 sets of BEIR are quoted side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from retriever.data.beir import BeirDataset, load_beir
from retriever.data.sources import find_file
from retriever.errors import DataError
from retriever.eval.beir import Results
from retriever.eval.tables import Metrics


@dataclass(frozen=True)
class Macro:
    """The mean over data sets.

    Attributes:
        name: Of the group; empty for everything.
        datasets: Names of what is averaged.
        metrics: Mode → metric → mean of the data sets' means.
    """

    name: str
    datasets: tuple[str, ...]
    metrics: Metrics

    @property
    def label(self) -> str:
        """Such as ``mean of 15 sets`` or ``cqadupstack, mean of 12 sets``."""
        count = len(self.datasets)
        return (f"{self.name}, " if self.name else "") + f"mean of {count} set{'s' * (count != 1)}"

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain types that `json.dumps` takes."""
        return {"label": self.label, "datasets": list(self.datasets), "metrics": self.metrics}


def open_datasets(folders: Iterable[str | Path], split: str = "test") -> list[BeirDataset]:
    """Open BEIR folders and the members of folders of BEIR folders, in order.

    Raises:
        DataError: A folder is neither, a part is missing or mangled, or two data sets have the same name.
    """
    datasets: list[BeirDataset] = []
    for folder in map(Path, folders):
        inner = [] if find_file(folder, "corpus.jsonl") else _subfolders(folder)
        members = [path for path in inner if find_file(path, "corpus.jsonl")]
        group = folder.resolve().name
        datasets += [replace(load_beir(member, split), name=f"{group}/{member.name}") for member in members]
        if not members:
            datasets.append(load_beir(folder, split))
    names = [dataset.name for dataset in datasets]
    taken = [*names, *{name.split("/")[0] for name in names if "/" in name}]
    for name in names:
        if taken.count(name) > 1:
            raise DataError(f"Two data sets are called {name}: rename a folder, or evaluate them one by one.")
    return datasets


def macro_means(found: Sequence[Results]) -> list[Macro]:
    """The means of all groups, then the mean over everything; none for a single data set.

    Args:
        found: Results with the same modes and metrics, named as `open_datasets` does.
    """
    if len(found) < 2:
        return []
    groups: dict[str, list[Results]] = {}
    for results in found:
        groups.setdefault(results.dataset.split("/")[0], []).append(results)
    means = [
        mean({results.dataset: results.metrics for results in members}, name)
        for name, members in groups.items()
        if "/" in members[0].dataset
    ]
    if len(groups) == 1:
        return means
    parts = {name: members[0].metrics for name, members in groups.items()}
    return [*means, mean(parts | {of_group.name: of_group.metrics for of_group in means})]


def mean(parts: Mapping[str, Metrics], name: str = "") -> Macro:
    """The macro mean of several data sets' metrics; what is not measured on all of them is left out."""
    every = list(parts.values())
    metrics = {
        mode: {
            metric: sum(of[mode][metric] for of in every) / len(every)
            for metric in every[0][mode]
            if all(metric in of[mode] for of in every)
        }
        for mode in every[0]
        if all(mode in of for of in every)
    }
    return Macro(name, tuple(parts), metrics)


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
