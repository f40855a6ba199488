"""STS folders: the published counts, every layout, and mangled files refused with file and line."""

from __future__ import annotations

import gzip
import shutil

import numpy as np
import pytest
import sts_folders
from shared_data import SHARED, needs_shared

from retriever.data.sts import SEVEN, YEARS, find_sts, load_sts
from retriever.errors import DataError

STS = SHARED / "sts"

COUNTS = {  # set → subset → scored pairs and rows
    "STS12": {
        **{"MSRpar": (750, 750), "MSRvid": (750, 750), "SMTeuroparl": (459, 459)},
        **{"surprise.OnWN": (750, 750), "surprise.SMTnews": (399, 399)},
    },
    "STS13": {"FNWN": (189, 189), "headlines": (750, 750), "OnWN": (561, 561)},
    "STS14": {
        **{"deft-forum": (450, 450), "deft-news": (300, 300), "headlines": (750, 750)},
        **{"images": (750, 750), "OnWN": (750, 750), "tweet-news": (750, 750)},
    },
    "STS15": {
        **{"answers-forums": (375, 2000), "answers-students": (750, 1500), "belief": (375, 2000)},
        **{"headlines": (750, 1500), "images": (750, 1500)},
    },
    "STS16": {
        **{"answer-answer": (254, 1572), "headlines": (249, 1498), "plagiarism": (230, 1271)},
        **{"postediting": (244, 3287), "question-question": (209, 1555)},
    },
    "STSB": {"test": (1379, 1379)},
    "SICKR": {"test": (4927, 4927)},
}
TOTALS = {"STS12": 3108, "STS13": 1500, "STS14": 3750, "STS15": 3000, "STS16": 1186, "STSB": 1379, "SICKR": 4927}


@pytest.fixture
def folder(tmp_path):
    return sts_folders.write_seven(tmp_path / "sts")


def rows_of(subset):
    return list(zip(subset.first, subset.second, subset.gold.tolist(), strict=True))


@needs_shared
def test_the_published_sets_have_their_counts():
    sets = load_sts(STS)
    found = {
        one.name: {subset.name: (len(subset), len(subset) + subset.dropped) for subset in one.subsets} for one in sets
    }
    assert found == COUNTS
    assert {one.name: len(one) for one in sets} == TOTALS
    assert [(one.name, one.dropped) for one in sets if one.dropped] == [("STS15", 5500), ("STS16", 7997)]


@needs_shared
def test_the_published_splits_have_their_counts():
    counts = {split: {one.name: len(one) for one in load_sts(STS, split=split)} for split in ("train", "dev", "all")}
    assert counts["train"] == {"STSB": 5749, "SICKR": 4500}
    assert counts["dev"] == {"STSB": 1500, "SICKR": 500}
    assert counts["all"] == {**TOTALS, "STSB": 8628, "SICKR": 9927}
    assert {one.name: (one.split, len(one)) for one in load_sts(STS, sick="all")}["SICKR"] == ("all", 9927)


@needs_shared
def test_quotes_and_odd_separators_of_the_published_texts_survive():
    texts = {text for one in load_sts(STS) for text in (*one.first, *one.second)}
    assert any(text.count('"') % 2 for text in texts)  # an odd quote would swallow lines if it meant something
    assert not any("\t" in text or "\n" in text for text in texts)
    assert len({text for one in load_sts(STS, only=["STSB"]) for text in one.first + one.second}) > 2000


def test_all_seven_are_read_in_the_order_of_the_papers(folder):
    sets = load_sts(folder)
    assert [one.name for one in sets] == list(SEVEN)
    assert {one.split for one in sets} == {"test"}
    for one in sets[:5]:
        assert tuple(subset.name for subset in one.subsets) == YEARS[one.name]
        assert one.first == [text for subset in one.subsets for text in subset.first]
        assert one.second == [text for subset in one.subsets for text in subset.second]
        assert one.gold.tolist() == [score for subset in one.subsets for score in subset.gold]
        assert len(one) == len(one.gold) == 12 * len(one.subsets)


