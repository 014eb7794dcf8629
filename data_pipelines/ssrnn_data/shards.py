"""Writes and reads shards: standard tars by webdataset, one sample `{key}.ids.npy` a document chunk.

The only file that imports webdataset (late: it takes seconds and torch with it). Everything read is checked.
"""

import hashlib
import io
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ssrnn_data.errors import DataError, data_error

MEMBER = "ids.npy"
_BLOCK_BYTES = 1 << 20
# The header that numpy writes for a one-dimensional array of little-endian unsigned integers. Nothing else is accepted,
# so there is no way to a pickle, and no general parser in the reader's loop.
_NPY_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '<(u2|u4)', 'fortran_order': False, 'shape': \((\d+),\), \} *\n", re.DOTALL
)
_DTYPES: dict[bytes, np.dtype[Any]] = {b"u2": np.dtype("<u2"), b"u4": np.dtype("<u4")}


class _Output:
    """A file that ignores writes once abandoned: an unfinished tar writes once more when it is collected."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("wb")
        self._is_abandoned = False

    def write(self, data: Any) -> int:
        return len(data) if self._is_abandoned else self._stream.write(data)

    def finish(self) -> None:
        """Brings everything to the disk."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()

    def abandon(self) -> None:
        """Closes the file; on a full disk even that can fail, and no longer matters."""
        self._is_abandoned = True
        with suppress(OSError):
            self._stream.close()


class ShardFile:
    """One tar being written; the same samples give the same bytes, whenever and by whomever it is written."""

    def __init__(self, path: Path) -> None:
        import webdataset

        self.path = path
        self._output = _Output(path)
        self._tar = webdataset.TarWriter(
            self._output, encoder=False, compress=False, mtime=0, user="", group="", mode=0o644
        )

    def write(self, key: str, ids: np.ndarray) -> None:
        """Appends a sample; ids (N,) of dtype uint16 or uint32."""
        buffer = io.BytesIO()
        little_endian = np.ascontiguousarray(ids, dtype=ids.dtype.newbyteorder("<"))
        np.lib.format.write_array(buffer, little_endian, version=(1, 0), allow_pickle=False)
        self._tar.write({"__key__": key, MEMBER: buffer.getvalue()})

    def close(self) -> None:
        """Ends the tar and brings it to the disk."""
        self._tar.close()
        self._output.finish()

    def abandon(self) -> None:
        """Closes the file without ending the tar."""
        self._output.abandon()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def read_samples(path: Path, *, dtype: str, vocab_size: int, tokens: int) -> Iterator[np.ndarray]:
    """The samples of a shard in stored order, each ids (N,), read-only, of the given dtype; one in memory at a time.

    Raises DataError naming shard and key for a missing, foreign or truncated tar, a missing member, another dtype, a
    pickle, ids outside the vocabulary, another number of tokens than `tokens`. Closing the generator closes the file.
    """
    count, key = 0, "no sample"
    wanted: np.dtype[Any] = np.dtype(dtype).newbyteorder("<")
    try:
        with path.open("rb") as stream:
            for sample in _tar_samples(path, stream):
                key = str(sample["__key__"])
                ids = decode_ids(sample, f"{path}, sample {key}", wanted, vocab_size)
                count += len(ids)
                yield ids
    except DataError:
        raise
    except FileNotFoundError:
        raise data_error(path, "no such shard", "all shards that the index lists are needed") from None
    except Exception as error:  # tarfile and webdataset raise many kinds, and all mean that this is no whole shard
        reason = str(error.args[0]) if error.args else type(error).__name__
        raise data_error(f"{path}, after {key}", f"not a whole tar ({reason})", "build the corpus again") from error
    if count != tokens:
        raise data_error(f"{path}, after {key}", f"{count:,} tokens came", f"the index says {tokens:,}; build it again")


def _tar_samples(path: Path, stream: io.BufferedReader) -> Iterator[dict[str, Any]]:
    """webdataset's reading, on a stream that we opened: so that nothing in a name is a command, and we close it."""
    from webdataset import tariterators

    members = tariterators.tar_file_expander([{"url": str(path), "stream": stream}])
    samples: Iterator[dict[str, Any]] = tariterators.group_by_keys(members)
    return samples


def decode_ids(sample: dict[str, Any], where: str, dtype: np.dtype[Any], vocab_size: int) -> np.ndarray:
    """A sample's ids (N,), read-only, checked; DataError says what is wrong with them, after `where`."""
    data = sample.get(MEMBER)
    if data is None:
        members = ", ".join(name for name in sample if not name.startswith("__"))
        raise data_error(where, f"no member {MEMBER} (there is: {members})", "a shard made by build_corpus is allowed")
    header = _NPY_HEADER.match(data)
    if header is None:
        came = f"{MEMBER} begins with {bytes(data[:80])!r}"
        raise data_error(where, came, "a one-dimensional .npy of unsigned integers is allowed, never a pickle")
    if _DTYPES[header[1]] != dtype:
        raise data_error(where, f"ids are {_DTYPES[header[1]].name}", f"the index says {dtype.name}")
    length = int(header[2])
    if length == 0 or len(data) != header.end() + length * dtype.itemsize:
        came = f"{len(data) - header.end():,} bytes of ids for {length:,} tokens"
        raise data_error(where, came, f"{dtype.itemsize} bytes a token and at least one token are allowed")
    ids: np.ndarray = np.frombuffer(data, dtype=dtype, offset=header.end())
    if int(ids.max()) >= vocab_size:
        raise data_error(where, f"id {int(ids.max())} came", f"ids below the vocabulary's {vocab_size} are allowed")
    return ids
