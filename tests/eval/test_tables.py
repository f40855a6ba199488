"""Tables for the terminal: what is shown, what is bold, what happens on a narrow screen."""

from __future__ import annotations

import io

from rich.console import Console
from rich.style import Style

from retriever.eval.tables import best, cell, columns, metrics_table, summary_table

METRICS = {
    "dense": {"ndcg@10": 0.6451, "map": 0.6},
    "bm25": {"ndcg@10": 0.6789, "map": 0.60004},
    "[red]hybrid": {"ndcg@10": 0.5},
}
INTERVALS = {"dense": {"ndcg@10": (0.601, 0.689), "map": [0.55, 0.65]}}


def rendered(width, table):
    console = Console(width=width, file=io.StringIO())
    console.print(table)
    return [line.split() for line in console.file.getvalue().splitlines() if line.strip()]


def bold_words(table):
    segments = Console(width=120).render(table)
    return [segment.text.strip() for segment in segments if (segment.style or Style()).bold and segment.text.strip()]


def test_wide_screens_show_a_row_on_a_line():
    lines = rendered(100, metrics_table(METRICS, INTERVALS, title="[b]SciFact"))
    assert lines[0] == ["[b]SciFact"]
    assert lines[1] == ["ndcg@10", "map"]
    assert lines[3:] == [
        ["dense", "0.645", "[0.60,", "0.69]", "0.600", "[0.55,", "0.65]"],
        ["bm25", "0.679", "0.600"],
        ["[red]hybrid", "0.500", "–"],
    ]


def test_narrow_screens_show_intervals_below():
    lines = rendered(42, metrics_table({"dense": METRICS["dense"]}, INTERVALS))
    assert lines[2:] == [["dense", "0.645", "0.600"], ["[0.60,", "0.69]", "[0.55,", "0.65]"]]


def test_five_metrics_fit_eighty_columns():
    metrics = {"hybrid": dict.fromkeys(("ndcg@10", "recall@10", "recall@100", "mrr@10", "map"), 0.5)}
    intervals = {"hybrid": dict.fromkeys(metrics["hybrid"], (0.4, 0.6))}
    lines = rendered(80, metrics_table(metrics, intervals))
    assert lines[0] == list(metrics["hybrid"])
    assert lines[-1] == ["[0.40,", "0.60]"] * 5


def test_the_best_of_each_column_is_bold_and_equals_are_alike():
    bold = bold_words(metrics_table(METRICS))
    assert [word for word in bold if word[0].isdigit()] == ["0.600", "0.679", "0.600"]
    assert best(METRICS) == {"ndcg@10": 0.679, "map": 0.6}


def test_columns_and_cells():
    assert columns({"a": {"x": 1.0}, "b": {"y": 1.0, "x": 0.0}}) == ["x", "y"]
    assert cell(0.6449, [0.6, 0.69]) == "0.645 [0.60, 0.69]"
    assert cell(1.0, None) == "1.000"
    assert cell(None, None) == "–"


def test_no_rows_make_an_empty_table():
    assert metrics_table({}).row_count == 0


FOUND = {
    "[b]en": {"dense": {"ndcg@10": 0.9, "recall@100": 1.0}, "bm25": {"ndcg@10": 0.95, "recall@100": 1.0}},
    "ar": {"dense": {"ndcg@10": 0.5, "recall@100": 0.75}, "bm25": {"ndcg@10": 0.25}},
    "mean of 2 sets": {"dense": {"ndcg@10": 0.7, "recall@100": 0.875}},
}


def test_a_summary_has_a_row_a_data_set_and_a_column_a_mode():
    lines = rendered(100, summary_table(FOUND, ["ndcg@10", "recall@100"], title="3 sets"))
    assert lines[0] == ["3", "sets"]
    assert lines[1] == ["ndcg@10", "recall@100"]
    assert lines[2] == ["dense", "bm25", "dense", "bm25"]
    assert lines[4:] == [
        ["[b]en", "0.900", "0.950", "1.000", "1.000"],
        ["ar", "0.500", "0.250", "0.750", "–"],
        ["mean", "of", "2", "sets", "0.700", "–", "0.875", "–"],
    ]


def test_the_best_mode_of_each_data_set_is_bold():
    bold = [word for word in bold_words(summary_table(FOUND, ["ndcg@10", "recall@100"])) if word[0].isdigit()]
    assert bold == ["0.950", "1.000", "1.000", "0.500", "0.750", "0.700", "0.875"]


def test_a_summary_of_three_modes_fits_eighty_columns():
    modes = {mode: {"ndcg@10": 0.5, "recall@100": 0.5} for mode in ("dense", "bm25", "hybrid")}
    lines = rendered(80, summary_table({"cqadupstack, mean of 12 sets": modes}, ["ndcg@10", "recall@100"]))
    assert sum(line.count("0.500") for line in lines) == 6
