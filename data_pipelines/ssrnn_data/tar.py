"""Where the members of a tar begin and end, header after header; a member's data is never touched.

Pure but for the `read` that is given. For the tars of a corpus; foreign ones that are sources go through tarfile.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

BLOCK_BYTES = 512
_END = bytes(BLOCK_BYTES)
_CHECKSUM = slice(148, 156)
_REGULAR = (0x30, 0x00)  # the two type flags of a file
_SPACES = 8 * 0x20

Read = Callable[
    [int, int], bytes
]  # (bytes wanted, offset) → at most so many, fewer at the end: os.pread without its file


class TarDamaged(Exception):
    """What is wrong, and from which byte on nothing can be told."""

    def __init__(self, offset_bytes: int, said: str) -> None:
        super().__init__(said)
        self.offset_bytes, self.said = offset_bytes, said


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar: its header begins at offset_bytes, its data at start_bytes."""

    name: str
    offset_bytes: int
    start_bytes: int
    size_bytes: int


def read_members(read: Read) -> Iterator[Member]:
    """The files in stored order, up to the end mark; TarDamaged where a header is none or the end mark is missing."""
    offset = 0
    while (header := read(BLOCK_BYTES, offset)) != _END:
        member = _member(header, offset)
        if header[156] in _REGULAR:
            yield member
        offset = member.start_bytes + -(-member.size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def _member(header: bytes, offset: int) -> Member:
    if len(header) < BLOCK_BYTES:
        raise TarDamaged(offset, f"it ends after {offset + len(header):,} bytes, without an end mark")
    try:
        wanted, size = _octal(header[_CHECKSUM]), _octal(header[124:136])
    except ValueError:
        raise TarDamaged(offset, "no header of a member begins here") from None
    if wanted != sum(header) - sum(header[_CHECKSUM]) + _SPACES:
        raise TarDamaged(offset, "the header that begins here has another checksum")
    name = header[:100].partition(b"\0")[0].decode("utf-8", "replace")
    return Member(name, offset, offset + BLOCK_BYTES, size)


def _octal(field: bytes) -> int:
    return int(field.strip(b"\0 "), 8)
