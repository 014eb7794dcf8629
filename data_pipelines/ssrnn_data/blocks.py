"""The bytes of a source file, decompressed as its suffix says, in blocks of bounded size."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, BinaryIO

from ssrnn_data.errors import DataError, data_error
from ssrnn_data.sources import SourceFile

BLOCK_BYTES = 1 << 20
# Zstandard can expand a small block enormously: small blocks in keep the blocks out small.
_ZSTD_BLOCK_BYTES = 1 << 13
_OPEN: dict[str | None, Callable[[BinaryIO], Any]] = {
    None: nullcontext,
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}


def read_blocks(file: SourceFile, first_byte: int = 0) -> Iterator[bytes]:
    """The bytes of a file, decompressed, in blocks; DataError for a damaged archive or a file that can't be read.

    first_byte: of a plain file, where to begin.
    """
    try:
        with file.open() as raw:
            raw.seek(first_byte)
            if file.compression == ".zst":
                yield from _zstd_blocks(raw)
                return
            with _OPEN[file.compression](raw) as stream:
                while block := stream.read(BLOCK_BYTES):
                    yield block
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise _damaged(file, error) from error
    except OSError as error:
        if error.errno is None:  # bz2's word for it
            raise _damaged(file, error) from error
        raise data_error(file.name, f"can't be read ({error.strerror})", "a readable file is allowed") from error


def _damaged(file: SourceFile, error: Exception) -> DataError:
    return data_error(file.name, f"a damaged archive ({error})", f"a whole {file.compression} file is allowed")


def _zstd_blocks(stream: BinaryIO) -> Iterator[bytes]:
    import zstandard

    frame = None
    while block := stream.read(_ZSTD_BLOCK_BYTES):
        while block:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            try:
                out = frame.decompress(block)
            except zstandard.ZstdError as error:
                raise EOFError(str(error)) from error
            if out:
                yield out
            block = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
    if frame is not None:
        raise EOFError("it ends within a frame")
