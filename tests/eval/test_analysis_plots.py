"""Pictures of an analysis: what they show, also where there is little to show."""

from __future__ import annotations

import re

import numpy as np
import pytest

from retriever.errors import OutputError
from retriever.eval.analysis import EDGES, Analysis, bucket_cosines
from retriever.eval.analysis_plots import draw_analysis


def analysis(cosines=(), gold=(), spectrum=(3.0, 1.0, 0.5), **changes):
    """An analysis with these pairs."""
    measures = {
        "texts": 4,
        "zeros": 0,
        "dimension": 3,
        "uniformity": -2.0,
        "anisotropy": 0.1,
        "effective_rank": 1.5,
        "spectrum": list(spectrum),
        "alignment": None,
        "pairs": len(gold),
        "positives": 0,
        "sets": {},
        "edges": EDGES.round(2).tolist(),
        "buckets": bucket_cosines(np.array(cosines), np.array(gold)) if len(gold) else {},
    }
    return Analysis(**{**measures, **changes})


def words(path):
    """The texts of an SVG."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text())


def test_both_pictures_in_both_formats(tmp_path):
    made = draw_analysis(analysis([0.1, 0.2, 0.9], [0, 1, 5]), tmp_path / "new")
    assert [path.name for path in made] == ["similarity.png", "similarity.svg", "spectrum.png", "spectrum.svg"]
    assert sorted(made) == sorted((tmp_path / "new").iterdir())
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in made if path.suffix == ".png")


def test_the_words_say_what_is_shown(tmp_path):
    draw_analysis(analysis([0.1, 0.3, 0.9, 0.8], [0, 0.5, 5, 4]), tmp_path)
    similarity, spectrum = words(tmp_path / "similarity.svg"), words(tmp_path / "spectrum.svg")
    assert [word for word in similarity if "pairs" in word and word[0].isdigit()] == [
        "2 pairs, mean 0.85",
        "0 pairs",
        "0 pairs",
        "0 pairs",
        "2 pairs, mean 0.20",
    ]
    assert [word for word in similarity if " to " in word] == ["4 to 5", "3 to 4", "2 to 3", "1 to 2", "0 to 1"]
    assert "effective rank 1.5 of 3" in spectrum and "cosine of a pair" in similarity


def test_a_corpus_has_a_spectrum_only(tmp_path):
    assert [path.name for path in draw_analysis(analysis(), tmp_path)] == ["spectrum.png", "spectrum.svg"]


def test_collapse_and_one_dimension_can_be_drawn(tmp_path):
    for spectrum in ((0.0, 0.0, 0.0), (2.0,)):
        assert draw_analysis(analysis([1, 1, 1], [0, 1, 5], spectrum), tmp_path)


def test_the_same_analysis_gives_the_same_bytes(tmp_path):
    pictures = [
        [path.read_bytes() for path in draw_analysis(analysis([0.1, 0.9], [0, 5]), tmp_path / name)] for name in "ab"
    ]
    assert pictures[0] == pictures[1]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        draw_analysis(analysis(), tmp_path / "file")
