"""Tables of an analysis, as they appear on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from retriever.eval.analysis import Analysis, Bucket
from retriever.eval.analysis_tables import buckets_table, measures_table


def analysis(**changes):
    measures = {
        "texts": 1234,
        "zeros": 0,
        "dimension": 384,
        "uniformity": -3.81904,
        "anisotropy": 0.02196,
        "effective_rank": 182.44,
        "spectrum": [1.0, 0.5],
        "alignment": 0.25116,
        "pairs": 2000,
        "positives": 1231,
        "sets": {"STSB": "test"},
        "edges": [-1.0, 0.0, 1.0],
        "buckets": {"0-1": Bucket(1500, 0.2204, 0.1551, [0, 1500]), "1-2": Bucket(0, None, None, [0, 0])},
    }
    return Analysis(**{**measures, **changes})


def rows(table):
    """The table's lines below its rule, with single blanks."""
    console = Console(width=100, file=io.StringIO())
    console.print(table)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines() if line.strip()][2:]


def test_measures_with_what_they_range_over():
    assert rows(measures_table(analysis())) == [
        "alignment 0.2512 0 to 4; 1,231 pairs with a gold score above 4",
        "uniformity -3.8190 about -4 to 0",
        "anisotropy 0.0220 0 to 1",
        "effective rank 182.4 384 to 1",
    ]


def test_alignment_has_a_dash_without_positives_and_no_row_without_pairs():
    assert rows(measures_table(analysis(alignment=None, positives=0)))[0].startswith("alignment – ")
    assert rows(measures_table(analysis(alignment=None, positives=0, pairs=0)))[0].startswith("uniformity ")


def test_buckets():
    assert rows(buckets_table(analysis())) == ["0 to 1 1,500 0.220 0.155", "1 to 2 0 – –"]
