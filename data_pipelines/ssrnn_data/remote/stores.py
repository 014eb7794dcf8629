"""What any store can do by fsspec: sizes, listings and ranges of bytes, one attempt each.

http_store.py and s3_store.py are the two that check more.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ssrnn_data.errors import DataError, data_error
from ssrnn_data.remote.retry import WrongAnswer
from ssrnn_data.remote.urls import shown

_TAG_KEYS = ("ETag", "etag", "generation", "blob_id", "md5Hash")
_VERSION_KEYS = (*_TAG_KEYS, "LastModified", "last_modified", "mtime", "updated")
_SLOWEST_BYTES_PER_SECOND = 64 << 10
_LISTING_STALLS = 20  # a long listing is many answers, and only the whole of it has a deadline


@dataclass(frozen=True)
class RemoteFile:
    """A file in a store. version: what changes with its bytes (entity tag, generation, time), "" where none is told."""

    url: str
    size_bytes: int
    version: str = ""


class Store:
    """Any store that fsspec knows: what came is checked by its length, and by its version when all was read."""

    def __init__(self, scheme: str, options: dict[str, Any], stall_seconds: float) -> None:
        import fsspec

        settings = {**self._settings(stall_seconds), **options}
        self._fs = fsspec.filesystem(scheme, skip_instance_cache=True, **settings)
        self._scheme, self._host, self._stall_seconds = scheme, "host" in options, stall_seconds

    def _settings(self, stall_seconds: float) -> dict[str, Any]:
        return {}

    def _ask(self, method: Any, *arguments: Any, seconds: float, **named: Any) -> Any:
        """Calls a method of the file system, with a deadline where it can have one."""
        return method(*arguments, **named, **({"timeout": seconds} if self._fs.async_impl else {}))

    def _deadline(self, size_bytes: int = 0) -> float:
        """Seconds for a range of this size, so that a trickle of bytes ends, too."""
        return self._stall_seconds + size_bytes / _SLOWEST_BYTES_PER_SECOND

    def _file(self, url: str, info: dict[str, Any]) -> RemoteFile:
        if info.get("size") is None:
            raise data_error(shown(url), "its store doesn't tell its size", "a file of known size is needed")
        version = next((str(info[key]) for key in _VERSION_KEYS if info.get(key)), "")
        return RemoteFile(url, int(info["size"]), version)

    def _info(self, url: str) -> dict[str, Any]:
        self._fs.invalidate_cache()
        info: dict[str, Any] = self._ask(self._fs.info, self._fs._strip_protocol(url), seconds=self._deadline())
        return info

    def stat(self, url: str) -> RemoteFile:
        """The file itself; DataError for a folder."""
        info = self._info(url)
        if info["type"] != "file":
            raise data_error(shown(url), "a folder", "the URL of a file is needed")
        return self._file(url, info)

    def find(self, url: str) -> list[RemoteFile]:
        """What a glob matches, what lies below a folder, or the file itself; sorted by URL."""
        path, seconds = self._fs._strip_protocol(url), _LISTING_STALLS * self._stall_seconds
        if any(character in path for character in "*?["):
            self._fs.invalidate_cache()
            infos = self._ask(self._fs.glob, path, detail=True, seconds=seconds)
        else:
            info = self._info(url)
            if info["type"] == "file":
                return [self._file(url, info)]
            infos = self._ask(self._fs.find, path, detail=True, seconds=seconds)
        start = f"{self._scheme}://{urlsplit(url).netloc if self._host else ''}"
        files = {name: info for name, info in infos.items() if info["type"] == "file" and not name.endswith("/")}
        return sorted((self._file(start + name, info) for name, info in files.items()), key=lambda file: file.url)

    def read(self, url: str, start: int, stop: int, known: RemoteFile | None) -> bytes:
        """Bytes [start, stop), 0 ≤ start < stop, of the version that is known; WrongAnswer, DataError if it changed."""
        path, seconds = self._fs._strip_protocol(url), self._deadline(stop - start)
        return whole(self._ask(self._fs.cat_file, path, start=start, end=stop, seconds=seconds), stop - start)

    def check_unchanged(self, file: RemoteFile) -> None:
        """DataError where the file is another one by now; where every answer is checked there is nothing to do."""
        now = self.stat(file.url)
        if now != file:
            raise changed(file.url)


def whole(data: bytes, size_bytes: int) -> bytes:
    """The data; WrongAnswer where it has another size."""
    if len(data) != size_bytes:
        raise WrongAnswer(f"{len(data):,} bytes came, {size_bytes:,} were asked for")
    return data


def changed(url: str) -> DataError:
    """Says that a file isn't the one that was seen first."""
    return data_error(shown(url), "changed while it was read", "a file that stays as it is while it is read is needed")
