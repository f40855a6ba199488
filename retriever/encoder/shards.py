"""Unfinished vectors of a corpus: a folder ``NAME.part`` beside the folder to come, with a folder of each shard's own.

    NAME.part/shard-2-of-3/
        shard.json     what the vectors are made of; in the end also how many documents there are
        vectors.bin    vectors of the shard, fp32, appended a chunk at a time
        ids.jsonl      ids of all documents, in the first shard only

1. Chunks of 2,048 documents are dealt out in turn: of n shards, shard i has chunks i, i + n, i + 2n … of the corpus.
   So the chunks of all shards are those of a single one, and so are their vectors, to the bit.
2. What a kill cuts in two is done again: a shard that is started once more goes on after its last whole chunk.
3. A shard is locked while it is written. Shards know nothing of each other but whether they are of one run.
4. Whoever completes a shard joins all if none is missing, under a lock: so the last one does, and only one.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from retriever.errors import DataError, OutputError
from retriever.files import is_of, replacing, write_atomically

FORMAT = 1  # of the folders; raise it when the same input gives other files
CHUNK = 2_048  # documents encoded between two writes
VECTORS, IDS, RECORD = "vectors.npy", "ids.jsonl", "vectors.json"
SHARD_RECORD, SHARD_VECTORS, LOCK = "shard.json", "vectors.bin", "lock"
NAME = re.compile(r"shard-(\d+)-of-(\d+)")
ORIGIN = {"fingerprint": "model", "corpus": "corpus", "kind": "--kind", "dtype": "--dtype"}


class VectorsRecord(BaseModel):
    """What vectors are made of.

    Attributes:
        format: Version of the layout.
        model: Where the encoder lies, if known.
        fingerprint: :attr:`retriever.encoder.Encoder.fingerprint`.
        dimension: D, the width of a vector.
        corpus: :meth:`retriever.data.corpus.Corpus.fingerprint`.
        kind: Whose prompt was put before the texts.
        dtype: Precision of encoding, as it was asked for.
        documents: N, in all shards together; None as long as it is not known.
    """

    format: int = FORMAT
    model: str | None
    fingerprint: str
    dimension: int
    corpus: str
    kind: Literal["document", "query"]
    dtype: str
    documents: int | None = None

    def check(self, path: Path, other: VectorsRecord) -> None:
        """See that ``other``, which lies at ``path``, is made of the same.

        Raises:
            OutputError: It is not.
        """
        if different := [told for name, told in ORIGIN.items() if getattr(self, name) != getattr(other, name)]:
            raise OutputError(
                f"The vectors in {path} are of another {' and another '.join(different)}: encode them with the same, "
                "or start anew with --overwrite."
            )


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several equal parts of the work.

    Args:
        number: Which, from 1 to ``count``.
        count: Of how many.

    Raises:
        DataError: There is no such shard.
    """

    number: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise DataError(f"There is no shard {self.number}/{self.count}: write 2/3 for the second of three.")

    def owns(self, chunk: int) -> bool:
        """Whether a chunk of the corpus, counted from 0, is this shard's."""
        return chunk % self.count == self.number - 1

    def rows(self, documents: int) -> int:
        """How many of the documents are this shard's."""
        starts = range((self.number - 1) * CHUNK, documents, self.count * CHUNK)
        return sum(min(CHUNK, documents - start) for start in starts)

    def __str__(self) -> str:
        return f"{self.number} of {self.count}"


