"""S3 and what speaks its protocol, by s3fs: every range is of the very entity that was seen first.

s3fs and botocore repeat nothing here, so that Retry alone decides.
"""

from typing import Any

from ssrnn_data.remote.retry import http_status
from ssrnn_data.remote.stores import RemoteFile, Store, changed, whole


class S3Store(Store):
    """Asks for the very entity that was seen first, and leaves repeating to us."""

    def _settings(self, stall_seconds: float) -> dict[str, Any]:
        timeouts = {"connect_timeout": stall_seconds, "read_timeout": stall_seconds}
        return {"config_kwargs": {**timeouts, "retries": {"total_max_attempts": 1}}}

    def __init__(self, scheme: str, options: dict[str, Any], stall_seconds: float) -> None:
        super().__init__(scheme, options, stall_seconds)
        self._fs.retries = 1

    def read(self, url: str, start: int, stop: int, known: RemoteFile | None) -> bytes:
        from fsspec.asyn import sync

        try:
            data = sync(self._fs.loop, self._get, url, start, stop, known, timeout=self._deadline(stop - start))
        except OSError as error:
            if http_status(error) == 412:
                raise changed(url) from error
            raise
        return whole(data, stop - start)

    async def _get(self, url: str, start: int, stop: int, known: RemoteFile | None) -> bytes:
        bucket, key, version = self._fs.split_path(url)
        wanted = {"IfMatch": known.version if known else "", "VersionId": version}
        answer = await self._fs._call_s3(
            "get_object",
            Bucket=bucket,
            Key=key,
            Range=f"bytes={start}-{stop - 1}",
            **{name: value for name, value in wanted.items() if value},
        )
        try:
            data: bytes = await answer["Body"].read()
        finally:
            answer["Body"].close()
        return data

    def check_unchanged(self, file: RemoteFile) -> None:
        pass
