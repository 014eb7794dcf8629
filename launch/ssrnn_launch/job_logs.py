"""What a job prints, whole or as it comes; a stream that breaks is taken up again where it broke.

Imports ray inside."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from ssrnn_dist.problems import UserError
from ssrnn_launch.jobs import ENDED, job_client, wait_for_end
from ssrnn_launch.problems import LaunchFailed
from ssrnn_launch.records import Item, Reader

SILENT_SECONDS = 120.0  # after which a stream is opened anew: a way that is gone need not say so
RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # pauses between tries; any text that comes starts them anew


class _StreamBroke(Exception):
    """The stream of a log ended before its job had."""


def job_logs(address: str, job_id: str) -> str:
    """All that the job has printed, records included."""
    with job_client(address) as client:
        return str(client.get_job_logs(job_id))


def follow_job(address: str, job_id: str, show: Callable[[Item], None]) -> dict[str, Any]:
    """Show what a job prints as it comes, from its first line on; the job once it has ended.

    UserError: no such job.  LaunchFailed: the head is gone for good."""
    with job_client(address) as client:
        client.get_job_info(job_id)
    stream, tries = _Stream(show), 0
    while True:
        seen = stream.seen
        try:
            if _stream_once(address, job_id, stream):
                stream.end()
                return wait_for_end(address, job_id, 10.0)
        except _StreamBroke as broke:
            tries = 0 if stream.seen > seen else tries
            if tries == len(RETRY_SECONDS):
                raise LaunchFailed(f"job {job_id}: {broke}; the run may go on: `ssrnn jobs status` tells") from None
            show(f"job {job_id}: {broke}; trying again in {RETRY_SECONDS[tries]:.0f} s")
            time.sleep(RETRY_SECONDS[tries])
            tries += 1


class _Stream:
    """Shows text once: each new connection sends the whole log from its start."""

    def __init__(self, show: Callable[[Item], None]) -> None:
        self.seen = 0  # characters, over all connections
        self._show, self._reader, self._here = show, Reader(), 0

    def connect(self) -> None:
        self._here = 0

    def take(self, text: str) -> None:
        new = text[max(self.seen - self._here, 0) :]
        self._here += len(text)
        self.seen = max(self.seen, self._here)
        for item in self._reader.feed(new):
            self._show(item)

    def end(self) -> None:
        for item in self._reader.end():
            self._show(item)


def _stream_once(address: str, job_id: str, stream: _Stream) -> bool:
    """Whether the job has ended; false where it is silent.  _StreamBroke: the head, or the way to it, is gone."""
    from aiohttp import ClientError

    silent = False

    async def follow(client: Any) -> None:
        nonlocal silent
        stream.connect()
        texts = aiter(client.tail_job_logs(job_id))
        try:
            while (text := await asyncio.wait_for(anext(texts, None), SILENT_SECONDS)) is not None:
                stream.take(text)
        except TimeoutError:
            silent = True
        except (OSError, RuntimeError, ClientError) as error:
            raise _StreamBroke("the head no longer answers") from error

    try:
        with job_client(address) as client:
            asyncio.run(follow(client))
            ended = str(getattr(client.get_job_status(job_id), "value", "")) in ENDED
    except UserError as error:
        raise _of_a_known_job(job_id, error) from None
    except LaunchFailed as failed:  # a head that is starting again refuses for a while
        raise _StreamBroke(str(failed)) from None
    if not ended and not silent:
        raise _StreamBroke("the stream of its output ended early")
    return ended


def _of_a_known_job(job_id: str, error: UserError) -> Exception:
    """What it means that a head which knew the job is gone, or has forgotten it."""
    where = error.problems[0].where
    if where == "--address":
        return _StreamBroke("the head no longer answers")
    if where == "job":
        return LaunchFailed(f"the cluster no longer knows job {job_id}; submitted again, its run goes on")
    return error
