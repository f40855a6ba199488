"""``retriever eval mteb``: one JSON object, a table, and mistakes as sentences; mteb itself stands aside."""

from __future__ import annotations

import json
import sys

import encoders
import pytest
from typer.testing import CliRunner

from retriever.cli.app import app
from retriever.eval.mteb import MtebResults

RESULTS = MtebResults(
    {"STS12": 0.5, "SICK-R": 0.7, "avg": 0.6},
    {"STS12": "cosine_spearman", "SICK-R": "cosine_spearman"},
    {"STS12": {"test": {"default": {"main_score": 0.5}}}},
    "2.0",
)


def call(*arguments, code=0):
    """Run a command in this process; returns (stdout, stderr)."""
    result = CliRunner().invoke(app, ["eval", "mteb", *(str(argument) for argument in arguments)])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result.stdout, result.stderr


@pytest.fixture
def model(tmp_path, monkeypatch):
    encoders.static().save(tmp_path / "model")
    asked = []

    def evaluate(encoder, tasks, **settings):
        asked.append((tasks, settings))
        settings["progress"](7)
        return RESULTS

    monkeypatch.setattr("retriever.eval.mteb.evaluate_mteb", evaluate)
    yield tmp_path / "model"
    for tasks, settings in asked:
        assert tasks == ["STS12", "SICK-R"] and settings["name"] == str(tmp_path / "model")


def test_the_json_is_that_of_the_library(model, tmp_path):
    out, err = call(model, "STS12", "SICK-R", "--json", "--data", tmp_path)
    assert json.loads(out) == RESULTS.to_json()
    assert "7" in err
    assert call(model, "STS12", "SICK-R", "--quiet")[1] == ""


def test_a_table(model):
    out, _ = call(model, "STS12", "SICK-R")
    assert "mteb 2.0" in out and "STS12 (cosine_spearman)" in out
    assert out.split()[-2:] == ["avg", "0.600"]


def test_mistakes_are_one_sentence(model, tmp_path):
    out, err = call(model, "STS12", "--data", tmp_path / "x", code=2)
    assert out == "" and f"Error: There is no folder {tmp_path / 'x'}: give one that holds copies" in err
    assert call(model, code=2)[0] == ""


def test_the_help_names_the_extra():
    assert "needs the extra `mteb`." in CliRunner().invoke(app, ["eval", "--help"], env={"COLUMNS": "200"}).stdout


def test_without_mteb_the_extra_is_named(tmp_path, monkeypatch):
    encoders.static().save(tmp_path / "model")
    monkeypatch.setitem(sys.modules, "mteb", None)
    out, err = call(tmp_path / "model", "STS12", code=2)
    assert out == "" and "Error: MTEB's tasks need mteb" in err and "pip install 'dense-retriever[mteb]'" in err
