"""What people see of STS results: the table, the sections of a report, and published numbers beside ours."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console
from shared_data import SHARED, needs_shared

from retriever.data.sts import SEVEN
from retriever.eval.report import write_report
from retriever.eval.sts import StsResults
from retriever.eval.sts_published import MTEB, PAPERS, published
from retriever.eval.sts_tables import conditions, sts_sections, sts_table

TEST = dict.fromkeys(SEVEN, "test")
RESULTS = StsResults(
    metrics={"STS12": 0.72371, "STSB": 0.5, "[red]": -0.1},
    intervals={"STS12": [0.7001, 0.74999]},
    pearson={"STS12": 0.8, "STSB": 0.4},
    subsets={"STS12": {"MSRpar": 0.6, "MSRvid": None}},
    pairs={"STS12": 3108, "STSB": 1500, "[red]": 2},
    dropped={"STS12": 0, "STSB": 0, "[red]": 0},
    splits={"STS12": "test", "STSB": "dev", "[red]": "test"},
    aggregate="all",
    similarity="cosine",
    lower=False,
)


def lines(table):
    console = Console(width=100, file=io.StringIO())
    console.print(table)
    return [line.split() for line in console.file.getvalue().splitlines() if line.strip()]


def test_the_table_shows_percents_intervals_and_what_is_published():
    shown = lines(sts_table(RESULTS, {"STS12": 0.7237}))
    assert shown[0] == ["pairs", "Spearman", "95", "%", "interval", "Pearson", "published"]
    assert shown[2:] == [
        ["STS12", "3,108", "72.37", "70.01", "to", "75.00", "80.00", "72.37"],
        ["STSB", "dev", "1,500", "50.00", "–", "40.00"],
        ["[red]", "2", "-10.00", "–"],
    ]
    assert "published" not in lines(sts_table(RESULTS, {}))[0]


def test_the_average_has_no_pairs_of_its_own():
    results = replace(RESULTS, metrics={"STS12": 0.7, "avg": 0.71}, intervals={"avg": [0.7, 0.72]})
    assert lines(sts_table(results, {}))[-1] == ["avg", "71.00", "70.00", "to", "72.00"]


def test_the_conditions_are_named():
    assert conditions(RESULTS) == "all subsets of a set as one, cosine, text as it is"
    other = replace(RESULTS, aggregate="wmean", similarity="dot", lower=True)
    assert conditions(other) == "mean over subsets, weighted by pairs, dot, lower-cased text"


def test_the_report_holds_scores_plot_and_subsets(tmp_path):
    sections = sts_sections(RESULTS, {"STS12": 0.7237})
    assert [section.title for section in sections] == ["Semantic textual similarity", "Subsets"]
    page = write_report(tmp_path / "x.html", "STS", sections).read_text()
    assert page.count("<svg") == 1
    for words in ("measured", "published", "0.724", "[0.70, 0.75]", "MSRpar", "pairs of STSB dev", "1,500", "Pearson"):
        assert words in page
    assert "MSRvid" not in page and "None" not in page
    assert len(sts_sections(replace(RESULTS, subsets={}), {})) == 1


def test_published_numbers_are_found_by_the_last_part_of_a_name():
    assert published("sentence-transformers/all-MiniLM-L6-v2", TEST | {"SICKR": "all"}) == {
        **{"STS12": 0.7237, "STS13": 0.8060, "STS14": 0.7559, "STS15": 0.8539},
        **{"STS16": 0.7899, "STSB": 0.8203, "SICKR": 0.7758},
    }
    assert published("models/ALL-minilm-l6-v2", {"STSB": "test"}) == {"STSB": 0.8203}
    assert published("my-model", TEST) == published("", TEST) == {}


def test_published_numbers_over_other_pairs_are_left_out():
    assert "SICKR" not in published("all-MiniLM-L6-v2", TEST)
    assert published("princeton-nlp/unsup-simcse-bert-base-uncased", TEST)["SICKR"] == 0.7223
    assert "SICKR" not in published("unsup-simcse-bert-base-uncased", TEST | {"SICKR": "all"})
    assert published("all-MiniLM-L6-v2", {"STSB": "dev", "SICKR": "train"}) == {}


@pytest.mark.parametrize("table", [MTEB, PAPERS])
def test_every_row_has_seven_percents(table):
    assert all(len(scores) == 7 and 50 < min(scores) < max(scores) < 100 for scores in table.values())


@needs_shared
def test_published_numbers_are_those_that_were_collected():
    peers = json.loads((SHARED / "peers.json").read_text())
    years = [*SEVEN[:5], "STSBenchmark"]
    for model, scores in MTEB.items():
        assert list(scores) == [peers[model][task] for task in [*years, "SICK-R-all"]]
    collected = {tuple(row[task] for task in [*years, "SICK-R"]) for row in peers.values() if "SICK-R" in row}
    assert set(PAPERS.values()) <= collected
