"""What docs/serving.md tells a reader to type does what it says."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from server_app import listening
from typer.main import get_command

from retriever.cli.app import app

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
HERE = "http://localhost:8080"


def commands(program):
    """The indented commands of the page that begin with a program's name, continued lines joined."""
    joined = PAGE.replace("\\\n", "")
    return [shlex.split(line) for line in re.findall(rf"^    ({program} .*)$", joined, re.MULTILINE)]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_curl_command_is_answered(service):
    answers = {}
    with listening(replace(service, called="model")) as url:
        for command in commands("curl"):
            told = [part.replace(HERE, url) for part in command]
            result = subprocess.run([*told, "--silent", "--fail-with-body"], capture_output=True, text=True)
            assert result.returncode == 0, (command, result.stdout)
            answers[command[-1]] = json.loads(result.stdout)
    assert len(answers) == 9
    assert answers[f"{HERE}/search?q=reset+the+device&k=3"]["hits"][0]["id"] == "reset"
    assert answers[f"{HERE}/documents/note-1"]["documents"] == 5  # the last command of this address deletes


def test_the_python_example_runs(service, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    with listening(service) as url:
        exec(compile(code.replace(HERE, url), "serving.md", "exec"), {})
    assert "1 reset" in capsys.readouterr().out


def test_every_option_of_the_page_exists():
    serve = get_command(app).commands["serve"]
    known = {name for parameter in serve.params for name in parameter.opts}
    named = set(re.findall(r"`(--[a-z-]+)", PAGE))
    typed = {part for command in commands("retriever") for part in command if part.startswith("--")}
    assert len(named) > 8 and named | typed <= known


def test_every_route_of_the_page_exists(client):
    described = set(client.get("/openapi.json").json()["paths"]) | {"/openapi.json"}
    rows = re.findall(r"^\| (`(?:GET|POST).*?) \|", PAGE, re.MULTILINE)
    named = {path.replace("{id}", "{name}") for row in rows for path in re.findall(r"/[\w/{}.]+", row)}
    assert named == described
