"""Data sets of the ``datasets`` library: saved in a folder, or on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retriever.data.readers import Record, Reject, reason
from retriever.errors import DataError


@dataclass(frozen=True)
class Loaded:
    """One split of a data set.

    Attributes:
        origin: Folder or name.
        rows: The rows, in order, as often as asked.
        fingerprint: The library's own, which follows the content and every transformation.
    """

    origin: str
    rows: Iterable[Mapping[str, Any]]
    fingerprint: str

    def records(self, _: Reject) -> Iterator[Record]:
        """Each row with its number from 1 as its place.

        Raises:
            DataError: The library fails to deliver a row: a connection broke or a file is damaged.
        """
        number = 0
        try:
            for number, row in enumerate(self.rows, 1):
                yield f"{self.origin}:{number}", row
        except Exception as error:  # the library raises whatever the storage below it raises
            raise DataError(
                f"Reading {self.origin} failed after row {number} ({reason(error)}): try again, or download it anew."
            ) from error


def is_saved(folder: Path) -> bool:
    """Whether ``save_to_disk`` wrote this folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "dataset_info.json").is_file()


def load_saved(folder: Path, split: str) -> Loaded:
    """Open what ``save_to_disk`` wrote; the split matters only where there are several.

    Raises:
        DataError: The folder is damaged or lacks the split.
    """
    import datasets

    try:
        dataset = datasets.load_from_disk(str(folder))
    except Exception as error:  # the library raises whatever the storage below it raises
        raise DataError(f"The data set in {folder} is damaged ({reason(error)}): save it again.") from error
    if isinstance(dataset, datasets.DatasetDict):
        if split not in dataset:
            raise DataError(f"{folder} has no split {split!r}: choose one of {', '.join(sorted(dataset))}.")
        dataset = dataset[split]
    return Loaded(str(folder), dataset, dataset._fingerprint)


def load(name: str, config: str | None, split: str, streaming: bool) -> Loaded:
    """Open a data set of the hub, downloaded into the library's cache or streamed.

    Raises:
        DataError: There is none of this name, its split or configuration is unknown, or the hub cannot be reached.
    """
    import datasets

    try:
        dataset = datasets.load_dataset(name, config, split=split, streaming=streaming)
        if streaming:
            fingerprint = f"{name} {config} {split} {datasets.load_dataset_builder(name, config).hash}"
        else:
            fingerprint = dataset._fingerprint
    except Exception as error:  # the library raises whatever the network below it raises
        raise DataError(
            f"There is no file or folder {name}, and it could not be loaded as a Hugging Face data set "
            f"({reason(error)}): check the path, or the name and the connection."
        ) from error
    return Loaded(name, dataset, fingerprint)
