"""A TCP relay on loopback that can be cut and mended: a network that breaks between a client and a server."""

import contextlib
import socket
import threading
from typing import Any
from urllib.parse import urlsplit


class Relay:
    """Passes on what comes to its address, an http:// one, to another's; while it is cut, nobody answers there."""

    def __init__(self, to: str) -> None:
        parts = urlsplit(to)
        self._to = (str(parts.hostname), int(parts.port or 80))
        self._open: list[socket.socket] = []
        self._cut = False
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._start(self._accept)

    def __enter__(self) -> "Relay":
        return self

    def __exit__(self, *_: Any) -> None:
        self.cut()
        self._close(self._server)

    def cut(self) -> None:
        self._cut = True
        while self._open:
            self._close(self._open.pop())

    def mend(self) -> None:
        self._cut = False

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                if self._cut:
                    client.close()
                    continue
                server = socket.create_connection(self._to)
                self._open += [client, server]
                self._start(self._pass, client, server)
                self._start(self._pass, server, client)

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        self._close(target)

    @staticmethod
    def _close(of: socket.socket) -> None:
        with contextlib.suppress(OSError):
            of.shutdown(socket.SHUT_RDWR)
        of.close()

    @staticmethod
    def _start(function: Any, *given: Any) -> None:
        threading.Thread(target=function, args=given, daemon=True).start()
