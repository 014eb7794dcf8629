"""Who runs the tasks of a wavefront, and when: threads of a CPU with a core each, or streams of a GPU, one a block.

Imports torch. Task (block, chunk) comes after (block − 1, chunk) and (block, chunk − 1)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from threading import Event, Lock

import torch
from torch import Tensor

Task = Callable[[int, int], None]


def on_threads(n_blocks: int, n_chunks: int, one: Task, n_threads: int) -> None:
    """one(block, chunk) for all; the first error ends it."""
    with one_core_each():
        if n_threads == 1:
            for block in range(n_blocks):
                for chunk in range(n_chunks):
                    one(block, chunk)
        else:
            _Waves(n_blocks, n_chunks, one, _pool(n_threads)).run()


def on_streams(n_blocks: int, n_chunks: int, one: Task, streams: Sequence[torch.cuda.Stream]) -> None:
    """one(block, chunk) for all, a block on its own stream; the current stream goes on after all of them.

    What the tasks give one another must live until this returns: a stream's memory, once free, is its own again."""
    here = torch.cuda.current_stream(streams[0].device)
    begun = here.record_event()
    for stream in streams:
        stream.wait_event(begun)
    done: dict[tuple[int, int], torch.cuda.Event] = {}
    try:
        for block, chunk in diagonals(n_blocks, n_chunks):
            stream = streams[block]
            if block > 0:
                stream.wait_event(done[block - 1, chunk])
            with torch.cuda.stream(stream):
                one(block, chunk)
            done[block, chunk] = stream.record_event()
    finally:
        for stream in streams:
            here.wait_stream(stream)


def handed_out(tensors: Iterable[Tensor | None]) -> None:
    """What blocks made and the caller goes on with: their memory is not given anew before the caller's stream is done.

    A graph's memory stays its own, and its results are copied from there."""
    for tensor in tensors:
        if tensor is not None and tensor.is_cuda and not torch.cuda.is_current_stream_capturing():
            tensor.record_stream(torch.cuda.current_stream(tensor.device))


def diagonals(n_blocks: int, n_chunks: int) -> Iterator[tuple[int, int]]:
    """All (block, chunk), wave after wave: those of one wave do not wait for one another."""
    for wave in range(n_blocks + n_chunks - 1):
        for block in range(max(0, wave - n_chunks + 1), min(n_blocks, wave + 1)):
            yield block, wave - block


@cache
def streams_of(device: torch.device, n_blocks: int) -> tuple[torch.cuda.Stream, ...]:
    """The blocks' streams, the same at every call: each keeps its free memory to itself."""
    return tuple(torch.cuda.Stream(device) for _ in range(n_blocks))


class _Waves:
    """The tasks of one call, handed to a pool as they become ready."""

    def __init__(self, n_blocks: int, n_chunks: int, one: Task, pool: ThreadPoolExecutor) -> None:
        self.one, self.pool, self.last = one, pool, (n_blocks - 1, n_chunks - 1)
        self.waits_for = {(b, c): (b > 0) + (c > 0) for b in range(n_blocks) for c in range(n_chunks)}
        self.lock, self.ended, self.errors = Lock(), Event(), list[BaseException]()
        self.autocast = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")  # which torch keeps by thread

    def run(self) -> None:
        self.pool.submit(self._run, 0, 0)
        self.ended.wait()
        if self.errors:
            raise self.errors[0]

    def _run(self, block: int, chunk: int) -> None:
        enabled, dtype = self.autocast
        try:
            with torch.autocast("cpu", dtype=dtype, enabled=enabled):
                self.one(block, chunk)
        except BaseException as error:
            self.errors.append(error)
        if self.errors or (block, chunk) == self.last:
            self.ended.set()
            return
        for after in self._ready_after(block, chunk):
            self.pool.submit(self._run, *after)

    def _ready_after(self, block: int, chunk: int) -> list[tuple[int, int]]:
        with self.lock:
            after = [place for place in ((block, chunk + 1), (block + 1, chunk)) if place in self.waits_for]
            for place in after:
                self.waits_for[place] -= 1
            return [place for place in after if not self.waits_for[place]]


@contextmanager
def one_core_each() -> Iterator[None]:
    """torch on one thread, here and in threads that start meanwhile: its number is the process's and the thread's."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, "wavefront")
