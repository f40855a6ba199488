"""Files of records: every format, every way to be mangled."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retriever.data.readers import READERS, ending, read_csv, read_jsonl, read_lines, read_text, read_tsv
from retriever.errors import DataError

here = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


def refuse(error):
    raise error


def read(path, reject=refuse):
    return list(READERS[ending(path)](path, reject))


def fields(path):
    return [record for _, record in read(path)]


@here
@given(st.lists(texts.filter(lambda text: "\n" not in text), min_size=1))
def test_lines_end_at_line_feeds_only(tmp_path, lines):
    (tmp_path / "c.txt").write_bytes("\n".join(lines).encode())
    expected = [(i, line) for i, line in enumerate(lines, 1)]
    if expected[0][1].startswith("\ufeff"):
        expected[0] = (1, expected[0][1][1:])
    found = [(number, line.removesuffix("\n")) for number, line in read_lines(tmp_path / "c.txt", refuse)]
    assert found == (expected[:-1] if lines[-1] == "" else expected)


def test_text_is_a_document_a_line_and_blank_lines_are_none(tmp_path):
    path = tmp_path / "c.txt"
    path.write_bytes("\ufeffone\r\n\n  two\u2028halves \n \nthree".encode())
    assert list(read_text(path, refuse)) == [
        (f"{path}:1", {"text": "one"}),
        (f"{path}:3", {"text": "two\u2028halves"}),
        (f"{path}:5", {"text": "three"}),
    ]


@here
@given(st.lists(st.dictionaries(texts, texts | st.integers() | st.none()), max_size=4))
def test_jsonl_round_trip(tmp_path, records):
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    for name, content in (("c.jsonl", lines.encode()), ("c.jsonl.gz", gzip.compress(lines.encode()))):
        (tmp_path / name).write_bytes(content)
        assert fields(tmp_path / name) == records


@here
@given(st.lists(st.tuples(texts.filter(bool), texts), max_size=4))
def test_csv_round_trip(tmp_path, rows):
    out = io.StringIO(newline="")
    csv.writer(out).writerows([("id", "text"), *rows])
    (tmp_path / "c.csv").write_bytes(out.getvalue().encode())
    assert fields(tmp_path / "c.csv") == [{"id": one, "text": other} for one, other in rows]


def test_csv_names_the_first_line_of_a_row_that_spans_several(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text('id,text\n1,"two\nlines"\n2,"three\nmore\nlines",too many\n')
    found = read_csv(path, refuse)
    assert next(found) == (f"{path}:2", {"id": "1", "text": "two\nlines"})
    with pytest.raises(DataError, match=rf"{path}:4 has 3 columns where the header has 2"):
        next(found)


def test_csv_takes_fields_longer_than_the_modules_own_limit(tmp_path):
    (tmp_path / "c.csv").write_text(f"id,text\n1,{'x' * 200_000}\n")
    assert len(fields(tmp_path / "c.csv")[0]["text"]) == 200_000


def test_tsv_takes_quotes_as_they_are(tmp_path):
    path = tmp_path / "c.tsv"
    path.write_bytes(b'id\ttext\r\n1\t"open\r\n\r\n2\tshut" \r\n')
    assert list(read_tsv(path, refuse)) == [
        (f"{path}:2", {"id": "1", "text": '"open'}),
        (f"{path}:4", {"id": "2", "text": 'shut" '}),
    ]


def test_parquet_rows_and_nested_values(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    records = [{"id": i, "text": f"text {i}", "tags": ["a", "b"]} for i in range(2_500)]
    path = tmp_path / "c.parquet"
    pq.write_table(pa.Table.from_pylist(records), path)
    assert fields(path) == records
    assert read(path)[-1][0] == f"{path}:2500"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(
        DataError, match=rf"{path} is no whole Parquet file \(after row 0: .*\): fetch or write it again"
    ):
        read(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="is no whole Parquet file"):
        read(path)


def test_parquet_damaged_in_the_middle(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({"text": [str(i) * 50 for i in range(5_000)]}), path, row_group_size=2_500)
    raw = bytearray(path.read_bytes())
    half = len(raw) // 2
    raw[half : half + 400] = b"\xff" * 400
    path.write_bytes(raw)
    with pytest.raises(DataError, match="is no whole Parquet file"):
        read(path)


MANGLED = {
    "c.txt": [(b"ok\nbad \xff\n", ":2 is not UTF-8 (byte 0xff): convert it, for example with `iconv -t utf-8`.")],
    "c.jsonl": [
        (
            b'{"text": "a"}\n\n{"text": "a"',
            ":3 is not valid JSON (Expecting ',' delimiter: line 1 column 13 (char 12)): ",
        ),
        (b"[1, 2]\n", ":1 is JSON but not an object like {'text': …}: "),
        (b'"text"\n', ":1 is JSON but not an object"),
        (b"[" * 100_000, ":1 is not valid JSON (maximum recursion depth exceeded"),
        (b'{"n": ' + b"1" * 5_000 + b"}", ":1 is not valid JSON (Exceeds the limit"),
        (b'{"text": "caf\xe9"}\n', ":1 is not UTF-8 (byte 0xe9)"),
    ],
    "c.csv": [
        (b"id,text\n1\n", ":2 has 1 column where the header has 2: mend it"),
        (b"id,text\n1,a,b\n", ":2 has 3 columns where the header has 2"),
        (b'id,text\n1,a\n2,"open\nto the\nend', ":3 is not valid CSV (unexpected end of data)"),
        (b"id,text,,,text\n1,a,,,b\n", ":1 names the column 'text' twice: give every column its own name."),
        (b'id,text\n1,"a"b\n', ":2 is not valid CSV (',' expected after '\"')"),
    ],
    "c.tsv": [
        (b"id\ttext\n\xff\n1\ta\n", ":2 is not UTF-8"),
        (b"id\ttext\n1\ta\tb\n", ":2 has 3 columns where the header has 2"),
    ],
}


@pytest.mark.parametrize(("name", "content", "message"), [(n, *case) for n, cases in MANGLED.items() for case in cases])
@pytest.mark.parametrize("compressed", [False, True])
def test_mangled_lines_are_named(name, content, message, compressed, tmp_path):
    path = tmp_path / (f"{name}.gz" if compressed else name)
    path.write_bytes(gzip.compress(content) if compressed else content)
    with pytest.raises(DataError, match=re.escape(f"{path}{message}")):
        read(path)


def test_the_reader_goes_on_after_what_was_rejected(tmp_path):
    good = {
        "c.txt": (b"a\n\xff\nb\n", 2),
        "c.jsonl": (b'{"text": "a"}\n{\n[]\n\xff\n{"text": "b"}\n', 2),
        "c.csv": (b'text,n\na,1\nb\n"c"d,2\n\xff,3\nb,4\n', 2),
        "c.tsv": (b"text\tn\na\t1\nb\n\xff\t3\nb\t4\n", 2),
    }
    for name, (content, kept) in good.items():
        (tmp_path / name).write_bytes(content)
        rejected = []
        found = read(tmp_path / name, rejected.append)
        assert [record["text"] for _, record in found] == ["a", "b"] and len(found) == kept
        last = content.count(b"\n")
        assert found[-1][0] == f"{tmp_path / name}:{last}"
        assert len(rejected) == last - kept - name.endswith(("csv", "tsv"))


def test_mangled_gzip_names_the_last_good_line(tmp_path):
    path = tmp_path / "c.jsonl.gz"
    whole = gzip.compress(b"".join(b'{"text": "%d"}\n' % (i * 7919) for i in range(50_000)))
    path.write_bytes(whole[: len(whole) // 2])
    found = read_jsonl(path, refuse)
    with pytest.raises(DataError) as caught:
        count = 0
        for _ in found:
            count += 1
    assert str(caught.value).startswith(f"{path} is mangled after line {count} (Compressed file ended")
    assert count > 1_000
    path.write_bytes(b'{"text": "plain"}\n')
    with pytest.raises(DataError, match=r"is mangled after line 0 \(Not a gzipped file .*\): fetch or compress"):
        read(path)
    broken = bytearray(whole)
    broken[len(whole) // 2 : len(whole) // 2 + 64] = bytes(64)
    path.write_bytes(broken)
    with pytest.raises(DataError, match="is mangled after line"):
        read(path, lambda _: None)  # lines of rubbish come first


def test_a_file_the_system_refuses(tmp_path):
    with pytest.raises(DataError, match=r"Cannot read .*c.txt \(Is a directory\): check the path and its permissions"):
        (tmp_path / "c.txt").mkdir()
        read(tmp_path / "c.txt")


def test_endings_ignore_case(tmp_path):
    assert ending(tmp_path / "A.JSONL.GZ") == ".jsonl.gz"
    assert ending(tmp_path / "a.gz") is None
    (tmp_path / "A.TXT.GZ").write_bytes(gzip.compress(b"x\n"))
    assert fields(tmp_path / "A.TXT.GZ") == [{"text": "x"}]
