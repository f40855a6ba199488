"""The unfinished output of mining: a folder ``OUTPUT.part`` that a killed run leaves and a resumed one goes on with.

header.json   what the run is made of (model, data, options), so that no other run goes on with its parts
vectors.bin   vectors of the pool, fp32, appended a chunk at a time
lines.jsonl   finished lines of the output, appended a block at a time

Chunks and blocks start at the same places in every run, and what is cut in two by a kill is done again: so a resumed
run computes each of them from the same texts in the same order, and ends with the same bytes. In the end the lines are
renamed to the output, and the folder goes. One process at a time holds a lock on the folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retriever.errors import OutputError
from retriever.files import check_beginning, replacing, sync, write_atomically

HEADER, VECTORS, LINES = "header.json", "vectors.bin", "lines.jsonl"


class Part:
    """An unfinished output; make one with :meth:`claimed`.

    Args:
        output: The file to come.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = part_folder(output)

    @classmethod
    @contextmanager
    def claimed(
        cls, output: Path, header: Mapping[str, Any], *, resume: bool = False, overwrite: bool = False
    ) -> Iterator[Part]:
        """Begin an output or go on with it, alone.

        Args:
            output: The file to come.
            header: What the run is made of, as JSON has it.
            resume: Go on.
            overwrite: Begin, whatever is there. A finished output stays until the new one takes its place.

        Raises:
            OutputError: The place is taken or cannot be written, another process has it, or there is nothing to go on
                with, or it was begun by a run made of something else; or both options are given.
        """
        check_beginning(resume, overwrite)
        part = cls(output)
        if not resume:
            with part._locked():
                part._begin(header, overwrite)
        with part._locked():
            part._check(header)
            yield part

    def _begin(self, header: Mapping[str, Any], overwrite: bool) -> None:
        output = self.output
        if output.is_dir() or not output.name.endswith(".jsonl"):
            raise OutputError(f"Cannot mine into {output}: name a file that ends in .jsonl.")
        is_done = output.exists() and not (self.folder / LINES).exists()
        if not overwrite and self.folder.exists() and not is_done:
            raise OutputError(
                f"{self.folder} holds an unfinished run: pass --resume to go on with it, or --overwrite to start anew."
            )
        if not overwrite and output.exists():
            raise OutputError(f"{output} exists already: choose another file, or pass --overwrite.")
        with replacing(self.folder) as temporary:
            (temporary / LINES).touch()
            write_atomically(temporary / HEADER, json.dumps(header, ensure_ascii=False, indent=2))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of the folder, if it is there; the system takes it back from a process that ends."""
        try:
            descriptor = os.open(self.folder, os.O_RDONLY)
        except OSError:  # nothing to lock, or something else than a folder, which is told by whoever looks into it
            yield
            return
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OutputError(f"Another process is mining {self.output}: wait until it is done.") from error
            yield
        finally:
            os.close(descriptor)

    def keep_vectors(self, rows: int, dimension: int, chunk: int) -> int:
        """Cut the vectors to whole chunks.

        Args:
            rows: Vectors there will be.
            dimension: D.
            chunk: Vectors in a chunk; the last may have fewer.

        Returns:
            Vectors that are there.
        """
        path = self.folder / VECTORS
        path.touch()
        there = min(path.stat().st_size // (4 * dimension), rows)
        whole = there if there == rows else there // chunk * chunk
        os.truncate(path, 4 * dimension * whole)
        return whole

    def add_vectors(self, vectors: NDArray[np.float32]) -> None:
        """Append a chunk of vectors (N, D)."""
        self._append(VECTORS, vectors.tobytes())

    def vectors(self, rows: int, dimension: int) -> NDArray[np.float32]:
        """All vectors (N, D), as a memory map."""
        return np.memmap(self.folder / VECTORS, np.float32, "r", shape=(rows, dimension))

    def keep_lines(self, lines: int, block: int) -> int:
        """Cut the finished lines to whole blocks.

        Args:
            lines: Lines there will be.
            block: Lines in a block; the last may have fewer.

        Returns:
            Lines that are there.
        """
        path = self.folder / LINES
        there = end = position = 0
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                there, position = there + 1, position + len(line)
                if there == lines or there % block == 0:
                    end = position
        os.truncate(path, end)
        return there if there == lines else there // block * block

    def add_lines(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Append a block of lines."""
        self._append(LINES, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode())

    def publish(self) -> None:
        """Give the finished lines their name, and drop the rest."""
        with self._writing():
            (self.folder / LINES).replace(self.output)
            sync(self.output.parent)
        self.discard()

    def discard(self) -> None:
        """Drop what is unfinished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _append(self, name: str, content: bytes) -> None:
        with self._writing(), (self.folder / name).open("ab") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"Cannot write {self.folder} ({error.strerror or error}): make room, then go on with --resume."
            ) from error

    def _check(self, header: Mapping[str, Any]) -> None:
        """Refuse to go on with what is not there or not this run's."""
        if not (self.folder / LINES).is_file():
            if self.output.exists():
                self.discard()  # what a run leaves that is killed between its last two steps
                raise OutputError(f"{self.output} is complete: there is nothing to resume.")
            raise OutputError(f"There is no unfinished run {self.folder} to resume: leave --resume out to start one.")
        try:
            begun = json.loads((self.folder / HEADER).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise OutputError(f"{self.folder / HEADER} cannot be read: start anew with --overwrite.") from error
        other = [name for name, value in header.items() if begun.get(name) != value]
        if other:
            raise OutputError(
                f"The run in {self.folder} was begun with another {' and another '.join(other)}: resume it as it was "
                "begun, or start anew with --overwrite."
            )


def part_folder(output: Path) -> Path:
    """Where the unfinished output lies: beside the output."""
    return output.with_name(f"{output.name}.part")
