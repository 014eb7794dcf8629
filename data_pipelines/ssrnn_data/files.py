"""Files that are there whole, and on the disk, or not at all, whatever kills the process or the machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def open_unfinished(path: Path) -> BinaryIO:
    """A file beside the path, for this process alone, until finish() puts it there."""
    return path.with_name(f"{path.name}.{os.getpid()}").open("wb")


def finish(out: BinaryIO, path: Path) -> None:
    """Brings an unfinished file to the disk and to its place, and closes it."""
    out.flush()
    os.fsync(out.fileno())
    out.close()
    Path(out.name).rename(path)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that is there when the block ends without an error; after one, nothing is."""
    with open_unfinished(path) as out:
        try:
            yield out
            finish(out, path)
        except BaseException:
            Path(out.name).unlink(missing_ok=True)
            raise