class Part:
    """The unfinished vectors of one shard; make one with :meth:`claimed`.

    Args:
        output: The folder to come.
        shard: Which shard.
        record: What it is made of.
    """

    def __init__(self, output: Path, shard: Shard, record: VectorsRecord) -> None:
        self.output, self.shard, self.record = output, shard, record
        self.folder = shard_folder(output, shard)

    @classmethod
    @contextmanager
    def claimed(cls, output: Path, shard: Shard, record: VectorsRecord, overwrite: bool) -> Iterator[Part]:
        """Begin a shard or go on with it, alone. A shard without a whole chunk vanishes if the block fails.

        Raises:
            OutputError: The output is there already or something else is, another process has the shard, or what was
                begun is made of something else.
        """
        _check_output(output, overwrite)
        part = cls(output, shard, record)
        if not overwrite:
            for begun in part._begun():
                record.check(begun, read_record(begun / SHARD_RECORD))
        try:
            part.folder.mkdir(parents=True, exist_ok=True)
            with _locked(part.folder / SHARD_VECTORS, f"shard {shard} of {output}"):
                part._begin()
                try:
                    yield part
                except BaseException:
                    part._drop_if_empty()
                    raise
        except OSError as error:
            if not is_of(error, part.folder.resolve()):
                raise
            raise OutputError(
                f"Cannot write {part.folder} ({error.strerror or error}): make room, then run the same command again."
            ) from error

    @property
    def documents(self) -> int | None:
        """N, those of other shards included, if the vectors of this shard are all there.

        Raises:
            OutputError: The record cannot be read.
        """
        return read_record(self.folder / SHARD_RECORD).documents

    def chunks(self) -> int:
        """Cut the vectors to whole chunks, and count those."""
        path, size = self.folder / SHARD_VECTORS, 4 * self.record.dimension * CHUNK
        whole = path.stat().st_size // size
        os.truncate(path, whole * size)
        return whole

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Append a chunk of vectors (N, D)."""
        with (self.folder / SHARD_VECTORS).open("ab") as file:
            file.write(vectors.tobytes())
            file.flush()
            os.fsync(file.fileno())

    def complete(self, documents: int) -> None:
        """Tell that all vectors are there, and of the first shard the ids; both are on the disk by then.

        Args:
            documents: N, those of other shards included.
        """
        if self.shard.number == 1:
            with (self.folder / IDS).open("rb") as file:
                os.fsync(file.fileno())
        done = self.record.model_copy(update={"documents": documents})
        write_atomically(self.folder / SHARD_RECORD, done.model_dump_json(indent=2) + "\n")

    def join(self) -> list[int]:
        """Put the vectors of all shards into the output, unless a shard is missing.

        Returns:
            The numbers of the shards that are missing.

        Raises:
            OutputError: A shard is damaged or made of something else, or the output cannot be written.
        """
        whole = part_folder(self.output)
        try:
            with _locked(whole / LOCK, str(self.output), wait=True):
                if self.folder.exists():
                    return self._join(whole)
        except FileNotFoundError:
            pass
        return []  # another process was faster

    def _join(self, whole: Path) -> list[int]:
        """See :meth:`join`; ``whole`` is the folder of all shards."""
        if missing := missing_shards(self.output, self.shard.count):
            return missing
        shards = [Shard(number, self.shard.count) for number in range(1, self.shard.count + 1)]
        folders = [shard_folder(self.output, shard) for shard in shards]
        record = read_record(folders[0] / SHARD_RECORD)
        for folder, shard in zip(folders, shards, strict=True):
            _check_shard(folder, shard, record)
        with replacing(self.output) as temporary:
            shutil.copyfile(folders[0] / IDS, temporary / IDS)
            _interleave([folder / SHARD_VECTORS for folder in folders], record, temporary / VECTORS)
            write_atomically(temporary / RECORD, record.model_dump_json(indent=2) + "\n")
        for path in whole.glob("shard-*"):
            shutil.rmtree(path, ignore_errors=True)
        (whole / LOCK).unlink()
        _remove_if_empty(whole)
        return []

    def _begun(self) -> list[Path]:
        """The shards that are begun.

        Raises:
            OutputError: They are of a run of another number of shards.
        """
        begun = _begun(self.output)
        for path, shard in begun.items():
            if shard.count != self.shard.count:
                raise OutputError(
                    f"{path.parent} was begun in {shard.count} shards, not in {self.shard.count}: go on with "
                    f"{shard.count}, or start anew with --overwrite."
                )
        return list(begun)

    def _begin(self) -> None:
        """Write the record, or find it; vectors made of something else go."""
        path = self.folder / SHARD_RECORD
        with suppress(OutputError):
            self.record.check(self.folder, read_record(path))
            return
        os.truncate(self.folder / SHARD_VECTORS, 0)
        write_atomically(path, self.record.model_dump_json(indent=2) + "\n")

    def _drop_if_empty(self) -> None:
        if not (self.folder / SHARD_VECTORS).stat().st_size:
            shutil.rmtree(self.folder)
            _remove_if_empty(self.folder.parent)


def part_folder(output: Path) -> Path:
    """Where the unfinished vectors lie: beside the output."""
    return output.with_name(f"{output.name}.part")


def shard_folder(output: Path, shard: Shard) -> Path:
    """Where the vectors of a shard lie until they are joined."""
    return part_folder(output) / f"shard-{shard.number}-of-{shard.count}"


def missing_shards(output: Path, count: int) -> list[int]:
    """Which of the shards 1 to ``count`` are not complete."""
    paths = {number: shard_folder(output, Shard(number, count)) / SHARD_RECORD for number in range(1, count + 1)}
    return [number for number, path in paths.items() if not path.exists() or read_record(path).documents is None]


def told_missing(output: Path) -> str | None:
    """What vectors that are begun and not joined lack, such as "shards 2, 3 of 3"; None if nothing is begun."""
    counts = {shard.count for shard in _begun(output).values()}
    if not counts:
        return None
    return "; ".join(f"shards {listed(missing_shards(output, count))} of {count}" for count in sorted(counts))


def listed(numbers: list[int]) -> str:
    """Numbers as a sentence has them."""
    return ", ".join(map(str, numbers)) or "none"


def read_record(path: Path) -> VectorsRecord:
    """Read the record of vectors.

    Raises:
        OutputError: It is not there or cannot be read.
    """
    try:
        return VectorsRecord.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} cannot be read: encode again with --overwrite.") from error


def _begun(output: Path) -> dict[Path, Shard]:
    """The folders of shards that are begun."""
    found = {path: NAME.fullmatch(path.name) for path in sorted(part_folder(output).glob("shard-*"))}
    return {
        path: Shard(int(match[1]), int(match[2]))
        for path, match in found.items()
        if match and (path / SHARD_RECORD).exists()
    }


def _check_shard(folder: Path, shard: Shard, record: VectorsRecord) -> None:
    """See that a shard that is complete fits the record of another and has its size, the first also all ids."""
    own, path = read_record(folder / SHARD_RECORD), folder / SHARD_VECTORS
    record.check(folder, own)
    wanted, size = 4 * record.dimension * shard.rows(record.documents or 0), path.stat().st_size if path.exists() else 0
    if own.documents != record.documents or size != wanted:
        raise OutputError(
            f"{path} is damaged ({size} bytes instead of {wanted}): remove {folder} and encode shard {shard} again."
        )
    if shard.number == 1 and (ids := _lines(folder / IDS)) != record.documents:
        raise OutputError(
            f"{folder / IDS} is damaged ({ids} ids instead of {record.documents}): remove {folder} and encode shard "
            f"{shard} again."
        )


def _lines(path: Path) -> int:
    """Whole lines of a file; 0 if it is not there."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        return sum(line.endswith(b"\n") for line in file)


