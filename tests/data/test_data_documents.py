"""What becomes of a file: kept exactly, skipped, replaced, or an error that names file and line."""

import json
import re
from itertools import accumulate
from pathlib import Path

import pytest
from archives import PACK
from hypothesis import given
from hypothesis import strategies as st

from ssrnn_data import DataError
from ssrnn_data.blocks import BLOCK_BYTES
from ssrnn_data.documents import Tally, read_documents
from ssrnn_data.parts import join_parts, numbered_lines
from ssrnn_data.sources import SourceFile

ODD = "\ufeffone\r\ntwo\rthree\x00\u2028 e\u0301 👩\u200d💻\U0010ffff <|endoftext|>"


def read(path: Path, on_invalid: str = "skip", named: bool = True, field: str = "text") -> tuple[list[str], Tally]:
    tally = Tally()
    file = SourceFile(str(path), named, path.stat().st_size, "0")
    documents = read_documents(file, text_field=field, on_invalid=on_invalid, tally=tally)  # type: ignore[arg-type]
    texts = []
    for document in documents:
        texts.append("".join(document.pieces()))
        assert document.text_bytes == len(texts[-1].encode())
    return texts, tally


def write(path: Path, content: bytes) -> Path:
    packed = PACK.get(path.suffix, bytes)
    path.write_bytes(packed(content))
    return path


@pytest.mark.parametrize("suffix", [".txt", *(f".txt{packed}" for packed in PACK)])
@pytest.mark.parametrize("fill", ["", "é" * BLOCK_BYTES, "word 👩‍💻 " * 200_000])
def test_text_is_kept_exactly_across_blocks(tmp_path: Path, suffix: str, fill: str) -> None:
    texts, tally = read(write(tmp_path / f"a{suffix}", (fill + ODD).encode()))
    assert texts == [fill + ODD]
    assert tally.counts == {}


@pytest.mark.parametrize("suffix", PACK)
def test_a_bad_frame_after_a_good_one_is_no_end(tmp_path: Path, suffix: str) -> None:
    """Python's bz2 and lzma files would take it for the end, and lose what follows."""
    second = bytearray(PACK[suffix](b"second " * 1_000))
    second[0] ^= 1
    for following in (bytes(second), b"garbage!" * 3):
        (tmp_path / f"a.txt{suffix}").write_bytes(PACK[suffix](b"first " * 1_000) + following)
        with pytest.raises(DataError, match="a damaged archive"):
            read(tmp_path / f"a.txt{suffix}")


def test_padding_between_streams_of_xz_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.txt.xz").write_bytes(PACK[".xz"](b"first ") + bytes(8) + PACK[".xz"](b"second") + bytes(4))
    assert read(tmp_path / "a.txt.xz")[0] == ["first second"]


def test_several_frames_in_one_archive(tmp_path: Path) -> None:
    for suffix, pack in PACK.items():
        (tmp_path / f"a{suffix}").write_bytes(pack(b"one ") + pack(b"two"))
        assert read(tmp_path / f"a{suffix}")[0] == ["one two"], suffix


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("damage", ["cut", "foreign"])
def test_damaged_archives_are_named(tmp_path: Path, suffix: str, damage: str) -> None:
    path = write(tmp_path / f"a.txt{suffix}", bytes(range(128)) * 999)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"not an archive at all")
    with pytest.raises(DataError, match="damaged archive") as caught:
        read(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("bad", [b"abc\xff\xfedef", b"abc\xe6\x97", b"\xed\xa0\x80", b"x" * BLOCK_BYTES + b"\xc3("])
def test_invalid_utf8_by_policy(tmp_path: Path, bad: bytes) -> None:
    path = write(tmp_path / "bad.txt", bad)
    texts, tally = read(path)
    assert (texts, tally.counts, tally.first) == ([], {"invalid_utf8": 1}, {"invalid_utf8": [str(path)]})
    texts, tally = read(path, "replace")
    assert (texts, tally.counts) == ([bad.decode(errors="replace")], {"replaced": 1})
    with pytest.raises(DataError, match="invalid UTF-8 at byte ") as caught:
        read(path, "error")
    at = int(str(caught.value).split("at byte ")[1].split(" ")[0].replace(",", ""))
    with pytest.raises(UnicodeDecodeError) as truth:
        bad.decode()
    assert at == truth.value.start


def test_nul_is_binary_in_a_folder_and_text_when_named(tmp_path: Path) -> None:
    path = write(tmp_path / "nul.txt", b"a\0b")
    assert read(path, named=True)[0] == ["a\0b"]
    texts, tally = read(path, named=False)
    assert (texts, tally.counts) == ([], {"binary": 1})
    with pytest.raises(DataError, match="binary"):
        read(path, "error", named=False)


def test_empty_files_are_counted_and_a_bom_is_text(tmp_path: Path) -> None:
    texts, tally = read(write(tmp_path / "empty.txt", b""))
    assert (texts, tally.counts) == ([], {"empty": 1})
    assert read(write(tmp_path / "bom.txt", "\ufeff".encode()))[0] == ["\ufeff"]


@pytest.mark.parametrize("suffix", [".jsonl", *(f".jsonl{packed}" for packed in PACK), ".ndjson"])
def test_json_lines(tmp_path: Path, suffix: str) -> None:
    long = "long " * 500_000
    lines = [json.dumps({"text": ODD}), "", json.dumps({"id": 1, "text": long}, ensure_ascii=False), '{"text": ""}']
    content = "\ufeff" + "\r\n".join(lines)
    texts, tally = read(write(tmp_path / f"a{suffix}", content.encode()))
    assert texts == [ODD, long]
    assert tally.counts == {"empty": 1}
    assert tally.first["empty"][0].endswith(":4")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"text": "a"', "broken JSON"),
        ("[" * 100_000, "broken JSON"),
        ('{"body": "x", "id": 3}', "no field 'text', the fields are: 'body', 'id'"),
        ('{"text": 3}', "holds a int"),
        ('{"text": null}', "holds a NoneType"),
        ('["text"]', "a JSON list came"),
        ("3", "a JSON int came"),
    ],
)
def test_bad_json_lines_name_file_and_line(tmp_path: Path, line: str, what: str) -> None:
    path = write(tmp_path / "a.jsonl", f'{{"text": "fine"}}\n{line}\n'.encode())
    with pytest.raises(DataError, match=what) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", [b'{"text": "a\\ud800b"}', b'{"text": "a\xffb"}'])
