"""Documents out of tars, plain and compressed, and out of .parquet files."""

import gzip
import io
import json
import re
import tarfile
from pathlib import Path

import pyarrow
import pytest
from archives import PACK, tar_of
from pyarrow import parquet

from ssrnn_data import CorpusIndex, DataError, build_corpus, load_tokenizer
from ssrnn_data.documents import Tally, read_documents
from ssrnn_data.sources import find_sources


def read(path: Path, on_invalid: str = "skip", text_field: str = "text") -> tuple[dict[str, str], Tally]:
    """Texts by where they came from, behind the file's name."""
    (file,) = find_sources([str(path)])
    tally = Tally()
    documents = read_documents(file, text_field=text_field, on_invalid=on_invalid, tally=tally)  # type: ignore[arg-type]
    return {document.where.removeprefix(f"{path}:"): "".join(document.pieces()) for document in documents}, tally


def with_a_link(tar: bytes) -> bytes:
    """A member that points out of the tar."""
    buffer = io.BytesIO(tar)
    with tarfile.open(fileobj=buffer, mode="a") as opened:
        link = tarfile.TarInfo("link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        opened.addfile(link)
    return buffer.getvalue()


MEMBERS = [
    ("000.txt", "words\r\n é 👩‍💻".encode()),
    ("000.json", json.dumps({"text": "from JSON", "url": "x"}).encode()),
    ("000.jpg", b"\xff\xd8 no text"),
    ("deep/001.py", b"x = 1\n"),
    ("002.txt", b""),
    ("003.txt", b"bad \xff"),
]


@pytest.mark.parametrize("suffix", ["", *PACK])
def test_the_texts_of_a_tar(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.tar{suffix}"
    path.write_bytes(PACK.get(suffix, bytes)(with_a_link(tar_of(MEMBERS))))
    texts, tally = read(path)
    assert texts == {"000.txt": "words\r\n é 👩‍💻", "000.json": "from JSON", "deep/001.py": "x = 1\n"}
    assert tally.counts == {"empty": 1, "invalid_utf8": 1}
    texts, _ = read(path, "replace")
    assert texts["003.txt"] == "bad \ufffd"
    with pytest.raises(DataError, match=r"a\.tar.*:003\.txt: invalid UTF-8 at byte 4"):
        read(path, "error")


@pytest.mark.parametrize("damage", ["cut", "foreign"])
def test_a_damaged_tar_is_named(tmp_path: Path, damage: str) -> None:
    data = tar_of([("a.txt", b"x" * 5_000)])
    path = tmp_path / "a.tar"
    path.write_bytes(data[:3_000] if damage == "cut" else b"no tar at all" * 100)
    with pytest.raises(DataError, match="not a whole tar") as caught:
        read(path)
    assert str(caught.value).startswith(str(path))


def write_parquet(path: Path, **columns: list) -> Path:
    parquet.write_table(pyarrow.table(columns), path, row_group_size=3)
    return path


def test_the_rows_of_a_parquet(tmp_path: Path) -> None:
    rows = [f"row {number} é" for number in range(600)]
    path = write_parquet(tmp_path / "a.parquet", id=list(range(603)), text=[*rows, None, "", "last"])
    texts, tally = read(path)
    assert list(texts.values()) == [*rows, "last"]
    assert list(texts)[:2] == ["1", "2"]
    assert tally.counts == {"empty": 2}


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("body", "no column 'body', the columns are: 'id', 'text'; text_field names the text's"),
        ("id", "the column 'id' holds int64; a column of strings is allowed"),
    ],
)
def test_a_wrong_column_is_named(tmp_path: Path, field: str, words: str) -> None:
    path = write_parquet(tmp_path / "a.parquet", id=[1], text=["x"])
    with pytest.raises(DataError, match=words):
        read(path, text_field=field)


def test_a_damaged_parquet_is_one_line(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", text=["x" * 1_000])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="a damaged .parquet") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_corpus_of_all_of_them(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", text=["parquet text " * 50])
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(tar_of([("a.txt", b"tar text " * 50)])))
    (tmp_path / "c.txt").write_text("plain text " * 50)
    found = build_corpus([tmp_path, tmp_path / "b.tar.gz"], tmp_path / "out", vocab_size=300, holdout=0)
    index = CorpusIndex.load(found)
    assert index.split("train").documents == 3
    assert load_tokenizer(index).vocab_size <= 300


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "tar"])
def test_rows_that_begin_documents_are_joined_with_the_ones_after(tmp_path: Path, kind: str) -> None:
    rows = ["", " = One = \n", "", " text é\n", " = = Part = = \n", " more\n", "", " = Two = \n", " 1 = 1 = \n"]
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        write_parquet(path, text=rows)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    else:
        path.write_bytes(tar_of([(f"{number:03d}.txt", row.encode()) for number, row in enumerate(rows)]))
    (file,) = find_sources([str(path)])
    tally = Tally()
    documents = list(read_documents(file, "text", "error", tally, re.compile(r" = [^=](.*[^=])? = \n?$")))
    assert ["".join(document.pieces()) for document in documents] == ["".join(rows[:7]), "".join(rows[7:])]
    wheres = ["001.txt", "007.txt"] if kind == "tar" else ["2", "8"]
    assert [document.where.removeprefix(f"{path}:") for document in documents] == wheres
    assert tally.counts == {}


def test_a_row_that_is_no_text_is_counted_and_rows_of_nothing_are_an_empty_document(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "# one"}\n{"text": "\xff"}\n{"text": " and"}\n')
    (file,) = find_sources([str(tmp_path / "a.jsonl")])
    tally = Tally()
    (document,) = read_documents(file, "text", "skip", tally, re.compile("#"))
    assert ("".join(document.pieces()), tally.counts) == ("# one and", {"invalid_utf8": 1})
    write_parquet(tmp_path / "empty.parquet", text=["", None])
    (file,) = find_sources([str(tmp_path / "empty.parquet")])
    tally = Tally()
    assert list(read_documents(file, "text", "skip", tally, re.compile("#"))) == []
    assert tally.counts == {"empty": 1}
