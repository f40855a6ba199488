"""``retriever analyze``: STS sets and corpora, one JSON object, tables, pictures, and mistakes as sentences."""

from __future__ import annotations

import json
import shutil

import encoders
import pytest
import sts_folders
import torch
from typer.testing import CliRunner

from retriever.cli.app import app
from retriever.data.sts import load_sts
from retriever.eval.analysis import analyze_sts, analyze_texts


def call(*arguments, code=0):
    """Run a command in this process; returns (stdout, stderr)."""
    result = CliRunner().invoke(app, ["analyze", *(str(argument) for argument in arguments)])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result.stdout, result.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("analyze")
    encoders.static().save(folder / "model")
    sts_folders.write_seven(folder / "sts")
    (folder / "notes.txt").write_text("".join(f"{sts_folders.text(number)}\n" for number in range(40)))
    return folder


def found(*arguments):
    return json.loads(call(*arguments, "--json", "-q")[0])


def test_the_json_is_that_of_the_library_and_stsb_the_default(folder):
    expected = analyze_sts(encoders.static(), load_sts(folder / "sts", only=["STSB"]))
    assert found(folder / "model", folder / "sts") == json.loads(json.dumps(expected.to_json()))
    assert expected.sets == {"STSB": "test"}


def test_sets_and_splits_can_be_chosen(folder):
    model, sts = folder / "model", folder / "sts"
    assert found(model, sts, "--split", "dev")["sets"] == {"STSB": "dev"}
    assert found(model, sts, "--split", "all")["pairs"] == 20 + 21 + 22
    assert found(model, sts, "--only", "SICKR", "--only", "STS12")["sets"] == {"STS12": "test", "SICKR": "test"}
    assert found(model, sts / "STS12-en-test")["sets"] == {"STS12": "test"}
    shutil.copytree(sts, folder / "some", dirs_exist_ok=True)
    shutil.rmtree(folder / "some" / "STSBenchmark")
    assert len(found(model, folder / "some")["sets"]) == 6


def test_a_corpus_has_no_alignment(folder):
    expected = analyze_texts(encoders.static(), [sts_folders.text(number) for number in range(40)])
    assert found(folder / "model", folder / "notes.txt") == json.loads(json.dumps(expected.to_json()))
    out, err = call(folder / "model", folder / "notes.txt")
    assert f"{folder / 'model'} on {folder / 'notes.txt'}: 40 distinct texts" in out
    assert "uniformity" in out and "alignment" not in out and "gold score" not in out
    assert "notes: 40 documents." in err


def test_a_corpus_is_sampled(folder):
    def drawn(*arguments):
        return found(folder / "model", folder / "notes.txt", "--texts", 10, *arguments)

    assert drawn()["texts"] == 10
    assert drawn() == drawn() and drawn()["uniformity"] != drawn("--seed", 1)["uniformity"]


def test_fields_of_a_corpus(folder, tmp_path):
    lines = [json.dumps({"a": f"dog {sts_folders.text(number)}", "b": "fox"}) for number in range(4)]
    (tmp_path / "notes.jsonl").write_text("\n".join([*lines, "{"]))
    arguments = (folder / "model", tmp_path / "notes.jsonl", "--text-field", "a")
    assert "notes.jsonl:5" in call(*arguments, code=2)[1]
    assert found(*arguments, "--skip-bad-lines")["texts"] == 4


def test_tables(folder):
    out, _ = call(folder / "model", folder / "sts")
    assert "STSB test: " in out
    rows = [line.split()[0] for line in out.splitlines() if line.startswith("  ") and line.split()]
    assert [row for row in rows if row.isalpha()][:4] == ["value", "alignment", "uniformity", "anisotropy"]
    assert "effective rank" in out and "4 to 5" in out and "pairs with a gold score above 4" in out


def test_pictures_and_numbers_are_filed(folder, tmp_path):
    out, err = call(folder / "model", folder / "sts", "--output", tmp_path / "new" / "folder", "--json")
    names = ["analysis.json", "similarity.png", "similarity.svg", "spectrum.png", "spectrum.svg"]
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == names
    assert (tmp_path / "new" / "folder" / "analysis.json").read_text() == out
    assert f"holds {', '.join(names)}." in err
    call(folder / "model", folder / "notes.txt", "--output", tmp_path / "corpus")
    assert not (tmp_path / "corpus" / "similarity.png").exists()


def test_a_collapsed_model_and_texts_without_a_vector_are_told(folder, tmp_path):
    encoder = encoders.static()
    with torch.no_grad():
        encoder.stack[0].table[:] = 1
    encoder.save(tmp_path / "flat")
    (tmp_path / "notes.txt").write_text("dog\nfox\nunheard\n")
    out, err = call(tmp_path / "flat", tmp_path / "notes.txt", "--json")
    assert "The model gives all texts the same vector: it has collapsed." in err
    assert "Texts left out because their vector is all zeros: 1." in err
    assert json.loads(out)["anisotropy"] == pytest.approx(1) and "NaN" not in out


def test_a_set_without_positive_pairs_has_no_alignment(folder, tmp_path):
    rows = [f"{a}\t{b}" for a, b, _ in sts_folders.pairs(6)]
    sts_folders.write_lines(tmp_path / "stsb-de-test.tsv", [f"{row}\t{n % 4}" for n, row in enumerate(rows)])
    out, err = call(folder / "model", tmp_path / "stsb-de-test.tsv", "--json")
    assert json.loads(out)["alignment"] is None and "there is no alignment" in err
    assert "–" in call(folder / "model", tmp_path / "stsb-de-test.tsv")[0]


def test_mistakes_are_one_sentence(folder, tmp_path):
    (tmp_path / "one.txt").write_text("dog\n")
    (tmp_path / "foreign.txt").write_text("eins\nzwei\n")
    (tmp_path / "taken").write_text("")
    model, sts, notes = folder / "model", folder / "sts", folder / "notes.txt"
    for arguments, words in [
        ((model, tmp_path / "x"), f"{tmp_path}/x"),
        ((tmp_path, notes), "Error: "),
        ((model, notes, "--only", "STSB"), f"--only names an STS set, and {notes} holds none"),
        ((model, sts, "--text-field", "body"), f"{sts} holds STS sets, which have no fields to name"),
        ((model, sts, "--only", "STS"), "has no set 'STS': choose from STS12, "),
        ((model, sts, "--split", "test2"), "has no test2 split: choose train or dev or test"),
        ((model, tmp_path / "one.txt"), "compares distinct texts, and was given 1: give two or more"),
        ((model, tmp_path / "foreign.txt"), "gives 2 of 2 texts a vector of zeros"),
        ((model, notes, "--dtype", "half"), "dtype is 'half'; choose auto, float32 or"),
        ((model, notes, "--output", tmp_path / "taken"), "taken"),
    ]:
        out, err = call(*arguments, code=2)
        assert out == "" and words in err and "Traceback" not in err
        assert sum(line.startswith("Error") for line in err.splitlines()) == 1
    assert call(model, notes, "--texts", 1, code=2)[0] == ""
