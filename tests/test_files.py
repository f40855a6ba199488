"""Files and folders that are old or new, never half-written."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from retriever import files
from retriever.errors import OutputError
from retriever.files import replacing, write_atomically

needs_exchange = pytest.mark.skipif(sys.platform != "linux", reason="only Linux swaps two folders in one step")


def fill(folder, text):
    (folder / "inner").mkdir()
    for name in ("a", "inner/b"):
        (folder / name).write_text(text)


def content(folder):
    return {(folder / name).read_text() for name in ("a", "inner/b")}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=["one step", "two renames"])
def way(request, monkeypatch):
    """Both ways of putting a folder in another's place."""
    if request.param == "two renames":
        monkeypatch.setattr(files, "_exchange", lambda *_: False)


# --- files --------------------------------------------------------------------------------------------------------


def test_write_text_and_bytes(tmp_path):
    path = tmp_path / "deep" / "file"
    assert write_atomically(path, "naïve\r\n") == path
    assert path.read_bytes() == "naïve\r\n".encode()
    write_atomically(str(path), b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert names(path.parent) == ["file"]


@pytest.mark.parametrize("when", ["fsync", "replace"])
def test_a_failed_write_keeps_the_old_file(when, tmp_path, monkeypatch):
    path = write_atomically(tmp_path / "file", "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*{"fsync": (os, "fsync"), "replace": (Path, "replace")}[when], full)
    with pytest.raises(OutputError, match=r"Cannot write .*file \(No space left on device\)"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="Cannot write"):
        write_atomically(tmp_path / "file" / "inner", "new")
    with pytest.raises(OutputError, match="Cannot write"), replacing(tmp_path / "file" / "inner") as folder:
        fill(folder, "new")


# --- folders ------------------------------------------------------------------------------------------------------


def test_a_new_folder(tmp_path, way):
    with replacing(tmp_path / "deep" / "model") as folder:
        fill(folder, "new")
        assert not (tmp_path / "deep" / "model").exists()
    assert content(tmp_path / "deep" / "model") == {"new"}
    assert names(tmp_path / "deep") == ["model"]


def test_an_old_folder_is_replaced_whole(tmp_path, way):
    target = tmp_path / "model"
    target.mkdir()
    fill(target, "old")
    (target / "leftover").write_text("x")
    with replacing(target) as folder:
        fill(folder, "new")
        assert content(target) == {"old"}
    assert content(target) == {"new"}
    assert names(target) == ["a", "inner"]
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError(28, "No space left on device")])
def test_a_failed_block_keeps_the_old_folder(error, tmp_path, way):
    target = tmp_path / "model"
    target.mkdir()
    fill(target, "old")
    expected = OutputError if isinstance(error, OSError) else error
    with pytest.raises(expected), replacing(target) as folder:
        fill(folder, "new")
        raise error
    assert content(target) == {"old"}
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize(
    ("save", "reason"),
    [
        (lambda path: torch.save(torch.zeros(100_000), path), "no more could be written"),
        (lambda path: save_file({"a": torch.zeros(100_000)}, path), "File too large"),
        (lambda path: path.write_bytes(bytes(400_000)), "File too large"),
    ],
    ids=["torch", "safetensors", "python"],
)
def test_a_limit_of_the_system_is_told_whoever_meets_it(save, reason, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=rf"new \({reason}\): choose"), replacing(tmp_path / "new") as folder:
            save(folder / "file")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [ConnectionResetError(104, "Connection reset by peer"), FileNotFoundError(2, "No such file", "/corpus/a.jsonl")],
)
def test_an_error_of_what_is_read_is_not_told_as_one_of_writing(error, tmp_path):
    with pytest.raises(type(error)), replacing(tmp_path / "model") as folder:
        fill(folder, "new")
        raise error
    assert names(tmp_path) == []


def test_a_failed_second_rename_puts_the_old_folder_back(tmp_path, monkeypatch):
    target = tmp_path / "model"
    target.mkdir()
    fill(target, "old")
    monkeypatch.setattr(files, "_exchange", lambda *_: False)
    rename = Path.rename

    def fail_for_the_new_one(self, to):
        if ".tmp" in self.name:
            raise OSError(5, "Input/output error")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", fail_for_the_new_one)
    with pytest.raises(OutputError, match="Input/output error"), replacing(target) as folder:
        fill(folder, "new")
    assert content(target) == {"old"}
    assert names(tmp_path) == ["model"]


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    (tmp_path / "model").write_text("precious")
    with pytest.raises(OutputError, match="Not a directory"), replacing(tmp_path / "model") as folder:
        fill(folder, "new")
    assert (tmp_path / "model").read_text() == "precious"
    assert names(tmp_path) == ["model"]


def test_a_link_to_a_folder_stays_a_link(tmp_path, way):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with replacing(tmp_path / "link") as folder:
        fill(folder, "new")
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "real") == {"new"}
    assert names(tmp_path) == ["link", "real"]


def test_a_relative_folder(tmp_path, monkeypatch, way):
    monkeypatch.chdir(tmp_path)
    with replacing(Path("model")) as folder:
        fill(folder, "new")
    assert content(tmp_path / "model") == {"new"}


def test_leavings_of_a_killed_process_with_our_id_are_no_obstacle(tmp_path):
    (tmp_path / f".model.tmp{os.getpid()}").mkdir()
    with replacing(tmp_path / "model") as folder:
        fill(folder, "new")
    assert names(tmp_path) == ["model"]


REPLACE_FOR_EVER = """
import sys
from pathlib import Path
from retriever.files import replacing
target, i = Path(sys.argv[1]), 0
while True:
    i += 1
    with replacing(target) as folder:
        (folder / "inner").mkdir()
        for name in ("a", "inner/b"):
            (folder / name).write_text(str(i))
    print(i, flush=True)
"""


@needs_exchange
@pytest.mark.parametrize("delay", [0.003, 0.011, 0.02, 0.037, 0.05])
def test_kill_at_any_moment_leaves_one_whole_folder(delay, tmp_path):
    target = tmp_path / "model"
    child = subprocess.Popen([sys.executable, "-c", REPLACE_FOR_EVER, str(target)], stdout=subprocess.PIPE)
    with child:
        child.stdout.readline()  # the folder is there from now on
        end = time.monotonic() + delay
        while time.monotonic() < end:
            assert target.is_dir()
        child.send_signal(signal.SIGKILL)
    assert len(content(target)) == 1