def test_rows_are_those_that_were_written(folder):
    sets = {one.name: one for one in load_sts(folder)}
    written = [(a, b, float(score)) for a, b, score in sts_folders.pairs(12, start=20)]
    assert rows_of(sets["STS12"].subsets[1]) == written
    assert rows_of(sets["STSB"].subsets[0]) == [(a, b, float(s)) for a, b, s in sts_folders.pairs(22, start=2)]
    assert rows_of(sets["SICKR"].subsets[0]) == [(a, b, max(1, float(s))) for a, b, s in sts_folders.pairs(22)]


def test_blank_scores_are_dropped_with_their_texts_and_counted(folder):
    [year] = load_sts(folder, only=["STS16"])
    assert year.dropped == 2 * 5 and [subset.dropped for subset in year.subsets] == [2] * 5
    assert rows_of(year.subsets[0]) == [(a, b, float(score)) for a, b, score in sts_folders.pairs(14)[2:]]


def test_only_line_feeds_end_lines_and_quotes_mean_nothing(tmp_path):
    folder = sts_folders.write_year(tmp_path)
    odd = ['"open\tclose"', "a\u2028b\x85c\td\x0be\x0cf", "carriage\rreturn\tx", '""\t\u00a0']
    sts_folders.write_lines(folder / "STS.input.MSRpar.txt", odd)
    sts_folders.write_lines(folder / "STS.gs.MSRpar.txt", ["1", "2.500", " 3 ", "0"])
    subset = load_sts(folder)[0].subsets[0]
    assert rows_of(subset) == [
        ('"open', 'close"', 1.0),
        ("a\u2028b\x85c", "d\x0be\x0cf", 2.5),
        ("carriage\rreturn", "x", 3.0),
        ('""', "\u00a0", 0.0),
    ]


def test_further_columns_and_dated_names_are_understood(tmp_path):
    folder = sts_folders.write_year(tmp_path, "STS16")
    for path in list(folder.iterdir()):
        texts = path.read_text().splitlines()
        path.unlink()
        more = "\tsource\tother source" if ".input." in path.name else ""
        sts_folders.write_lines(folder / path.name.replace("STS.", "STS2016."), (line + more for line in texts))
    [year] = load_sts(folder)
    assert rows_of(year.subsets[0]) == [(a, b, float(score)) for a, b, score in sts_folders.pairs(12)]
    benchmark = sts_folders.write_benchmark(tmp_path)
    sts_folders.write_lines(benchmark / "sts-test.csv", ['g\tf\ty\t1\t4.2\t"a\tb\tc\td'])
    assert rows_of(load_sts(benchmark)[0].subsets[0]) == [('"a', "b", 4.2)]


@pytest.mark.parametrize("name", ["STS14-en-test", "STSBenchmark", "SICK"])
def test_a_folder_may_be_one_set(folder, name, monkeypatch):
    [one] = load_sts(folder / name)
    assert name.startswith(one.name[:4])
    monkeypatch.chdir(folder / name)
    assert len(load_sts(".")[0]) == len(one)


def test_the_layout_of_senteval_with_the_years_below(folder, tmp_path):
    below = tmp_path / "downstream"
    (below / "STS").mkdir(parents=True)
    for path in list(folder.iterdir()):
        shutil.move(path, below / ("." if path.name == "SICK" else "STS") / path.name)
    assert [one.name for one in load_sts(below)] == list(SEVEN)


def test_sets_may_be_lacking_and_others_are_not_disturbed(folder):
    shutil.rmtree(folder / "STS13-en-test")
    shutil.rmtree(folder / "SICK")
    (folder / "STSBenchmark" / "LICENSE.txt").write_text("free")
    (folder / "notes").mkdir()
    assert [one.name for one in load_sts(folder)] == ["STS12", "STS14", "STS15", "STS16", "STSB"]


