"""Tuning hybrid search from the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from retriever.cli.app import app
from retriever.data.document import Document
from retriever.data.tokenizers import WordTokenizer
from retriever.encoder import Encoder
from retriever.indexing.index import Index


def call(*arguments, code=0):
    """Run a command in this process; returns (stdout, stderr)."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result.stdout, " ".join(result.stderr.split())


@pytest.fixture
def folder(tmp_path):
    """An index of untrained vectors, and judgments that only these vectors find."""
    rng = np.random.default_rng(0)
    words = [f"w{number}" for number in range(60)]
    documents = [Document(f"d{row}", text=" ".join(rng.permutation(words)[:6])) for row in range(40)]
    encoder = Encoder.static(WordTokenizer.train(document.text for document in documents), dimension=8)
    encoder.save(tmp_path / "model")
    queries = {f"q{row}": " ".join(one.text.split()[:2]) for row, one in enumerate(documents)}
    with Index.build(encoder, documents, tmp_path / "index") as index:
        nearest = [hits[0].id for hits in index.search_batch(list(queries.values()), 1, "dense")]
    lines = [json.dumps({"_id": name, "text": text}) for name, text in queries.items()]
    (tmp_path / "queries.jsonl").write_text("\n".join(lines))
    judged = "".join(f"{query}\t{found}\t1\n" for query, found in zip(queries, nearest, strict=True))
    (tmp_path / "dev.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    return tmp_path


def tune(folder, *more, code=0):
    given = ("--queries", folder / "queries.jsonl", "--qrels", folder / "dev.tsv")
    return call("index", "tune", folder / "index", "--hybrid", *given, *more, code=code)


def settings(folder):
    return json.loads(call("index", "info", folder / "index", "--json")[0])["fusion"]


def test_the_index_remembers_what_was_found(folder):
    dry = json.loads(tune(folder, "--dry-run", "--json")[0])
    assert settings(folder) == {"method": "fisher", "weight": 0.5} and not dry["stored"]
    found = json.loads(tune(folder, "--json")[0])
    method, weight = found["chosen"]
    assert found["gain"] > 0 and weight > 0.5 and found["stored"]
    assert settings(folder) == {"method": method, "weight": weight}
    tuned = call("search", folder / "index", "w1 w2", "--json")[0]
    assert tuned == call("search", folder / "index", "w1 w2", "--fusion", method, "--weight", weight, "--json")[0]
    assert tuned != call("search", folder / "index", "w1 w2", "--fusion", "fisher", "--weight", 0.5, "--json")[0]


def test_the_table_tells_every_setting_and_the_honest_gain(folder):
    out, _ = tune(folder, "-q")
    lines = out.splitlines()
    (heading,) = (line for line in lines if "┃" in line and "fisher" in line)
    assert heading.replace("┃", " ").split()[1:] == ["fisher", "zscore", "minmax", "tmm", "product", "rrf"]
    rows = [line.replace("│", " ").split() for line in lines if line.startswith("│")]
    assert [row[0] for row in rows] == ["0", *(f"0.{tenth}" for tenth in range(1, 10)), "1"]
    assert rows[-1][1:] == ["1.000"] * 6
    assert "Best on all 40 queries: " in out
    assert "On held-out queries: " in out and ", p = 0." in out
    assert f"The index now searches with {settings(folder)['method']} and weight" in out


def test_a_gain_that_may_be_chance_leaves_the_default(folder):
    rng = np.random.default_rng(1)
    judged = "".join(f"q{row}\td{rng.integers(40)}\t1\n" for row in range(40))
    (folder / "dev.tsv").write_text(judged)
    found = json.loads(tune(folder, "--json")[0])
    assert found["gain"] > 0 and found["p"] > 0.05 and found["best"] != found["chosen"] == ["fisher", 0.5]
    assert (
        "That is no proven gain over the default. The index now searches with fisher and weight 0.5." in tune(folder)[0]
    )
    assert settings(folder) == {"method": "fisher", "weight": 0.5}


def test_mistakes_are_told(folder):
    (folder / "dev.tsv").write_text("q1\td1\t1\n")
    assert "Tuning needs at least 10 judged queries, not 1" in tune(folder, code=2)[1]
    (folder / "dev.tsv").write_text("q1 d1 1\n")
    assert "dev.tsv:1 is no judgment" in tune(folder, code=2)[1]
    (folder / "dev.tsv").unlink()
    assert "dev.tsv" in tune(folder, code=2)[1]
    assert settings(folder) == {"method": "fisher", "weight": 0.5}


def test_what_is_missing_or_belongs_elsewhere_is_named(folder):
    asked = ("index", "tune", folder / "index")
    assert "give --queries and --qrels" in call(*asked, "--hybrid", "--queries", folder / "queries.jsonl", code=2)[1]
    assert "read with --hybrid only" in call(*asked, "--qrels", folder / "dev.tsv", code=2)[1]
    assert "read with --hybrid only" in call(*asked, "--dry-run", code=2)[1]
    assert "--seed is read with --hybrid only" in call(*asked, "--seed", "1", code=2)[1]
    for option, value in (("--recall", "0.9"), ("--factory", "Flat"), ("--memory", "1GB")):
        judged = (*asked, "--hybrid", "--qrels", folder / "dev.tsv", option, value)
        assert f"{option} says nothing about a hybrid search: leave it out" in " ".join(
            call(*judged, code=2)[1].split()
        )
