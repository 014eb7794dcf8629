"""Remote files, against a real HTTP server and a real S3 server that stall, cut connections and send wrong bytes."""

import gzip
import hashlib
import io
import os
import random
import subprocess
import sys
import tarfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientConnectionError, ClientPayloadError, InvalidURL
from archives import tar_of
from hypothesis import given
from hypothesis import strategies as st
from servers import Fault, FaultyProxy, HttpServer, http_server

from ssrnn_data.errors import DataError, data_error
from ssrnn_data.remote.cache import DiskCache
from ssrnn_data.remote.files import (
    RemoteFile,
    RemoteReader,
    Retry,
    check_url,
    download,
    find,
    is_url,
    read_bytes,
    read_range,
    stat,
)
from ssrnn_data.remote.retry import WrongAnswer, judge, wait_seconds, with_retries
from ssrnn_data.remote.urls import shown

QUICK = Retry(attempts=3, first_seconds=0.01, most_seconds=0.05, stall_seconds=0.4)
DATA = random.Random(0).randbytes(300_000)
ROOM = Path(__file__).parents[2] / "data_pipelines"


@pytest.fixture
def http(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpServer]:
    """A server with /data.bin and /empty."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http_server() as server:
        server.files = {"/data.bin": DATA, "/empty": b""}
        server.tags = {"/data.bin": '"one"'}
        yield server


def fetched(file: RemoteFile, retry: Retry = QUICK, piece_bytes: int = 64 << 10, workers: int = 4) -> bytes:
    out = io.BytesIO()
    download(file, out, retry, piece_bytes, workers)
    return out.getvalue()


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


# HTTP


def test_http_stat_find_and_reads(http: HttpServer) -> None:
    url = f"{http.url}/data.bin"
    file = RemoteFile(url, len(DATA), '"one"')
    assert stat(url, QUICK) == file
    assert find(url, QUICK) == [file]
    assert read_bytes(url, QUICK) == DATA
    assert read_range(url, 7, 100_007, QUICK) == DATA[7:100_007]
    assert read_range(url, 7, 7, QUICK) == b""
    assert stat(f"{http.url}/empty", QUICK).size_bytes == 0
    assert read_bytes(f"{http.url}/empty", QUICK) == b""


@pytest.mark.parametrize("path", ["/*.bin", "/folder/", ""])
def test_http_lists_nothing(http: HttpServer, path: str) -> None:
    with pytest.raises(DataError, match="plain HTTP lists no files"):
        find(http.url + path, QUICK)


MENDED = {
    "a stall": Fault(stall=True),
    "a cut": Fault(cut_bytes=1_000),
    "a cut before the body": Fault(cut_bytes=0),
    "a trickle": Fault(drip_seconds=0.1),
    "a short range": Fault(short=True),
    "another range": Fault(shifted=True),
    "429": Fault(status=429),
    "500": Fault(status=500),
    "503": Fault(status=503),
}


@pytest.mark.parametrize("name", MENDED)
def test_http_faults_are_mended(http: HttpServer, name: str) -> None:
    url = f"{http.url}/data.bin"
    http.faults.append(MENDED[name])
    assert read_range(url, 1_000, 3_000, QUICK) == DATA[1_000:3_000]
    assert http.requests == [("/data.bin", 1_000, 3_000)] * 2
    assert not http.faults


@pytest.mark.parametrize("name", MENDED)
def test_http_faults_that_stay_are_one_line(http: HttpServer, name: str) -> None:
    http.always = MENDED[name]
    retry = Retry(attempts=2, first_seconds=0.01, stall_seconds=0.2)
    with pytest.raises(
        DataError, match=r"^http://127[^ ]*/data\.bin: 2 attempts failed, the last one so: .+; "
    ) as caught:
        read_range(f"{http.url}/data.bin?signature=secret", 1_000, 3_000, retry)
    assert len(http.requests) == 2
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_http_final_answers_are_not_tried_again(http: HttpServer, status: int) -> None:
    http.always = Fault(status=status)
    for ask in (stat, find, lambda url, retry: read_range(url, 0, 10, retry)):
        with pytest.raises(DataError, match=r"no such file|HTTP 4"):
            ask(f"{http.url}/data.bin", QUICK)
    assert len(http.requests) == 3


def test_nobody_listens() -> None:
    with http_server() as server:
        url = server.url
    with pytest.raises(DataError, match="3 attempts failed"):
        stat(f"{url}/data.bin", QUICK)


def test_http_a_range_beyond_the_end(http: HttpServer) -> None:
    for start in (0, len(DATA) - 1, len(DATA) + 5):
        with pytest.raises(DataError, match=r"it has 300,000 bytes|HTTP 416"):
            read_range(f"{http.url}/data.bin", start, len(DATA) + 10, QUICK)
    with pytest.raises(DataError, match="0 ≤ start ≤ stop"):
        read_range(f"{http.url}/data.bin", 5, 4, QUICK)


def test_http_a_server_without_ranges_gives_the_right_bytes(http: HttpServer) -> None:
    http.always = Fault(whole=True)
    file = stat(f"{http.url}/data.bin", QUICK)
    assert file.size_bytes == len(DATA)
    assert read_range(file.url, 200_000, 250_000, QUICK) == DATA[200_000:250_000]
    assert fetched(file) == DATA


def test_http_a_large_file_without_ranges_is_refused(http: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssrnn_data.remote.http_store._MOST_DROPPED_BYTES", 1 << 16)
    http.always = Fault(whole=True)
    assert read_range(f"{http.url}/data.bin", 1 << 16, 100_000, QUICK) == DATA[1 << 16 : 100_000]
    with pytest.raises(DataError, match="answers no range requests"):
        read_range(f"{http.url}/data.bin", (1 << 16) + 1, 100_000, QUICK)


def test_http_a_server_that_tells_no_size(http: HttpServer) -> None:
    http.always = Fault(whole=True, no_size=True)
    with pytest.raises(DataError, match="doesn't tell its size"):
        stat(f"{http.url}/data.bin", QUICK)


def test_http_bytes_come_as_they_are_stored(http: HttpServer) -> None:
    """A .gz that is said to be encoded is not unpacked on the way."""
    http.files["/notes.gz"] = gzip.compress(DATA, mtime=0)
    http.always = Fault(gzipped=True)
    assert read_bytes(f"{http.url}/notes.gz", QUICK) == http.files["/notes.gz"]


# Downloads


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("piece_bytes", [7_777, 100_000, 300_000, 1 << 20])
def test_downloads(http: HttpServer, piece_bytes: int, workers: int) -> None:
    assert fetched(stat(f"{http.url}/data.bin", QUICK), QUICK, piece_bytes, workers) == DATA


def test_a_cut_connection_loses_a_piece_and_not_the_file(http: HttpServer) -> None:
    file = stat(f"{http.url}/data.bin", QUICK)
    http.requests.clear()
    http.faults.extend([Fault(), Fault(cut_bytes=5_000), Fault(status=503), Fault(short=True), Fault(stall=True)])
    assert fetched(file, QUICK, 30_000, 3) == DATA
    starts = [start for _, start, _ in http.requests]
    assert len(starts) == 14
    assert set(starts) == set(range(0, 300_000, 30_000))


def test_pieces_come_in_parallel(http: HttpServer) -> None:
    """No answer comes before all four are asked for."""
    file = stat(f"{http.url}/data.bin", QUICK)
    http.requests.clear()
    http.always = Fault(meet=threading.Barrier(4, timeout=20))
    assert fetched(file, Retry(attempts=1), 75_000, 4) == DATA
    assert len(http.requests) == 4


def test_a_full_disk_is_not_taken_for_the_stores_fault(http: HttpServer) -> None:
    file = stat(f"{http.url}/data.bin", QUICK)
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(OSError, match="No space left"), open("/dev/full", "wb", buffering=0) as out:  # noqa: PTH123
        download(file, out, QUICK)  # type: ignore[arg-type]


def test_a_change_is_noticed_by_tag_by_time_and_by_size(http: HttpServer) -> None:
    url = f"{http.url}/data.bin"
    file = stat(url, QUICK)
    http.tags["/data.bin"] = '"two"'
    with pytest.raises(DataError, match="changed while it was read"):
        fetched(file)
    http.tags.clear()
    file = stat(url, QUICK)
    http.files["/data.bin"] = DATA[:-1]
    with pytest.raises(DataError, match="changed while it was read"):
        fetched(file)


def test_a_change_of_a_local_file_is_noticed_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    file = stat(f"file://{tmp_path}/a", QUICK)
    reader = RemoteReader(file, QUICK, block_bytes=100_000, ahead=0)
    assert reader.read(10) == DATA[:10]
    (tmp_path / "a").write_bytes(DATA[::-1])
    with pytest.raises(DataError, match="changed while it was read"):
        reader.readall()


# The reader


@pytest.mark.parametrize(("block_bytes", "ahead"), [(7, 0), (999, 2), (100_000, 0), (100_000, 5), (1 << 20, 2)])
def test_the_reader_reads_as_a_file(http: HttpServer, block_bytes: int, ahead: int) -> None:
    data = DATA[: 60 * block_bytes]
    http.files["/data.bin"] = data
    chance, known = random.Random(block_bytes), io.BytesIO(data)
    reader = RemoteReader(stat(f"{http.url}/data.bin", QUICK), QUICK, block_bytes, ahead)
    assert (reader.readable(), reader.seekable(), reader.writable()) == (True, True, False)
    with io.BufferedReader(reader, 100) as buffered:
        for _ in range(8):
            offset, size = chance.randrange(len(data) + 100), chance.randrange(len(data) // 4)
            assert buffered.seek(offset) == known.seek(offset)
            assert buffered.read(size) == known.read(size)
            assert buffered.tell() == known.tell()
        assert buffered.seek(-5, io.SEEK_END) == len(data) - 5
        assert buffered.seek(2, io.SEEK_CUR) == len(data) - 3
        assert buffered.read() == data[-3:]
        assert buffered.read(1) == b""
    assert reader.closed
    for use in (lambda: reader.read(1), lambda: reader.seek(0)):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_a_seek_before_the_start_is_an_error(http: HttpServer) -> None:
    with (
        RemoteReader(stat(f"{http.url}/data.bin", QUICK), QUICK) as reader,
        pytest.raises(ValueError, match="before the file's start"),
    ):
        reader.seek(-1)


def test_the_reader_reads_ahead_in_order_and_not_after_a_jump(http: HttpServer) -> None:
    file = stat(f"{http.url}/data.bin", QUICK)
    http.requests.clear()
    with RemoteReader(file, QUICK, block_bytes=10_000, ahead=2) as reader:
        assert reader.read(5) == DATA[:5]
        wait_until(lambda: len(http.requests) == 3)
        assert sorted(start for _, start, _ in http.requests) == [0, 10_000, 20_000]
        reader.seek(150_000)
        assert reader.read(5) == DATA[150_000:150_005]
        assert http.requests[3:] == [("/data.bin", 150_000, 160_000)]
        reader.seek(160_000)
        assert reader.read(5) == DATA[160_000:160_005]
        wait_until(lambda: len(http.requests) == 7)
        assert sorted(start for _, start, _ in http.requests[4:]) == [160_000, 170_000, 180_000]


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_reader_holds_few_blocks(http: HttpServer) -> None:
    """64 MiB through blocks of 1 MiB: the peak of Python's memory beyond the server's own stays below 16 MiB."""
    block = random.Random(1).randbytes(1 << 20)
    http.files["/large"] = block * 64
    file = stat(f"{http.url}/large", QUICK)
    tracemalloc.start()
    try:
        digest, before = hashlib.sha256(), tracemalloc.get_traced_memory()[0]
        with RemoteReader(file, QUICK, block_bytes=1 << 20, ahead=2) as reader:
            while part := reader.read(1 << 16):
                digest.update(part)
        assert tracemalloc.get_traced_memory()[1] - before < 16 << 20
    finally:
        tracemalloc.stop()
    assert digest.digest() == hashlib.sha256(block * 64).digest()


def test_a_reader_that_is_let_go_ends_its_threads(http: HttpServer) -> None:
    file = stat(f"{http.url}/data.bin", QUICK)
    slow = Retry(attempts=100, first_seconds=60, most_seconds=60, stall_seconds=0.4)
    reader = RemoteReader(file, slow, block_bytes=10_000, ahead=3)
    http.always, before = Fault(status=503), reading_ahead()
    http.faults.extend([Fault()] * 4)
    assert reader.read(5) == DATA[:5]
    http.faults.clear()
    reader.seek(10_000)
    assert reader.read(5) == DATA[10_000:10_005]  # and block 4, which fails, is on its way
    wait_until(lambda: any(start == 40_000 for _, start, _ in http.requests))
    reader.close()
    wait_until(lambda: not reading_ahead() - before)


def reading_ahead() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "ssrnn-read-ahead"}


def test_what_reads_files_reads_it(http: HttpServer) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"text": ["one", "two", "three"] * 1_000})
    out = io.BytesIO()
    parquet.write_table(table, out)
    members = [(f"{number:03d}.txt", DATA[number * 1_000 : number * 1_000 + 900]) for number in range(50)]
    http.files |= {"/a.gz": gzip.compress(DATA), "/a.tar": tar_of(members), "/a.parquet": out.getvalue()}

    def reader(name: str) -> RemoteReader:
        return RemoteReader(stat(f"{http.url}/{name}", QUICK), QUICK, block_bytes=10_000)

    with gzip.open(reader("a.gz")) as stream:
        assert stream.read() == DATA
    for mode in ("r:", "r|"):
        with tarfile.open(fileobj=reader("a.tar"), mode=mode) as tar:  # type: ignore[call-overload]
            assert [(member.name, tar.extractfile(member).read()) for member in tar] == members
    with reader("a.parquet") as stream, parquet.ParquetFile(stream) as found:
        assert found.read() == table


def test_a_fault_within_a_reader_is_its_own_error(http: HttpServer) -> None:
    """Not one of gzip's or tarfile's, which would be taken for a damaged archive."""
    http.files |= {"/a.gz": gzip.compress(DATA), "/a.tar": tar_of([("a.txt", DATA)])}
    gz, tar = (RemoteReader(stat(f"{http.url}/{name}", QUICK), QUICK, 50_000, 0) for name in ("a.gz", "a.tar"))
    gz.read(1)
    tar.read(1)
    http.always = Fault(status=500)
    gz.seek(0)
    tar.seek(0)
    with pytest.raises(DataError, match="HTTP 500"), gzip.open(gz) as unpacked:
        unpacked.read()
    with pytest.raises(DataError, match="HTTP 500"), tarfile.open(fileobj=tar) as opened:
        opened.extractfile("a.txt").read()


# With the cache


def test_wrong_bytes_of_a_server_are_mended_by_the_cache(http: HttpServer, tmp_path: Path) -> None:
    file, cache = stat(f"{http.url}/data.bin", QUICK), DiskCache(tmp_path, 1 << 20)
    name = hashlib.sha256(DATA).hexdigest()
    http.faults.append(Fault(wrong=True))
    with cache.open(name, len(DATA), lambda out: download(file, out, QUICK)) as stream:
        assert stream.read() == DATA
    http.always = Fault(wrong=True)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=f"twice other bytes came.*{name} are needed"):
        cache.open(name, len(DATA), lambda out: download(file, out, QUICK))


# Any other store of fsspec


def test_a_folder_by_fsspec_alone(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.txt", "deep/a.txt", "deep/c.md"):
        (tmp_path / name).write_text(name)
    start = f"file://{tmp_path}"
    assert [file.url for file in find(start, QUICK)] == [
        f"{start}/{name}" for name in ("b.txt", "deep/a.txt", "deep/c.md")
    ]
    assert [file.url for file in find(f"{start}/**/*.txt", QUICK)] == [f"{start}/b.txt", f"{start}/deep/a.txt"]
    assert read_bytes(f"{start}/deep/c.md", QUICK) == b"deep/c.md"
    assert read_range(f"{start}/deep/c.md", 2, 5, QUICK) == b"ep/"
    for url, what in ((f"{start}/none", "no such file"), (f"{start}/*.pdf", "no files found"), (start, "a folder")):
        with pytest.raises(DataError, match=what):
            stat(url, QUICK) if what == "a folder" else find(url, QUICK)


# S3


@pytest.fixture(scope="module")
def s3(store: FaultyProxy) -> FaultyProxy:
    """Files in the bucket `corpora`."""
    import s3fs

    files = s3fs.S3FileSystem()
    files.mkdir("corpora")
    for name in ("a.txt", "deep/b.txt", "deep/c.md", "deep/er/d.txt", "what?[1].txt"):
        files.pipe_file(f"corpora/{name}", name.encode())
    files.pipe_file("corpora/data.bin", DATA)
    return store


def test_s3_lists_and_globs(s3: FaultyProxy) -> None:
    def names(url: str) -> list[str]:
        return [file.url.removeprefix("s3://corpora/") for file in find(url, QUICK)]

    assert names("s3://corpora/deep") == names("s3://corpora/deep/") == ["deep/b.txt", "deep/c.md", "deep/er/d.txt"]
    assert names("s3://corpora/deep/*") == ["deep/b.txt", "deep/c.md"]
    assert names("s3://corpora/**/*.txt") == ["a.txt", "deep/b.txt", "deep/er/d.txt", "what?[1].txt"]
    assert names("s3://corpora") == ["a.txt", "data.bin", "deep/b.txt", "deep/c.md", "deep/er/d.txt", "what?[1].txt"]
    (file,) = find("s3://corpora/data.bin", QUICK)
    assert file == stat("s3://corpora/data.bin", QUICK)
    assert (file.size_bytes, file.version) == (len(DATA), f'"{hashlib.md5(DATA).hexdigest()}"')
    assert find("s3://corpora/d*.bin", QUICK) == [file]


def test_s3_reads(s3: FaultyProxy) -> None:
    assert read_bytes("s3://corpora/deep/b.txt", QUICK) == b"deep/b.txt"
    assert read_range("s3://corpora/data.bin", 1_000, 250_000, QUICK) == DATA[1_000:250_000]
    file = stat("s3://corpora/data.bin", QUICK)
    assert fetched(file) == DATA
    with RemoteReader(file, QUICK, block_bytes=50_000) as reader:
        assert reader.readall() == DATA
    with pytest.raises(DataError, match="bytes came|HTTP 416"):
        read_range("s3://corpora/data.bin", 299_000, 301_000, QUICK)


@pytest.mark.parametrize("url", ["s3://corpora/none", "s3://corpora/none/*", "s3://no-bucket/a", "s3://corpora/deep/e"])
def test_s3_what_is_not_there(s3: FaultyProxy, url: str) -> None:
    with pytest.raises(DataError, match="no such file|no files found|HTTP 404"):
        find(url, QUICK)


@pytest.mark.parametrize("answer_bytes", [0, 10, 1_000, 150_000])
@pytest.mark.parametrize("fault", [FaultyProxy.cut_after, FaultyProxy.stall_after])
def test_s3_broken_connections_are_mended(
    s3: FaultyProxy, fault: Callable[[FaultyProxy, int], None], answer_bytes: int
) -> None:
    file, before = stat("s3://corpora/data.bin", QUICK), s3.faults_made
    fault(s3, answer_bytes)
    assert fetched(file, QUICK, 100_000, 2) == DATA
    assert s3.faults_made == before + 1


def test_s3_a_change_is_noticed(s3: FaultyProxy) -> None:
    import s3fs

    store = s3fs.S3FileSystem()
    store.pipe_file("corpora/changing", DATA)
    file = stat("s3://corpora/changing", QUICK)
    with RemoteReader(file, QUICK, block_bytes=50_000, ahead=0) as reader:
        assert reader.read(10) == DATA[:10]
        store.pipe_file("corpora/changing", DATA[::-1])
        assert reader.read(10) == DATA[10:20]
        reader.seek(50_000)
        with pytest.raises(DataError, match="changed while it was read"):
            reader.read(10)
    assert read_bytes("s3://corpora/changing", QUICK) == DATA[::-1]


def test_s3_after_a_fork(s3: FaultyProxy) -> None:
    """Connections and fsspec's thread don't survive a fork; ours are opened anew."""
    assert read_range("s3://corpora/data.bin", 0, 10, QUICK) == DATA[:10]
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if read_range("s3://corpora/data.bin", 0, 10, QUICK) == DATA[:10] else 1)
        finally:
            os._exit(2)
    wait_until(lambda: os.waitpid(child, os.WNOHANG) == (child, 0))
