"""Tuning an index from the command line."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from retriever.cli.app import app
from retriever.cli.tune import parse_size, show_tuning
from retriever.data.tokenizers import WordTokenizer
from retriever.encoder import Encoder
from retriever.errors import DataError
from retriever.indexing import build
from retriever.indexing.kinds import SearchSettings
from retriever.indexing.tuning import TradeOff, Tuning

WORDS = [f"word{number}" for number in range(60)]


def call(*arguments, code=0):
    """Run a command in this process; returns (stdout, stderr)."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result.stdout, " ".join(result.stderr.split())


def write(path, count, seed):
    rng = random.Random(seed)
    lines = (
        json.dumps({"_id": f"{seed}-{number}", "text": " ".join(rng.choices(WORDS, k=9))}) for number in range(count)
    )
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tune")
    Encoder.static(WordTokenizer.train([" ".join(WORDS)] * 3), dimension=16).save(folder / "model")
    write(folder / "notes.jsonl", 400, 0)
    write(folder / "asked.jsonl", 60, 1)
    write(folder / "few.jsonl", 5, 2)
    return folder


@pytest.fixture
def index(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "FEW", 100)
    arguments = ["--factory", "IVF16,PQ8x4fs", "--recall", "0.8"]
    command = ["index", "build", folder / "model", folder / "notes.jsonl", "-o", tmp_path / "index", *arguments]
    told, _ = call(*command)
    assert "IVF16,PQ8x4fs: what recall costs" in told and "of the ten nearest vectors" in told
    assert call(*command, "--overwrite", "--quiet")[0] == ""
    return tmp_path / "index"


def test_the_table_is_shown_and_the_settings_are_kept(folder, index):
    out, _ = call("index", "tune", index, "--recall", "0.9", "--queries", folder / "asked.jsonl")
    for part in ("IVF16,PQ8x4fs: what recall costs", "nprobe", "rerank", "recall@10", "x exact", "chosen", "exact"):
        assert part in out
    assert "Chosen on 30 queries, measured on as many others, one thread; they are your own." in out
    assert "now find" in out
    info = json.loads(call("index", "info", index, "--json")[0])
    assert (info["recall"], info["kinds"]) == (0.9, ["IVF16,PQ8x4fs"])


def test_documents_serve_where_there_are_no_queries_and_are_said_to_be_easier(index):
    out, _ = call("index", "tune", index, "--recall", "0.9")
    assert "documents, which are easier than what people ask" in out
    found = json.loads(call("index", "tune", index, "--recall", "0.9", "--json")[0])
    assert found["kinds"] == ["IVF16,PQ8x4fs"] and not found["tuning"]["own"]
    assert found["tuning"]["chosen"] in found["tuning"]["table"]


def test_a_recall_that_is_not_reached_is_told_without_contradiction(capsys):
    chosen = TradeOff(settings=SearchSettings(nprobe=64), recall=0.991, error=0.002, per_second=100)
    told = {"target": 0.99, "chosen": chosen, "reached": False, "table": [chosen]}
    show_tuning(Tuning(exact_per_second=50, queries=500, own=True, **told), Path("index"), ["IVF64,PQ8x4fs"])
    said = capsys.readouterr().out
    assert "No settings reach 0.99 on the queries that choose. Searches of index now find 0.991, the most" in said


def test_another_kind_is_made_on_demand(index):
    assert json.loads(call("index", "tune", index, "--factory", "HNSW8", "--json")[0])["kinds"] == ["HNSW8"]
    out, _ = call("index", "tune", index, "--factory", "auto")
    assert "compares with all 400 vectors: nothing is to be tuned." in " ".join(out.split())
    assert json.loads(call("index", "tune", index, "--json")[0]) == {"kinds": ["Flat"], "tuning": None}


def test_a_kind_that_a_small_index_does_not_get_is_told(index, monkeypatch):
    monkeypatch.setattr(build, "FEW", 10_000)
    out, _ = call("index", "tune", index, "--factory", "HNSW8")
    assert "nothing is to be tuned. So few are searched exactly, whatever the factory." in out
    assert "whatever the factory" not in call("index", "tune", index, "--factory", "auto")[0]


def test_a_search_can_spend_more_or_less(index):
    def ids(*arguments):
        out, _ = call("search", index, "word1 word2 word3", "--mode", "dense", "--json", *arguments)
        return [hit["id"] for hit in json.loads(out)["hits"]]

    everything = ids("--nprobe", 16, "--rerank", 40)
    call("index", "tune", index, "--factory", "Flat", "--json")
    assert everything[:5] == ids()[:5]  # vectors in fp16 swap near neighbours further down


@pytest.mark.parametrize(
    ("kind", "option", "of"),
    [
        (None, "--ef", "graphs"),
        ("HNSW8", "--nprobe", "inverted lists"),
        ("HNSW8", "--rerank", "codes"),
        ("Flat", "--nprobe", "inverted lists"),
    ],
)
def test_a_setting_that_the_index_has_nothing_for_is_refused(index, kind, option, of):
    if kind:
        call("index", "tune", index, "--factory", kind, "--json")
    _, err = call("search", index, "word1", option, 20, code=2)
    assert f"has no {of}, which {option[2:]} is for: leave it out." in " ".join(err.split())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--recall", "2"], "A recall of 2 cannot be aimed at"),
        (
            ["--queries", "{folder}/few.jsonl"],
            "Tuning takes 20 or more queries with words that the model knows, not 5.",
        ),
        (["--queries", "{folder}/nowhere.jsonl"], "nowhere.jsonl"),
        (["--factory", "Sharp"], "choose Flat, HNSW32 or another"),
        (["--memory", "much"], "'much' is no size of memory"),
        (["--factory", "auto", "--memory", "10"], "give it more memory"),
    ],
)
def test_mistakes_are_one_sentence_and_change_nothing(folder, index, arguments, sentence):
    before = (index / "manifest.json").read_bytes()
    _, err = call("index", "tune", index, *(part.format(folder=folder) for part in arguments), code=2)
    assert sentence in err
    assert (index / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "size"),
    [("1000", 1000), ("2KB", 2000), ("1.5 GB", 1_500_000_000), ("3m", 3_000_000), ("1TiB", 10**12), (None, None)],
)
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "0", "-1GB", "1XB", "1 G B", "nan"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(DataError, match="is no size of memory"):
        parse_size(text)
