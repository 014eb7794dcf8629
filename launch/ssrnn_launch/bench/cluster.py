"""A cluster of several Ray nodes on this machine's loopback, for the benchmark: started, changed, ended by pids.

Talks to cluster_keeper.py; imports no ray."""

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ssrnn_launch.bench.workshop import environment
from ssrnn_launch.guard import MARK_VARIABLE, end_marked, guarded
from ssrnn_launch.problems import LaunchFailed
from ssrnn_launch.ray_session import COMMON_ENVIRONMENT


@dataclass(frozen=True)
class ManyNodes:
    """The cluster: a head without CPUs, and nodes of one CPU. env: what a command needs to reach it."""

    address: str
    env: dict[str, str]
    keeper: "subprocess.Popen[str]"
    log: Path

    def do(self, verb: str) -> tuple[float, float]:
        """kill, freeze, drain or add a node; when it was begun and done, in Unix seconds."""
        assert self.keeper.stdin is not None
        assert self.keeper.stdout is not None
        began = time.time()
        self.keeper.stdin.write(f"{verb}\n")
        self.keeper.stdin.flush()
        if self.keeper.stdout.readline() != "done\n":
            raise LaunchFailed(f"the cluster could not {verb} a node", str(self.log))
        return began, time.time()


@contextmanager
def many_nodes(count: int, folder: Path) -> Iterator[ManyNodes]:
    """A cluster of so many nodes; what it prints goes into the folder. In the end none of its processes is left.

    They are known by the mark in their environment, or, as Ray's agents and workers lose theirs when they set their
    title, by the logs that they have open in Ray's own folder."""
    mark, log = secrets.token_hex(16), folder / "cluster.out"
    env = environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(16))
    rays = Path(tempfile.mkdtemp(prefix="ssrnn-ray-", dir="/tmp"))  # a Unix socket's path must be short
    words = [sys.executable, "-m", "ssrnn_launch.bench.cluster_keeper", str(count), str(rays)]
    with guarded(mark, rays), log.open("wb") as errors:
        keeper = subprocess.Popen(
            words,
            env={**env, **COMMON_ENVIRONMENT, MARK_VARIABLE: mark},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        try:
            assert keeper.stdout is not None
            address = keeper.stdout.readline().strip()
            if not address:
                raise LaunchFailed("no cluster of several nodes came up", str(log))
            yield ManyNodes(address, env, keeper, log)
        finally:
            keeper.kill()
            keeper.communicate()
            end_marked(mark, rays, spare=frozenset({os.getpid()}))
