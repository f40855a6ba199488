"""``retriever eval sts``: one JSON object, a table, notes, a report, and mistakes as sentences."""

from __future__ import annotations

import json
import shutil

import encoders
import pytest
import sts_folders
from typer.testing import CliRunner

from retriever.cli.app import app
from retriever.data.sts import SEVEN, load_sts
from retriever.eval.sts import evaluate_sts

OTHER_PROTOCOLS = (("--aggregate", "mean"), ("--aggregate", "wmean"), ("--similarity", "dot"))  # than published numbers


def call(*arguments, code=0):
    """Run a command in this process; returns (stdout, stderr)."""
    result = CliRunner().invoke(app, ["eval", "sts", *(str(argument) for argument in arguments)])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result.stdout, result.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eval")
    encoders.static(normalise=False).save(folder / "model")
    encoders.static().save(folder / "all-MiniLM-L6-v2")
    sts_folders.write_seven(folder / "sts")
    return folder


def test_the_json_is_that_of_the_library(folder):
    out, err = call(folder / "model", folder / "sts", "--json")
    found = json.loads(out)
    expected = evaluate_sts(encoders.static(normalise=False), load_sts(folder / "sts"))
    assert found == json.loads(json.dumps(expected.to_json()))
    assert list(found["metrics"]) == [*SEVEN, "avg"]
    assert "Rows without a gold score, dropped: 10 of STS16." in err
    assert "lacks" not in err


def test_options_reach_the_evaluation(folder):
    def found(*arguments):
        return json.loads(call(folder / "model", folder / "sts", "--json", "-q", "--resamples", 5, *arguments)[0])

    plain = found()
    for aggregate in ("mean", "wmean"):
        other = found("--aggregate", aggregate)
        assert other["aggregate"] == aggregate and other["metrics"]["STS12"] != plain["metrics"]["STS12"]
        assert other["metrics"]["STSB"] == plain["metrics"]["STSB"]
    assert found("--similarity", "dot")["metrics"]["STSB"] != plain["metrics"]["STSB"]
    assert found("--lower")["lower"] is True
    assert found("--split", "dev")["splits"] == {"STSB": "dev", "SICKR": "dev"}
    everything = found("--sick", "all")
    assert everything["splits"] == plain["splits"] | {"SICKR": "all"} and everything["pairs"]["SICKR"] == 63
    assert list(found("--only", "STSB", "--only", "STS12")["metrics"]) == ["STS12", "STSB"]
    assert found("--resamples", 0)["intervals"] == {}


def test_a_table_and_a_report(folder, tmp_path):
    out, _ = call(folder / "model", folder / "sts", "--report", tmp_path / "sts.html", "--resamples", 20)
    assert f"{folder / 'model'} on {folder / 'sts'}: all subsets of a set as one, cosine, text as it is" in out
    rows = [line.split()[0] for line in out.splitlines() if " to " in line]
    assert rows == [*SEVEN, "avg"]
    page = (tmp_path / "sts.html").read_text()
    assert "surprise.SMTnews" in page and "<svg" in page


def test_what_is_published_of_the_model_stands_beside(folder):
    out, _ = call(folder / "all-MiniLM-L6-v2", folder / "sts", "--resamples", 0)
    assert "published" in out and "82.03" in out and "77.58" not in out
    out, _ = call(folder / "all-MiniLM-L6-v2", folder / "sts", "--sick", "all", "--json")
    assert json.loads(out)["published"]["SICKR"] == 0.7758
    for arguments in [("model",), *(("all-MiniLM-L6-v2", *other) for other in OTHER_PROTOCOLS)]:
        assert "published" not in call(folder / arguments[0], folder / "sts", "--resamples", 0, *arguments[1:])[0]


def test_sets_the_folder_lacks_are_told(folder, tmp_path):
    shutil.copytree(folder / "sts", tmp_path / "some")
    for name in ("STS13-en-test", "SICK"):
        shutil.rmtree(tmp_path / "some" / name)
    out, err = call(folder / "model", tmp_path / "some", "--json")
    assert f"{tmp_path / 'some'} lacks STS13, SICKR: no average over the seven sets." in err
    assert "avg" not in json.loads(out)["metrics"]
    for wanted in (["--only", "STSB"], ["--split", "dev"]):
        assert "lacks" not in call(folder / "model", tmp_path / "some", *wanted)[1]
    rows = [f"{a}\t{b}\t{score}" for a, b, score in sts_folders.pairs(9)]
    (tmp_path / "languages").mkdir()
    sts_folders.write_lines(tmp_path / "languages" / "stsb-de-test.tsv", rows)
    assert "lacks" not in call(folder / "model", tmp_path / "languages")[1]


def test_truncated_texts_are_told(folder, tmp_path):
    encoders.small(max_length=4).save(tmp_path / "short")
    _, err = call(tmp_path / "short", folder / "sts" / "STSBenchmark")
    assert "Texts cut to the 2 tokens that the model reads: " in err


def test_mistakes_are_one_sentence(folder, tmp_path):
    for arguments, words in [
        ((folder / "model", tmp_path), f"Error: {tmp_path} holds no STS set: an STS folder holds STS12-en-test to"),
        ((folder / "model", tmp_path / "x"), f"Error: There is no folder {tmp_path}/x"),
        ((tmp_path, folder / "sts"), "Error: "),
        ((folder / "model", folder / "sts", "--only", "STS"), "has no set 'STS': choose from STS12, "),
        ((folder / "model", folder / "sts" / "STS12-en-test", "--split", "dev"), "has no dev split: choose test"),
        ((folder / "model", folder / "sts", "--dtype", "half"), "Error: dtype is 'half'; choose auto, float32 or"),
    ]:
        out, err = call(*arguments, code=2)
        assert out == "" and words in err and "Traceback" not in err
        assert sum(line.startswith("Error") for line in err.splitlines()) == 1
    gold = sts_folders.write_year(tmp_path) / "STS.gs.MSRpar.txt"
    gold.write_text("3\n6\n")
    assert f"{gold} has 2 rows and STS.input.MSRpar.txt has 12" in call(folder / "model", tmp_path, code=2)[1]
