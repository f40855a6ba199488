"""``retriever serve``, as a user starts it: in one command, and with every mistake."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import httpx2
import pytest
from typer.testing import CliRunner

from retriever.cli.app import app
from retriever.data.document import Document
from retriever.encoder import Encoder
from retriever.errors import ModelError
from retriever.indexing.index import Index
from retriever.server.listen import take_port


def refused(*arguments):
    """The sentence of a command that must fail."""
    result = CliRunner().invoke(app, ["serve", *map(str, arguments)])
    assert result.exit_code == 2, (result.stdout, result.stderr, result.exception)
    return " ".join(result.stderr.split())


@contextmanager
def started(*arguments, **environment):
    """A server in a process of its own: the process, and its address."""
    command = [sys.executable, "-m", "retriever", "serve", *map(str, arguments), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
    try:
        lines = iter(process.stderr.readline, "")
        line = next(line for line in lines if line.startswith("Serving"))
        url = re.search(r"http://\S+", line)[0]
        threading.Thread(target=process.stderr.read, daemon=True).start()
        while True:
            try:
                if httpx2.get(f"{url}/health", timeout=60).status_code == 200:
                    break
            except httpx2.TransportError:
                time.sleep(0.02)
        yield process, url
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_one_command_serves_an_index_and_ends_when_told(index):
    with started(index.folder, "--quiet") as (process, url):
        hits = httpx2.get(f"{url}/search", params={"q": "battery", "k": 1}).json()["hits"]
        assert [hit["id"] for hit in hits] == ["battery"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_what_was_acknowledged_survives_kill_9_in_the_middle_of_changes(index, encoder):
    acknowledged, deleting, deleted = set(), set(), set()

    def write(url, worker):
        with httpx2.Client(base_url=url) as client:
            for number in range(10_000):
                name = f"{worker}-{number}"
                try:
                    document = {"id": name, "text": "zebra"}
                    if client.post("/documents", json={"documents": [document]}).status_code == 200:
                        acknowledged.add(name)
                    if number % 3 == 2:
                        before = f"{worker}-{number - 1}"
                        deleting.add(before)
                        if client.delete(f"/documents/{before}").status_code == 200:
                            deleted.add(before)
                except httpx2.TransportError:
                    return

    with started(index.folder, "--quiet") as (process, url):
        threads = [threading.Thread(target=write, args=(url, worker)) for worker in range(4)]
        for thread in threads:
            thread.start()
        while len(acknowledged) < 30:
            time.sleep(0.001)
        process.kill()
        for thread in threads:
            thread.join()
    with Index.open(index.folder, encoder) as after:
        after.verify()
        assert not {name for name in acknowledged - deleting if after.get(name) is None}
        assert not {name for name in deleted if after.get(name) is not None}
        after.add([Document("again", text="zebra")])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["{tmp}/nowhere"], "holds no index, and labels need a model"),
        (["{tmp}"], "holds no index"),
        (["{tmp}/nowhere", "--model", "{tmp}/no-model"], "no-model"),
        (["{index}", "--model", "{tmp}/no-model"], "no-model"),
        (["{index}", "--memory"], "--memory says how to read labels: give them with --labels"),
        (["{index}", "--titles-only"], "--titles-only says how to read labels: give them with --labels"),
        (["{index}", "--labels", "{tmp}/no-labels"], "no-labels"),
        (["{index}", "--host", "0.0.0.0"], "open to other machines"),
        (["{index}", "--host", "no.such.host.invalid"], "open to other machines"),
        (["{index}", "--port", "99999"], "no port 99999"),
        (["{index}", "--api-key-file", "{tmp}/no-keys"], "Cannot read the keys"),
        (["{index}", "--dtype", "half"], "dtype is 'half'; choose auto, float32 or bfloat16."),
        (["{tmp}/nowhere", "--dtype", "half"], "dtype is 'half'"),
        (["{index}", "--device", "toaster"], "'toaster'"),
        (["{index}", "--timeout", "inf"], "--timeout is inf: give a finite number."),
        (["{index}", "--rate", "inf"], "--rate is inf: give a finite number."),
        (["{index}", "--allow-origin", "example.org"], "--allow-origin example.org is no origin"),
        (["{index}", "--allow-origin", "https://example.org/"], "is no origin: write scheme and host"),
        (["{index}", "--allow-origin", "https://Example.org"], "in small letters"),
        (["{index}", "--timeout", "nan"], "--timeout"),
        (["{index}", "--rate", "nan"], "--rate"),
    ],
)
def test_a_mistake_is_one_sentence(index, tmp_path, arguments, told):
    arguments = [argument.format(tmp=tmp_path, index=index.folder) for argument in arguments]
    if "--port" not in arguments:
        arguments += ["--port", "0"]
    sentence = refused(*arguments)
    assert told in sentence and "Serving" not in sentence


def test_what_the_first_query_would_be_told_is_told_at_the_beginning(index, monkeypatch):
    def broken(*arguments, **options):
        raise ModelError("The model is broken: train it again.")

    monkeypatch.setattr("retriever.cli.serve._log", lambda quiet: None)
    monkeypatch.setattr("gc.freeze", lambda: None)
    monkeypatch.setattr(Encoder, "encode", broken)
    assert refused(index.folder, "--port", 0) == "Error: The model is broken: train it again."


@pytest.mark.parametrize("name", ["retriever.server", "uvicorn.error", "asyncio"])
def test_every_line_of_the_log_is_json_whoever_writes_it(name):
    code = f"import logging; from retriever.cli.serve import _log; _log(True); logging.getLogger({name!r}).error('x')"
    lines = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr.splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["x"]


def test_a_taken_port_is_told_before_anything_is_loaded(tmp_path):
    with take_port("127.0.0.1", 0, has_keys=False) as taken:
        assert "in use" in refused(tmp_path / "nowhere", "--port", taken.getsockname()[1])


def test_a_missing_extra_is_told(monkeypatch, index):
    monkeypatch.setattr("retriever.cli.serve.find_spec", lambda name: None if name == "uvicorn" else True)
    assert refused(index.folder) == "Error: Serving needs uvicorn: pip install 'dense-retriever[serve]'."


def test_an_index_of_another_model_is_refused(index, tmp_path):
    from encoders import static

    static().save(tmp_path / "other")
    assert "was built by another model" in refused(index.folder, "--model", tmp_path / "other", "--port", "0")
