"""Text → ids → text is exact for every text, and nothing in a text becomes the special token."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssrnn_data import CorpusIndex, DataError, TextTokenizer, Utf8Streamer, load_tokenizer
from ssrnn_data.cutting import cut_pieces, shorten_words
from ssrnn_data.tokenizer import train_tokenizer

TOKENIZER = train_tokenizer(["ein Satz, the words, the words\n" * 50, "日本語 日本語 éé"], 320)
any_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=300)


@settings(max_examples=200, deadline=None)
@given(any_text)
def test_round_trip(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.decode(ids) == text
    assert TOKENIZER.end_of_text not in ids
    assert b"".join(map(TOKENIZER.token_bytes, ids)) == text.encode()


@settings(max_examples=100, deadline=None)
@given(any_text)
def test_streamer_never_breaks_a_character(text: str) -> None:
    streamer = Utf8Streamer(TOKENIZER)
    parts = [streamer.push(token) for token in TOKENIZER.encode(text)]
    assert "".join(parts) == text
    assert streamer.finish() == ""


def test_streamer_marks_only_what_is_invalid() -> None:
    ids = TOKENIZER.encode("🙂")
    assert len(ids) == 4
    streamer = Utf8Streamer(TOKENIZER)
    assert [streamer.push(token) for token in ids[:3]] == ["", "", ""]
    assert streamer.finish() == "\ufffd"
    streamer = Utf8Streamer(TOKENIZER)
    assert "".join(streamer.push(token) for token in [ids[3], *TOKENIZER.encode("a")]) == "\ufffda"


def test_literal_end_of_text_is_text() -> None:
    ids = TOKENIZER.encode("a<|endoftext|>b")
    assert TOKENIZER.end_of_text not in ids
    assert TOKENIZER.decode(ids) == "a<|endoftext|>b"
    assert TOKENIZER.token_bytes(TOKENIZER.end_of_text) == b""


def test_every_byte_has_an_id() -> None:
    known = {TOKENIZER.token_bytes(token) for token in range(TOKENIZER.vocab_size)}
    assert {bytes([byte]) for byte in range(256)} <= known


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(" \n\tab\u3000é", max_size=60), max_size=12), st.integers(1, 40))
def test_pieces_join_to_the_text_wherever_blocks_end(blocks: list[str], limit: int) -> None:
    text = "".join(blocks)
    pieces = list(cut_pieces(blocks, limit))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= limit for piece in pieces)
    assert pieces == list(cut_pieces([text], limit))
    assert "".join(part for piece in pieces for part in shorten_words(piece)) == text


def test_cutting_at_white_space_keeps_the_ids() -> None:
    text = "some words  and\n\n  more the words\t" * 3_000
    whole = TOKENIZER._tokenizer.encode(text, add_special_tokens=False).ids
    assert TOKENIZER.encode(text) == whole
    assert len(list(cut_pieces([text]))) > 2


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("no json", "not a tokenizer.json"),
        ("{}", "not a tokenizer.json"),
        (TOKENIZER.serialized.replace("<|endoftext|>", "<|other|>"), "no token"),
        (json.dumps(json.loads(TOKENIZER.serialized) | {"normalizer": {"type": "Lowercase"}}), "changes the text"),
        (json.dumps(json.loads(TOKENIZER.serialized) | {"pre_tokenizer": {"type": "Whitespace"}}), "changes the text"),
    ],
)
def test_unfit_tokenizers_are_refused(tmp_path: Path, content: str, what: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=what) as caught:
        TextTokenizer.from_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_tokenizer_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="can't be read"):
        TextTokenizer.from_file(tmp_path / "none.json")


def test_changed_tokenizer_is_noticed(corpus: CorpusIndex, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(corpus.folder, copy)
    index = CorpusIndex.load(copy)
    assert load_tokenizer(index).sha256 == corpus.tokenizer.sha256
    (copy / "tokenizer.json").write_text(TOKENIZER.serialized, encoding="utf-8")
    with pytest.raises(DataError, match="SHA-256"):
        load_tokenizer(index)
