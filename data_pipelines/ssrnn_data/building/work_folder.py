"""What a build keeps while it runs, so that a killed one goes on: the job's description, finished parts, their results.

A part's result is written last and whole: where it is, the part is done. Effects only; no decisions.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssrnn_data.files import whole_file

_JOB, _PARTS, _SHARDS, _TOKENIZER = "job.json", "parts", "shards", "tokenizer.json"


@dataclass(frozen=True)
class WorkFolder:
    """A folder that only one build uses."""

    path: Path

    @property
    def parts(self) -> Path:
        """Where the units' samples and runs lie."""
        return self.path / _PARTS

    @property
    def shards(self) -> Path:
        """Where finished shards wait for the index."""
        return self.path / _SHARDS

    @property
    def tokenizer(self) -> Path:
        """The tokenizer, once it is chosen: for the workers, and for a build that goes on."""
        return self.path / _TOKENIZER

    def begin(self, job: dict[str, Any]) -> None:
        """Makes the folders and writes down what the workers must know."""
        self.parts.mkdir(exist_ok=True)
        self.shards.mkdir(exist_ok=True)
        write_json(self.path / _JOB, job)

    def job(self) -> dict[str, Any]:
        """What begin() wrote."""
        job: dict[str, Any] = json.loads((self.path / _JOB).read_bytes())
        return job

    def result(self, part: str) -> dict[str, Any] | None:
        """What a finished part told; None where it isn't finished."""
        try:
            result: dict[str, Any] = json.loads((self.parts / f"{part}.json").read_bytes())
        except FileNotFoundError:
            return None
        return result

    def finish(self, part: str, result: dict[str, Any]) -> None:
        """Marks a part as done; its files must be on the disk."""
        write_json(self.parts / f"{part}.json", result)

    def has_parts(self) -> bool:
        """Whether anything is done that would be lost with the folder."""
        return self.parts.is_dir() and any(self.parts.glob("*.json"))


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Writes a whole file."""
    with whole_file(path) as out:
        out.write(json.dumps(value).encode("ascii"))
