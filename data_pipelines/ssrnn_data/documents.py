"""Reads documents out of source files: UTF-8, JSON lines, and what to do with what is no text.

Memory is bounded for files of any length: a file is read twice, first to validate and hash it, then for its text. Of
records, and of documents that a file's lines make, one is in memory at a time.
"""

import codecs
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal

from ssrnn_data.blocks import read_blocks
from ssrnn_data.cutting import cut_pieces
from ssrnn_data.errors import data_error
from ssrnn_data.parts import Part, join_parts, numbered_lines
from ssrnn_data.records import Record, read_records
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
        """Counts one document under a reason: empty, invalid_utf8, binary, held_out or replaced."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        names = self.first.setdefault(reason, [])
        if len(names) < _NAMES_KEPT:
            names.append(where)


class _NotTextError(Exception):
    """Why a file is no document: reason for the tally, detail for the message."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def read_documents(
    file: SourceFile,
    text_field: str,
    on_invalid: OnInvalid,
    tally: Tally,
    starts: re.Pattern[str] | None = None,
) -> Iterator[Document]:
    """The documents of a file: a line of JSON lines, a row of a .parquet, a text in a .tar each, else the whole file.

    starts: where given, only what it matches begins a document (parts.py): a row of a file of records, else a line.
    Texts are kept exactly as they are.

    Empty documents are skipped. Invalid UTF-8 (in JSON also a lone surrogate) is skipped, replaced by U+FFFD, or an
    error, as on_invalid says; a file that holds a NUL byte and wasn't named by the user is binary: skipped or an error.
    Raises DataError for a damaged archive, a broken JSON line, a missing field, an unreadable file.
    """
    if file.is_json_lines or file.has_records:
        records = _json_rows(file) if file.is_json_lines else read_records(file, text_field)
        rows = _texts(records, on_invalid, text_field, tally)
        yield from _in_memory(rows if starts is None else join_parts(rows, starts), tally)
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
    if starts is None:
        yield document
    else:
        yield from _in_memory(join_parts(numbered_lines(document.pieces(), file.name), starts), tally)


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


def _json_rows(file: SourceFile) -> Iterator[Record]:
    behind = f" from byte {file.first_byte:,} on" if file.first_byte else ""
    for number, line in enumerate(_lines_of(file), start=1):
        if number == 1 and not file.first_byte:
            line = line.removeprefix(codecs.BOM_UTF8)
        if line.strip():
            yield Record(f"{file.name}:{number}{behind}", line, is_json=True)


def _lines_of(file: SourceFile) -> Iterator[bytes]:
    """The lines of a file, or those that begin in a part of one."""
    at = max(0, file.first_byte - 1)  # a newline there ends an empty line, any other byte a line of the part before
    lines = _lines(read_blocks(file, at))
    if file.first_byte:
        at += len(next(lines)) + 1
    for line in lines:
        if file.last_byte is not None and at >= file.last_byte:
            return
        yield line
        at += len(line) + 1


def _texts(records: Iterator[Record], on_invalid: OnInvalid, text_field: str, tally: Tally) -> Iterator[Part]:
    """The texts of records, as they are or replaced; the tally counts those, and the ones that are no text."""
    for record in records:
        try:
            if record.is_json:
                text, was_replaced = _json_text(record.data, record.where, text_field, on_invalid)
            else:
                text, was_replaced = _text(record.data, "text", on_invalid)
        except _NotTextError as why:
            if on_invalid == "error":
                raise data_error(record.where, why.detail, _allowed_policies()) from None
            tally.add(why.reason, record.where)
            continue
        if was_replaced:
            tally.add("replaced", record.where)
        yield record.where, text


def _in_memory(texts: Iterator[Part], tally: Tally) -> Iterator[Document]:
    """Documents whose texts are at hand; the tally counts the empty ones."""
    for where, text in texts:
        if text:
            encoded = text.encode("utf-8")
            yield Document(where, hashlib.sha256(encoded).digest(), len(encoded), partial(cut_pieces, [text]))
        else:
            tally.add("empty", where)


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