def _check_output(folder: Path, overwrite: bool) -> None:
    """Refuse a folder that holds something else, or vectors that are not to be replaced, or that has no name."""
    held = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if folder.is_file() or held - {VECTORS, IDS, RECORD}:
        raise OutputError(f"{folder} holds something else than vectors; choose another folder.")
    if held and not overwrite:
        raise OutputError(f"{folder} already holds vectors; choose another folder, or pass --overwrite.")
    if not folder.name:
        raise OutputError(f"The output {folder} has no name to put others beside it: name a folder, such as vectors.")


def _interleave(parts: list[Path], record: VectorsRecord, path: Path) -> None:
    """Write the chunks of all shards in the order of the corpus, as one array (N, D)."""
    documents, dimension = record.documents or 0, record.dimension
    vectors = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(documents, dimension))
    for chunk, start in enumerate(range(0, documents, CHUNK)):
        rows = min(CHUNK, documents - start)
        offset = chunk // len(parts) * CHUNK * 4 * dimension
        part = np.fromfile(parts[chunk % len(parts)], np.float32, rows * dimension, offset=offset)
        vectors[start : start + rows] = part.reshape(rows, dimension)
    vectors.flush()


@contextmanager
def _locked(path: Path, what: str, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a file, which is made if it is not there."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise OutputError(f"Another process is encoding {what}: wait until it is done.") from error
        yield


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
