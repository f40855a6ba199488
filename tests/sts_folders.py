"""Small STS folders, written the way the published ones are."""

from __future__ import annotations

from retriever.data.sts import YEARS

WORDS = ["dog", "fox", "vector", "document", "retriever", "encoder", "brown", "lazy", "quick", "far", "close", "text"]


def text(number):
    """A sentence of three words; different numbers below 500 give different sentences."""
    return " ".join(WORDS[number // 12**place % 12] for place in range(3))


def pairs(count, start=0):
    """Rows of (sentence, sentence, score); the scores repeat and are spread from 0 to 5."""
    return [
        (text(start + row), text(3 * row + start + row % 4), f"{(row * 7 + start) % 11 / 2:g}") for row in range(count)
    ]


def write_year(folder, name="STS12", count=12, blank=0):
    """A year with all its subsets, each with ``count`` scored rows after ``blank`` unscored ones."""
    folder = folder / f"{name}-en-test"
    folder.mkdir(parents=True)
    for number, subset in enumerate(YEARS[name]):
        rows = pairs(count + blank, start=20 * number)
        scores = ["" if row < blank else score for row, (_, _, score) in enumerate(rows)]
        write_lines(folder / f"STS.input.{subset}.txt", (f"{one}\t{other}" for one, other, _ in rows))
        write_lines(folder / f"STS.gs.{subset}.txt", scores)
    return folder


def write_benchmark(folder, count=20, splits=("train", "dev", "test")):
    """STS-B."""
    folder = folder / "STSBenchmark"
    folder.mkdir(parents=True)
    for number, split in enumerate(splits):
        rows = pairs(count + number, start=number)
        write_lines(folder / f"sts-{split}.csv", (f"g\tf\t2012\t1\t{score}\t{a}\t{b}" for a, b, score in rows))
    return folder


def write_sick(folder, count=20):
    """SICK: scores from 1, and the test file has Windows' line ends."""
    folder = folder / "SICK"
    folder.mkdir(parents=True)
    header = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment"
    for number, name in enumerate(("train", "trial", "test_annotated")):
        rows = (
            f"{i}\t{a}\t{b}\t{max(1, float(score))}\tNEUTRAL" for i, (a, b, score) in enumerate(pairs(count + number))
        )
        write_lines(folder / f"SICK_{name}.txt", [header, *rows], "\r\n" if number == 2 else "\n")
    return folder


def write_seven(folder):
    """All seven sets."""
    for name in YEARS:
        write_year(folder, name, blank=2 if name == "STS16" else 0)
    write_benchmark(folder)
    write_sick(folder)
    return folder


def write_lines(path, lines, end="\n"):
    """A text file of exactly these lines."""
    path.write_bytes("".join(f"{line}{end}" for line in lines).encode())
    return path
