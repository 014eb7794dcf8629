"""A real MLflow server on loopback, with TLS and a password, that goes away and comes back as a test wants it."""

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

SERVE = Path(__file__).with_name("serve_mlflow.py")
USER, PASSWORD = "anna", "geh-heim"


class MlflowServer:
    """Its port is a gate: while it is shut, connections are refused service and those that stand are cut."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "server.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.certificate = folder / "certificate.pem"
        secured = _certificate(self.certificate, folder / "key.pem")
        command = [sys.executable, str(SERVE), str(port), str(folder), *secured]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 90
        while not _listens(port):
            assert time.monotonic() < deadline, self._log.read_text()[-2000:]
            assert self._process.poll() is None, self._log.read_text()[-2000:]
            time.sleep(0.1)
        self.gate = _Gate(port)
        self.uri = f"https://127.0.0.1:{self.gate.port}"

    def go_away(self) -> None:
        self.gate.is_open = False

    def come_back(self) -> None:
        self.gate.is_open = True

    def end(self) -> None:
        self.gate.close()
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)


class _Gate:
    """Passes bytes on between its port and another while it is open."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.is_open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.is_open = False
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(near,), daemon=True).start()

    def _pass_on(self, near: socket.socket) -> None:
        with suppress(OSError), near, socket.create_connection(("127.0.0.1", self._target_port)) as far:
            other = {near: far, far: near}
            while self.is_open:
                for side in select.select([near, far], [], [], 0.05)[0]:
                    data = side.recv(65536)
                    if not data:
                        return
                    other[side].sendall(data)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _certificate(certificate: Path, key: Path) -> list[str]:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-out", str(certificate), "-keyout", str(key)),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return [str(certificate), str(key), USER, PASSWORD]
