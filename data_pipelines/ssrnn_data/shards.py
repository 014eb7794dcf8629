"""Writes and reads shards: tars as webdataset has them, one sample `{key}.ids.npy` a document chunk.

Reading walks the tar itself (tar.py), fast and with a fault's place at hand; everything read is checked.
"""

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ssrnn_data.errors import DataError
from ssrnn_data.tar import Member, Read, TarDamaged, read_members

MEMBER = "ids.npy"
BAD_TOKEN = -1  # in the place of a token that could not be read
NPY_HEADER_BYTES = 128  # what numpy writes before the ids of one array
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
        self.path = path
        self._output = _Output(path)
        self._tar = tarfile.open(fileobj=self._output, mode="w|")  # type: ignore[call-overload]  # noqa: SIM115

    def write(self, key: str, ids: np.ndarray) -> None:
        """Appends a sample; ids (N,) of dtype uint16 or uint32."""
        buffer = io.BytesIO()
        little_endian = np.ascontiguousarray(ids, dtype=ids.dtype.newbyteorder("<"))
        np.lib.format.write_array(buffer, little_endian, version=(1, 0), allow_pickle=False)
        member = tarfile.TarInfo(f"{key}.{MEMBER}")  # mtime 0 and no owner
        member.size = buffer.tell()
        buffer.seek(0)
        self._tar.addfile(member, buffer)

    def close(self) -> None:
        """Ends the tar and brings it to the disk."""
        self._tar.close()
        self._output.finish()

    def abandon(self) -> None:
        """Closes the file without ending the tar."""
        self._output.abandon()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return stream_sha256(stream)


def stream_sha256(stream: BinaryIO) -> str:
    """SHA-256 of what is left of a stream, in hexadecimal."""
    digest = hashlib.sha256()
    while block := stream.read(_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True)
class ShardForm:
    """What the index says of a shard: its name, the dtype of its ids (uint16 or uint32), the vocabulary, its tokens."""

    name: str
    dtype: str
    vocab_size: int
    tokens: int


@dataclass(frozen=True)
class BadSample:
    """A sample that can't be used: whose, what is wrong, from which byte of the shard on, how many tokens it held."""

    shard: str
    key: str
    said: str
    offset_bytes: int
    tokens: int

    def error(self) -> DataError:
        """As the one line that is raised where bad samples are not skipped."""
        return DataError(f"{self.shard}, {self.key}, from byte {self.offset_bytes:,} on: {self.said}")


def read_samples(
    stream: BinaryIO, form: ShardForm, *, skip_tokens: int = 0, on_bad: Callable[[BadSample], None] | None = None
) -> Iterator[np.ndarray]:
    """The samples of a shard from a token on, each ids (N,), read-only; one in memory at a time. Closes the stream.

    on_bad: is told of each bad sample, in whose place as many BAD_TOKENs (int32) come; so a shard always gives the
    tokens that the index says. Without it the first one is raised as DataError. Bad is a foreign or truncated tar, a
    missing member, another dtype, a pickle, ids outside the vocabulary, another number of tokens than the index's.
    """
    at = 0  # in tokens
    with stream:
        for sample in _samples(partial(os.pread, stream.fileno()), form, skip_tokens):
            if isinstance(sample, BadSample):
                if on_bad is None:
                    raise sample.error()
                on_bad(sample)
                sample = np.full(sample.tokens, BAD_TOKEN, np.int32)
            elif isinstance(sample, int):
                at += sample
                continue
            skipped = max(0, skip_tokens - at)
            at += len(sample)
            if len(sample) > skipped:
                yield sample[skipped:]


def _samples(read: Read, form: ShardForm, skip_tokens: int) -> Iterator[np.ndarray | BadSample | int]:
    """The samples, or what is in the place of one: together exactly the tokens that the form says.

    A number: so many tokens that lie before the wanted ones, unread.
    """
    dtype: np.dtype[Any] = np.dtype(form.dtype).newbyteorder("<")
    left, key, offset = form.tokens, "no sample", 0

    def bad(said: str, tokens: int) -> BadSample:
        return BadSample(form.name, key, said, offset, max(0, min(tokens, left)))

    try:
        for member in read_members(read):
            key, offset = f"sample {member.name.partition('.')[0]}", member.offset_bytes
            tokens = (member.size_bytes - NPY_HEADER_BYTES) // dtype.itemsize  # of a good one
            if 0 < tokens <= left and form.tokens - left + tokens <= skip_tokens:
                left -= tokens
                yield tokens
                continue
            sample: np.ndarray | BadSample
            try:
                sample = _ids_of(read, member, dtype, form.vocab_size)
                if len(sample) > left:
                    sample = bad(f"{form.tokens - left + len(sample):,} tokens came; {_said(form)}", left)
            except _BadIds as error:
                sample = bad(str(error), tokens)
            left -= len(sample) if isinstance(sample, np.ndarray) else sample.tokens
            yield sample
    except TarDamaged as error:
        key, offset = f"after {key}", error.offset_bytes
        yield bad(f"not a whole tar ({error.said}); copy it again or build the corpus again", left)
        return
    if left:
        yield bad(f"{form.tokens - left:,} tokens came; {_said(form)}", left)


def _said(form: ShardForm) -> str:
    return f"the index says {form.tokens:,}; copy it again or build the corpus again"


class _BadIds(Exception):
    """What is wrong with the ids of a sample, and what is allowed."""


def _ids_of(read: Read, member: Member, dtype: np.dtype[Any], vocab_size: int) -> np.ndarray:
    """A sample's ids (N,), read-only, checked."""
    _, _, name = member.name.partition(".")
    if name != MEMBER:
        raise _BadIds(f"no member {MEMBER} (there is: {name}); a shard made by build_corpus is allowed")
    data = read(member.size_bytes, member.start_bytes)
    if len(data) < member.size_bytes:
        raise TarDamaged(member.offset_bytes, f"it ends within {member.name}")
    header = _NPY_HEADER.match(data)
    if header is None:
        came = f"{MEMBER} begins with {data[:80]!r}"
        raise _BadIds(f"{came}; a one-dimensional .npy of unsigned integers is allowed, never a pickle")
    if _DTYPES[header[1]] != dtype:
        raise _BadIds(f"ids are {_DTYPES[header[1]].name}; the index says {dtype.name}")
    length = int(header[2])
    if length == 0 or len(data) != header.end() + length * dtype.itemsize:
        came = f"{len(data) - header.end():,} bytes of ids for {length:,} tokens"
        raise _BadIds(f"{came}; {dtype.itemsize} bytes a token and at least one token are allowed")
    ids: np.ndarray = np.frombuffer(data, dtype=dtype, offset=header.end())
    if int(ids.max()) >= vocab_size:
        raise _BadIds(f"id {int(ids.max())} came; ids below the vocabulary's {vocab_size} are allowed")
    return ids
