"""Files that are whole or absent: written beside their place, synced to disk, then renamed into it.

Imports the standard library only."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_bytes_atomic(path: Path, data: bytes | memoryview) -> None:
    """Replace path by data, or leave it untouched.

    OSError (a full disk, say) names path and leaves no temporary file behind."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise
    _sync_folder(path.parent)


def write_text_atomic(path: Path, text: str) -> None:
    """write_bytes_atomic with the text's UTF-8; a lone surrogate becomes '?'."""
    write_bytes_atomic(path, text.encode("utf-8", errors="replace"))


def write_json_atomic(path: Path, values: Mapping[str, Any]) -> None:
    """Write a mapping as strict JSON that people can read; NaN and infinities become null, as JSON has none."""
    write_text_atomic(path, json_text(values))


def json_text(values: Mapping[str, Any]) -> str:
    """Strict JSON that people can read, with a line end."""
    return json.dumps(without_non_finite(values), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def without_non_finite(value: Any) -> Any:
    """A copy of a JSON-able value in which every NaN and infinity is None."""
    if isinstance(value, Mapping):
        return {key: without_non_finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_non_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _sync_folder(folder: Path) -> None:
    """The rename itself must reach the disk; file systems that cannot sync a folder are left alone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
