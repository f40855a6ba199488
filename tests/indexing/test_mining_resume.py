"""Mining that is killed, torn, interrupted or out of disk goes on and ends with the same bytes."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from retriever.data.beir import write_beir
from retriever.data.labelled import open_labelled
from retriever.data.tokenizers import SubwordTokenizer
from retriever.encoder import Encoder
from retriever.errors import OutputError
from retriever.indexing import mining
from retriever.indexing.mining import MiningOptions, mine
from retriever.indexing.mining_part import Part, part_folder
from retriever.reporting import Reporter

OPTIONS = MiningOptions(negatives=4, first=2, last=40, max_ratio=0.97, bm25=1, sampling="random")
FORKS = """
import os, sys, time
from retriever.data.labelled import open_labelled
from retriever.encoder import Encoder
from retriever.indexing import mining
from retriever.indexing.mining_part import Part

encoder, labelled = Encoder.load(sys.argv[1], "cpu"), open_labelled(sys.argv[2])
mining.CHUNK, mining.BLOCK = 16, 4
options = mining.MiningOptions(negatives=4, first=2, last=40, max_ratio=0.97, bm25=1, sampling="random")
append = Part._append

def slow(self, name, content):
    half = len(content) // 2
    append(self, name, content[:half])
    time.sleep(0.01)
    append(self, name, content[half:])
    time.sleep(0.01)

Part._append = slow
for line in sys.stdin:
    output, resume = line.split()
    child = os.fork()
    if not child:
        mining.mine(encoder, labelled, output, options, resume=resume == "True")
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.fixture(scope="module", autouse=True)
def small_pieces():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mining, "CHUNK", 16)
        patch.setattr(mining, "BLOCK", 4)
        yield


@pytest.fixture(scope="module")
def folder(documents, tmp_path_factory):
    queries = {f"q{i}": f"{documents[i].text[:20]} {i}" for i in range(41)}
    qrels = {f"q{i}": {documents[i].id: 1} for i in range(41)}
    return write_beir(tmp_path_factory.mktemp("mining") / "woods", documents, queries, qrels, split="train")


@pytest.fixture(scope="module")
def labelled(folder):
    return open_labelled(folder)


@pytest.fixture(scope="module")
def transformer(documents, tmp_path_factory):
    """A small transformer: its vectors depend a little on their batch mates, so pieces must be the same ones."""
    tokenizer = SubwordTokenizer.train([document.content for document in documents], size=120)
    encoder = Encoder.small(tokenizer, dimension=16, layers=2, heads=2, max_length=48)
    encoder.save(tmp_path_factory.mktemp("models") / "small")
    return Encoder.load(encoder.path, "cpu")


@pytest.fixture(scope="module")
def whole(transformer, labelled, tmp_path_factory):
    """The bytes of an uninterrupted run."""
    path = tmp_path_factory.mktemp("whole") / "x.jsonl"
    report = mine(transformer, labelled, path, OPTIONS)
    assert not part_folder(path).exists() and report.queries == 41
    return path.read_bytes()


class Stopper(Reporter):
    """Presses Ctrl-C after some progress of a stage."""

    def __init__(self, stage, count):
        self.name, self.left, self.starts = stage, count, {}

    @contextmanager
    def stage(self, name, total=None, start=0):
        self.starts[name] = (start, total)

        def advance(count=1, **_):
            if name == self.name:
                self.left -= count
                if self.left <= 0:
                    raise KeyboardInterrupt

        yield advance


def stop(encoder, labelled, path, stage, count, **options):
    with pytest.raises(KeyboardInterrupt):
        mine(encoder, labelled, path, OPTIONS, reporter=Stopper(stage, count), **options)


