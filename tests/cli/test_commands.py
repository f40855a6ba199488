"""The commands as a user meets them: what they print, what they refuse, with which exit code."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny
from typer.testing import CliRunner

import retriever
from retriever.cli.app import app
from retriever.data.beir import write_beir

FAST = ["steps=6", "every=3", "size=16", "dimension=16", "queries=10", "pool=50"]


def call(*arguments, code=0):
    """Run a command in this process; returns (stdout, stderr)."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result.stdout, result.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A corpus file, a BEIR folder of the same documents, a model and an index, all made by commands."""
    folder = tmp_path_factory.mktemp("cli")
    documents = list(tiny.corpus())
    lines = [json.dumps({"_id": d.id, "title": f"the title {d.id}", "text": d.text}) for d in documents]
    (folder / "notes.jsonl").write_text("\n".join(lines))
    queries = {f"q{i}": documents[i].text.split(". ")[0] for i in range(20)}
    write_beir(folder / "tiny", documents, queries, {f"q{i}": {str(i): 1} for i in range(20)})
    call("train", "contriever-cpu", *FAST, "--data", folder / "notes.jsonl", "--output", folder / "model")
    call("index", "build", folder / "model", folder / "notes.jsonl", "--output", folder / "index")
    return folder


def test_training_says_what_it_did_and_what_comes_next(folder, tmp_path):
    out, err = call("train", "contriever-cpu", *FAST, "--data", folder / "notes.jsonl", "--output", tmp_path / "m")
    assert out == ""
    for part in ("150", "negatives per query", "is kept: ", "notes: 150 documents", "retriever index build"):
        assert part in err
    assert (tmp_path / "m" / "modules.json").exists()


def test_quiet_training_says_nothing(folder, tmp_path):
    out, err = call("train", "contriever-cpu", *FAST, "--data", folder / "notes.jsonl", "-o", tmp_path / "m", "-q")
    assert (out, err) == ("", "")


def test_a_dry_run_prints_the_recipe_and_touches_nothing(folder, tmp_path):
    out, _ = call("train", "contriever-cpu", "lr=0.5", "--seed", 7, "--data", "x", "-o", tmp_path / "m", "--dry-run")
    assert "lr: 0.5" in out and "seed: 7" in out
    assert not (tmp_path / "m").exists()


def test_pairs_are_shown_instead_of_trained_on(folder, tmp_path):
    arguments = ["--data", folder / "notes.jsonl", "-o", tmp_path / "m", "--show-pairs", 5, "-q"]
    out, _ = call("train", "contriever-cpu", "mix={title: 1}", *FAST, *arguments)
    pairs = out.strip().split("\n\n")
    assert len(pairs) == 5
    for pair in pairs:
        kind, query, document = pair.splitlines()[:3]
        assert kind.startswith("title (document ")
        assert query.split() == ["query", "the", "titl"] and document.split()[0] == "document"
    assert not (tmp_path / "m").exists()


def test_several_corpora_are_mixed(folder, tmp_path):
    (tmp_path / "other.txt").write_text("\n".join(d.text for d in tiny.corpus()))
    data = ["--data", folder / "notes.jsonl", "--data", tmp_path / "other.txt"]
    _, err = call("train", "contriever-cpu", "exponent=0", "mixing.weights.other=3", *FAST, *data, "-o", tmp_path / "m")
    assert "Sources: notes 25.0 %, other 75.0 %." in err


