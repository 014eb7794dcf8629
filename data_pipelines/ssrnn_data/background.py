"""A call in a thread that neither keeps the interpreter from ending, as a pool's would, nor this one from Ctrl-C."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_background(call: Callable[[], T], name: str) -> "Future[T]":
    """What it gives or raises, when it is asked for. name: the thread's."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name=name).start()
    return future
