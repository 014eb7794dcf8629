"""A cluster of several Ray nodes on the loopback for a test: started, changed, ended by the pids of its mark."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ssrnn_launch.guard import MARK_VARIABLE, end_marked
from tests.helpers.launching import RAY_ON_LOOPBACK, environment

KEEPER = Path(__file__).with_name("cluster_keeper.py")


@dataclass(frozen=True)
class ManyNodes:
    """The cluster: a head without CPUs, and nodes of one CPU, numbered as they were added."""

    address: str
    env: dict[str, str]
    keeper: subprocess.Popen[str]

    def do(self, command: str) -> None:
        """add, kill N, drain N SECONDS or freeze N; returns when it is done."""
        assert self.keeper.stdin is not None
        assert self.keeper.stdout is not None
        self.keeper.stdin.write(f"{command}\n")
        self.keeper.stdin.flush()
        assert self.keeper.stdout.readline() == "done\n"


@contextmanager
def many_nodes(count: int, folder: Path) -> Iterator[ManyNodes]:
    """A cluster of so many nodes; what it prints goes into the folder."""
    mark = secrets.token_hex(16)
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    env = environment(**RAY_ON_LOOPBACK, **token, **{MARK_VARIABLE: mark})
    with (folder / "cluster.out").open("wb") as errors:
        keeper = subprocess.Popen(
            [sys.executable, KEEPER, str(count)], env=env, stdin=-1, stdout=-1, stderr=errors, text=True
        )
    try:
        assert keeper.stdout is not None
        address = keeper.stdout.readline().strip()
        assert address, (folder / "cluster.out").read_text()
        yield ManyNodes(address, env, keeper)
    finally:
        keeper.kill()
        keeper.communicate()
        left = end_marked(mark, folder / "nothing is kept here", spare=frozenset({os.getpid()}))
        assert left == []
