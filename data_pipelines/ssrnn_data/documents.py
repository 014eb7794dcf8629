"""Reads documents out of source files: UTF-8, JSON lines, and what to do with what is no text.

Memory is bounded for files of any length: a file is read twice, first to validate and hash it, then for its text.
"""

import codecs
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal

from ssrnn_data.blocks import read_blocks
from ssrnn_data.cutting import cut_pieces
from ssrnn_data.errors import data_error
from ssrnn_data.records import read_records
from ssrnn_data.sources import SourceFile

OnInvalid = Literal["skip", "replace", "error"]
_NAMES_KEPT = 10


@dataclass(frozen=True)
class Document:
    """One document, its text not in memory: pieces() reads it, in pieces of bounded length."""

    where: str
    digest: bytes
    text_bytes: int
    pieces: Callable[[], Iterator[str]]


@dataclass
class Tally:
    """Counts what was skipped or replaced, by reason, and keeps the first few names."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, list[str]] = field(default_factory=dict)

    def merge(self, other: Mapping[str, Any]) -> None:
        """Adds the to_dict() of a part that comes after this one."""
        for reason, count in other["counts"].items():
            self.counts[reason] = self.counts.get(reason, 0) + count
            names = self.first.setdefault(reason, [])
            names += other["first"][reason][: _NAMES_KEPT - len(names)]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)

    def add(self, reason: str, where: str) -> None:
        """Counts one document under a reason: empty, invalid_utf8, binary or replaced."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        names = self.first.setdefault(reason, [])
        if len(names) < _NAMES_KEPT:
            names.append(where)


class _NotTextError(Exception):
    """Why a file is no document: reason for the tally, detail for the message."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def read_documents(file: SourceFile, text_field: str, on_invalid: OnInvalid, tally: Tally) -> Iterator[Document]:
    """The documents of a file: a line of JSON lines, a row of a .parquet, a text in a .tar each, else the whole file.

    Texts are kept exactly as they are.

    Empty documents are skipped. Invalid UTF-8 (in JSON also a lone surrogate) is skipped, replaced by U+FFFD, or an
    error, as on_invalid says; a file that holds a NUL byte and wasn't named by the user is binary: skipped or an error.
    Raises DataError for a damaged archive, a broken JSON line, a missing field, an unreadable file.
    """
    if file.is_json_lines or file.has_records:
        of_lines_or_records = _json_documents if file.is_json_lines else _recorded_documents
        yield from of_lines_or_records(file, text_field, on_invalid, tally)
        return
    try:
        document, was_replaced = _survey_text(file, on_invalid)
    except _NotTextError as why:
        if on_invalid == "error":
            raise data_error(file.name, why.detail, _allowed_policies()) from None
        tally.add(why.reason, file.name)
        return
    if document.text_bytes == 0:
        tally.add("empty", file.name)
        return
    if was_replaced:
        tally.add("replaced", file.name)
    yield document


def _allowed_policies() -> str:
    return 'UTF-8 text is allowed; on_invalid="skip" leaves such documents out, "replace" puts U+FFFD'


def _survey_text(file: SourceFile, on_invalid: OnInvalid) -> tuple[Document, bool]:
    """Pass one over a text file: (document, whether bytes were replaced)."""
    digest, text_bytes = hashlib.sha256(), 0
    source_hash = hashlib.sha256()

    def tee() -> Iterator[bytes]:
        for block in read_blocks(file):
            if not file.named and b"\0" in block:
                raise _NotTextError("binary", "a NUL byte came: a binary file")
            source_hash.update(block)
            yield block

    for text in _decode(tee(), "replace" if on_invalid == "replace" else "strict"):
        encoded = text.encode("utf-8")
        digest.update(encoded)
        text_bytes += len(encoded)
    wanted = digest.digest()
    was_replaced = wanted != source_hash.digest()

    def pieces() -> Iterator[str]:
        again = hashlib.sha256()
        for piece in cut_pieces(_decode(read_blocks(file), "replace" if was_replaced else "strict")):
            again.update(piece.encode("utf-8"))
            yield piece
        if again.digest() != wanted:
            raise data_error(file.name, "changed while it was read", "leave the sources alone until the build is done")

    return Document(file.name, wanted, text_bytes, pieces), was_replaced


def _decode(blocks: Iterator[bytes], errors: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")(errors)
    done = 0
    try:
        for block in blocks:
            pending = len(decoder.getstate()[0])
            yield decoder.decode(block)
            done += len(block)
        pending = len(decoder.getstate()[0])
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        at = done - pending + error.start
        raise _NotTextError("invalid_utf8", f"invalid UTF-8 at byte {at:,} ({error.reason})") from None


def _lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Lines without their newline; a long one is gathered in a list, since joining block by block is quadratic."""
    parts: list[bytes] = []
    for block in blocks:
        head, *rest = block.split(b"\n")
        parts.append(head)
        for line in rest:
            yield b"".join(parts)
            parts = [line]
    yield b"".join(parts)


