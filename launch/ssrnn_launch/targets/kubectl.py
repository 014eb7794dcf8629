"""kubectl, where the user has it: the cluster's own CRD, and the way to apply a manifest.

Starts kubectl and nothing else."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ssrnn_launch.problems import LaunchFailed
from ssrnn_launch.targets.schemas import schema_of_crd

SECONDS = 60.0


def found() -> bool:
    return shutil.which("kubectl") is not None


def cluster_schema() -> dict[str, Any]:
    """The RayJob schema that the cluster itself goes by.  LaunchFailed: no cluster, or KubeRay is not installed."""
    answer = _kubectl("get", "crd", "rayjobs.ray.io", "-o", "json")
    try:
        crd = json.loads(answer)
    except ValueError:
        crd = {}
    return schema_of_crd(crd if isinstance(crd, dict) else {}, "kubectl get crd rayjobs.ray.io")


def apply(path: Path) -> None:
    """On the server's side: what kubectl keeps for itself otherwise would not hold the wheel."""
    _kubectl(*apply_words(str(path)))


def apply_words(path: str) -> list[str]:
    return ["apply", "--server-side", "-f", path]


def _kubectl(*words: str) -> str:
    command = f"kubectl {' '.join(words)}"
    try:
        ended = subprocess.run(["kubectl", *words], capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise LaunchFailed(f"`{command}` did not answer within {SECONDS:.0f} s") from None
    if ended.returncode:
        said = " ".join((ended.stderr.strip() or ended.stdout.strip()).splitlines()[-1:])
        raise LaunchFailed(f"`{command}` failed: {said[:200]}")
    return ended.stdout
