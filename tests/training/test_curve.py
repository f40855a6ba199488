"""The training curve: reading logs, smoothing, and what the picture shows."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever.errors import DataError, OutputError
from retriever.training.curve import curve_svg, draw_curve, read_log, smooth


def write_log(path, *entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return path


@pytest.fixture
def log(tmp_path):
    entries = [{"step": 0, "evaluation": {"recall@10": 0.2, "mrr@10": 0.1}}]
    for step in range(1, 61):
        entries.append({"step": step, "loss": 5 / step, "lr": 1e-4, "tokens_per_second": 1e5})
        if step % 20 == 0:
            entries.append({"step": step, "evaluation": {"recall@10": 0.5 - abs(step - 40) / 100, "mrr@10": 0.3}})
    return write_log(tmp_path / "log.jsonl", *entries)


def test_a_log_is_read_into_losses_and_evaluations(log):
    read = read_log(log)
    assert read.losses == {step: 5 / step for step in range(1, 61)}
    assert list(read.evaluations) == [0, 20, 40, 60]
    assert read.metrics == ("recall@10", "mrr@10")
    assert read.best("recall@10") == (40, 0.5)
    assert read.best("mrr@10") == (20, 0.3)  # the first of equals


def test_a_step_run_again_after_a_resume_counts_as_logged_last(tmp_path):
    log = write_log(
        tmp_path / "log.jsonl",
        {"step": 2, "loss": 4.0},
        {"step": 4, "loss": 3.0},
        {"note": "resumed"},
        {"step": 2, "loss": 3.5},
        {"step": 2, "evaluation": {"mrr@10": math.nan, "map": 0.1}},
    )
    assert read_log(log).losses == {2: 3.5, 4: 3.0}
    assert read_log(log).evaluations == {2: {"map": 0.1}}


@given(st.lists(st.floats(-10, 10) | st.just(math.nan), min_size=1, max_size=20), st.integers(1, 25))
def test_smoothing_equals_plain_windows(values, width):
    for index, mean in enumerate(smooth(values, width)):
        start, end = index - width // 2, index + (width - 1) // 2
        window = [value for place, value in enumerate(values) if start <= place <= end and math.isfinite(value)]
        if window:
            assert mean == pytest.approx(sum(window) / len(window), abs=1e-9)
        else:
            assert math.isnan(mean)


def test_the_picture_shows_both_panels_and_the_best_step(log):
    svg = curve_svg(log)
    ElementTree.fromstring(svg)
    for words in ("loss", "score", "step", "recall@10", "mrr@10", "best step 40: recall@10 0.500"):
        assert f">{words}</text>" in svg
    assert "currentColor" in svg
    assert svg == curve_svg(log)
    assert "best step 20: mrr@10 0.300" in curve_svg(log, metric="mrr@10")


def test_one_kind_of_line_makes_one_panel(tmp_path):
    only_loss = curve_svg(write_log(tmp_path / "a", {"step": 1, "loss": 2.0}))
    assert ">loss<" in only_loss and ">score<" not in only_loss
    only_scores = curve_svg(write_log(tmp_path / "b", {"step": 0, "evaluation": {"map": 0.5}}))
    assert ">loss<" not in only_scores and ">score<" in only_scores


def test_a_loss_that_is_not_a_number_leaves_a_gap(tmp_path):
    losses = [{"step": step, "loss": math.nan if step % 3 else 1.0} for step in range(40)]
    ElementTree.fromstring(curve_svg(write_log(tmp_path / "log", *losses)))
    ElementTree.fromstring(curve_svg(write_log(tmp_path / "log", {"step": 1, "loss": math.nan})))


@pytest.mark.parametrize(("name", "start"), [("curve.svg", b"<?xml"), ("curve.PNG", b"\x89PNG")])
def test_a_curve_is_written_as_svg_or_png_with_the_same_bytes(log, tmp_path, name, start):
    first = draw_curve(log, tmp_path / "new" / name).read_bytes()
    assert first.startswith(start)
    assert draw_curve(log, tmp_path / name).read_bytes() == first


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "neither a loss nor an evaluation"),
        ('{"step": 1, "lr": 0.1}\n', "neither a loss nor an evaluation"),
        ('{"step": 1, "loss": 2.0}\n{"step": 2, "lo', r"log\.jsonl:2 is no line"),
        ("[1]\n", r"log\.jsonl:1 is no line"),
        ("7\n", r"log\.jsonl:1 is no line"),
        ('{"loss": 2.0}\n', r"log\.jsonl:1 is no line"),
        ('{"step": 1, "loss": null}\n', r"log\.jsonl:1 is no line"),
        ('{"step": 1, "evaluation": 0.5}\n', r"log\.jsonl:1 is no line"),
    ],
)
def test_a_mangled_log_is_refused_with_its_place(tmp_path, content, message):
    (tmp_path / "log.jsonl").write_text(content)
    with pytest.raises(DataError, match=message):
        curve_svg(tmp_path / "log.jsonl")


def test_wrong_arguments_are_refused_and_nothing_is_written(log, tmp_path):
    with pytest.raises(DataError, match="Cannot read the training log"):
        draw_curve(tmp_path / "none.jsonl", tmp_path / "curve.svg")
    with pytest.raises(DataError, match=r"no metric 'ndcg': choose one of recall@10, mrr@10"):
        draw_curve(log, tmp_path / "curve.svg", metric="ndcg")
    with pytest.raises(OutputError, match=r"ends in \.svg or \.png"):
        draw_curve(log, tmp_path / "curve.pdf")
    assert list(tmp_path.iterdir()) == [log]