def test_labelled_queries_fine_tune_a_model(folder, tmp_path):
    changes = [f"model={folder / 'model'}", "steps=4", "warmup=1", "size=4", "every=2", "dev=0.3", "lr=0.01"]
    data = ["--data", folder / "tiny", "--split", "test", "-o", tmp_path / "m"]
    _, err = call("train", "finetune", *changes, *data)
    assert "random documents take their place" in err and "is kept: " in err
    assert (tmp_path / "m" / "modules.json").exists()


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
def test_search_prints_hits_or_one_json_object(folder, mode):
    query = next(iter(tiny.corpus())).text[:25]
    out, _ = call("search", folder / "index", query, "-k", 3, "--mode", mode, "--json")
    found = json.loads(out)
    assert found["query"] == query and found["mode"] == mode and len(found["hits"]) == 3
    assert set(found["hits"][0]) == {"rank", "id", "score", "title", "text", "metadata"}
    best = found["hits"][0]["id"]
    assert best == "0" or mode == "dense"  # six steps teach an encoder nothing
    out, _ = call("search", folder / "index", query, "-k", 3, "--mode", mode)
    assert f"{best}  the title {best}" in out.splitlines()[0] and len(out.splitlines()) == 6


def test_whatever_a_document_holds_reaches_a_terminal_of_any_kind(folder, tmp_path):
    rows = [{"_id": "😀", "title": "\x1b[31mred\x07", "text": "heron \x9b2J grove\nline"}]
    (tmp_path / "odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    call("index", "build", folder / "model", tmp_path / "odd.jsonl", "-o", tmp_path / "odd", "-q")
    command = [sys.executable, "-m", "retriever", "search", tmp_path / "odd", "heron", "--mode", "bm25"]
    environment = os.environ | {"PYTHONIOENCODING": "latin-1", "COLUMNS": "0"}
    shown = subprocess.run(command, capture_output=True, check=True, env=environment).stdout
    assert b"\\U0001f600" in shown and b"red" in shown and not set(b"\x1b\x07\x9b") & set(shown)
    told = subprocess.run([*command, "--json"], capture_output=True, check=True, env=environment).stdout
    assert json.loads(told)["hits"][0]["id"] == "😀"


def test_names_between_colons_are_shown_as_they_are(folder, tmp_path):
    (tmp_path / "odd.jsonl").write_text('{"_id": "a:x:b", "title": ":warning: heron", "text": ":smile:"}\n')
    call("index", "build", folder / "model", tmp_path / "odd.jsonl", "-o", tmp_path / "odd", "-q")
    out, _ = call("search", tmp_path / "odd", "heron", "--mode", "bm25")
    assert "a:x:b  :warning: heron" in out and ":smile:" in out
    _, told = call("index", "delete", tmp_path / "odd", "b:x:a", code=2)
    assert "'b:x:a'" in told


def test_search_explains_its_hits_by_vectors_and_words(folder):
    query = next(iter(tiny.corpus())).text[:25]
    hits = json.loads(call("search", folder / "index", query, "-k", 100, "--explain", "--json")[0])["hits"]
    assert {tuple(hit["parts"]) for hit in hits} == {("dense", "bm25")}
    assert [hit["parts"]["bm25"]["rank"] for hit in hits if hit["id"] == "0"] == [1]
    lines = call("search", folder / "index", query, "-k", 100, "--explain")[0].splitlines()
    told = [line.strip() for line in lines if line.startswith("              vectors: ")]
    assert len(told) == len(hits) and len(lines) == 3 * len(hits)
    for hit, line in zip(hits, told, strict=True):
        dense, words = line.split("; ")
        for side, text in (("dense", dense.removeprefix("vectors: ")), ("bm25", words.removeprefix("words: "))):
            part = hit["parts"][side]
            assert text == (f"{part['score']:.3f}, rank {part['rank']}" if part else "not among the candidates")
    out, _ = call("search", folder / "index", query, "-k", 1, "--mode", "bm25", "--explain")
    assert out.splitlines()[1].strip().startswith("words: ") and "vectors" not in out


def test_a_query_of_ten_thousand_words_is_answered(folder):
    out, _ = call("search", folder / "index", "t1w1 unknown " * 5_000, "--json")
    assert len(json.loads(out)["hits"]) == 10


def test_a_query_of_unknown_words_finds_nothing_in_either_mode(folder):
    for mode in ("bm25", "dense", "hybrid"):
        assert call("search", folder / "index", "zzz", "--mode", mode)[0] == "Nothing found.\n"


def test_info_and_verify(folder):
    out, _ = call("index", "info", folder / "index", "--json")
    assert json.loads(out)["documents"] == 150
    assert "is whole" in call("index", "verify", folder / "index")[0]


def test_evaluation_prints_the_promised_object_and_writes_runs_and_report(folder, tmp_path):
    arguments = ["eval", "beir", folder / "model", folder / "tiny"]
    out, _ = call(*arguments, "--json", "--run-files", tmp_path, "--report", tmp_path / "report.html")
    found = json.loads(out)
    assert (found["dataset"], found["split"], found["queries"]) == ("tiny", "test", 20)
    for mode in ("dense", "bm25", "hybrid"):
        wanted = {"ndcg@10", "recall@10", "recall@100", "r_cap@100", "mrr@10", "mrr@100", "map"}
        assert set(found["metrics"][mode]) == wanted
        low, high = found["intervals"][mode]["ndcg@10"]
        assert low <= found["metrics"][mode]["ndcg@10"] <= high
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["report.html", "tiny.bm25.run", "tiny.dense.run", "tiny.hybrid.run"]
    out, _ = call(*arguments)
    assert "ndcg@10" in out and "hybrid" in out


def test_data_stats(folder):
    out, _ = call("data", "stats", folder / "notes.jsonl", "--json")
    found = json.loads(out)
    assert found["documents"] == found["with a title"] == 150 and found["duplicates"] == 0
    assert "documents" in call("data", "stats", folder / "notes.jsonl")[0]


@pytest.mark.parametrize("command", ["recipes show contriever-cpu", "env --json"])
def test_a_reader_that_has_had_enough_is_no_error(command):
    piped = f"{sys.executable} -m retriever {command} | true; echo ${{PIPESTATUS[0]}}"
    found = subprocess.run(["bash", "-c", piped], capture_output=True, text=True, check=False)
    assert (found.stdout, found.stderr) == ("1\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("command", ["recipes show contriever-cpu", "env --json"])
def test_a_full_disk_below_stdout_is_told_once(command):
    full = f"{sys.executable} -m retriever {command} > /dev/full"
    found = subprocess.run(["bash", "-c", full], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (2, "Error: the system refused: No space left on device.\n")


@pytest.mark.parametrize(("closed", "shown"), [(">&-", ""), (">&- <&-", ""), ("<&- 2>&-", "{")])
def test_closed_streams_are_no_error(folder, closed, shown):
    command = f"{sys.executable} -m retriever data stats {folder / 'notes.jsonl'} --json {closed}"
    found = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert found.returncode == 0 and found.stdout[:1] == shown and "Traceback" not in found.stderr


def test_encode_writes_the_vectors_of_a_corpus(folder, tmp_path):
    data = [folder / "model", folder / "notes.jsonl", "-o", tmp_path / "v"]
    assert json.loads(call("encode", *data, "--json")[0]) == {
        "documents": 150,
        "dimension": 16,
        "output": str(tmp_path / "v"),
    }
    assert np.load(tmp_path / "v" / "vectors.npy").shape == (150, 16)
    _, err = call("encode", *data, "--overwrite")
    assert "holds 150 vectors of 16 dimensions" in " ".join(err.split())
    assert "already holds vectors" in " ".join(call("encode", *data, code=2)[1].split())


def test_recipes(tmp_path):
    assert "contriever-cpu" in call("recipes", "ls")[0]
    assert set(json.loads(call("recipes", "ls", "--json")[0])) >= {"contriever-cpu", "contriever-small"}
    assert call("recipes", "show", "contriever-cpu")[0].startswith("# Contriever")
    call("recipes", "copy", "contriever-cpu", tmp_path / "mine.yaml")
    assert "temperature: 0.05" in call("recipes", "validate", tmp_path / "mine.yaml")[0]
    assert "exists already" in call("recipes", "copy", "contriever-cpu", tmp_path / "mine.yaml", code=2)[1]
    (tmp_path / "latin.yaml").write_bytes(b"description: caf\xe9\n")
    for command in ("show", "validate"):
        error = call("recipes", command, tmp_path / "latin.yaml", code=2)[1]
        assert error.startswith(f"Error: The recipe {tmp_path / 'latin.yaml'} cannot be read: 'utf-8' codec")


def test_env_and_version():
    found = json.loads(call("env", "--json")[0])
    assert found["torch"].startswith("2.") and "cpu" in found["devices"]
    assert call("--version")[0] == f"{retriever.__version__}\n"


MISTAKES = [
    (["train", "contriver-cpu", "--data", "x", "-o", "y"], "did you mean contriever-cpu?"),
    (["train", "contriever-cpu", "lrr=1", "--data", "x", "-o", "y"], "did you mean optimizer.lr?"),
    (["train", "contriever-cpu", "--data", "{tmp}/none.jsonl", "-o", "{tmp}/m"], "There is no file or folder"),
    (["train", "contriever-cpu", "--data", "{tmp}/empty.jsonl", "-o", "{tmp}/m"], "holds no document"),
    (["train", "contriever-cpu", "--data", "{tmp}/one.jsonl", "-o", "{tmp}/m"], "1 document of at least 2 tokens"),
    (["train", "contriever-cpu", "--data", "{tmp}/latin.txt", "-o", "{tmp}/m"], "latin.txt:2"),
    (["train", "contriever-cpu", "--data", "{tmp}/bad.jsonl", "-o", "{tmp}/m"], "or pass --skip-bad-lines to leave"),
    (["train", "contriever-cpu", "--data", "{tmp}/twice.jsonl", "-o", "{tmp}/m"], "ids must be unique"),
    (["train", "contriever-cpu", "--data", "{tmp}/one.jsonl", "--text-field", "body", "-o", "{tmp}/m"], "_id, text"),
    (["train", "contriever-cpu", "--data", "{tmp}/one.jsonl", "-o", "{folder}/model"], "already holds a model"),
    (["train", "contriever-cpu", "--data", "x", "-o", "y", "--corpus", "z"], "--corpus is for labelled queries, not"),
    (["train", "finetune", "model=m", "--data", "x", "-o", "y", "--id-field", "z"], "--id-field is for a corpus, not"),
    (["train", "dexml-cpu", "--data", "x", "-o", "y", "--split", "dev"], "--split is not for points and their labels"),
    (["index", "build", "{folder}/model", "{folder}/notes.jsonl", "-o", "{folder}/index"], "exists already"),
    (["index", "build", "{tmp}", "{folder}/notes.jsonl", "-o", "{tmp}/ix"], "holds no model"),
    (["search", "{tmp}", "query"], "index"),
    (["search", "{folder}/index", " "], "The query is empty"),
    (["search", "{folder}/index", "a", "--mode", "dense", "--weight", "0.5"], "is for --mode hybrid, not dense"),
    (["search", "{folder}/index", "a", "--mode", "bm25", "--rerank", "3"], "--rerank is for vectors"),
    (["train", "contriever-cpu", "--data", "{tmp}/one.jsonl", "-o", "{tmp}/m", "--device", "foo"], "device 'foo'"),
    (["index", "build", "{folder}/model", "{tmp}/one.jsonl", "-o", "{tmp}/ix", "--device", "cuda:99"], "'cuda:99'"),
    (["index", "build", "{folder}/model", "{tmp}/one.jsonl", "-o", "{tmp}/ix", "--memory", "10"], "more memory"),
    (["eval", "beir", "{folder}/model", "{folder}/tiny", "--split", "dev"], "test"),
    (["eval", "beir", "{folder}/model", "{tmp}"], "{tmp}"),
    (["data", "stats", "{tmp}/picture.png"], ".jsonl"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_is_one_sentence_and_exit_code_2(folder, tmp_path, arguments, message):
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "one.jsonl").write_text('{"_id": "a", "text": "just one document"}\n')
    (tmp_path / "latin.txt").write_bytes(b"fine\ncaf\xe9\n")
    (tmp_path / "bad.jsonl").write_text('{"text": "fine"}\n{"text": \n')
    (tmp_path / "twice.jsonl").write_text('{"_id": "a", "text": "one text"}\n{"_id": "a", "text": "another text"}\n')
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    before = sorted(path.name for path in tmp_path.iterdir())
    places = {"tmp": tmp_path, "folder": folder}
    out, err = call(*(argument.format(**places) for argument in arguments), code=2)
    last = err.strip().splitlines()[-1]
    assert out == "" and last.startswith("Error: ") and message.format(**places) in last
    assert "Traceback" not in err
    left = sorted(path.name for path in tmp_path.iterdir() if path.name != "m")
    assert left == before and not (tmp_path / "m" / "modules.json").exists()


def test_bad_lines_can_be_skipped_and_are_counted(tmp_path):
    lines = [json.dumps({"text": document.text}) for document in tiny.corpus(60)]
    (tmp_path / "bad.jsonl").write_text("\n".join([*lines, "{oops", "[]"]))
    arguments = ["train", "contriever-cpu", *FAST, "--data", tmp_path / "bad.jsonl", "--output", tmp_path / "m"]
    _, err = call(*arguments, "--skip-bad-lines")
    assert "60 documents; 2 bad lines" in err


def test_an_index_is_refused_to_another_model(folder, tmp_path):
    call("train", "contriever-cpu", *FAST, "seed=1", "--data", folder / "notes.jsonl", "--output", tmp_path / "other")
    _, err = call("search", folder / "index", "t1w1", "--model", tmp_path / "other", code=2)
    assert "was built by another model" in err


def test_too_many_open_files_have_a_way_out(folder, monkeypatch):
    def full(*_):
        raise OSError(errno.EMFILE, "Too many open files", "postings.npy")

    monkeypatch.setattr("retriever.indexing.index.Index.open", full)
    _, err = call("index", "info", folder / "index", code=2)
    assert "Error: too many files are open: raise the limit (`ulimit -n 65536`)" in " ".join(err.split())


@pytest.mark.parametrize("error", [MemoryError("std::bad_alloc"), OSError(errno.ENOMEM, "Cannot allocate memory")])
def test_too_little_memory_is_told_in_a_sentence(error, folder, monkeypatch):
    def lacking(*_):
        raise error

    monkeypatch.setattr("retriever.indexing.index.Index.open", lacking)
    _, err = call("index", "info", folder / "index", code=2)
    assert "Error: the memory does not suffice: free some of it" in " ".join(err.split())


def test_debug_shows_the_traceback():
    result = CliRunner().invoke(app, ["--debug", "search", "nowhere", "query"])
    assert result.exit_code == 1 and isinstance(result.exception, retriever.RetrieverError)


def test_ctrl_c_writes_a_checkpoint_prints_the_command_that_resumes_and_exits_with_130(folder, tmp_path):
    command = ["train", "contriever-cpu", *FAST, "steps=100000", "every=50000", "--data", str(folder / "notes.jsonl")]
    command = [sys.executable, "-m", "retriever", *command, "--output", str(tmp_path / "m")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    log = tmp_path / "m" / "log.jsonl"
    for _ in range(600):
        if log.exists() and '"loss"' in log.read_text():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "a checkpoint is in" in err and "--resume" in err.splitlines()[-1]
    assert list((tmp_path / "m").glob("checkpoint-*")) and not (tmp_path / "m" / "modules.json").exists()
