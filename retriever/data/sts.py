"""STS sets: pairs of sentences with a gold similarity, in the layouts everyone exchanges.

STSyy-en-test/        STS.input.SUBSET.txt: sentence TAB sentence; STS.gs.SUBSET.txt: its score, or nothing, a line
STSBenchmark/         sts-SPLIT.csv: TAB-separated without header; fields 5 to 7 are score, sentence, sentence
SICK/                 SICK_SPLIT.txt: TAB-separated under a header
stsb-LANG-SPLIT.csv   sentence1, sentence2, similarity_score, as real CSV with or without that header; also .tsv

1. Lines end at a line feed and fields at a TAB only, and quotes mean nothing: the texts hold quote characters and odd
   separators. Only the CSV of the last layout is quoted.
2. A row with a blank score was not judged. It is dropped and counted.
3. The subsets of a year are those of SentEval: SMT of 2013 is left out. A year that lacks one of them is refused, for
   its score would be compared with those of the whole year.
4. STS12 to STS16 have test pairs only. SICK's trial part is its dev split.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from retriever.data.readers import read_lines, refuse
from retriever.errors import DataError

Split: TypeAlias = Literal["train", "dev", "test", "all"]
Row: TypeAlias = tuple[str, str, str, str]
"""Place, first sentence, second sentence, score as written."""

YEARS = {
    "STS12": ("MSRpar", "MSRvid", "SMTeuroparl", "surprise.OnWN", "surprise.SMTnews"),
    "STS13": ("FNWN", "headlines", "OnWN"),
    "STS14": ("deft-forum", "deft-news", "headlines", "images", "OnWN", "tweet-news"),
    "STS15": ("answers-forums", "answers-students", "belief", "headlines", "images"),
    "STS16": ("answer-answer", "headlines", "plagiarism", "postediting", "question-question"),
}
SEVEN = (*YEARS, "STSB", "SICKR")
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
SICK_FILES = {"train": "SICK_train.txt", "dev": "SICK_trial.txt", "test": "SICK_test_annotated.txt"}
SICK_FIELDS = ("sentence_A", "sentence_B", "relatedness_score")
TABLE_FIELDS = ["sentence1", "sentence2", "similarity_score"]
TABLE_NAME = re.compile(r"stsb[-_](?P<language>[a-z-]+)[-_](?P<split>train|dev|test)\.[ct]sv(\.gz)?", re.IGNORECASE)
LAYOUT = "an STS folder holds STS12-en-test to STS16-en-test, STSBenchmark, SICK or files like stsb-de-test.csv"


@dataclass(frozen=True)
class StsSubset:
    """Pairs that were collected together.

    Attributes:
        name: Such as ``MSRpar``; the split's name for a set without subsets.
        first: P sentences.
        second: Their P partners.
        gold: Similarity (P,), from 0 (in SICK from 1) to 5.
        dropped: Rows left out because they have no score.
    """

    name: str
    first: list[str]
    second: list[str]
    gold: NDArray[np.float64]
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class StsSet:
    """One STS set; see :func:`load_sts`.

    Attributes:
        name: One of ``SEVEN``, or ``STSB-LANGUAGE``.
        split: ``train``, ``dev``, ``test``, or ``all`` of them.
        subsets: Its pairs.
    """

    name: str
    split: str
    subsets: tuple[StsSubset, ...]

    def __len__(self) -> int:
        return sum(map(len, self.subsets))

    @property
    def first(self) -> list[str]:
        """The first sentences of all subsets."""
        return [text for subset in self.subsets for text in subset.first]

    @property
    def second(self) -> list[str]:
        """Their partners."""
        return [text for subset in self.subsets for text in subset.second]

    @property
    def gold(self) -> NDArray[np.float64]:
        """Their similarities (P,)."""
        return np.concatenate([subset.gold for subset in self.subsets])

    @property
    def dropped(self) -> int:
        """Rows without a score, over all subsets."""
        return sum(subset.dropped for subset in self.subsets)


Reader: TypeAlias = Callable[[], tuple[StsSubset, ...]]
Found: TypeAlias = dict[str, dict[str, Reader]]
"""Set → split → its reader."""


def load_sts(
    source: str | Path, *, split: Split = "test", sick: Split | None = None, only: Collection[str] = ()
) -> list[StsSet]:
    """Read the STS sets of a folder, or a single one.

    Args:
        source: A folder of sets (also with the years below ``STS/``, as SentEval has them), the folder of one set, or a
            file of one language.
        split: The pairs to read; sets without such a split are left out. A file has the split it is named after.
        sick: Another split for SICK: ``all`` for the 9,927 pairs of MTEB.
        only: Names of the sets to read; all there are, if empty.

    Returns:
        The sets, the seven of the papers first and in their order.

    Raises:
        DataError: There is no set or none with such a split, a file of a set is missing, texts and scores differ in
            number, or a line is mangled.
    """
    source = Path(source).expanduser()
    if not source.exists():
        raise DataError(f"There is no folder {source}: {LAYOUT}.")
    found = find_sts(source)
    if not found:
        raise DataError(f"{source} holds no STS set: {LAYOUT}.")
    for name in only:
        if name not in found:
            raise DataError(f"{source} has no set {name!r}: choose from {', '.join(found)}.")
    sets = []
    for name, readers in found.items():
        wanted = sick if sick is not None and name == "SICKR" else split
        parts = list(readers) if wanted == "all" or source.is_file() else [part for part in readers if part == wanted]
        if parts and (not only or name in only):
            subsets = tuple(chain.from_iterable(readers[part]() for part in parts))
            sets.append(StsSet(name, parts[0] if len(parts) == 1 else "all", subsets))
    if not sets:
        there = [part for part in SPLITS if any(part in found[name] for name in only or found)]
        raise DataError(f"{source} has no {split} split: choose {' or '.join(there)}.")
    return sets


def find_sts(source: Path) -> Found:
    """The STS sets in a folder or file, none of them read yet; nothing if there are none.

    Raises:
        DataError: Two places hold the same set.
    """
    if source.is_file():
        return _tables([source])
    if not source.is_dir():
        return {}
    found: Found = {}
    for folder in (source, *_subfolders(source), *_subfolders(source / "STS")):
        for name, readers in _sets_in(folder).items():
            if name in found:
                raise DataError(f"Two places in {source} hold the set {name}: name the folder of the one you mean.")
            found[name] = readers
    order = {name: number for number, name in enumerate(SEVEN)}
    return dict(sorted(found.items(), key=lambda item: (order.get(item[0], len(order)), item[0])))


def _sets_in(folder: Path) -> Found:
    """The sets whose files lie in this very folder."""
    found = _tables(sorted(folder.iterdir()))
    if year := re.fullmatch(r"(STS1[2-6])(-en-test)?", folder.resolve().name):
        found[year[1]] = {"test": partial(_read_year, folder, year[1])}
    benchmark = {split: folder / f"sts-{split}.csv" for split in SPLITS}
    sick = {split: folder / name for split, name in SICK_FILES.items()}
    for name, paths, read in (("STSB", benchmark, _benchmark_rows), ("SICKR", sick, _sick_rows)):
        low = 1 if name == "SICKR" else 0
        readers: dict[str, Reader] = {
            split: partial(_read_rows, split, path, read, low) for split, path in paths.items() if path.is_file()
        }
        if readers:
            found[name] = readers
    return found


def _tables(paths: Iterable[Path]) -> Found:
    found: Found = {}
    for path in paths:
        if match := TABLE_NAME.fullmatch(path.name):
            split = match["split"].lower()
            found.setdefault(f"STSB-{match['language']}", {})[split] = partial(_read_rows, split, path, _table_rows)
    return found


def _read_year(folder: Path, name: str) -> tuple[StsSubset, ...]:
    """All subsets of a year."""
    files = [[_year_file(folder, name, kind, subset) for kind in ("input", "gs")] for subset in YEARS[name]]
    if missing := [path.name for both in files for path in both if not path.is_file()]:
        raise DataError(
            f"{folder} lacks {', '.join(missing)}: {name} is scored over {', '.join(YEARS[name])}, so put every "
            "subset's two files there."
        )
    return tuple(_read_subset(subset, *both) for subset, both in zip(YEARS[name], files, strict=True))


def _year_file(folder: Path, name: str, kind: str, subset: str) -> Path:
    """``STS.KIND.SUBSET.txt``, or the same with the year after STS, as the archive of 2016 has it."""
    dated = folder / f"STS20{name[3:]}.{kind}.{subset}.txt"
    return dated if dated.is_file() else folder / f"STS.{kind}.{subset}.txt"


def _read_subset(name: str, texts: Path, golds: Path) -> StsSubset:
    pairs = list(_fields(texts, 2, "two sentences"))
    scores = [line.strip() for _, line in read_lines(golds, refuse)]
    if len(pairs) != len(scores):
        raise DataError(
            f"{golds} has {len(scores):,} rows and {texts.name} has {len(pairs):,}: each pair needs its line, blank if "
            "it has no score, so fetch the two files again."
        )
    rows = (
        (f"{golds}:{number}", fields[0], fields[1], score)
        for number, ((_, fields), score) in enumerate(zip(pairs, scores, strict=True), 1)
    )
    return _subset(name, golds, rows)


def _read_rows(split: str, path: Path, read: Callable[[Path], Iterator[Row]], low: int = 0) -> tuple[StsSubset, ...]:
    """A file of pairs with scores."""
    return (_subset(split, path, read(path), low),)


def _benchmark_rows(path: Path) -> Iterator[Row]:
    for place, fields in _fields(path, 7, "genre, file, year, id, score and two sentences"):
        yield place, fields[5], fields[6], fields[4]


def _sick_rows(path: Path) -> Iterator[Row]:
    rows = _fields(path, 4, "pair_ID, sentence_A, sentence_B and relatedness_score")
    _, header = next(rows, ("", []))
    if missing := [name for name in SICK_FIELDS if name not in header]:
        raise DataError(f"{path} has no column {missing[0]} in its first line: put SICK's header there.")
    columns = [header.index(name) for name in SICK_FIELDS]
    for place, fields in rows:
        first, second, score = (fields[column] if column < len(fields) else "" for column in columns)
        yield place, first, second, score


def _table_rows(path: Path) -> Iterator[Row]:
    lines = (line for _, line in read_lines(path, refuse))
    quoted = ".csv" in path.name.lower()
    rows = csv.reader(lines, strict=True) if quoted else (line.rstrip("\r\n").split("\t") for line in lines)
    try:
        for number, fields in enumerate(rows, 1):
            if not any(fields) or (number == 1 and fields == TABLE_FIELDS):
                continue
            if len(fields) != 3:
                raise DataError(
                    f"{path}, row {number}, has {len(fields)} fields where {', '.join(TABLE_FIELDS)} belong: mend it."
                )
            yield f"{path}, row {number},", fields[0], fields[1], fields[2].strip()
    except csv.Error as error:
        raise DataError(f"{path} is not valid CSV ({error}): quote fields that hold quotes or line ends.") from error


def _fields(path: Path, least: int, what: str) -> Iterator[tuple[str, list[str]]]:
    """Places and fields of TAB-separated lines."""
    for number, line in read_lines(path, refuse):
        fields = line.rstrip("\r\n").split("\t")
        if len(fields) < least:
            raise DataError(f"{path}:{number} is not {what}, separated by TABs: mend the line.")
        yield f"{path}:{number}", fields


def _subset(name: str, path: Path, rows: Iterable[Row], low: int = 0) -> StsSubset:
    """The scored rows of a file as a subset."""
    first, second, gold, dropped = [], [], [], 0
    for place, one, other, score in rows:
        if not score:
            dropped += 1
            continue
        first.append(one)
        second.append(other)
        gold.append(_score(score, place, low))
    if not gold:
        raise DataError(f"{path} holds no scored pair: give a file with scores.")
    return StsSubset(name, first, second, np.array(gold), dropped)


def _score(text: str, place: str, low: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= 5:
        raise DataError(f"{place} has the score {text!r}: gold scores are numbers from {low} to 5, so mend the line.")
    return value


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
