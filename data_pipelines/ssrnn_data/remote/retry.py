"""What is tried again when a store fails, when, and what is said in the end. Pure but for the wait and its warning.

A cut connection, a stall, a short or wrong answer, HTTP 429 and 5xx are tried again; 403, 404 and a bad URL are not.
"""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from ssrnn_data.errors import DataError, data_error
from ssrnn_data.remote.urls import shown

T = TypeVar("T")
_log = logging.getLogger(__name__)
Verdict = Literal["again", "final", "foreign"]
_AGAIN_STATUSES = frozenset({408, 425, 429})
_FINAL_ERRORS = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ValueError)
# The stores' packages are imported late, if at all, so their errors are known by name.
_HUB_PACKAGES = frozenset({"httpx", "httpx2", "huggingface_hub"})
_STORE_PACKAGES = _HUB_PACKAGES | {"aiohttp", "botocore", "aiobotocore", "gcsfs", "google"}
_AGAIN_NAMES = frozenset(
    {
        *("ClientError", "ConnectionError", "HTTPClientError", "IncompleteReadError", "ResponseParserError"),
        "TransportError",
    }
)


@dataclass(frozen=True)
class Retry:
    """attempts in all; waits double from first_seconds to most_seconds; stall_seconds without a byte end an attempt."""

    attempts: int = 6
    first_seconds: float = 0.5
    most_seconds: float = 20.0
    stall_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.stall_seconds <= 0 or not 0 <= self.first_seconds <= self.most_seconds:
            came = f"{self} came"
            raise data_error("retry", came, "attempts ≥ 1, stall_seconds > 0, 0 ≤ first ≤ most seconds are allowed")


class WrongAnswer(OSError):
    """The store answered, but not with the bytes that were asked for: tried again."""


def wait_seconds(retry: Retry, attempt: int, chance: float) -> float:
    """The wait before attempt 2, 3, …: doubling, capped, and its upper half left to chance in [0, 1)."""
    span = min(retry.most_seconds, retry.first_seconds * 2.0 ** min(attempt - 2, 1_000))
    return span * (0.5 + 0.5 * chance)


def http_status(error: BaseException | None) -> int | None:
    """The HTTP status that a store answered, behind an error of a store's package; None where it didn't."""
    while error is not None:
        answer, package = getattr(error, "response", None), type(error).__module__.partition(".")[0]
        status = None
        if isinstance(answer, dict):  # botocore
            status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        elif package == "aiohttp" and not _is_no_http(error):
            status = getattr(error, "status", None)
        elif package == "gcsfs":
            status = getattr(error, "code", None)
        elif package in _HUB_PACKAGES:
            status = getattr(answer, "status_code", None)
        if str(status).isdigit():
            return int(str(status))
        error = error.__cause__
    return None


def _is_no_http(error: BaseException) -> bool:
    """Whether aiohttp couldn't understand the answer: then the status 400 is its own."""
    return any(type(each).__module__ == "aiohttp.http_exceptions" for each in (error, error.__cause__))


def judge(error: BaseException) -> Verdict:
    """Whether an attempt that failed so is made again, is final, or the error is none of a store's."""
    if isinstance(error, DataError):
        return "foreign"
    status = http_status(error)
    if status is not None:
        return "again" if status in _AGAIN_STATUSES or status >= 500 else "final"
    from_store = type(error).__module__.partition(".")[0] in _STORE_PACKAGES
    if isinstance(error, _FINAL_ERRORS):
        return "final" if from_store or isinstance(error, OSError) else "foreign"
    if isinstance(error, OSError | EOFError):
        return "again"
    if from_store:
        return "again" if _AGAIN_NAMES & {kind.__name__ for kind in type(error).__mro__} else "final"
    return "foreign"


def reason(error: BaseException) -> str:
    """An error in a few words."""
    status = http_status(error)
    if status is not None:
        return f"HTTP {status}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return str(error)[:200] or type(error).__name__


def _advice(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError) or http_status(error) == 404:
        return "the URL of a file that exists is needed"
    if isinstance(error, PermissionError) or "Credential" in type(error).__name__ or http_status(error) in (401, 403):
        return "read access is needed; keys come from the environment, as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    return "a file that can be read is needed"


def with_retries(url: str, retry: Retry, attempt: Callable[[], T], sleep: Callable[[float], object] = time.sleep) -> T:
    """What attempt() gives, at the first or a later try; DataError with the URL, the tries and the last reason."""
    for number in range(1, retry.attempts + 1):
        try:
            return attempt()
        except Exception as error:
            verdict, said = judge(error), reason(error)
            if verdict == "foreign":
                raise
            if verdict == "final":
                raise data_error(shown(url), f"can't be read ({said})", _advice(error)) from error
            if number == retry.attempts:
                came = f"{number} attempts failed, the last one so: {said}"
                raise data_error(shown(url), came, "a store that answers is needed; try again later") from error
        wait = wait_seconds(retry, number + 1, random.random())
        _log.warning("%s: %s; attempt %d of %d in %.1f s", shown(url), said, number + 1, retry.attempts, wait)
        sleep(wait)
    raise AssertionError("unreachable: attempts is at least 1")
