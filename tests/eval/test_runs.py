"""TREC run files: round trips and mangled lines."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retriever.errors import DataError, OutputError
from retriever.eval.metrics import score_run
from retriever.eval.runs import read_run, write_run
from retriever.files import write_atomically

ids = st.text(st.characters(exclude_categories=["Cs", "Z", "Cc"]), min_size=1, max_size=6).filter(
    lambda text: text.split() == [text]
)
runs = st.dictionaries(
    ids, st.dictionaries(ids, st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8), min_size=1
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(run=runs)
def test_round_trip_is_exact(run, tmp_path):
    assert read_run(write_run(tmp_path / "x.run", run)) == run


def test_the_file_is_what_trec_eval_reads(tmp_path):
    run = {"q1": {"a": 0.5, "b": 2.0, "c": 0.5}, "empty": {}, "q2": {"é": -1.0}}
    path = write_run(tmp_path / "new" / "x.run", run, tag="mine")
    assert path.read_text(encoding="utf-8").splitlines() == [
        "q1 Q0 b 1 2.0 mine",
        "q1 Q0 c 2 0.5 mine",
        "q1 Q0 a 3 0.5 mine",
        "q2 Q0 é 1 -1.0 mine",
    ]
    qrels = {"q1": {"a": 1}, "q2": {"é": 2}, "empty": {"a": 1}}
    assert score_run(read_run(path), qrels).means == score_run(run, qrels).means


def test_tabs_blank_lines_and_windows_line_ends_are_read(tmp_path):
    (tmp_path / "x.run").write_bytes(b"q\tQ0\td\t1\t1e-3\tt\r\n\r\nq 0 e 2 -4 t")
    assert read_run(tmp_path / "x.run") == {"q": {"d": 0.001, "e": -4.0}}


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"two words": {"d": 1.0}}, "query id 'two words'"),
        ({"q": {"a\tb": 1.0}}, "document id"),
        ({"": {"d": 1.0}}, "query id ''"),
        ({"q": {"d": float("nan")}}, "score nan"),
    ],
)
def test_what_the_format_cannot_express_is_refused_and_nothing_is_written(run, message, tmp_path):
    with pytest.raises(DataError, match=message):
        write_run(tmp_path / "x.run", run)
    with pytest.raises(DataError, match="tag"):
        write_run(tmp_path / "x.run", {"q": {"d": 1.0}}, tag="my run")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"q Q0 d 1 1.0\n", r"x\.run:1: 5 columns"),
        (b"q Q0 d 1 1.0 t\nq Q0 d 2 high t\n", r"x\.run:2: the score \(column 5\) is 'high'"),
        (b"q Q0 d 1 nan t\n", "'nan', not a finite number"),
        (b"q Q0 d 1 2.0 t\n\nq Q0 d 2 1.0 t\n", r"x\.run:3: document 'd' is listed twice for query 'q'"),
        (b"q Q0 \xff 1 1.0 t\n", "not UTF-8"),
    ],
)
def test_a_mangled_file_is_refused_with_its_place(content, message, tmp_path):
    (tmp_path / "x.run").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_run(tmp_path / "x.run")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"Cannot read the run file .*none\.run"):
        read_run(tmp_path / "none.run")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = write_atomically(tmp_path / "a.txt", "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"a\.txt \(No space left on device\)"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OutputError, match="Cannot write"):
        write_atomically(path / "below a file", "x")
