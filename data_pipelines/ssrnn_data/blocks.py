"""The bytes of a source file, decompressed as its suffix says, in blocks of bounded size."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from ssrnn_data.errors import DataError, data_error
from ssrnn_data.sources import SourceFile

BLOCK_BYTES = 1 << 20
# A small block in can expand enormously: small ones in keep the blocks out small.
_PACKED_BLOCK_BYTES = 1 << 13


def read_blocks(file: SourceFile, first_byte: int = 0) -> Iterator[bytes]:
    """The bytes of a file, decompressed, in blocks; DataError for a damaged archive or a file that can't be read.

    first_byte: of a plain file, where to begin.
    """
    try:
        with file.open() as raw:
            raw.seek(first_byte)
            yield from _unpacked(raw, file.compression)
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise _damaged(file, error) from error
    except OSError as error:
        if error.errno is None:  # bz2's word for it
            raise _damaged(file, error) from error
        raise data_error(file.name, f"can't be read ({error.strerror})", "a readable file is allowed") from error


def _damaged(file: SourceFile, error: Exception) -> DataError:
    return data_error(file.name, f"a damaged archive ({error})", f"a whole {file.compression} file is allowed")


def _unpacked(raw: BinaryIO, compression: str | None) -> Iterator[bytes]:
    if compression is None:
        yield from iter(lambda: raw.read(BLOCK_BYTES), b"")
    elif compression == ".gz":
        with gzip.open(raw) as stream:
            yield from iter(lambda: stream.read(BLOCK_BYTES), b"")
    else:
        yield from _frames(raw, _DECOMPRESSORS[compression])


def _zstandard() -> Any:
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj()


_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    ".bz2": bz2.BZ2Decompressor,
    ".xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ),
    ".zst": _zstandard,
}


def _frames(stream: BinaryIO, make: Callable[[], Any]) -> Iterator[bytes]:
    """One frame after another to the file's end. Python's own bz2 and lzma files take what is no frame for the end."""
    frame = None
    while block := stream.read(_PACKED_BLOCK_BYTES):
        while block:
            if frame is None and make is _DECOMPRESSORS[".xz"]:  # padding, which it allows between and after streams
                block = block.lstrip(b"\0")
                if not block:
                    break
            frame = frame or make()
            try:
                out = frame.decompress(block)
            except Exception as error:  # each library has its own
                raise EOFError(str(error)) from error
            if out:
                yield out
            block = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
    if frame is not None:
        raise EOFError("it ends within a frame")
