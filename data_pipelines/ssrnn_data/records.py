"""Files that hold many documents and are no lines: .parquet (pyarrow), and .tar, as WebDataset's users have them.

One record in memory at a time, of a .parquet one batch of rows.
"""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ssrnn_data.blocks import read_blocks
from ssrnn_data.errors import data_error
from ssrnn_data.sources import TEXT_SUFFIXES, SourceFile

_ROWS = 256  # of a .parquet at once


@dataclass(frozen=True)
class Record:
    """A document's bytes: its text, or a JSON object that holds it."""

    where: str
    data: bytes
    is_json: bool = False


def read_records(file: SourceFile, text_field: str) -> Iterator[Record]:
    """The records of a .tar, plain or compressed, or of a .parquet; DataError for a damaged or a foreign one."""
    return _parquet_rows(file, text_field) if file.is_parquet else _tar_members(file, read_blocks(file))


def _tar_members(file: SourceFile, blocks: Iterator[bytes]) -> Iterator[Record]:
    """Members that are named like text (.txt, .md, source code) or .json; others, and links, are passed over."""
    allowed = "a whole .tar with members .txt, other text or .json is allowed"
    try:
        with tarfile.open(fileobj=io.BufferedReader(_Blocks(blocks)), mode="r|") as tar:
            for member in tar:
                suffix = PurePosixPath(member.name).suffix.lower()
                data = tar.extractfile(member) if member.isfile() and suffix in TEXT_SUFFIXES | {".json"} else None
                if data is not None:
                    yield Record(f"{file.name}:{member.name}", data.read(), suffix == ".json")
    except (tarfile.TarError, EOFError) as error:
        raise data_error(file.name, f"not a whole tar ({error})", allowed) from error


class _Blocks(io.RawIOBase):
    """Blocks as a file that is read once."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._left = blocks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._left:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._left = block
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count


def _parquet_rows(file: SourceFile, text_field: str) -> Iterator[Record]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise data_error(file.name, "pyarrow is not installed", "`pip install pyarrow` reads .parquet") from None
    try:
        with file.open() as stream, parquet.ParquetFile(stream) as table:
            schema, number = table.schema_arrow, 0
            if text_field not in schema.names:
                fields = ", ".join(map(repr, schema.names[:20]))
                raise data_error(
                    file.name, f"no column {text_field!r}, the columns are: {fields}", "text_field names the text's"
                )
            kind = schema.field(text_field).type
            if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
                raise data_error(file.name, f"the column {text_field!r} holds {kind}", "a column of strings is allowed")
            for batch in table.iter_batches(batch_size=_ROWS, columns=[text_field]):
                for data in batch.column(0).cast(pyarrow.large_binary()):
                    number += 1
                    yield Record(f"{file.name}:{number}", data.as_py() or b"")
    except (pyarrow.ArrowException, OSError) as error:
        said = str(error).partition("\n")[0]
        raise data_error(file.name, f"a damaged .parquet ({said})", "a whole one is allowed") from error
