"""For the launch tests: the command as a subprocess, its processes, tiny configs, and a real Ray head."""

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-c", "from ssrnn_launch.cli.main import run; run()"]
PYTHONPATH = os.pathsep.join(str(REPOSITORY / folder) for folder in ("", "kernels", "launch", "data_pipelines"))
START_SECONDS = 150.0  # Ray and two workers on two busy cores
RAY_ON_LOOPBACK = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_agent_register_timeout_ms": "120000",  # a busy machine takes longer than Ray's 30 s to import its agent
    "RAY_worker_niceness": "0",  # a worker is as important as the test beside it
}


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "SSRNN_"))}
    return {**kept, "PYTHONPATH": PYTHONPATH, "PYTHONWARNINGS": "ignore", "COLUMNS": "100", **more}


def ssrnn(*arguments: object, cwd: Path, timeout: float = 200, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    words = [*COMMAND, *map(str, arguments)]
    given = {"env": environment(), "capture_output": True, "text": True, "timeout": timeout, **more}
    return subprocess.run(words, cwd=cwd, check=False, **given)


@dataclass
class Running:
    """A command that runs in a session of its own, as at a terminal, with its output in a file."""

    process: subprocess.Popen[bytes]
    output: Path

    def text(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, words: str, seconds: float = START_SECONDS, *, times: int = 1) -> None:
        until = time.monotonic() + seconds
        while self.text().count(words) < times:
            assert self.process.poll() is None, f"ended before {words!r}:\n{self.text()}"
            assert time.monotonic() < until, f"no {words!r} within {seconds} s:\n{self.text()}"
            time.sleep(0.1)

    def tree(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def workers(self) -> list[psutil.Process]:
        return [each for each in self.tree() if "TrainWorker" in title(each)]

    def signal_group(self, number: int) -> None:
        """As a terminal does at Ctrl-C."""
        os.killpg(self.process.pid, number)


def title(process: psutil.Process) -> str:
    """The name that a process gives itself; empty where it has just ended."""
    try:
        return (process.cmdline() or [""])[0]
    except psutil.NoSuchProcess:
        return ""


def still_alive(processes: list[psutil.Process], within_seconds: float) -> list[psutil.Process]:
    """Those of the processes that have not ended in time."""
    until = time.monotonic() + within_seconds
    alive = processes
    while alive and time.monotonic() < until:
        time.sleep(0.1)
        alive = [each for each in alive if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    return alive


def beyond_loopback(pids: set[int]) -> list[Any]:
    """Sockets of these processes that listen on anything but the loopback."""
    listening = [each for each in psutil.net_connections("inet") if each.status == "LISTEN" and each.pid in pids]
    assert listening, "these processes listen nowhere: the test looks at the wrong ones"
    return [each for each in listening if not each.laddr.ip.removeprefix("::ffff:").startswith(("127.", "::1"))]


def tiny(corpus: Path, **changes: Any) -> dict[str, Any]:
    """A config that trains in seconds; changes are `section__key=value`."""
    values: dict[str, Any] = {
        "name": "tiny",
        "data": {"index": str(corpus)},
        "model": {"d_model": 16, "n_layers": 1},
        "train": {"steps": 30, "tokens_per_batch": 128, "sequence_length": 16, "log_every_steps": 2},
        "scale": {"workers": 2},
        "checkpoint": {"every_steps": 10},
        "cost": {"usd_per_worker_hour": 1.0},
        "tracking": {"report": False},
    }
    for path, value in changes.items():
        *above, key = path.split("__")
        section = values
        for name in above:
            section = section.setdefault(name, {})
        section[key] = value
    return values


def write_config(folder: Path, values: dict[str, Any], name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(values))
    return path


def only_json(text: str) -> dict[str, Any]:
    """The one JSON object that stdout must be."""
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


@dataclass(frozen=True)
class Head:
    """A Ray head of this test's own, on loopback, with a token."""

    address: str
    token: str
    mark: str
    folder: Path

    def environment(self, **more: str) -> dict[str, str]:
        return environment(**{"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token, **more})


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def wait_for_head(head: Head, process: subprocess.Popen[bytes], folder: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        asked = ssrnn("jobs", "list", "--address", head.address, "--json", cwd=folder, env=head.environment())
        if asked.returncode == 0:
            return
        assert process.poll() is None, (folder / "head.out").read_text()
        assert time.monotonic() < until, asked.stderr
        time.sleep(1)