def test_subsets_that_senteval_leaves_out_are_left_out(tmp_path):
    folder = sts_folders.write_year(tmp_path, "STS13")
    for kind, line in (("input", "a\tb"), ("gs", "3")):
        sts_folders.write_lines(folder / f"STS.{kind}.SMT.txt", [line])
    assert [subset.name for subset in load_sts(folder)[0].subsets] == list(YEARS["STS13"])


def test_splits(folder):
    def names(**options):
        return {one.name: (one.split, len(one), len(one.subsets)) for one in load_sts(folder, **options)}

    assert names(split="dev") == {"STSB": ("dev", 21, 1), "SICKR": ("dev", 21, 1)}
    assert names(split="all")["STSB"] == ("all", 63, 3)
    assert names(split="all")["STS12"] == ("test", 60, 5)
    assert names(sick="all")["SICKR"] == ("all", 63, 3) and names(sick="all")["STSB"] == ("test", 22, 1)
    assert names(split="dev", only=["STSB"]) == {"STSB": ("dev", 21, 1)}
    with pytest.raises(DataError, match=rf"{folder}/STS12-en-test has no dev split: choose test"):
        load_sts(folder / "STS12-en-test", split="dev")
    (folder / "STSBenchmark" / "sts-test.csv").unlink()
    with pytest.raises(DataError, match="has no test split: choose train or dev"):
        load_sts(folder / "STSBenchmark")
    with pytest.raises(DataError, match=r"has no set 'STS-B': choose from STS12, .*, STSB, SICKR"):
        load_sts(folder, only=["STS-B"])


TABLE = 'Ein Mann.,"Er sagt: ""Ja, gut"".",4.2\n"zwei\nZeilen",Käse,0\n'


@pytest.mark.parametrize("header", ["", "sentence1,sentence2,similarity_score\n"])
def test_files_of_a_language_are_quoted(tmp_path, header):
    (tmp_path / "stsb-de-test.csv").write_text(header + TABLE, encoding="utf-8")
    (tmp_path / "stsb-de-dev.csv").write_text("a,b,1\nb,c,2\n\n")
    (tmp_path / "stsb-pt-br-test.tsv").write_text('"o\te\t3\n')
    german, portuguese = load_sts(tmp_path)
    assert (german.name, portuguese.name) == ("STSB-de", "STSB-pt-br")
    assert rows_of(german.subsets[0]) == [("Ein Mann.", 'Er sagt: "Ja, gut".', 4.2), ("zwei\nZeilen", "Käse", 0.0)]
    assert rows_of(portuguese.subsets[0]) == [('"o', "e", 3.0)]
    assert [(one.name, one.split, len(one)) for one in load_sts(tmp_path, split="dev")] == [("STSB-de", "dev", 2)]


def test_a_file_has_the_split_it_is_named_after(tmp_path):
    path = tmp_path / "stsb-fr-dev.csv.gz"
    path.write_bytes(gzip.compress(b"a,b,1\n"))
    [one] = load_sts(path)
    assert (one.name, one.split, len(one)) == ("STSB-fr", "dev", 1)
    assert one.gold.dtype == np.float64


def test_what_holds_no_set_is_said(tmp_path):
    with pytest.raises(DataError, match=f"There is no folder {tmp_path}/x: an STS folder holds STS12-en-test to"):
        load_sts(tmp_path / "x")
    (tmp_path / "corpus.jsonl").write_text("{}")
    assert find_sts(tmp_path) == find_sts(tmp_path / "corpus.jsonl") == find_sts(tmp_path / "x") == {}
    with pytest.raises(DataError, match=f"{tmp_path} holds no STS set: an STS folder holds"):
        load_sts(tmp_path)


def test_a_set_in_two_places_is_refused(tmp_path):
    sts_folders.write_year(tmp_path)
    sts_folders.write_year(tmp_path / "STS")
    with pytest.raises(DataError, match=f"Two places in {tmp_path} hold the set STS12: name the folder"):
        load_sts(tmp_path)


