"""What runs on every node: what it has. Gathers facts and judges nothing.

Travels to the nodes by value, so that it runs where our code is missing or another: imports the standard library and,
inside, psutil; never ssrnn."""

import csv
import hashlib
import os
import platform
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata, util
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "deepspeed", "ray", "triton", "numpy", "safetensors", "tokenizers", "webdataset", "mlflow")
NCCL_PACKAGES = ("nvidia-nccl-cu13", "nvidia-nccl-cu12")
OURS = ("ssrnn_data", "ssrnn_dist", "ssrnn_kernels", "ssrnn_launch")
GPU_FIELDS = ("index", "name", "driver_version", "memory.used", "memory.total", "ecc.errors.uncorrected.volatile.total")
NVIDIA_SMI_SECONDS = 20


class Agent:
    """An actor on one node, which calls what it is given."""

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


def now() -> float:
    return time.time()


def node_facts(secrets: Sequence[str], folders: Mapping[str, str], asks_gpus: bool) -> dict[str, Any]:
    """The fields of facts.NodeFacts. folders: by what they are for; secrets: variables whose presence is asked."""
    import psutil

    memory = psutil.virtual_memory()
    gpus, gpu_error = _gpus() if asks_gpus else ([], None)
    interfaces = {
        name: [each.address for each in addresses if each.family.name == "AF_INET"]
        for name, addresses in psutil.net_if_addrs().items()
    }
    return {
        "versions": _versions(),
        "code": code_hash(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_free_bytes": min(memory.available, _left_to_container()),
        "shm_bytes": _total_bytes("/dev/shm"),
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "free_bytes": {what: _free_bytes(folder) for what, folder in folders.items()},
        "interfaces": interfaces,
        "missing_secrets": [name for name in secrets if not os.environ.get(name)],
        "gpus": gpus,
        "gpu_error": gpu_error,
    }


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        found[name] = _version(name)
    found["nccl"] = next(filter(None, map(_version, NCCL_PACKAGES)), None)
    return found


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def code_hash() -> str | None:
    """Of all our packages as Python would import them here; None where one is missing."""
    digest = hashlib.sha256()
    for package in OURS:
        spec = util.find_spec(package)
        if spec is None:
            return None
        for place in sorted(spec.submodule_search_locations or ()):
            for path in sorted(Path(place).rglob("*")):
                name = path.relative_to(place).as_posix()
                if path.suffix in (".py", ".j2") and "__pycache__" not in name:
                    digest.update(f"{package}/{name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _left_to_container() -> float:
    """What a container's limit leaves, where there is one."""
    try:
        limit, used = (int(Path("/sys/fs/cgroup", name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no such limit, or "max"
        return float("inf")
    return float(limit - used)


def _total_bytes(folder: str) -> int | None:
    try:
        return shutil.disk_usage(folder).total
    except OSError:
        return None


def _free_bytes(folder: str) -> int | None:
    """Of the disk that a folder is on or would be on."""
    for place in (Path(folder), *Path(folder).parents):
        try:
            return shutil.disk_usage(place).free
        except OSError:
            continue
    return None


def _gpus() -> tuple[list[dict[str, Any]], str | None]:
    """By nvidia-smi, which every driver brings; a list, or why there is none."""
    try:
        rows = _nvidia_smi(f"--query-gpu=uuid,{','.join(GPU_FIELDS)}")
    except (OSError, subprocess.SubprocessError) as error:
        return [], f"nvidia-smi: {' '.join(str(error).split())[:120]}"
    names = ("uuid", *GPU_FIELDS)
    gpus: list[dict[str, Any]] = [dict(zip(names, row, strict=False)) for row in rows]
    for gpu in gpus:
        gpu["processes"], gpu["slowed"] = [], None
    for uuid, pid in _asked("--query-compute-apps=gpu_uuid,pid"):
        for gpu in gpus:
            if gpu["uuid"] == uuid:
                gpu["processes"].append(pid)
    for gpu, (reasons,) in zip(gpus, _asked("--query-gpu=clocks_throttle_reasons.active"), strict=False):
        gpu["slowed"] = reasons
    return gpus, None


def _asked(query: str) -> list[list[str]]:
    """What not every driver tells."""
    try:
        return _nvidia_smi(query)
    except (OSError, subprocess.SubprocessError):
        return []


def _nvidia_smi(query: str) -> list[list[str]]:
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=NVIDIA_SMI_SECONDS)
    return [[cell.strip() for cell in row] for row in csv.reader(done.stdout.splitlines()) if row]


def told(error: BaseException) -> str:
    """An error in a line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:160]
