"""Which URLs are read and what is tried again when a store fails: decisions, no server."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientConnectionError, ClientPayloadError, InvalidURL
from hypothesis import given
from hypothesis import strategies as st

from ssrnn_data.errors import DataError, data_error
from ssrnn_data.remote.files import (
    Retry,
    check_url,
    find,
    is_url,
    read_bytes,
    read_range,
    stat,
)
from ssrnn_data.remote.retry import WrongAnswer, judge, wait_seconds, with_retries
from ssrnn_data.remote.urls import shown

ROOM = Path(__file__).parents[2] / "data_pipelines"


# What is a URL, and which are read


@pytest.mark.parametrize("text", ["s3://bucket/key", "https://host/a?b=c", "file:///a", "a+b.c-1://x"])
def test_urls(text: str) -> None:
    assert is_url(text)


@pytest.mark.parametrize(
    "text", ["", "notes.txt", "/a/b", "stdlib:", "pipe:ls", "://x", "1s://x", "C:\\notes", "a b://x"]
)
def test_what_is_no_url(text: str) -> None:
    assert not is_url(text)


REFUSED = {
    "pipe:cat /etc/passwd": "commands such as pipe: are never run",
    "pipe:curl https://host/a": "commands such as pipe: are never run",
    "cat notes.txt |": "commands such as pipe: are never run",
    "pipe://cat notes.txt": "the scheme 'pipe' is unknown",
    "S3://bucket/key": "the scheme 'S3' is unknown",
    "simplecache::s3://bucket/key": "a chain of URLs",
    "zip://a.txt::https://host/a.zip": "a chain of URLs",
    "zip://a.txt": "'zip' is no store",
    "reference://a": "'reference' is no store",
    "https://user:secret@host/a": "a user or password in the URL",
    "https://secret@host/a": "a user or password in the URL",
    "s3://key:secret@bucket/a": "a user or password in the URL",
    "a::https://user:secret@host/a": "a chain of URLs",
    "https://[host/a": "not a URL",
}


@pytest.mark.parametrize("url", REFUSED)
def test_refused_urls_are_one_line_that_keeps_the_secret(url: str) -> None:
    for ask in (check_url, stat, find, read_bytes, lambda url: read_range(url, 0, 1)):
        with pytest.raises(DataError) as caught:
            ask(url)
        message = str(caught.value)
        assert REFUSED[url] in message
        assert "\n" not in message
        assert "secret" not in message


def test_a_missing_package_names_the_extra() -> None:
    """In a process where the packages can't be imported, installed here or not."""
    code = """
import sys
sys.modules.update({"s3fs": None, "gcsfs": None, "paramiko": None})
from ssrnn_data.errors import DataError
from ssrnn_data.remote.files import check_url
for url in ("s3://bucket/key", "gs://bucket/key", "sftp://host/file"):
    try:
        check_url(url)
    except DataError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOM, capture_output=True, text=True, check=True)
    s3, gs, sftp = done.stdout.splitlines()
    assert s3 == "s3://bucket/key: the package for s3:// is not installed; `pip install 'ssrnn-dist[s3]'` reads it"
    assert "`pip install 'ssrnn-dist[gcs]'`" in gs
    assert "paramiko" in sftp


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = "import sys, ssrnn_data.remote.files as _; print({'fsspec', 'aiohttp', 's3fs'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOM, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_query_is_not_shown() -> None:
    assert shown("https://host/a?X-Signature=secret#there") == "https://host/a"
    assert shown("a::https://user:secret@host/a?b") == "a::https://…@host/a?b"
    assert shown("abfs://container@account/a") == "abfs://container@account/a"
    assert shown("s3://bucket/what?#1") == "s3://bucket/what?#1"


# When it is tried again


@given(st.floats(0, 10), st.floats(0, 100), st.integers(2, 100), st.floats(0, 1, exclude_max=True), st.floats(0, 1))
def test_waits_double_up_to_the_most_and_vary(
    first: float, more: float, attempt: int, chance: float, other: float
) -> None:
    retry = Retry(first_seconds=first, most_seconds=first + more)
    span = min(first + more, first * 2.0 ** (attempt - 2))
    assert 0.5 * span <= wait_seconds(retry, attempt, chance) <= span
    assert wait_seconds(retry, attempt, min(chance, other)) <= wait_seconds(retry, attempt, max(chance, other))


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"stall_seconds": 0}, {"first_seconds": -1}, {"most_seconds": 0.1}])
def test_wrong_retries_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="attempts ≥ 1"):
        Retry(**wrong)


def test_what_is_tried_again() -> None:
    again = [ConnectionResetError(), TimeoutError(), EOFError(), WrongAnswer("short"), OSError(5, "I/O error")]
    again += [ClientPayloadError(), ClientConnectionError()]
    final = [FileNotFoundError(), PermissionError(), IsADirectoryError(), InvalidURL("x")]
    foreign = [data_error("a", "b", "c"), KeyError(), TypeError(), ValueError(), MemoryError()]
    assert {judge(error) for error in again} == {"again"}
    assert {judge(error) for error in final} == {"final"}
    assert {judge(error) for error in foreign} == {"foreign"}


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(s, "again") for s in (408, 425, 429, 500, 502, 503, 504)]
    + [(s, "final") for s in (400, 401, 403, 404, 410, 412, 416)],
)
def test_statuses_of_s3(status: int, verdict: str) -> None:
    from botocore.exceptions import ClientError

    error = OSError(22, "translated")
    error.__cause__ = ClientError({"ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject")
    assert judge(error) == verdict


def test_the_waits_between_attempts() -> None:
    waits: list[float] = []

    def fails() -> bytes:
        raise ConnectionResetError("cut")

    with pytest.raises(DataError, match="4 attempts failed, the last one so: cut"):
        with_retries("s3://b/k", Retry(attempts=4, first_seconds=1, most_seconds=3), fails, waits.append)
    assert [low <= wait <= 2 * low for wait, low in zip(waits, (0.5, 1, 1.5), strict=True)] == [True] * 3