def _json_documents(file: SourceFile, text_field: str, on_invalid: OnInvalid, tally: Tally) -> Iterator[Document]:
    for number, line in enumerate(_lines(read_blocks(file)), start=1):
        where = f"{file.name}:{number}"
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if line.strip():
            yield from _document(where, partial(_json_text, line, where, text_field, on_invalid), on_invalid, tally)


def _recorded_documents(file: SourceFile, text_field: str, on_invalid: OnInvalid, tally: Tally) -> Iterator[Document]:
    """Of a file of records (records.py): bytes that are the text, or a JSON object that holds it."""
    for record in read_records(file, text_field):
        if record.is_json:
            read = partial(_json_text, record.data, record.where, text_field, on_invalid)
        else:
            read = partial(_text, record.data, "text", on_invalid)
        yield from _document(record.where, read, on_invalid, tally)


def _document(
    where: str, read: Callable[[], tuple[str, bool]], on_invalid: OnInvalid, tally: Tally
) -> Iterator[Document]:
    """The document of a record, or none, which the tally counts. read: its text, and whether anything was replaced."""
    try:
        text, was_replaced = read()
    except _NotTextError as why:
        if on_invalid == "error":
            raise data_error(where, why.detail, _allowed_policies()) from None
        tally.add(why.reason, where)
        return
    if not text:
        tally.add("empty", where)
        return
    if was_replaced:
        tally.add("replaced", where)
    encoded = text.encode("utf-8")
    yield Document(where, hashlib.sha256(encoded).digest(), len(encoded), partial(cut_pieces, [text]))


def _text(data: bytes, of: str, on_invalid: OnInvalid) -> tuple[str, bool]:
    """Bytes as text, and whether any were replaced.  of: what they are, for the message."""
    try:
        return data.decode("utf-8"), False
    except UnicodeDecodeError as error:
        if on_invalid != "replace":
            raise _NotTextError("invalid_utf8", f"invalid UTF-8 at byte {error.start:,} of the {of}") from None
        return data.decode("utf-8", errors="replace"), True


def _json_text(line: bytes, where: str, text_field: str, on_invalid: OnInvalid) -> tuple[str, bool]:
    """The text of one JSON line and whether anything in it was replaced."""
    decoded, was_replaced = _text(line, "line", on_invalid)
    text = _json_field(decoded, where, text_field)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        if on_invalid != "replace":
            raise _NotTextError("invalid_utf8", "a lone surrogate in a JSON string") from None
        text, was_replaced = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), True
    return text, was_replaced


def _json_field(line: str, where: str, text_field: str) -> str:
    allowed = f"one JSON object a line with a string in the field {text_field!r} (text_field) is allowed"
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise data_error(where, f"broken JSON ({error})", allowed) from None
    if not isinstance(record, dict):
        raise data_error(where, f"a JSON {type(record).__name__} came", allowed)
    if text_field not in record:
        fields = ", ".join(repr(name) for name in list(record)[:20]) or "none"
        raise data_error(where, f"no field {text_field!r}, the fields are: {fields}", allowed)
    text = record[text_field]
    if not isinstance(text, str):
        raise data_error(where, f"the field {text_field!r} holds a {type(text).__name__}", allowed)
    return text
