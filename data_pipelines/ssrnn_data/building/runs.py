"""Runs: encoded documents in the order of their keys, on disk, as many in one as memory may hold.

A run is two files: `.docs.npy`, a record a document, sorted by split and key, and `.ids`, their ids in that order.
"""

from bisect import bisect_left
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ssrnn_data.files import finish, open_unfinished, whole_file

RUN_TOKENS = 8 << 20
DOCUMENT = np.dtype(
    [
        ("split", "u1"),
        ("key", "<u8"),
        ("digest", "<u8", (4,)),
        ("file", "<u4"),
        ("number", "<u8"),
        ("start", "<u8"),  # in ids
        ("tokens", "<u8"),  # without <|endoftext|>
    ]
)


def document_order(documents: np.ndarray) -> np.ndarray:
    """The order (N,) of records: by split and key, equal documents one after another as the sources have them."""
    digest = (documents["digest"][:, place] for place in range(4))
    names = ("number", "file"), ("key", "split")
    last, first = ([documents[name] for name in each] for each in names)
    return np.lexsort((*last, *digest, *first))


class RunWriter:
    """Writes the runs of one unit. open_document, add, end_document for each; close at the end, which says how many."""

    def __init__(self, stem: Path, dtype: str, run_tokens: int = RUN_TOKENS) -> None:
        self._stem, self._dtype, self._run_tokens = stem, np.dtype(dtype).newbyteorder("<"), run_tokens
        self._documents: list[tuple[Any, ...]] = []
        self._ids: list[np.ndarray] = []
        self._tokens = 0
        self._open: tuple[Any, ...] = ()
        self._pieces: list[np.ndarray] = []
        self._open_tokens = 0
        self._long: BinaryIO | None = None  # the file of a document that is a run of its own
        self.runs: list[int] = []  # documents in each

    def open_document(self, record: tuple[Any, ...]) -> None:
        """record: (split, key, digest as four numbers, file, number)."""
        self._open, self._pieces, self._open_tokens = record, [], 0

    def add(self, ids: np.ndarray) -> None:
        """Some ids (N,) of the open document."""
        self._open_tokens += len(ids)
        if self._long is None and self._open_tokens <= self._run_tokens:
            self._pieces.append(ids.astype(self._dtype))
            return
        if self._long is None:
            self._flush()
            self._long = open_unfinished(self._files()[1])
            for piece in self._pieces:
                self._long.write(piece.tobytes())
            self._pieces = []
        self._long.write(ids.astype(self._dtype).tobytes())

    def end_document(self) -> None:
        """The open document is whole."""
        record = (*self._open, self._tokens, self._open_tokens)
        if self._long is not None:
            finish(self._long, self._files()[1])
            self._long = None
            self._write_documents(np.array([(*self._open, 0, self._open_tokens)], DOCUMENT))
            return
        self._documents.append(record)
        self._ids += self._pieces
        self._tokens += self._open_tokens
        if self._tokens >= self._run_tokens:
            self._flush()

    def close(self) -> list[int]:
        """Writes what is left; the documents in each run."""
        self._flush()
        return self.runs

    def abandon(self) -> None:
        """Closes the open file, if any."""
        if self._long is not None:
            self._long.close()

    def _flush(self) -> None:
        if not self._documents:
            return
        documents = np.array(self._documents, DOCUMENT)
        ids = np.concatenate(self._ids) if self._ids else np.empty(0, self._dtype)
        self._documents, self._ids, self._tokens = [], [], 0
        order = document_order(documents)
        with whole_file(self._files()[1]) as out:
            for place in order:
                start = int(documents["start"][place])
                out.write(ids[start : start + int(documents["tokens"][place])].data)
        documents = documents[order]
        documents["start"] = np.concatenate([[0], np.cumsum(documents["tokens"])[:-1]])
        self._write_documents(documents)

    def _files(self) -> tuple[Path, Path]:
        return run_files(self._stem, len(self.runs))

    def _write_documents(self, documents: np.ndarray) -> None:
        with whole_file(self._files()[0]) as out:
            np.save(out, documents)
        self.runs.append(len(documents))


def run_files(stem: Path, run: int) -> tuple[Path, Path]:
    """The records and the ids of a unit's run."""
    return Path(f"{stem}.{run:03d}.docs.npy"), Path(f"{stem}.{run:03d}.ids")


class RunReader:
    """A run, mapped: reading a few documents touches little of it."""

    def __init__(self, stem: Path, run: int, dtype: str) -> None:
        documents, ids = run_files(stem, run)
        self.documents = np.load(documents, mmap_mode="r")
        self._ids = np.memmap(ids, np.dtype(dtype).newbyteorder("<"), "r") if ids.stat().st_size else np.empty(0, dtype)

    def between(self, split: int, low: int, high: int) -> np.ndarray:
        """The records of a split with low <= key < high (which may be 2^64)."""
        start, stop = (bisect_left(range(len(self.documents)), (split, key), key=self._at) for key in (low, high))
        return self.documents[start:stop]

    def ids(self, document: np.ndarray) -> np.ndarray:
        """The ids (N,) of a record of this run."""
        start = int(document["start"])
        return self._ids[start : start + int(document["tokens"])]

    def _at(self, place: int) -> tuple[int, int]:
        document = self.documents[place]
        return int(document["split"]), int(document["key"])