def test_json_that_is_no_utf8_by_policy(tmp_path: Path, line: bytes) -> None:
    path = write(tmp_path / "a.jsonl", line)
    assert read(path)[1].counts == {"invalid_utf8": 1}
    texts, tally = read(path, "replace")
    assert (texts, tally.counts) == (["a\ufffdb"], {"replaced": 1})
    with pytest.raises(DataError, match=r"a\.jsonl:1: "):
        read(path, "error")


def test_json_surrogate_pairs_are_one_character(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.jsonl", b'{"text": "\\ud83d\\ude42"}'))[0] == ["🙂"]


def test_a_file_that_changes_between_the_passes_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"before")
    file = SourceFile(str(path), True, 6, "0")
    (document,) = read_documents(file, text_field="text", on_invalid="skip", tally=Tally())
    path.write_bytes(b"after!")
    with pytest.raises(DataError, match="changed while it was read"):
        list(document.pieces())


TITLE = re.compile(r"# ")
BOOK = "# one\nfirst\r\n\n## part\n \n# two\nlast é 日本"


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("before", "first", "at"),
    [
        ("", [], 1),
        (" \n\t\n", [], 3),  # white space goes with what follows
        ("preface\n\n", ["preface\n\n"], 3),
        ("\n preface # no title\n", ["\n preface # no title\n"], 3),
    ],
)
def test_lines_that_begin_documents(tmp_path: Path, suffix: str, before: str, first: list[str], at: int) -> None:
    path = write(tmp_path / f"book.md{suffix}", (before + BOOK).encode())
    file, tally = SourceFile(str(path), True, path.stat().st_size, "0"), Tally()
    documents = list(read_documents(file, "text", "error", tally, TITLE))
    texts = ["".join(document.pieces()) for document in documents]
    blank = "" if first else before
    assert texts == [*first, f"{blank}# one\nfirst\r\n\n## part\n \n", "# two\nlast é 日本"]
    assert [document.where for document in documents][-2:] == [f"{path}:{at}", f"{path}:{at + 5}"]
    assert all(document.text_bytes == len(text.encode()) for document, text in zip(documents, texts, strict=True))
    assert tally.counts == {}


def test_without_a_line_that_matches_a_file_is_one_document_and_files_are_judged_whole(tmp_path: Path) -> None:
    bad = write(tmp_path / "bad.txt", b"# one\n\xff\n# two\n")
    file = SourceFile(str(bad), True, 1, "0")
    tally = Tally()
    assert list(read_documents(file, "text", "skip", tally, TITLE)) == []
    assert tally.counts == {"invalid_utf8": 1}
    replaced = Tally()
    documents = read_documents(file, "text", "replace", replaced, TITLE)
    assert ["".join(document.pieces()) for document in documents] == ["# one\n\ufffd\n", "# two\n"]
    assert replaced.counts == {"replaced": 1}
    (whole,) = read_documents(file, "text", "replace", Tally(), re.compile("never"))
    assert "".join(whole.pieces()) == "# one\n\ufffd\n# two\n"


@given(
    st.lists(st.text(alphabet="#ab \n\r\u2028\x85é", max_size=12), max_size=12), st.sampled_from(["#", "a", "\n", ""])
)
def test_documents_cut_by_a_pattern_joined_again_are_the_text(pieces: list[str], pattern: str) -> None:
    text, starts = "".join(pieces), re.compile(pattern)
    lines = list(numbered_lines(pieces, "f"))
    assert [line for _, line in lines] == text.splitlines(keepends=True) or any(odd in text for odd in "\r\u2028\x85")
    assert "".join(line for _, line in lines) == text
    assert all(line.endswith("\n") and line.count("\n") == 1 for _, line in lines[:-1])
    documents = list(join_parts(lines, starts))
    assert "".join(document for _, document in documents) == text
    ends = set(accumulate(len(document) for _, document in documents[:-1]))
    at = 0
    for _, line in lines:
        assert (at in ends) == bool(text[:at].strip() and starts.match(line) and not _is_blank_since(text, ends, at))
        at += len(line)
    assert all(document.strip() for _, document in documents[:-1])  # none of white space alone, but at the end
    for where, document in documents:
        number = int(where.removeprefix("f:"))
        assert lines[number - 1][1] in document


def _is_blank_since(text: str, ends: set[int], at: int) -> bool:
    """Whether only white space stands between the last document's end and here."""
    return not text[max((end for end in ends if end < at), default=0) : at].strip()
