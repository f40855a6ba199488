"""Progress and answers: what a terminal, a pipe and a program get to see."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from retriever.cli.show import RichReporter, print_json
from retriever.reporting import Reporter


def reporter_on(terminal):
    reporter = RichReporter()
    reporter.console = Console(file=io.StringIO(), force_terminal=terminal, width=160, color_system=None)
    return reporter


def shown(reporter):
    return reporter.console.file.getvalue()


def test_a_pipe_gets_one_line_a_stage():
    reporter = reporter_on(terminal=False)
    with reporter.stage("train", 100, start=40) as advance:
        advance(1, loss=2.5, lr=0.1, tokens_per_second=12_345)
        advance(59)
        advance(0, **{"recall@10": 0.5})
    (line,) = shown(reporter).splitlines()
    assert line.split()[:2] == ["train", "100"]
    assert "loss 2.500" in line and "tokens/s 12,345" in line and "recall@10 0.500" in line and "lr" not in line


def test_a_terminal_gets_a_bar_with_time_left_and_the_line():
    reporter = reporter_on(terminal=True)
    with reporter.stage("train", 100) as advance:
        advance(50, loss=1.0)
    assert "50/100" in shown(reporter) and "loss 1.000" in shown(reporter)


def test_an_error_inside_a_stage_passes_through():
    reporter = reporter_on(terminal=False)
    with pytest.raises(ValueError, match="inside"), reporter.stage("train", 1):
        raise ValueError("inside")
    assert shown(reporter) == ""


def test_notes_are_not_read_as_markup():
    reporter = reporter_on(terminal=False)
    reporter.note("pip install dense-retriever[report] [bold]x[/bold]")
    assert shown(reporter) == "pip install dense-retriever[report] [bold]x[/bold]\n"


def test_quiet_is_quiet(capsys):
    reporter = RichReporter(quiet=True)
    reporter.note("nothing")
    with reporter.stage("train", 1) as advance:
        advance(1)
    assert capsys.readouterr() == ("", "")


def test_the_silent_reporter_takes_everything(capsys):
    reporter = Reporter()
    reporter.note("nothing")
    with reporter.stage("train") as advance:
        advance(3, loss=1.0)
    assert capsys.readouterr() == ("", "")


def test_json_is_one_object_and_keeps_letters(capsys):
    print_json({"größe": [1, 2.5], "字": None})
    out = capsys.readouterr().out
    assert json.loads(out) == {"größe": [1, 2.5], "字": None} and "größe" in out
