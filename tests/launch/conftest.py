"""Fixtures of the launch tests: a command in the background, a tiny corpus, a real Ray head."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ssrnn_launch.guard import MARK_VARIABLE, end_marked
from tests.helpers.launching import COMMAND, RAY_ON_LOOPBACK, Head, Running, environment, free_port, wait_for_head

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so would ours


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start the command in the background; whatever is left of it at the end is ended by pid."""
    started: list[Running] = []

    def start(*arguments: object, cwd: Path, env: dict[str, str] | None = None) -> Running:
        output = tmp_path / f"output-{len(started)}.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*COMMAND, *map(str, arguments)],
                cwd=cwd,
                env=env or environment(),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started.append(Running(process, output))
        return started[-1]

    yield start
    for running in started:
        if running.process.poll() is None:
            left = running.tree()
            running.process.kill()
            running.process.wait()
            for each in left:
                if each.is_running():
                    each.kill()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of some twenty thousand tokens with a held-out split."""
    from ssrnn_data import build_corpus

    folder = tmp_path_factory.mktemp("corpus")
    for number in range(40):
        words = " ".join(f"word{(number * 7 + at * 3) % 97} and" for at in range(300))
        (folder / f"{number}.txt").write_text(f"Text {number}. {words}\n")
    return build_corpus([str(folder)], folder / "built", vocab_size=300, holdout=0.1).parent


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """`ray start --head`, ended by the pids that carry its mark."""
    folder = Path(tempfile.mkdtemp(prefix="ssrnn-head-", dir="/tmp"))
    made = Head(f"http://127.0.0.1:{free_port()}", secrets.token_hex(16), secrets.token_hex(16), folder)
    binaries = Path(sys.executable).parent
    given = {
        **RAY_ON_LOOPBACK,
        MARK_VARIABLE: made.mark,
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
    }
    words = f"""start --head --block --disable-usage-stats --node-ip-address=127.0.0.1 --port={free_port()}
        --dashboard-host=127.0.0.1 --dashboard-port={made.address.rpartition(":")[2]} --num-cpus=4
        --dashboard-agent-listen-port={free_port()} --object-store-memory=120000000 --temp-dir={folder}""".split()
    with (folder / "head.out").open("wb") as file:
        process = subprocess.Popen(
            [binaries / "ray", *words],
            env=made.environment(**given),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for_head(made, process, folder)
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        end_marked(made.mark, folder)
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)
