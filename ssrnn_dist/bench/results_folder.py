"""A folder of results: a JSON file a training, refused where it was made with other settings.

Reads and writes one folder; imports no model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ssrnn_dist.files import write_json_atomic
from ssrnn_dist.problems import user_error


class Named(Protocol):
    @property
    def name(self) -> str: ...


Trial = TypeVar("Trial", bound=Named)


def load_folder(
    folder: Path,
    trial_of: Callable[[dict[str, Any]], Trial],
    settings_of: Callable[[Trial], dict[str, Any] | None],
) -> dict[Trial, dict[str, Any]]:
    """Every result by its trial.  settings_of: what a trial would be made with now; None: it is not the recipe's.

    UserError names a file that was made with other settings."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        values = json.loads(path.read_text(encoding="utf-8"))
        trial = trial_of(values)
        settings = settings_of(trial)
        if settings is not None and values["settings"] != settings:
            raise user_error(str(path), "made with other settings", "another --out, or the recipe it was made with")
        found[trial] = values
    return found


def save_result(folder: Path, trial: Named, values: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json_atomic(folder / f"{trial.name}.json", values)