def test_missing_subset_files_are_named(tmp_path):
    folder = sts_folders.write_year(tmp_path, "STS13")
    (folder / "STS.input.OnWN.txt").unlink()
    (folder / "STS.gs.headlines.txt").unlink()
    words = r"lacks STS.gs.headlines.txt, STS.input.OnWN.txt: STS13 is scored over FNWN, headlines, OnWN, so put"
    with pytest.raises(DataError, match=words):
        load_sts(folder)


def test_texts_and_scores_that_differ_in_number(tmp_path):
    folder = sts_folders.write_year(tmp_path)
    gold = folder / "STS.gs.MSRvid.txt"
    gold.write_bytes(gold.read_bytes() + b"3\n")
    with pytest.raises(DataError, match=rf"{gold} has 13 rows and STS.input.MSRvid.txt has 12: each pair needs"):
        load_sts(folder)


@pytest.mark.parametrize("score", ["5.01", "-1", "nan", "inf", "good", "1,5"])
def test_scores_out_of_range(tmp_path, score):
    folder = sts_folders.write_year(tmp_path)
    gold = folder / "STS.gs.MSRpar.txt"
    sts_folders.write_lines(gold, ["5", score, *["3"] * 10])
    with pytest.raises(DataError, match=rf"{gold}:2 has the score '{score}': gold scores are numbers from 0 to 5"):
        load_sts(folder)


def test_mangled_lines_are_named(tmp_path):
    year, benchmark, sick = (
        write(tmp_path) for write in (sts_folders.write_year, sts_folders.write_benchmark, sts_folders.write_sick)
    )
    sts_folders.write_lines(year / "STS.input.MSRpar.txt", ["a\tb", "one sentence"])
    with pytest.raises(DataError, match=r"STS.input.MSRpar.txt:2 is not two sentences, separated by TABs: mend"):
        load_sts(year)
    sts_folders.write_lines(benchmark / "sts-test.csv", ["g\tf\ty\t1\t4.2\ta"])
    with pytest.raises(DataError, match=r"sts-test.csv:1 is not genre, file, year, id, score and two sentences"):
        load_sts(benchmark)
    header = "pair_ID\tsentence_A\tsentence_B\trelatedness_score"
    sts_folders.write_lines(sick / "SICK_trial.txt", [header, "1\ta\tb\t0.5"])
    with pytest.raises(DataError, match=r"SICK_trial.txt:2 has the score '0.5': gold scores are numbers from 1 to 5"):
        load_sts(sick, split="dev")
    sts_folders.write_lines(sick / "SICK_trial.txt", ["1\ta\tb\t3"])
    with pytest.raises(DataError, match=r"SICK_trial.txt has no column sentence_A in its first line"):
        load_sts(sick, split="dev")
    (sick / "SICK_trial.txt").write_bytes(b"")
    with pytest.raises(DataError, match="has no column sentence_A"):
        load_sts(sick, split="dev")


def test_mangled_tables_are_named(tmp_path):
    path = tmp_path / "stsb-de-test.csv"
    path.write_text("a,b,1\na,b,c,2\n")
    with pytest.raises(DataError, match=rf"{path}, row 2, has 4 fields where sentence1, sentence2, similarity_score"):
        load_sts(path)
    path.write_text('a,b,1\n"a,b,2\n')
    with pytest.raises(DataError, match=rf"{path} is not valid CSV \(.*\): quote fields that hold quotes"):
        load_sts(path)
    path.write_text("a,b,1\na,b,six\n")
    with pytest.raises(DataError, match=rf"{path}, row 2, has the score 'six'"):
        load_sts(path)
    path.write_text("sentence1,sentence2,similarity_score\na,b,\n")
    with pytest.raises(DataError, match=rf"{path} holds no scored pair: give a file with scores"):
        load_sts(path)


def test_bytes_that_are_not_utf8(tmp_path):
    folder = sts_folders.write_year(tmp_path)
    (folder / "STS.input.MSRpar.txt").write_bytes(b"a\tb\n\xe9\tb\n")
    with pytest.raises(DataError, match=r"STS.input.MSRpar.txt:2 is not UTF-8"):
        load_sts(folder)