@pytest.mark.parametrize("family", ["static", "transformer"])
def test_a_run_killed_again_and_again_ends_with_the_same_bytes(encoder, transformer, folder, tmp_path, family):
    model = {"static": encoder, "transformer": transformer}[family].path
    command = [sys.executable, "-c", FORKS, str(model), str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:

        def start(path):
            print(path, part_folder(path).exists(), file=process.stdin, flush=True)
            return int(process.stdout.readline())

        start(tmp_path / "whole.jsonl")
        began = time.perf_counter()
        assert int(process.stdout.readline()) == 0
        duration = time.perf_counter() - began
        path, kills, states = tmp_path / "killed.jsonl", 0, set()
        while not path.exists():
            child = start(path)
            time.sleep(duration * (0.2 + 0.07 * (kills % 4)))
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            status = int(process.stdout.readline())
            kills += status == signal.SIGKILL
            for name in ("vectors.bin", "lines.jsonl"):
                with suppress(FileNotFoundError):
                    states.add((name, (part_folder(path) / name).stat().st_size))
            assert kills < 100 and status in (0, signal.SIGKILL)
        process.stdin.close()
    assert kills >= 2 and len(states) >= 3
    assert path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    left = {item.name for item in tmp_path.iterdir()} - {"killed.jsonl", "whole.jsonl"}
    assert not left or (left == {"killed.jsonl.part"} and not (part_folder(path) / "lines.jsonl").exists())


def test_what_a_run_leaves_that_is_killed_at_its_very_end_goes(transformer, labelled, tmp_path):
    path = tmp_path / "mined.jsonl"
    mine(transformer, labelled, path, OPTIONS)
    part_folder(path).mkdir()
    (part_folder(path) / "vectors.bin").write_bytes(b"left")
    with pytest.raises(OutputError, match=r"mined\.jsonl exists already: choose another file"):
        mine(transformer, labelled, path, OPTIONS)
    with pytest.raises(OutputError, match=r"mined\.jsonl is complete: there is nothing to resume"):
        mine(transformer, labelled, path, OPTIONS, resume=True)
    assert [item.name for item in tmp_path.iterdir()] == ["mined.jsonl"]


@pytest.mark.parametrize(
    ("stage", "count", "encoded", "mined"),
    [("encode", 1, 0, 0), ("encode", 50, 48, 0), ("encode", 120, 112, 0), ("mine", 1, 120, 4), ("mine", 18, 120, 20)],
)
def test_an_interrupted_run_goes_on_where_it_was(transformer, labelled, whole, tmp_path, stage, count, encoded, mined):
    path = tmp_path / "x.jsonl"
    stop(transformer, labelled, path, stage, count)
    assert part_folder(path).is_dir() and not path.exists()
    listener = Stopper("", 0)
    mine(transformer, labelled, path, OPTIONS, resume=True, reporter=listener)
    assert path.read_bytes() == whole and not part_folder(path).exists()
    assert listener.starts == {"encode": (encoded, 120), "mine": (mined, 41)}


@pytest.mark.parametrize("lost", [1, 7, 64, 1000, 3000])
def test_files_torn_anywhere_are_mended(transformer, labelled, whole, tmp_path, lost):
    path = tmp_path / "x.jsonl"
    stop(transformer, labelled, path, "mine", 30)
    for name in ("vectors.bin", "lines.jsonl"):
        torn = part_folder(path) / name
        os.truncate(torn, torn.stat().st_size - lost)
    mine(transformer, labelled, path, OPTIONS, resume=True)
    assert path.read_bytes() == whole


def test_a_run_stopped_after_its_last_line_only_needs_its_name(transformer, labelled, whole, tmp_path):
    path = tmp_path / "x.jsonl"
    stop(transformer, labelled, path, "mine", 41)
    assert (part_folder(path) / "lines.jsonl").read_bytes() == whole
    mine(transformer, labelled, path, OPTIONS, resume=True)
    assert path.read_bytes() == whole


def test_another_model_or_data_or_options_are_refused(encoder, transformer, labelled, whole, tmp_path):
    path = tmp_path / "x.jsonl"
    stop(transformer, labelled, path, "mine", 10)
    with pytest.raises(OutputError, match="begun with another model: resume it"):
        mine(encoder, labelled, path, OPTIONS, resume=True)
    with pytest.raises(OutputError, match="begun with another data:"):
        mine(transformer, labelled.take(np.arange(40)), path, OPTIONS, resume=True)
    with pytest.raises(OutputError, match="begun with another dtype and another options"):
        mine(transformer, labelled, path, MiningOptions(), dtype="bfloat16", resume=True)
    mine(transformer, labelled, path, OPTIONS, resume=True)
    assert path.read_bytes() == whole


def test_what_is_there_is_not_overwritten_unasked(encoder, labelled, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("mine\n")
    with pytest.raises(OutputError, match=r"x\.jsonl exists already"):
        mine(encoder, labelled, path, OPTIONS)
    with pytest.raises(OutputError, match="is complete: there is nothing to resume"):
        mine(encoder, labelled, path, OPTIONS, resume=True)
    with pytest.raises(OutputError, match="no unfinished run"):
        mine(encoder, labelled, tmp_path / "y.jsonl", OPTIONS, resume=True)
    stop(encoder, labelled, path, "mine", 10, overwrite=True)
    assert path.read_text() == "mine\n"
    with pytest.raises(OutputError, match="holds an unfinished run: pass --resume"):
        mine(encoder, labelled, path, OPTIONS)
    mine(encoder, labelled, path, OPTIONS, resume=True)
    assert path.read_text().count("\n") == 41
    stop(encoder, labelled, path, "encode", 1, overwrite=True)
    mine(encoder, labelled, path, MiningOptions(), overwrite=True)
    assert path.read_text().count("\n") == 41 and [p.name for p in tmp_path.iterdir()] == ["x.jsonl"]


def test_one_process_at_a_time_mines_an_output(encoder, labelled, tmp_path):
    stop(encoder, labelled, tmp_path / "x.jsonl", "mine", 10)
    descriptor = os.open(part_folder(tmp_path / "x.jsonl"), os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    for how in ({"resume": True}, {"overwrite": True}, {}):
        with pytest.raises(OutputError, match=r"Another process is mining .*x\.jsonl: wait until it is done"):
            mine(encoder, labelled, tmp_path / "x.jsonl", OPTIONS, **how)
    os.close(descriptor)
    mine(encoder, labelled, tmp_path / "x.jsonl", OPTIONS, resume=True)


@pytest.mark.parametrize("name", ["x.json", "x", "folder.jsonl", "x.jsonl.gz"])
def test_outputs_that_could_not_be_read_again_are_refused(encoder, labelled, tmp_path, name):
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(OutputError, match=r"name a file that ends in \.jsonl"):
        mine(encoder, labelled, tmp_path / name, OPTIONS)


def test_a_damaged_header_is_refused(encoder, labelled, tmp_path):
    path = tmp_path / "x.jsonl"
    stop(encoder, labelled, path, "mine", 10)
    (part_folder(path) / "header.json").write_text("{")
    with pytest.raises(OutputError, match=r"header\.json cannot be read: start anew"):
        mine(encoder, labelled, path, OPTIONS, resume=True)


@pytest.mark.parametrize("writes", [0, 3, 10])
def test_a_full_disk_is_a_sentence_and_the_run_goes_on_later(
    transformer, labelled, whole, tmp_path, monkeypatch, writes
):
    path, append, left = tmp_path / "x.jsonl", Part._append, writes

    def full(self, name, content):
        nonlocal left
        left -= 1
        if left < 0:
            with self._writing(), (self.folder / name).open("ab") as file:
                file.write(content[: len(content) // 3])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(self, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(Part, "_append", full)
        with pytest.raises(OutputError, match=r"No space left on device\): make room, then go on with --resume"):
            mine(transformer, labelled, path, OPTIONS)
    mine(transformer, labelled, path, OPTIONS, resume=True)
    assert path.read_bytes() == whole


def test_folders_that_are_missing_are_made(encoder, labelled, tmp_path):
    path = tmp_path / "new" / "folder" / "x.jsonl"
    mine(encoder, labelled, path, OPTIONS)
    assert path.is_file()
