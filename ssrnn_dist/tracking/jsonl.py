"""Append-only JSON Lines that survive kill -9: a torn line is skipped by the reader and closed by the next writer.

Imports the standard library only; strict JSON, so NaN and the infinities are written as text."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class JsonLines:
    """A JSON Lines file open for appending; each row reaches the operating system before append returns."""

    def __init__(self, path: Path) -> None:
        """Raises OSError where the file cannot be opened."""
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = _ends_inside_a_line(path)
        self._file = path.open("a", encoding="utf-8")
        if torn:
            self._file.write("\n")

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row. Raises OSError, with the file's name, on a full disk; what stands stays readable."""
        try:
            self._file.write(json.dumps(_encoded(row), ensure_ascii=False, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._file.name) from error

    def stands(self) -> bool:
        """Would a reader find what is appended?  Not where the file, or a folder above it, was removed or moved."""
        try:
            Path(self._file.name).stat()
            return os.fstat(self._file.fileno()).st_nlink > 0  # no inodes: a store mounted as a folder makes them up
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # a file system that does not answer: nobody can tell
            return True

    def close(self) -> None:
        self._file.close()


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The whole rows of the file, oldest first; torn ones are left out. No file: no rows."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    rows = (parsed(line) for line in text.split("\n"))
    return [row for row in rows if row is not None]


def parsed(line: str) -> dict[str, Any] | None:
    """A line's row; None where it is torn, or none of ours."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return _decoded(row) if isinstance(row, dict) else None


def _encoded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _encoded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_encoded(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _decoded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _decoded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_decoded(each) for each in value]
    return NON_FINITE.get(value, value) if isinstance(value, str) else value


def _ends_inside_a_line(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(-1, 2)
            return file.read(1) != b"\n"
    except OSError:  # no file yet, or an empty one
        return False
