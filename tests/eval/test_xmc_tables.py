"""Tables and sentences of extreme multi-label results."""

from __future__ import annotations

import io

import encoders
import pytest
import xmc_folders
from rich.console import Console

from retriever.eval.xmc import evaluate_xmc
from retriever.eval.xmc_tables import conditions, group_table, sentences, xmc_table


def shown(renderable):
    console = Console(file=io.StringIO(), width=160)
    console.print(renderable)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def results():
    return evaluate_xmc(encoders.static(), xmc_folders.dataset(), resamples=50)


def test_one_line_tells_what_was_evaluated(results):
    assert conditions(results) == ("tiny, test: 3 points, 6 pairs, 6 labels; propensities A 0.55, B 1.5; in percent")


def test_the_table_has_a_row_a_metric_with_intervals(results):
    lines = [line.split() for line in shown(xmc_table(results)).splitlines() if "@" in line]
    assert [line[0] for line in lines] == list(results.metrics["dense"])
    for line in lines:
        low, high = results.intervals["dense"][line[0]]
        assert line[1:4] == [
            f"{100 * results.metrics['dense'][line[0]]:.2f}",
            f"[{100 * low:.1f},",
            f"{100 * high:.1f}]",
        ]
        assert line[4] == f"{100 * results.metrics['bm25'][line[0]]:.2f}"
    bare = evaluate_xmc(None, xmc_folders.dataset(), modes=["bm25"], resamples=0)
    assert "[" not in shown(xmc_table(bare)) and "dense" not in shown(xmc_table(bare))


def test_groups_without_points_have_no_row(results):
    text = shown(group_table(results))
    for name, group in results.groups.items():
        assert (f" {name} " in text) == (group["points"] > 0)
    line = next(line for line in text.splitlines() if line.strip().startswith("zero-shot"))
    scores = results.groups["zero-shot"]["dense"]
    assert line.split()[-6:] == [
        "1",
        "dense",
        *(f"{100 * scores[m]:.2f}" for m in ("p@1", "p@5", "recall@10", "recall@100")),
    ]
    assert text.count(" bm25 ") == text.count(" dense ") > 1


def test_sentences_tell_what_is_odd_and_the_test(results):
    told, tested = sentences(results)
    assert told == "tiny has points without labels: 1; filter pairs (not to be predicted): 3."
    test = results.tests["bm25"]
    expected = f"Dense search minus bm25 at P@1: {100 * test['p@1']:+.2f}, p = {test['p']:.4f} (paired randomisation)."
    assert tested == expected
    data = xmc_folders.dataset(["dog", "", "dog"], [("dog", [0])], [("dog", [2])], {})
    assert sentences(evaluate_xmc(None, data, modes=["bm25"], resamples=0)) == [
        "tiny has labels without text (found only by own tokens or a memory): 1; labels that repeat another's text: 1."
    ]
    plain = xmc_folders.dataset(["dog", "fox"], [("dog", [0])], [("dog", [1])], {})
    assert sentences(evaluate_xmc(None, plain, modes=["bm25"], resamples=0)) == []
