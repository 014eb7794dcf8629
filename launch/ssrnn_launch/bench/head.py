"""A Ray head of the benchmark's own on 127.0.0.1, with a token; ended by the pids of its mark.

Run as a program (ADDRESS) it waits until the head takes jobs. Imports ray only in that program."""

import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ssrnn_launch.bench.workshop import background, environment, wait_until
from ssrnn_launch.guard import MARK_VARIABLE, end_marked, guarded
from ssrnn_launch.plan.processes import free_port
from ssrnn_launch.ray_session import COMMON_ENVIRONMENT

READY_SECONDS = 120.0


@dataclass(frozen=True)
class Head:
    """env: what a command needs to reach it."""

    address: str
    env: dict[str, str]


@contextmanager
def running_head(cpus: int) -> Iterator[Head]:
    """`ray start --head`, once it takes jobs."""
    folder = Path(tempfile.mkdtemp(prefix="ssrnn-bench-head-", dir="/tmp"))  # short: Ray's sockets are in it
    mark = secrets.token_hex(16)
    env = environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(16))
    address = f"http://127.0.0.1:{free_port()}"
    words = f"""start --head --block --disable-usage-stats --node-ip-address=127.0.0.1 --port={free_port()}
        --dashboard-host=127.0.0.1 --dashboard-port={address.rpartition(":")[2]} --num-cpus={cpus}
        --dashboard-agent-listen-port={free_port()} --object-store-memory=120000000 --temp-dir={folder}""".split()
    ray = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", *words]
    log = folder / "head.out"
    try:
        with (
            guarded(mark, folder),
            background(ray, {**env, **COMMON_ENVIRONMENT, MARK_VARIABLE: mark}, log) as head,
            background([sys.executable, "-m", "ssrnn_launch.bench.head", address], env, folder / "ready.out") as ready,
        ):
            wait_until("a Ray head", lambda: ready.poll() == 0, ready, folder / "ready.out")
            assert head.poll() is None
            yield Head(address, env)
    finally:
        end_marked(mark, folder)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for_jobs(address: str) -> None:
    """Send a job that does nothing until the head has done it."""
    from ray.job_submission import JobSubmissionClient

    until = time.monotonic() + READY_SECONDS
    job = None
    while time.monotonic() < until:
        try:
            client = JobSubmissionClient(address)
            job = job or client.submit_job(entrypoint="true")
            if client.get_job_status(job).is_terminal():
                return
        except (RuntimeError, OSError):
            pass  # not yet
        time.sleep(0.5)
    sys.exit(f"no job was done within {READY_SECONDS:.0f} s")


if __name__ == "__main__":
    wait_for_jobs(sys.argv[1])
