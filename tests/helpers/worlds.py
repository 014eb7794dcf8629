"""Groups of ranks as real processes on loopback, started, bounded in time and ended by the test that asks for them."""

import os
import socket
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def rank_environment(rank: int, world_size: int, port: int) -> dict[str, str]:
    paths = [str(ROOT / folder) for folder in (".", "kernels", "launch", "data_pipelines")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONWARNINGS": "ignore",
        "PYTHONFAULTHANDLER": "1",  # a rank that aborts says where
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }


def start_ranks(world_size: int, script: Path, *arguments: str) -> list[subprocess.Popen[str]]:
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, str(script), *arguments],
            env=rank_environment(rank, world_size, port),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world_size)
    ]


def run_ranks(world_size: int, script: Path, *arguments: str, timeout: float = 600) -> list[str]:
    """The output of every rank; an AssertionError with the failing ranks' output where one does not end well."""
    ranks = start_ranks(world_size, script, *arguments)
    outputs = []
    try:
        for process in ranks:
            outputs.append(process.communicate(timeout=timeout)[0])
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    failed = [output[-3000:] for process, output in zip(ranks, outputs, strict=True) if process.returncode]
    assert not failed, "\n".join(failed)
    return outputs


def train_many(world_size: int, *configs: Path) -> None:
    """Train the configs one after the other in one group of ranks."""
    run_ranks(world_size, HERE / "train_many.py", *map(str, configs))
