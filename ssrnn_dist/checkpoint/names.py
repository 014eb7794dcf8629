"""How a checkpoint's folders and files are called, and which are whole by what a listing tells. Pure but for a listing.

Imports the store's client only."""

import json
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ssrnn_dist.storage.remote import RemoteFolder

VERSION = 1
MANIFEST = "checkpoint.json"
TOKENIZER = "tokenizer.json"


def step_name(step: int) -> str:
    return f"step-{step:08d}"


def step_folder(root: Path, step: int) -> Path:
    return root / step_name(step)


def step_of(folder_name: str) -> int:
    """The step of `step-00000200`; ValueError for other names."""
    if not folder_name.startswith("step-"):
        raise ValueError(folder_name)
    return int(folder_name.removeprefix("step-"))


def steps_in(root: Path) -> list[int]:
    """The steps of the checkpoints in a folder on this node, finished or not, in any order."""
    found = []
    for path in root.glob("step-*"):
        with suppress(ValueError):  # not ours
            found.append(step_of(path.name))
    return found


def rank_file(rank: int, mark: str = "") -> str:
    """rank-00000.safetensors, or with a mark rank-00000.<mark>.safetensors."""
    return f"rank-{rank:05d}{'.' if mark else ''}{mark}.safetensors"


def by_step(sizes: Mapping[str, int]) -> dict[int, dict[str, int]]:
    """A listing of a checkpoints/ in a store (path → bytes) as step → file → bytes."""
    steps: dict[int, dict[str, int]] = {}
    for path, size_bytes in sizes.items():
        folder, _, name = path.partition("/")
        try:
            steps.setdefault(step_of(folder), {})[name] = size_bytes
        except ValueError:
            continue  # not ours
    return steps


def why_torn_there(listed: Mapping[str, int], manifest: Any) -> str | None:
    """What a checkpoint in a store lacks, by its listing and its checkpoint.json; None where it looks whole."""
    try:
        for name, expected in manifest["files"].items():
            if name not in listed:
                return f"{name} is missing"
            if listed[name] != expected["bytes"]:
                return f"{name} has {listed[name]} of {expected['bytes']} bytes"
    except (KeyError, TypeError, AttributeError):
        return f"no readable {MANIFEST}"
    return None


def warn_here(message: str) -> None:
    """Warn in this process, where nobody else is to hear of it."""
    warnings.warn(message, stacklevel=3)


def is_torn(shown: str, lack: str) -> str:
    """What is told of a checkpoint that is not whole."""
    return f"checkpoint {shown} is torn ({lack})"


def is_skipped(torn: str) -> str:
    """What is told of it where another one serves."""
    return f"{torn} and is skipped"


def newest_at(remote: RemoteFolder, hear: Callable[[str], None] = lambda torn: warn_here(is_skipped(torn))) -> int:
    """The step of the newest whole checkpoint below a URL, -1 where there is none; hear is told of torn ones.

    Hashes are compared when a file is fetched. Without checkpoint.json there is none: its upload was cut."""
    steps = by_step(remote.sizes())
    for step in sorted(steps, reverse=True):
        if MANIFEST not in steps[step]:
            continue
        where = remote.below(step_name(step))
        try:
            manifest = json.loads(where.read(MANIFEST))
        except json.JSONDecodeError:
            manifest = None
        lack = why_torn_there(steps[step], manifest)
        if lack is None:
            return step
        hear(is_torn(where.shown, lack))
    return -1
