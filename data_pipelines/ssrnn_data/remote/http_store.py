"""Plain HTTP by fsspec's own session: one file by its URL, no listing, and servers that know no ranges.

Every answer is checked against the range that was asked for and the version that was seen first.
"""

import re
from typing import Any
from urllib.parse import urlsplit

from ssrnn_data.errors import data_error
from ssrnn_data.remote.retry import WrongAnswer
from ssrnn_data.remote.stores import RemoteFile, Store, changed, whole
from ssrnn_data.remote.urls import shown

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
# Where a server sends a whole file instead of a range, what comes before it is read and dropped; up to here.
_MOST_DROPPED_BYTES = 64 << 20


class HttpStore(Store):
    """One attempt each at an HTTP or HTTPS URL; proxies and ~/.netrc are used as the environment says."""

    def _settings(self, stall_seconds: float) -> dict[str, Any]:
        from aiohttp import ClientTimeout

        timeout = ClientTimeout(total=None, sock_connect=stall_seconds, sock_read=stall_seconds)
        # A .gz may come with a Content-Encoding: its bytes are wanted as they are stored.
        headers = {"Accept-Encoding": "identity"}
        client = {"timeout": timeout, "headers": headers, "auto_decompress": False, "trust_env": True}
        return {"client_kwargs": client}

    def stat(self, url: str) -> RemoteFile:
        file: RemoteFile = self._run(self._stat, url, seconds=self._deadline())
        return file

    def find(self, url: str) -> list[RemoteFile]:
        path = urlsplit(url).path
        if "*" in path or path.endswith("/") or not path:
            raise data_error(shown(url), "plain HTTP lists no files", "the URL of one file is allowed")
        return [self.stat(url)]

    def read(self, url: str, start: int, stop: int, known: RemoteFile | None) -> bytes:
        seconds = self._deadline(stop - start + min(start, _MOST_DROPPED_BYTES))
        return whole(self._run(self._get, url, start, stop, known, seconds=seconds), stop - start)

    def check_unchanged(self, file: RemoteFile) -> None:
        """Every answer was checked."""

    def _run(self, method: Any, *arguments: Any, seconds: float) -> Any:
        from fsspec.asyn import sync

        return sync(self._fs.loop, method, *arguments, timeout=seconds)

    async def _request(self, url: str, start: int, stop: int) -> Any:
        session = await self._fs.set_session()
        return session.get(self._fs.encode_url(url), headers={"Range": f"bytes={start}-{stop - 1}"})

    async def _stat(self, url: str) -> RemoteFile:
        """By a range of one byte: some servers, and signed URLs, answer nothing but GET."""
        async with await self._request(url, 0, 1) as answer:
            if answer.status == 416:  # there is no first byte
                return RemoteFile(url, 0, _version_of(answer.headers))
            _check_status(answer, url)
            size = _total_bytes(answer)
            if size is None:
                raise data_error(shown(url), "the server doesn't tell its size", "a file of known size is needed")
            return RemoteFile(url, size, _version_of(answer.headers))

    async def _get(self, url: str, start: int, stop: int, known: RemoteFile | None) -> bytes:
        async with await self._request(url, start, stop) as answer:
            if answer.status == 416 and known:
                raise changed(url)
            _check_status(answer, url)
            _check_version(answer, url, stop, known)
            if answer.status == 206:
                _check_range(answer, start)
            else:
                await _drop(answer, url, start)
            data: bytes = await answer.content.readexactly(stop - start)
            return data


async def _drop(answer: Any, url: str, size_bytes: int) -> None:
    """Reads past the first bytes of a file that came whole though a range was asked for."""
    if size_bytes > _MOST_DROPPED_BYTES:
        allowed = f"a server that does, or files up to {_MOST_DROPPED_BYTES >> 20} MiB"
        raise data_error(shown(url), "the server answers no range requests", allowed)
    while size_bytes:
        dropped = await answer.content.read(min(size_bytes, 1 << 20))
        if not dropped:
            raise WrongAnswer("the answer ended early")
        size_bytes -= len(dropped)


def _check_status(answer: Any, url: str) -> None:
    if answer.status == 404:
        raise FileNotFoundError(url)
    answer.raise_for_status()
    if answer.status not in (200, 206):
        raise WrongAnswer(f"HTTP {answer.status} came, not 200 or 206")


def _check_version(answer: Any, url: str, stop: int, known: RemoteFile | None) -> None:
    total, version = _total_bytes(answer), _version_of(answer.headers)
    if known and (total not in (None, known.size_bytes) or (version and version != known.version)):
        raise changed(url)
    if total is not None and stop > total:
        raise data_error(shown(url), f"it has {total:,} bytes", f"a range that ends at {stop:,} was asked for")


def _check_range(answer: Any, start: int) -> None:
    said = answer.headers.get("Content-Range", "")
    came = _CONTENT_RANGE.match(said)
    if came is None or int(came[1]) != start:
        raise WrongAnswer(f"the range {said!r} came, one from {start} was asked for")


def _total_bytes(answer: Any) -> int | None:
    """The size of the whole file, or None where the answer doesn't tell it."""
    if answer.status == 206:
        came = _CONTENT_RANGE.match(answer.headers.get("Content-Range", ""))
        return None if came is None or came[3] == "*" else int(came[3])
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _version_of(headers: Any) -> str:
    """The strong entity tag, or else the time of change, or ""."""
    tag = str(headers.get("ETag", ""))
    return tag if tag and not tag.startswith("W/") else str(headers.get("Last-Modified", ""))
