"""What a job prints, whole or as it comes; a stream that breaks is taken up again where it broke.

Imports ray inside."""

import asyncio
import re
import time
from collections.abc import Callable, Iterable
from typing import Any

from ssrnn_dist.problems import UserError
from ssrnn_launch.jobs import ENDED, job_client, wait_for_end
from ssrnn_launch.problems import LaunchFailed
from ssrnn_launch.records import Item, Reader

SILENT_SECONDS = 120.0  # after which a stream is opened anew: a way that is gone need not say so
RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # pauses between tries; any text that comes starts them anew
# What Ray tells of itself into a job's output, as its Python and its C++ write it; warnings and errors are none of it.
_RAYS_NEWS = re.compile(r"\d{4}-\d\d-\d\d [\d:,]+\tINFO \S+:\d+ -- |\[\d{4}-\d\d-\d\d [\d:,]+ [ID] \d+ \d+\] ")


def is_rays_news(item: Item) -> bool:
    """Whether a line is Ray's own, and of no more than information: it would break into a bar."""
    return isinstance(item, str) and _RAYS_NEWS.match(item) is not None


class _StreamBroke(Exception):
    """The stream of a log ended before its job had."""


def job_logs(address: str, job_id: str) -> str:
    """All that the job has printed, records included."""
    with job_client(address) as client:
        return str(client.get_job_logs(job_id))


def follow_job(address: str, job_id: str, show: Callable[[Item], None]) -> dict[str, Any]:
    """Show what a job prints as it comes, from its first line on, without Ray's own news; the job once it has ended.

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
        self._show_all(self._reader.feed(new))

    def end(self) -> None:
        self._show_all(self._reader.end())

    def _show_all(self, items: Iterable[Item]) -> None:
        for item in items:
            if not is_rays_news(item):
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
