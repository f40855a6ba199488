"""Several data sets at once: which folders are opened, under which names, and what is averaged."""

from __future__ import annotations

import pytest

from retriever.data.beir import write_beir
from retriever.data.document import Document
from retriever.errors import DataError
from retriever.eval.beir import Results
from retriever.eval.macro import macro_means, mean, open_datasets


def results(name, queries=1, **values):
    """Results with one metric: mode → value."""
    return Results(name, "test", queries, {mode: {"map": value} for mode, value in values.items()}, {}, {})


def make(folder):
    folder.parent.mkdir(parents=True, exist_ok=True)
    return write_beir(folder, [Document("d", text="a text")], {"q": "text"}, {"q": {"d": 1}})


def test_folders_and_folders_of_folders_are_opened_in_order(tmp_path):
    make(tmp_path / "scifact")
    for language in ("te", "ar", "en"):
        make(tmp_path / "miracl" / language)
    (tmp_path / "miracl" / "notes").mkdir()
    (tmp_path / "miracl" / "README").write_text("no data set")
    found = open_datasets([tmp_path / "miracl", tmp_path / "scifact"])
    assert [dataset.name for dataset in found] == ["miracl/ar", "miracl/en", "miracl/te", "scifact"]
    assert [document.id for document in found[0].corpus] == ["d"]
    with pytest.raises(DataError, match="no judgments for the split 'dev'"):
        open_datasets([tmp_path / "miracl"], "dev")


def test_a_folder_that_is_neither_is_refused(tmp_path):
    with pytest.raises(DataError, match="has no corpus"):
        open_datasets([tmp_path])
    with pytest.raises(DataError, match="There is no folder"):
        open_datasets([tmp_path / "nowhere"])


def test_names_must_differ(tmp_path):
    one, two, group = make(tmp_path / "a" / "same"), make(tmp_path / "b" / "same"), make(tmp_path / "c" / "same" / "en")
    with pytest.raises(DataError, match="Two data sets are called same: rename a folder, or evaluate them one by one"):
        open_datasets([one, two])
    with pytest.raises(DataError, match="Two data sets are called same"):
        open_datasets([one, group.parent])
    assert [dataset.name for dataset in open_datasets([tmp_path / "a", tmp_path / "b"])] == ["a/same", "b/same"]


def test_one_data_set_has_no_mean():
    assert macro_means([]) == macro_means([results("a", dense=0.5)]) == []


def test_each_data_set_counts_once_however_many_queries_it_has():
    [macro] = macro_means([results("a", 1000, dense=0.5, bm25=0.1), results("b", 1, dense=0.75, bm25=0.3)])
    assert macro.label == "mean of 2 sets"
    assert macro.to_json() == {
        "label": "mean of 2 sets",
        "datasets": ["a", "b"],
        "metrics": {"dense": {"map": 0.625}, "bm25": {"map": 0.2}},
    }


def test_a_group_counts_as_one_data_set():
    """As the twelve forums of CQADupStack among the fifteen sets of BEIR."""
    forums = [results(f"cqadupstack/{number}", dense=number / 12) for number in range(12)]
    others = [results(f"set{number}", dense=1.0) for number in range(14)]
    group, macro = macro_means([*others[:3], *forums, *others[3:]])
    assert (group.label, macro.label) == ("cqadupstack, mean of 12 sets", "mean of 15 sets")
    assert group.datasets == tuple(f"cqadupstack/{number}" for number in range(12))
    assert macro.datasets[3] == "cqadupstack"
    average = sum(number / 12 for number in range(12)) / 12
    assert group.metrics["dense"]["map"] == pytest.approx(average)
    assert macro.metrics["dense"]["map"] == pytest.approx((14 + average) / 15)


def test_a_group_alone_has_only_its_own_mean():
    [macro] = macro_means([results("mrtydi/ar", dense=0.5), results("mrtydi/bn", dense=0.25)])
    assert macro.label == "mrtydi, mean of 2 sets"
    assert macro.metrics == {"dense": {"map": 0.375}}


def test_what_is_not_measured_everywhere_is_left_out():
    macro = mean({"a": {"dense": {"map": 0.5, "mrr@10": 1.0}, "bm25": {"map": 0.1}}, "b": {"dense": {"map": 0.7}}})
    assert macro.metrics == {"dense": {"map": pytest.approx(0.6)}}
    assert mean({"a": {"dense": {"map": 0.5}}}, "g").label == "g, mean of 1 set"
