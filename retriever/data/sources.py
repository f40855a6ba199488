"""Where a corpus comes from: a file, a folder, a data set of the ``datasets`` library, or this Python's docstrings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from retriever.data import folders, hub
from retriever.data.pydocs import pydocs_file
from retriever.data.readers import READERS, Record, Reject, cannot_read, ending
from retriever.errors import DataError
from retriever.files import sha256

HUB_NAME = re.compile(r"(?P<name>[\w-][\w.-]*(/[\w-][\w.-]*)?)(:(?P<config>[\w.-]+))?")


@dataclass(frozen=True)
class Source:
    """Records that can be read again and again.

    Attributes:
        name: A short name, for tables and files.
        origin: The source as an error names it.
        records: Starts a pass; takes the callback for bad records.
        content_hash: Hash of the content, whatever the place it lies in.
    """

    name: str
    origin: str
    records: Callable[[Reject], Iterator[Record]]
    content_hash: Callable[[], str]


def find_source(source: str | Path, split: str = "train", streaming: bool = False) -> Source:
    """The source a path or name stands for; see :func:`retriever.data.corpus.open_corpus`.

    Raises:
        DataError: It stands for nothing there is, or for something of no known kind.
    """
    if source == "pydocs":
        return replace(file_source(pydocs_file()), name="pydocs", origin="pydocs")
    path = Path(source).expanduser()
    if path.is_dir():
        return _folder_source(path, split)
    if path.is_file():
        return file_source(path)
    if path.exists():
        raise DataError(f"{source} is no regular file, and a corpus is read more than once: write it into a file.")
    match = HUB_NAME.fullmatch(str(source))
    if match is None or ending(path) is not None:
        raise DataError(f"There is no file or folder {source}: check the path.")
    return _dataset_source(match["name"], hub.load(match["name"], match["config"], split, streaming))


def file_source(path: Path) -> Source:
    """One file, read by the reader of its ending.

    Raises:
        DataError: No reader knows the ending.
    """
    kind = ending(path)
    if kind is None:
        known = ", ".join(READERS)
        raise DataError(f"Cannot tell how to read {path}: give a folder or a file that ends in {known}.")
    name = path.name[: -len(kind)] or path.name
    return Source(name, str(path), partial(READERS[kind], path), lambda: f"{kind} {_hash_file(path)}")


def find_file(folder: Path, name: str) -> Path | None:
    """``NAME`` or ``NAME.gz`` in a folder, if either is there."""
    return next((path for end in ("", ".gz") if (path := folder / f"{name}{end}").is_file()), None)


def _folder_source(path: Path, split: str) -> Source:
    name = path.resolve().name
    if corpus := find_file(path, "corpus.jsonl"):
        return replace(file_source(corpus), name=name)
    if hub.is_saved(path):
        return _dataset_source(name, hub.load_saved(path, split))
    files = folders.text_files(path)

    def content_hash() -> str:
        return " ".join(f"{file.relative_to(path)} {_hash_file(file)}" for file in files)

    return Source(name, str(path), partial(folders.read_files, path, files), content_hash)


def _dataset_source(name: str, loaded: hub.Loaded) -> Source:
    return Source(name, loaded.origin, loaded.records, lambda: loaded.fingerprint)


def _hash_file(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise cannot_read(path, error) from error
