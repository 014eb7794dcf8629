"""What runs on every node: whether it reaches the others and the MLflow server, and how fast.

Travels to the nodes by value, as probes.py: imports the standard library, what travels along and, inside, torch."""

import base64
import json
import os
import socket
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from ssrnn_launch.doctor.probes import told

HTTP_SECONDS = 5
CONNECT_SECONDS = 5.0
BLOCK_BYTES = 1 << 20
WARM_UPS, REPEATS = 2, 5


class Peer:
    """An actor on one node that the others connect to. Listens on one address of the node, for as long as it lives."""

    def __init__(self) -> None:
        self._open: list[socket.socket] = []

    def serve(self, host: str) -> int:
        """Count what comes on every connection, and answer with the count; the port."""
        listening = socket.create_server((host, 0), backlog=64)
        self._open.append(listening)
        threading.Thread(target=_accept, args=(listening,), daemon=True).start()
        return int(listening.getsockname()[1])

    def send(self, host: str, port: int, seconds: float) -> dict[str, Any]:
        """Send for so long to another node's `serve`: bytes per second, or why it can't be reached."""
        try:
            return {"error": None, "bytes_per_second": _send(host, port, seconds)}
        except OSError as error:
            return {"error": f"{host}:{port}: {error}"[:160], "bytes_per_second": None}

    def open_store(self, host: str) -> int:
        """Rank 0: the socket on which the ranks of an all-reduce meet; its port."""
        listening = socket.create_server((host, 0), backlog=64)
        self._open.append(listening)
        return int(listening.getsockname()[1])

    def all_reduce(self, rank: int, host: str, store: tuple[str, int], how: Mapping[str, Any]) -> float:
        """Bytes per second of an all-reduce between two ranks.

        host: this rank's address.  how: backend, interface, size_bytes, timeout_seconds, env."""
        listening = self._open.pop().detach() if rank == 0 else None
        return _all_reduce(rank, host, store, listening, how)


def _accept(listening: socket.socket) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        threading.Thread(target=_count, args=(connection,), daemon=True).start()


def _count(connection: socket.socket) -> None:
    total = 0
    with connection:
        connection.settimeout(60)
        try:
            while block := connection.recv(BLOCK_BYTES):
                total += len(block)
            connection.sendall(str(total).encode())
        except OSError:
            return


def _send(host: str, port: int, seconds: float) -> float:
    block = bytes(BLOCK_BYTES)
    with socket.create_connection((host, port), timeout=CONNECT_SECONDS) as connection:
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            connection.sendall(block)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(100)
        if not answer:
            raise ConnectionError("the connection broke off")
        return int(answer) / max(time.monotonic() - began, 1e-9)


def _all_reduce(rank: int, host: str, store: tuple[str, int], listening: int | None, how: Mapping[str, Any]) -> float:
    os.environ.update(how["env"])
    interface = how["interface"] or _interface_of(host)
    if interface is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", interface)
    from datetime import timedelta

    import torch
    import torch.distributed as dist

    timeout = timedelta(seconds=how["timeout_seconds"])
    device = "cuda:0" if how["backend"] == "nccl" else "cpu"
    met = dist.TCPStore(
        *store, 2, is_master=rank == 0, timeout=timeout, master_listen_fd=listening, wait_for_workers=False
    )
    dist.init_process_group(how["backend"], store=met, rank=rank, world_size=2, timeout=timeout)
    try:
        values = torch.ones(how["size_bytes"] // 4, device=device)
        for _ in range(WARM_UPS):
            dist.all_reduce(values)
        _settle(torch, device)
        began = time.monotonic()
        for _ in range(REPEATS):
            dist.all_reduce(values)
        _settle(torch, device)
        return float(how["size_bytes"] * REPEATS / (time.monotonic() - began))
    finally:
        dist.destroy_process_group()


def _settle(torch: Any, device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def _interface_of(address: str) -> str | None:
    """The network interface that has an address, such as lo for 127.0.0.1."""
    import psutil

    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            return name
    return None


def mlflow_error(uri: str, experiment: str) -> str | None:
    """Why an MLflow server can't be used from here, or None: it must be alive and take our user or token."""
    base = uri.rstrip("/")
    asked = f"{base}/api/2.0/mlflow/experiments/get-by-name?experiment_name={urllib.parse.quote(experiment)}"
    try:
        _get(f"{base}/health")
        _get(asked)
    except urllib.error.HTTPError as error:
        if error.code == 404 and error.url == asked and _is_json(error.read()):
            return None  # no such experiment yet: the run will make it
        return f"HTTP {error.code} {error.reason}"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)  # of a URLError
        return told(reason if isinstance(reason, Exception) else error)
    return None


def _is_json(content: bytes) -> bool:
    try:
        return isinstance(json.loads(content), dict)
    except ValueError:
        return False


def _get(url: str) -> None:
    """With what MLflow's own client would send: its user, token and certificates."""
    env, headers = os.environ, {}
    if token := env.get("MLFLOW_TRACKING_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    elif user := env.get("MLFLOW_TRACKING_USERNAME"):
        pair = f"{user}:{env.get('MLFLOW_TRACKING_PASSWORD', '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    context = ssl.create_default_context(cafile=env.get("MLFLOW_TRACKING_SERVER_CERT_PATH"))
    if env.get("MLFLOW_TRACKING_INSECURE_TLS") == "true":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=HTTP_SECONDS, context=context) as response:
        response.read(100_000)
