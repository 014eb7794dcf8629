"""What a run is, as text for its tracker: the flattened config and where, with what and from which commit it runs.

Imports the config only; asks git, /proc and the installed packages' metadata, and torch where it is loaded already."""

import getpass
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from ssrnn_dist.config.model import FeedbackConfig
from ssrnn_dist.config.run import RunConfig

LONGEST_PARAM = 500  # characters; MLflow's own limit was 500 for years and is 6000 today
PACKAGES = ("torch", "deepspeed", "ray", "mlflow", "ssrnn-dist")
GIT_TIMEOUT_SECONDS = 5


def params_of(config: RunConfig) -> dict[str, str]:
    """The resolved config as `section.key` → text; passwords in addresses are left out, long values are cut."""
    flat = flattened(config.model_dump(mode="json"))
    return {key: shortened(without_password(_text(value))) for key, value in flat.items()}


def flattened(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested mappings as one, the keys joined by dots; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flattened(value, f"{above}{key}."))
        else:
            flat[f"{above}{key}"] = value
    return flat


def _text(value: Any) -> str:
    return "null" if value is None else str(value)


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST_PARAM else text[: LONGEST_PARAM - 1] + "…"


def without_password(text: str) -> str:
    """`https://user:secret@host` becomes `https://***@host`, wherever in the text it stands."""
    return re.sub(r"(?<=://)[^/@\s]+@", "***@", text)


def tags_of(config: RunConfig) -> dict[str, str]:
    """Tags to search runs by; what cannot be found out is left out. The config's own come last."""
    commit, user = git_commit(Path(__file__)), user_name()
    tags = {
        "project": project_of(config),
        "cluster": without_password(config.cluster.address or "local"),
        "device": device(config),
        "workers": workers_range(config.scale.fewest_workers, config.scale.most_workers),
        "precision": config.train.precision,
        "zero_stage": str(config.scale.zero_stage),
        "cell": config.model.cell,
        "market": config.cost.market if config.cost.price_file else None,
        "user": user,
        "mlflow.user": user,
        "mlflow.source.name": "ssrnn",
        "feedback": feedback_rule(config.feedback),
        "git_commit": commit,
        "mlflow.source.git.commit": commit.removesuffix("-dirty") if commit else None,
        "python": platform.python_version(),
        **{f"version.{name}": _installed_version(name) for name in PACKAGES},
        "hardware.cpu": cpu_model(),
        "hardware.cpu_cores": str(os.cpu_count()) if os.cpu_count() else None,
        "hardware.gpu": gpu_name(),
        **{key: without_password(value) for key, value in config.tracking.tags.items()},
    }
    return {key: value for key, value in tags.items() if value}


def project_of(config: RunConfig) -> str:
    """What `ssrnn cost --by project` sums the run by."""
    return config.tracking.project or config.tracking.experiment


def device(config: RunConfig) -> str:
    """`cpu`, or the GPU's name as far as it is known here."""
    if not config.scale.gpus_per_worker:
        return "cpu"
    return config.scale.accelerator_type or gpu_name() or "gpu"


def workers_range(fewest: int, most: int) -> str:
    return str(fewest) if fewest == most else f"{fewest}-{most}"


def user_name() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return None


def feedback_rule(feedback: FeedbackConfig) -> str:
    """The learning rule in a word or three: `selective, 1 sweep`, `stationary (linspace)`, `exact`."""
    decay = feedback.decay if feedback.decay is None or isinstance(feedback.decay, str) else "given numbers"
    rule = f"{feedback.kind} ({decay})" if decay else feedback.kind
    if not feedback.refinements:
        return rule
    return f"{rule}, {feedback.refinements} {'sweep' if feedback.refinements == 1 else 'sweeps'}"


def git_commit(source: Path) -> str | None:
    """The commit that a source file is of, with `-dirty` where files differ from it; None outside a checkout."""
    tracked = _git(source.parent, "ls-files", "--error-unmatch", source.name)
    return _git(source.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") if tracked else None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=GIT_TIMEOUT_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _installed_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def cpu_model() -> str | None:
    """The processor's name as Linux gives it, else as Python does."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1) if found else platform.processor() or platform.machine() or None


def gpu_name() -> str | None:
    """The name of the first GPU, where torch is loaded and sees one; torch is never loaded for it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name(0))
