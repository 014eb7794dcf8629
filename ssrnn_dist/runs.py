"""A run's folder: what stands there, and whether a config begins, resumes, or only reports it.

Decisions are pure; the effects are one folder made and one config.yaml written. Imports no torch."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ssrnn_dist.checkpoint.names import MANIFEST, newest_at, steps_in
from ssrnn_dist.config import RunConfig, read_yaml, to_yaml
from ssrnn_dist.config.load import check_config
from ssrnn_dist.files import write_text_atomic
from ssrnn_dist.problems import Problem, UserError, user_error
from ssrnn_dist.storage.remote import RemoteFolder
from ssrnn_dist.tracking.history import HISTORY

# What a run may not change while it goes on: the mathematics. Its scale, prices and tracking may.
FIXED_SECTIONS = ("model", "feedback", "data", "train")
FREE_KEYS = {
    "data.index",
    "data.build",
    "data.mixture.index",
    "data.mixture.name",
    "data.allow_new_weights",
    "data.cache_folder",
    "data.cache_gb",
    "data.on_bad_sample",
    "data.max_bad_fraction",
    "train.micro_batch_lanes",
    "train.validate_every_steps",
    "train.log_every_steps",
}
WEIGHTS = "data.mixture.weight"  # free where data.allow_new_weights says so
TRAINED = (HISTORY, "checkpoints/step-")


@dataclass(frozen=True)
class RunState:
    """What stands in a run's folder."""

    state: Literal["new", "resume", "complete"]
    step: int = 0
    summary: dict[str, Any] | None = None


def run_state(config: RunConfig) -> RunState:
    """From the folder's checkpoints and summary; reads, never writes."""
    summary = _summary(config.folder)
    if summary is not None and summary.get("steps") == config.train.steps and not summary.get("stopped"):
        return RunState("complete", config.train.steps, summary)
    steps = _checkpoint_steps(config)
    return RunState("resume", max(steps), summary) if steps else RunState("new")


def _checkpoint_steps(config: RunConfig) -> list[int]:
    """In the run's folder, or where run_root is a URL, the newest there."""
    if config.remote_folder is None:
        return steps_in(config.folder / "checkpoints")
    newest = newest_at(RemoteFolder(config.remote_folder).below("checkpoints"))
    return [newest] if newest >= 0 else []


def _summary(folder: Path) -> dict[str, Any] | None:
    try:
        summary = json.loads((folder / "summary.json").read_text())
    except (OSError, ValueError):
        return None
    return summary if isinstance(summary, dict) else None


def prepare_run(config: RunConfig, fresh: bool = False) -> RunConfig:
    """Make the run's folder ready and write config.yaml; with fresh, under the first free name.

    Raises UserError where the folder holds a run that this config would change midway, or cannot be written."""
    if fresh:
        config = config.model_copy(update={"name": _free_name(config)})
    folder = config.folder
    stored = folder / "config.yaml"
    if not stored.is_file():
        if folder.exists() and any(folder.iterdir()) and not _has_checkpoints(folder):
            raise user_error(str(folder), "a folder that holds no run", "an empty or a new name is wanted")
    elif has_trained(names_in(folder)) or has_trained(_names_at(config.remote_folder)):
        check_unchanged(check_config(read_yaml(stored), where=str(stored)), config, str(folder))
    try:
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        write_text_atomic(stored, to_yaml(config))
    except OSError as error:
        raise user_error(
            str(folder), f"cannot be written ({error.strerror})", "a writable run_root is wanted"
        ) from None
    return config


def _has_checkpoints(folder: Path) -> bool:
    """Of ours: what a run writes on whose folder was removed meanwhile, or what was copied by hand."""
    return any((folder / "checkpoints").glob(f"step-*/{MANIFEST}"))


def has_trained(names: Iterable[str]) -> bool:
    """Did a run come to its first step, by the paths in its folder?  Before that its config may still be mended."""
    return any(name.startswith(TRAINED) for name in names)


def names_in(folder: Path) -> list[str]:
    """What stands in a run's folder on this node, and in its checkpoints/. OSError: there is no such folder."""
    return [path.relative_to(folder).as_posix() for path in (*folder.iterdir(), *folder.glob("checkpoints/*"))]


def check_unchanged(was: RunConfig, now: RunConfig, folder: str) -> None:
    """UserError for each key that a resumed run may not change but did. folder: the run's, for the message."""
    changes = changed_keys(was, now)
    if changes:
        came = [(key, f"{new!r} now, {old!r} in {folder}/config.yaml") for key, old, new in changes]
        raise UserError(*(Problem(key, told, _way_out(key, folder)) for key, told in came))


def _way_out(key: str, folder: str) -> str:
    allows = "data.allow_new_weights: true counts by them from here on, or " if _is_one_of(key, {WEIGHTS}) else ""
    return f"{allows}go on with the old values, or start over beside it with --fresh ({folder} is kept)"


def _free_name(config: RunConfig) -> str:
    names = [config.name, *(f"{config.name}-{number}" for number in range(2, 10_000))]
    return next(name for name in names if _is_free(config.model_copy(update={"name": name})))


def _is_free(config: RunConfig) -> bool:
    return not config.folder.exists() and not _names_at(config.remote_folder)


def _names_at(url: str | None) -> list[str]:
    """What stands below the URL of a run's folder, where it has one."""
    return [] if url is None else list(RemoteFolder(url).sizes())


def changed_keys(was: RunConfig, now: RunConfig) -> list[tuple[str, Any, Any]]:
    """What a resumed run may not change but did: key, old value, new value."""
    old, new = _flat(was.model_dump(mode="json")), _flat(now.model_dump(mode="json"))
    free = FREE_KEYS | {WEIGHTS} if now.data.allow_new_weights else FREE_KEYS
    return [
        (key, old.get(key), new.get(key))
        for key in sorted(old.keys() | new.keys())
        if key.split(".")[0] in FIXED_SECTIONS and not _is_one_of(key, free) and old.get(key) != new.get(key)
    ]


def _is_one_of(key: str, free: set[str]) -> bool:
    """Is it one of the free keys, or below one? The numbers of a list's entries don't count."""
    plain = re.sub(r"\.\d+(?=\.)", "", key)
    return any(plain == each or plain.startswith(f"{each}.") for each in free)


def _flat(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Nested keys joined by dots, those of a list's mappings too; other lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{above}{key}"
        if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
            value = {str(number): each for number, each in enumerate(value)}
        flat |= _flat(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return flat
